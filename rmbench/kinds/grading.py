"""Responses with labels of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from rmbench.data.dataset import Dataset
from rmbench.data.files import Rows
from rmbench.data.part import Part
from rmbench.errors import DataError, UsageError
from rmbench.kinds.base import Judging
from rmbench.metrics import grading
from rmbench.metrics.grading import Grades
from rmbench.metrics.measure import Measure
from rmbench.types import Ask, Candidate, Example


@dataclass(frozen=True)
class Grading(Judging):
    """Responses with labels of their own, which are not held against one another: right or wrong, a score, a class, or
    whether a criterion is met (an example each, of one cluster). Labels may be missing.

    `measure` says what is right: `Grades()` that labels are true or false, `Grades(positive="correct")` that they are
    classes of which one is right, `Grades(positive=None)` that they are scores. The head of the right class is the
    view to look at first; rewards are made probabilities of being right. With `null_verdict="loss"` a `refused` verdict
    is wrong, whatever the label.
    """

    kind: ClassVar[str] = "grading"
    orders: ClassVar[None] = None
    lacks: ClassVar[str] = "has a labelled response"

    asks: tuple[Ask, ...] = ("reward", "steps")
    measure: Measure = grading.GRADES

    def __post_init__(self) -> None:
        if self.null_verdict == "nought":
            raise UsageError(f"{self.name}: null_verdict='nought'; expected 'no answer' or 'loss' of single responses")
        if isinstance(self.measure, Grades):
            lost = replace(self.measure, null_verdict=self.null_verdict)
            object.__setattr__(self, "measure", lost)

    @property
    def positive(self) -> str | None:  # type: ignore[override]
        """The class that is right, None where labels are true or false, or scores."""
        named = self.measure.positive if isinstance(self.measure, Grades) else None
        return named if isinstance(named, str) else None

    def is_usable(self, example: Example) -> bool:
        """Whether a response has a label."""
        return any(candidate.label is not None for candidate in example.candidates)

    def displays(self, example: Example, most: int | None = None) -> list[tuple[int, ...]]:
        """Nothing: nobody is asked to compare."""
        return []

    def load(self, data: Path | Rows | None = None, part: Part | None = None) -> Dataset:
        """The examples, or a `part` of them, as every kind has them. Raises DataError, UsageError."""
        loaded = super().load(data, part)
        if isinstance(self.measure, Grades):
            for example in loaded.examples:
                for index, candidate in enumerate(example.candidates):
                    if not _fits(candidate, self.measure.positive):
                        raise DataError(
                            f"{loaded.source}: example {example.id}, candidate {index}: expected a label that is "
                            f"{_expected(self.measure.positive)}, got {candidate.label!r}"
                        )
        return loaded

    def primary_view(self, views: Sequence[str]) -> str:
        """The head of the right class where a model has it, else as in all kinds."""
        if self.primary is None and self.positive in views:
            return str(self.positive)
        return super().primary_view(views)


def _fits(candidate: Candidate, positive: bool | str | None) -> bool:
    if candidate.label is None:
        return True
    if isinstance(positive, str) or isinstance(candidate.label, str):
        return isinstance(positive, str) and isinstance(candidate.label, str)
    return positive is None or candidate.label in (0, 1)


def _expected(positive: bool | str | None) -> str:
    if isinstance(positive, str):
        return "the name of a class"
    return "a number" if positive is None else "true or false"
