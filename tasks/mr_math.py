"""MR-MATH: solutions with the first wrong step, and solutions with redundant steps (Xia et al., arXiv 2404.05692)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.rows import Row, shown
from rmbench.kinds.steps import Steps, until_first_error
from rmbench.metrics import steps
from rmbench.metrics.interval import Statistic
from rmbench.metrics.measure import Part, macro, of_rows
from rmbench.types import Candidate, Example, Json, Message, Outcome, Response

INVALID, REDUNDANT = "invalid", "redundant"
REDUNDANCY = "redundancy"
_INVALID_CUT, _REDUNDANT_CUT = 0.5, -0.15
FIRST = "model_output_solution_first_error_step"
_STEPS, _RATING, _CORRECTNESS = "model_output_step_format", "rating", "model_output_solution_correctness"
_EXPECTED = f"a row of MR-MATH has `question`, `{_STEPS}` and `{FIRST}`, or `{_RATING}` (1, or 0 for a redundant step)"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row. Steps are as evaluators were shown them, some in several parts, of which a label is one."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for field in ("question", _STEPS):
        row.need((field,), _EXPECTED)
    sort = INVALID if row.need((FIRST, _RATING), _EXPECTED) == FIRST else REDUNDANT
    parts = row.value[_STEPS]
    if not isinstance(parts, list) or not parts or not all(map(_is_step, parts)):
        raise row.error(f"expected a list of steps, each a list of texts, got {shown(parts)}", _STEPS)
    labels = until_first(row, len(parts)) if sort == INVALID else _rated(row, len(parts))
    shown_as = [part for step in parts for part in step]
    text = row.text("model_output") if row.value.get("model_output") else "\n".join(shown_as)
    tags = {"sub_steps": [len(step) for step in parts]}
    candidate = Candidate(Response(text, shown_as), -1 not in labels, step_labels=labels, tags=tags)
    name = f"{sort}-{row.value.get('id', row.number - 1)}"
    return Example(name, (Message("user", row.text("question")),), (candidate,), facets={"errors": sort})


def _is_step(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, str) for part in value)


def until_first(row: Row, count: int) -> tuple[int, ...]:
    """The labels of so many steps of a row: the solution is right where it is said to be, else up to the first error.

    Where nothing is said of the solution it is right without a first error. Raises NoExampleError for a wrong one of
    which no step is named, which the official code counts neither as right nor as wrong; DataError for what is no step.
    """
    first, said = row.value[FIRST], row.value.get(_CORRECTNESS)
    if said not in ("correct", "wrong", None):
        raise row.error(f"expected 'correct' or 'wrong', got {shown(said)}", _CORRECTNESS)
    if said == "correct" or (said is None and first == "N/A"):
        return until_first_error(count, None)
    if first == "N/A":
        raise row.no_example("wrong without a first wrong step", FIRST)
    if not str(first).isdecimal() or not 1 <= int(first) <= count:
        raise row.error(f"expected 'N/A' or the number of one of {count} steps, got {shown(first)}", FIRST)
    return until_first_error(count, int(first) - 1)


def _rated(row: Row, count: int) -> tuple[int, ...]:
    rating = row.value[_RATING]
    if not isinstance(rating, list) or len(rating) != count or not all(one in (0, 1) for one in rating):
        raise row.error(f"expected a list of 1 or 0, one for each of {count} steps, got {shown(rating)}", _RATING)
    return tuple(1 if one else -1 for one in rating)


def statistics(outcomes: Sequence[Outcome], view: str, sort: str) -> list[Statistic]:
    """Macro F1 and AUC of solutions and of steps, and where the first wrong one stands, for one sort of error: by the
    reward, but redundant steps by how little redundant each is, of a model that says so."""
    cut = _INVALID_CUT
    if sort == REDUNDANT and any(REDUNDANCY in one.step_heads for one in outcomes):
        outcomes, cut = [_turned(one, view) for one in outcomes], _REDUNDANT_CUT
    fitted: Json = {"threshold": cut}
    named = {one.name: one for one in steps.statistics(outcomes, view, fitted, verdicts=False)}
    halves: list[Part] = [(1.0, {}, of_rows(named[name], outcomes)) for name in ("step_f1_right", "step_f1_wrong")]
    of_steps = macro("step_f1_macro", halves, title="F1 of steps, mean over right and wrong")(outcomes, view, fitted)
    others = ("solution_auc", "step_auc", "first_error_rank", "first_error_percentile")
    figures = [named["solution_f1_macro"], of_steps, *(named[name] for name in others)]
    return [replace(one, name=f"{sort}_{one.name}", title=f"{one.title}, {sort} steps") for one in figures]


def _turned(outcome: Outcome, view: str) -> Outcome:
    seen = outcome.views.get(view)
    if seen is None or REDUNDANCY not in outcome.step_heads:
        return replace(outcome, views={})
    return replace(outcome, views={view: replace(seen, steps=[-said for said in outcome.step_heads[REDUNDANCY]])})


@dataclass(frozen=True)
class Reasoning:
    """Macro F1 and AUC of solutions and steps: of invalid steps by their reward, of redundant ones by that head.

    `sorts` are the sorts of error that a set has; which one an outcome is about is its facet `errors`, the first of
    them without it.
    """

    sorts: tuple[str, ...] = (INVALID, REDUNDANT)
    name: str = "reasoning"
    headline: str = f"{INVALID}_solution_f1_macro"
    uncalibrated: str | None = None
    steps_alone: ClassVar[bool] = True

    def fit(self, outcomes: Sequence[Outcome], view: str) -> Json:
        """None: thresholds are given."""
        return None

    def statistics(self, outcomes: Sequence[Outcome], view: str, fitted: Json) -> list[Statistic]:
        """Six figures of each sort of error."""
        figures = []
        for sort in self.sorts:
            mine = [outcome if outcome.facets.get("errors", self.sorts[0]) == sort else replace(outcome, step_labels=())
                    for outcome in outcomes]  # fmt: skip
            figures += statistics(mine, view, sort)
        return figures

    def left_out(self, outcomes: Sequence[Outcome], view: str) -> dict[str, int]:
        """How many outcomes have a solution that does not count, by reason."""
        return steps.Errors(at=_INVALID_CUT, verdicts=False).left_out(outcomes, view)

    def ties(self, outcomes: Sequence[Outcome], view: str) -> int:
        """0: a step at the threshold is not below it."""
        return 0


TASK = Steps(
    name="mr_math",
    version=1,
    summary="Solutions with the first wrong step, and with redundant steps: --data mr_math=FOLDER",
    card="mr_math",
    read=read,
    measure=Reasoning(),
)
