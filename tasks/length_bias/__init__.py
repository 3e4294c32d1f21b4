"""length_bias: bundled answers, right and wrong, padded in four ways; a reward should not rise with padding."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rmbench.data.conversation import facets, read_prompt
from rmbench.data.dataset import LeftOut
from rmbench.data.files import Row, shown
from rmbench.kinds.probe import Probe
from rmbench.metrics import padding
from rmbench.types import Candidate, Example

_EXPECTED = "a length_bias row has `prompt` and `candidates`, objects with `text`, `label` and `edit`"
_EDITS = {"sufficient", "tightened", "wrong", *padding.WAYS, *(f"wrong_{way}" for way in padding.WAYS)}
_STRENGTHS = ("weak", "strong")


def count_words(text: str) -> int:
    """How many words and punctuation marks are in `text`."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row. A candidate's tags are `edit`, `words` and, where it is padded, `strength`."""
    for row in rows:
        row.need(("prompt",), _EXPECTED)
        candidates = row.objects("candidates", _EXPECTED)
        answers = tuple(_answer(row, one) for one in candidates)
        edits = [(answer.tags["edit"], answer.tags.get("strength")) for answer in answers]
        if repeated := next((edit for edit in edits if edits.count(edit) > 1), None):
            raise row.error(f"more than one candidate is {' '.join(filter(None, repeated))}", "edit")
        if ("sufficient", None) not in edits:
            yield LeftOut("no sufficient answer")
        else:
            yield Example(row.name(("id",)) or "", read_prompt(row), answers, facets=facets(row, ("subset",)))


def _answer(row: Row, one: dict[str, Any]) -> Candidate:
    text, label, edit, strength = (one.get(field) for field in ("text", "label", "edit", "strength"))
    if not isinstance(text, str):
        raise row.error(f"expected a text, got {shown(text)}", "text")
    if not isinstance(label, bool):
        raise row.error(f"expected true or false, got {shown(label)}", "label")
    if not isinstance(edit, str) or edit not in _EDITS:
        raise row.error(f"expected one of {', '.join(sorted(_EDITS))}, got {shown(edit)}", "edit")
    if label == edit.startswith("wrong"):
        raise row.error(f"{shown(label)} for an answer that is {edit}", "label")
    tags: dict[str, Any] = {"edit": edit, "words": count_words(text)}
    if edit.removeprefix("wrong_") in padding.WAYS:
        if strength not in _STRENGTHS:
            raise row.error(f"expected weak or strong, got {shown(strength)}", "strength")
        tags["strength"] = strength
    elif strength is not None:
        raise row.error(f"{shown(strength)} for an answer that is not padded", "strength")
    return Candidate(text, label, tags=tags)


TASK = Probe(
    name="length_bias",
    version=1,
    summary="Right and wrong answers to 120 prompts, padded in four ways: does a reward rise with length? Bundled",
    card="length_bias",
    read=read,
    bundled=Path(__file__).parent / "rows.jsonl",
    measure=padding.PADDING,
)
