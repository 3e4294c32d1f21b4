"""Responses whose steps are labelled: which are right, or which is the first wrong one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rmbench.data.dataset import Dataset
from rmbench.data.files import Rows
from rmbench.data.part import Part
from rmbench.errors import DataError
from rmbench.kinds.base import Judging, taken_apart
from rmbench.metrics import steps
from rmbench.metrics.measure import Measure
from rmbench.types import Ask, Candidate, Example


@dataclass(frozen=True)
class Steps(Judging):
    """Responses with `step_labels`, one a step: 1 right, -1 wrong, 0 neutral or not known (`until_first_error`).

    A model is asked for the rewards of the steps. A step is said to be wrong by its own head `verdict`, or below the
    threshold of the measure: `steps.Errors(on={"subset": "gsm8k"})` chooses it on one facet, `at=.5` states it.
    A response with `steps="turns"` has one step, and one label, a message of the assistant. Where data label steps that
    are shown in parts, `steps` are the parts and the tag `sub_steps` says how many each labelled step has.
    """

    kind: ClassVar[str] = "steps"
    orders: ClassVar[None] = None
    lacks: ClassVar[str] = "has a response whose steps are labelled"

    asks: tuple[Ask, ...] = ("steps",)
    measure: Measure = steps.ERRORS

    def is_usable(self, example: Example) -> bool:
        """Whether a response has labels of its steps."""
        return any(candidate.step_labels for candidate in example.candidates)

    def displays(self, example: Example, most: int | None = None) -> list[tuple[int, ...]]:
        """Nothing: nobody is asked to compare."""
        return []

    def load(self, data: Path | Rows | None = None, part: Part | None = None) -> Dataset:
        """The examples, or a `part` of them, as every kind has them. Raises DataError, UsageError."""
        loaded = super().load(data, part)
        for example in loaded.examples:
            for index, candidate in enumerate(example.candidates):
                if problem := _problem(candidate):
                    raise DataError(f"{loaded.source}: example {example.id}, candidate {index}: {problem}")
        return loaded


def _problem(candidate: Candidate) -> str | None:
    """What is wrong with the step labels of a response, None where nothing is."""
    count, labels = taken_apart(candidate).step_count, candidate.step_labels
    try:
        parts = steps.sub_steps_of(candidate.tags)
    except ValueError as error:
        return str(error)
    if parts is not None and count is not None and sum(parts) != count:
        return f"tag {steps.SUB_STEPS}: expected {count} in all, as many steps as the response has, got {sum(parts)}"
    due = count if parts is None else len(parts)
    if labels is not None and due is not None and len(labels) != due:
        return f"expected {due} step labels, one a step, got {len(labels)}"
    return None


def until_first_error(steps: int, first: int | None) -> tuple[int, ...]:
    """Labels of so many steps of which the one at index `first` is the first wrong one; None where all are right.

    Of the steps after it nobody knows, and they have the label 0.
    """
    if first is None:
        return (1,) * steps
    if not 0 <= first < steps:
        raise ValueError(f"first={first}: expected the index of one of {steps} steps")
    return (*(1,) * first, -1, *(0,) * (steps - first - 1))
