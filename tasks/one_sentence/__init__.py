"""one_sentence: bundled samples of one small policy, each worth the share of the stated constraints that it meets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rmbench.data.conversation import facets, read_prompt
from rmbench.data.dataset import LeftOut
from rmbench.data.files import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.metrics.pick import POOL
from rmbench.tasks.one_sentence.constraints import met
from rmbench.types import Candidate, Example, Response

_EXPECTED = "a one_sentence row has `prompt`, `words`, `limit`, `policy` and `responses`, objects with `text`"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row. The label of a response is the share of the stated constraints that its text meets."""
    for row in rows:
        row.need(("prompt",), _EXPECTED)
        row.need(("words",), _EXPECTED)
        words, policy = row.texts("words"), row.text("policy")
        responses = row.objects("responses", _EXPECTED)
        sampled = tuple(_sample(row, one, words, _limit(row), policy) for one in responses)
        if not sampled:
            yield LeftOut("no responses")
        else:
            yield Example(row.name(("id",)) or "", read_prompt(row), sampled, facets=facets(row, ("subset",)))


def _limit(row: Row) -> int:
    limit = row.value.get("limit")
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise row.error(f"expected a whole number from 1, got {shown(limit)}", "limit")
    return limit


def _sample(row: Row, one: dict[str, Any], words: list[str], limit: int, policy: str) -> Candidate:
    text, finish, logprob = one.get("text"), one.get("finish"), one.get("logprob")
    if not isinstance(text, str):
        raise row.error(f"expected a text, got {shown(text)}", "text")
    if finish not in (None, "stop", "length"):
        raise row.error(f"expected stop or length, got {shown(finish)}", "finish")
    if logprob is not None and not _is_finite(logprob):
        raise row.error(f"expected a finite number, got {shown(logprob)}", "logprob")
    kept = met(text, words, limit)
    unmet = ", ".join(name for name, is_met in kept.items() if not is_met)
    tags = {"policy": policy, "unmet": unmet or None, "logprob": logprob}
    stated = {name: tag for name, tag in tags.items() if tag is not None}
    return Candidate(Response(text, finish=finish), sum(kept.values()) / len(kept), tags=stated)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


TASK = Comparison(
    name="one_sentence",
    version=1,
    summary="32 samples of one small policy to each of 60 prompts, scored by code: what best-of-n by a reward does",
    card="one_sentence",
    read=read,
    bundled=Path(__file__).parent / "rows.jsonl",
    measure=POOL,
    asks=("reward", "steps"),  # who only compares would be shown 496 pairs a prompt, and has no reward to choose by
)
