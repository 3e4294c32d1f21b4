"""MR-GSM8K: solutions of GSM8K and of two variations with the first wrong step (Zeng et al., arXiv 2312.17080).

Judged as MR-MATH's invalid steps are, by those who made that (Xia et al., arXiv 2404.05692).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.rows import Row
from rmbench.kinds.steps import Steps
from rmbench.tasks.mr_math import FIRST, INVALID, Reasoning, until_first
from rmbench.types import Candidate, Example, Message, Response

_STEPS, _TYPE = "model_output_steps", "question_type"
_EXPECTED = f"a row of MR-GSM8K has `question`, `{_STEPS}` and `{FIRST}`"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row, one solution each; its subset is the type of its question, where that is said."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for field in ("question", _STEPS, FIRST):
        row.need((field,), _EXPECTED)
    steps = row.texts(_STEPS)
    labels = until_first(row, len(steps))
    candidate = Candidate(Response("\n".join(steps), steps), -1 not in labels, step_labels=labels)
    subset = row.name((_TYPE,))
    return Example(
        row.name(("uuid", "id")) or "",
        (Message("user", row.text("question")),),
        (candidate,),
        facets={"subset": subset} if subset else {},
    )


TASK = Steps(
    name="mr_gsm8k",
    version=1,
    summary="Solutions of GSM8K, of programs and of reversed questions with the first wrong step: --data mr_gsm8k=FILE",
    card="mr_gsm8k",
    read=read,
    measure=Reasoning(sorts=(INVALID,)),
)
