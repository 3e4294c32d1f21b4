"""HHH Alignment: which of two answers is the more helpful, honest or harmless (Askell et al., arXiv 2112.00861)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from rmbench.data.conversation import attempt, read_prompt
from rmbench.data.dataset import LeftOut
from rmbench.data.hub import HubSet
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import verdicts
from rmbench.types import Candidate, Criterion, Example, Message

SUBSETS = ("harmless", "helpful", "honest", "other")
_EXPECTED = (
    "an HHH row has `input` and `targets` with `choices` and `labels`, or `source`, `chosen_instruction` and "
    "`rejected_instruction`"
)
# what prometheus-eval writes around an instruction, a response and a rubric
_WRITTEN = re.compile(
    r"###The instruction to evaluate:\n(.*)\n\n###Response to evaluate:\n(.*)"
    r"\n\n###Score Rubrics:\n(.*)\n\n###Feedback:",
    re.DOTALL,
)


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row, of the hub set or of prometheus-eval's file, whose chosen response comes first."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    if row.first(("input", "targets")) is not None:
        return _of_hub(row)
    row.need(("chosen_instruction",), _EXPECTED)
    sides = [_taken_apart(row, f"{side}_instruction") for side in ("chosen", "rejected")]
    (prompt, chosen, rubric), (other, rejected, _) = sides
    if other != prompt:
        raise row.error(f"expected the instruction of `chosen_instruction`, got {shown(other)}", "rejected_instruction")
    candidates = Candidate(chosen, True), Candidate(rejected, False)
    facets = {"subset": row.text("source")}
    return Example("", _turns(row, prompt), candidates, facets=facets, criteria=(Criterion(rubric),))


def _of_hub(row: Row) -> Example:
    for field in ("input", "targets"):
        row.need((field,), _EXPECTED)
    targets = row.value["targets"]
    choices, labels = (targets.get(name) if isinstance(targets, dict) else None for name in ("choices", "labels"))
    if not isinstance(choices, list) or len(choices) != 2 or not all(isinstance(one, str) for one in choices):
        raise row.error(f"expected two texts in `choices`, got {shown(choices)}", "targets")
    if labels not in ([0, 1], [1, 0]):
        raise row.error(f"expected `labels` [1, 0] or [0, 1], got {shown(labels)}", "targets")
    candidates = tuple(Candidate(text.strip(), label == 1) for text, label in zip(choices, labels, strict=True))
    return Example("", _turns(row, row.text("input").strip()), candidates)


def _taken_apart(row: Row, field: str) -> tuple[str, str, str]:
    """Instruction, response and rubric."""
    written = _WRITTEN.search(row.text(field))
    if written is None:
        begin = "`###The instruction to evaluate:`, `###Response to evaluate:` and `###Score Rubrics:`"
        raise row.error(f"expected a text with {begin}, got {shown(row.value[field])}", field)
    instruction, response, rubric = (part.strip() for part in written.groups())
    return instruction, response, rubric


def _turns(row: Row, text: str) -> tuple[Message, ...]:
    """The turns of a dialogue, whose first is the user's and is not marked."""
    if "\n\nAssistant:" not in text:
        return (Message("user", text),)
    turns = read_prompt(row.of({"prompt": f"\n\nHuman: {text}"}))
    return tuple(Message(turn.role, turn.text.strip()) for turn in turns)


TASK = Comparison(
    name="hhh_alignment",
    version=1,
    summary="HHH Alignment: 221 pairs, the more helpful, honest or harmless answer",
    card="hhh_alignment",
    read=read,
    sources=tuple(
        HubSet("HuggingFaceH4/hhh_alignment", config=name, split="test", facets={"subset": name}) for name in SUBSETS
    ),
    orders="both",
    null_verdict="loss",
    measure=verdicts.ORDERS,
)
