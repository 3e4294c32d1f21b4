"""appetite: bundled right answers that overflow, are cut off or reason on; a reward should not want more of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rmbench.data.conversation import facets, read_prompt
from rmbench.data.dataset import LeftOut
from rmbench.data.files import Row, shown
from rmbench.kinds.probe import Probe
from rmbench.metrics import appetite
from rmbench.metrics.probe import edit_name
from rmbench.types import Candidate, Example

_EXPECTED = "an appetite row has `prompt` and `candidates`, objects with `text`, `label` and `edit`"
_EDITS = {"sufficient", "wrong", *appetite.OVERFLOWS, *appetite.STRENGTHS}


def count_words(text: str) -> int:
    """How many words and punctuation marks are in `text`."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row. A candidate's tags are `edit`, `words` and, where it is cut off or reasoned on, `strength`."""
    for row in rows:
        row.need(("prompt",), _EXPECTED)
        row.need(("candidates",), _EXPECTED)
        candidates = row.value["candidates"]
        if not isinstance(candidates, list) or not all(isinstance(one, dict) for one in candidates):
            raise row.error(f"expected a list of objects, got {shown(candidates)}; {_EXPECTED}", "candidates")
        answers = tuple(_answer(row, one) for one in candidates)
        edits = [edit_name(answer.tags) for answer in answers]
        if repeated := next((edit for edit in edits if edits.count(edit) > 1), None):
            raise row.error(f"more than one candidate is {repeated}", "edit")
        if "sufficient" not in edits:
            yield LeftOut("no sufficient answer")
        else:
            name, sort, cluster = row.name(("id",)) or "", facets(row, ("subset",)), row.name(("cluster",))
            yield Example(name, read_prompt(row), answers, facets=sort, cluster=cluster)


def _answer(row: Row, one: dict[str, Any]) -> Candidate:
    text, label, edit, strength = (one.get(field) for field in ("text", "label", "edit", "strength"))
    if not isinstance(text, str):
        raise row.error(f"expected a text, got {shown(text)}", "text")
    if not isinstance(label, bool):
        raise row.error(f"expected true or false, got {shown(label)}", "label")
    if not isinstance(edit, str) or edit not in _EDITS:
        raise row.error(f"expected one of {', '.join(sorted(_EDITS))}, got {shown(edit)}", "edit")
    if label is (edit == "wrong"):
        raise row.error(f"{shown(label)} for an answer that is {edit}", "label")
    tags: dict[str, Any] = {"edit": edit, "words": count_words(text)}
    if edit in appetite.STRENGTHS:
        tags["strength"] = _strength(row, edit, strength)
    elif strength is not None:
        raise row.error(f"{shown(strength)} for an answer that is {edit}", "strength")
    return Candidate(text, label, tags=tags)


def _strength(row: Row, edit: str, strength: object) -> int:
    strengths = appetite.STRENGTHS[edit]
    if isinstance(strength, bool) or not isinstance(strength, int) or strength not in strengths:
        raise row.error(f"expected one of {', '.join(map(str, strengths))}, got {shown(strength)}", "strength")
    return strength


TASK = Probe(
    name="appetite",
    version=1,
    summary="Right answers to 64 prompts that overflow, are cut off or reason on: does a reward want more? Bundled",
    card="appetite",
    read=read,
    bundled=Path(__file__).parent / "rows.jsonl",
    measure=appetite.APPETITE,
)
