"""IF-RewardBench's constraints: does a response meet each of them (Wen et al., arXiv 2603.04738)?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmbench.data.dataset import LeftOut
from rmbench.data.rows import Row
from rmbench.kinds.grading import Grading
from rmbench.metrics.grading import Grades, graded
from rmbench.metrics.interval import Statistic, mean
from rmbench.metrics.measure import of_rows
from rmbench.metrics.named_pairs import named_pairs
from rmbench.tasks.if_rewardbench import PREFERRED_TO, agreement, instructions, over_types
from rmbench.types import Array, Candidate, Criterion, Example, Json, Outcome

_INSTRUCTION = "instruction"  # the tag that joins the constraints of a row
_FIGURES = {
    "positive_f1": ("F1 of constraints that are met", "harmonic mean of precision and recall"),
    "negative_f1": ("F1 of constraints that are not met", "harmonic mean of precision and recall"),
    "ranking_accuracy": ("Pair accuracy of verdicts added up", "share of preferred pairs, ties lost"),
    "ranking_tau_b": ("Kendall's tau-b of verdicts added up", "correlation"),
}


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row and constraint: all responses, and whether each meets it."""
    for one in instructions(rows):
        if isinstance(one, LeftOut):
            yield one
            continue
        for place, constraint in enumerate(one.constraints):
            candidates = tuple(
                Candidate(response, met[place], tags={**tags, _INSTRUCTION: one.id})
                for response, met, tags in zip(one.responses, one.met, one.tags, strict=True)
            )
            yield Example(f"{one.id}.{place + 1}", one.prompt, candidates, facets=one.facets,
                          criteria=(Criterion(constraint),))  # fmt: skip


@dataclass(frozen=True)
class Constraints(Grades):
    """Grades of which F1 is that of one row, all of its responses and constraints, and then a mean over rows."""

    @property
    def headline(self) -> str:
        """What to look at first."""
        return "negative_f1"

    def statistics(self, outcomes: Sequence[Outcome], view: str, fitted: Json) -> list[Statistic]:
        """The official figures, as means of three types and over rows, then those of `Grades`."""
        values = of_instructions(outcomes, view, fitted)
        each = [_mean(name, column) for name, column in zip(_FIGURES, values.T, strict=True)]
        overall = [
            over_types(name, of_rows(one, outcomes), one.title, one.caveat)(outcomes, view, fitted)
            for name, one in zip(_FIGURES, each, strict=True)
        ]
        return [*overall, *each, *super().statistics(outcomes, view, fitted)]


def _mean(name: str, values: Array) -> Statistic:
    title, unit = _FIGURES[name]
    caveat = "an instruction counts alike, whatever the number of its responses; a threshold is held fixed"
    if name == "ranking_tau_b":
        return mean(f"example_{name}", values, title=title, unit=unit, better="higher", bounds=(-1.0, 1.0),
                    caveat=caveat)  # fmt: skip
    return mean(f"example_{name}", values, "fraction", title=title, unit=unit, better="higher", caveat=caveat)


def of_instructions(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Array:
    """Both F1, and accuracy and tau-b of a ranking by the number of constraints said to be met [n, 4]: those of a row
    stand beside its first outcome, and all else is nan."""
    said = verdicts(outcomes, view, fitted)
    rows: dict[str, list[int]] = {}
    for place, outcome in enumerate(outcomes):
        rows.setdefault(outcome.tags[0][_INSTRUCTION], []).append(place)
    values = np.full((len(outcomes), 4), np.nan)
    for first, *others in rows.values():
        places = [first, *others]
        met = np.stack([said[place] for place in places])
        if np.isnan(met).any():
            continue
        gold = np.stack([outcomes[place].labels for place in places])
        scores = met.sum(axis=0)
        preferred = dict.fromkeys(named_pairs(outcomes[first].tags, PREFERRED_TO))  # each counts once here
        beaten = np.array([(np.sign(scores[a] - scores[b]) + 1) / 2 for a, b in preferred], float)
        values[first] = (f1(met == 1, gold == 1), f1(met == 0, gold == 0), *agreement(beaten))
    return values


def verdicts(outcomes: Sequence[Outcome], view: str, fitted: Json) -> list[Array]:
    """Of each outcome what a model says of its k candidates [k]: 1 that they meet the constraint, or 0; all nan where
    one has no answer. A verdict that could not be read is 1, as the official code takes what a judge leaves out."""
    grades = graded(outcomes, view, True, fitted, refused_is_wrong=True)
    said = [1.0 if lost else math.nan if one is None else float(one == "1")
            for one, lost in zip(grades.said, grades.lost, strict=True)]  # fmt: skip
    by_outcome: list[list[float]] = [[] for _ in outcomes]
    for row, one in zip(grades.rows.tolist(), said, strict=True):
        by_outcome[row].append(one)
    return [
        np.array(given) if len(given) == len(outcome.labels) else np.full(len(outcome.labels), np.nan)
        for outcome, given in zip(outcomes, by_outcome, strict=True)
    ]


def f1(said: NDArray[np.bool_], gold: NDArray[np.bool_]) -> float:
    """F1 of one class; 0 where none is rightly said, also where there is none."""
    hits = int(np.count_nonzero(said & gold))
    return 2 * hits / (int(said.sum()) + int(gold.sum())) if hits else 0.0


TASK = Grading(
    name="if_rewardbench_constraints",
    version=1,
    summary="IF-RewardBench's constraints, met or not: --data if_rewardbench_constraints=if_rewardbench.json",
    card="if_rewardbench_constraints",
    read=read,
    measure=Constraints(),
    null_verdict="loss",
)
