"""What `rmbench distances` finds, as data: `distances` makes it, the command and the plots show it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rmbench.compare.members import Membership
from rmbench.metrics.curve import Figure
from rmbench.metrics.distance import Join
from rmbench.metrics.interval import LEVEL, Kind
from rmbench.metrics.paired import Difference
from rmbench.results.document import as_json

_COLUMNS = ("task", "first", "second", "prompts", "starc", "starc_low", "starc_high", "epic", "epic_low", "epic_high",
            "other", "other_low", "other_high", "metric", "difference", "difference_low", "difference_high", "p",
            "p_holm", "only_first", "only_second", "both", "neither", "phi", "phi_low", "phi_high", "kappa",
            "kappa_low", "kappa_high", "beyond", "beyond_p", "beyond_p_holm")  # fmt: skip


@dataclass(frozen=True)
class Errors:
    """What two models get wrong: numbers of examples, and `common`, the share that both get wrong of what either does,
    beside what that would be if one's errors said nothing of the other's.

    `beyond` is what phi has more than difficulty explains, `beyond_p` its p and `beyond_p_holm` that after Holm over
    the pairs of the task; nan where that is open, as with fewer than five models.
    """

    only_first: int
    only_second: int
    both: int
    neither: int
    common: float
    common_if_independent: float
    phi: Figure
    kappa: Figure
    beyond: float
    beyond_p: float
    beyond_p_holm: float


@dataclass(frozen=True)
class PairOfModels:
    """Two models: their distance, the share of prompts for which they select `other` responses, and their metric.

    `difference` is the second's metric less the first's, None where there is none to compare; `p_holm` is after Holm
    over the pairs of the task. `errors` are None where nothing is right or wrong.
    """

    first: str
    second: str
    starc: Figure
    epic: Figure
    other: Figure
    difference: Difference | None
    p_holm: float
    errors: Errors | None

    @property
    def is_told(self) -> bool:
        """Whether the two are told apart by their metric."""
        return self.p_holm < 1 - LEVEL


@dataclass(frozen=True)
class Conflict:
    """Two heads or aspects of a model: of the pairs of responses that both order, the share in the opposite order."""

    model: str
    first: str
    second: str
    opposite: Figure


@dataclass(frozen=True)
class Dependence:
    """All errors together, of `examples` that count for every model: the tests of `metrics.dependence`.

    `star_p_drawn` is the p of CD* by draws of the fitted difficulty, which holds for few models too.
    """

    examples: int
    clusters: int
    cd: float
    cd_p: float
    cd_left: float
    star: float
    star_p: float
    star_p_drawn: float
    theta: float


@dataclass(frozen=True)
class TaskDistances:
    """One task. `views` are by model; `prompts` are those that count, `of_prompts` all that there are.

    `matrix` [m, m] has STARC distances in the order of `models`. `joins` are those of a dendrogram, lowest first, of
    places in `models`. `title`, `unit`, `kind` and `lower_is_better` are of the metric, the headline unless told.
    """

    task: str
    version: int
    models: Sequence[str]
    views: Mapping[str, str]
    prompts: int
    of_prompts: int
    responses: int
    clusters: int
    metric: str
    title: str
    unit: str
    kind: Kind
    lower_is_better: bool
    matrix: Sequence[Sequence[float]]
    joins: Sequence[Join]
    pairs: Sequence[PairOfModels]
    dependence: Dependence | None
    conflicts: Sequence[Conflict]
    members: Membership | None
    notes: Sequence[str]
    is_try: bool = False

    def pair(self, first: str, second: str) -> PairOfModels:
        """The pair of two models, in any order."""
        return next(pair for pair in self.pairs if {pair.first, pair.second} == {first, second})

    def mean_phi(self, model: str) -> float:
        """The mean correlation of a model's errors with those of each other one; nan where one has none."""
        errors = [pair.errors for pair in self.pairs if model in (pair.first, pair.second)]
        return sum(math.nan if one is None else one.phi.value for one in errors) / len(errors)

    @property
    def underspecified(self) -> list[PairOfModels]:
        """Pairs that the metric does not tell apart though they select other responses, the most such first."""
        alike = [pair for pair in self.pairs if pair.difference is not None and not pair.is_told and pair.other.low > 0]
        return sorted(alike, key=lambda pair: -pair.other.value)


@dataclass(frozen=True)
class DistanceReport:
    """All that was found; `refused` has a line for what has no distance."""

    tasks: Sequence[TaskDistances]
    refused: Sequence[str]

    def json(self) -> str:
        """One JSON document; null where there is no number."""
        return as_json(self)

    def csv(self) -> str:
        """A row for each pair of models of a task; empty where there is no number."""
        written = io.StringIO()
        writer = csv.DictWriter(written, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        for task in self.tasks:
            writer.writerows(_row(task, pair) for pair in task.pairs)
        return written.getvalue()


def _row(task: TaskDistances, pair: PairOfModels) -> dict[str, Any]:
    """A pair as a row of the CSV."""
    row: dict[str, Any] = {"task": task.task, "first": pair.first, "second": pair.second, "prompts": task.prompts}
    figures = {"starc": pair.starc, "epic": pair.epic, "other": pair.other}
    if pair.errors is not None:
        figures |= {"phi": pair.errors.phi, "kappa": pair.errors.kappa}
        names = ("only_first", "only_second", "both", "neither", "beyond", "beyond_p", "beyond_p_holm")
        row |= {name: getattr(pair.errors, name) for name in names}
    if (change := pair.difference) is not None:
        figures["difference"] = Figure(change.value, change.ci_low, change.ci_high)
        row |= {"metric": task.metric, "p": change.p, "p_holm": pair.p_holm}
    for name, figure in figures.items():
        row |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
    return {name: "" if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
