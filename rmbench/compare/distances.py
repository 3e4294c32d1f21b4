"""The numbers of `rmbench distances`: how far rewards are apart, where they err together, what they would select."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from rmbench.compare.entrants import ComparedModel, Side, is_try, shared_tasks, sides_of
from rmbench.compare.measured import Find, Measured, common, measure_of
from rmbench.compare.members import Membership, members
from rmbench.compare.shared_rewards import Rewarding, SharedRewards, rewarding, rewards_of, shared_rewards
from rmbench.errors import ResultError, UsageError
from rmbench.metrics import choice, comparison, dependence, distance
from rmbench.metrics.interval import LEVEL, Estimate, Kind, Statistic, cluster_codes, estimate
from rmbench.metrics.measure import Measure
from rmbench.metrics.paired import Difference, Overlap, holm, overlap
from rmbench.types import Array

_COLUMNS = ("task", "first", "second", "prompts", "starc", "starc_low", "starc_high", "epic", "epic_low", "epic_high",
            "other", "other_low", "other_high", "metric", "difference", "difference_low", "difference_high", "p",
            "p_holm", "only_first", "only_second", "both", "neither", "phi", "phi_low", "phi_high", "kappa",
            "kappa_low", "kappa_high", "beyond", "beyond_p", "beyond_p_holm")  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A number with the ends of its 95 % interval, nan where that, or all of it, is open."""

    value: float
    low: float = math.nan
    high: float = math.nan


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
    joins: Sequence[distance.Join]
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
        return json.dumps(_plain(asdict(self)), indent=1, allow_nan=False)

    def csv(self) -> str:
        """A row for each pair of models of a task; empty where there is no number."""
        written = io.StringIO()
        writer = csv.DictWriter(written, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        for task in self.tasks:
            writer.writerows(_row(task, pair) for pair in task.pairs)
        return written.getvalue()


def distances(
    models: Sequence[ComparedModel],
    find: Find,
    *,
    tasks: Sequence[str] = (),
    metric: str | None = None,
    view: str | None = None,
    seed: int = 0,
) -> DistanceReport:
    """How far those of `models` are apart that rewarded the same responses, on `tasks`, else on all that two share.

    `metric` is any of those of the task's measure, its headline unless told; `view` a head or step aggregator, each
    model's primary one unless told. A task, or a model on a task, without distances is a line of the report. Where
    nothing is left, raises UsageError if there is no such task, view or metric, else ResultError.
    """
    found, refused, misnamed = list[TaskDistances](), list[str](), False
    for task in shared_tasks(models, tasks):
        try:
            sides, lines = sides_of(task, models)
            refused += lines
            made, lines = _of_task(sides, find, metric, view, seed)
            found.append(made)
            refused += [f"{task}: {line}" for line in lines]
        except (ResultError, UsageError) as error:
            refused.append(f"{task}: {error}")
            misnamed = misnamed or isinstance(error, UsageError)
    if not found:
        raise (UsageError if misnamed else ResultError)("; ".join(refused))
    return DistanceReport(found, refused)


def _of_task(
    sides: Sequence[Side], find: Find, wanted: str | None, view: str | None, seed: int
) -> tuple[TaskDistances, list[str]]:
    result = sides[0].results[0][1]
    measure = measure_of(result, find)
    able, without_rewards = rewarding(sides, view)
    try:
        shared, without_numbers = shared_rewards(able)
    except ResultError as error:
        raise ResultError("; ".join([*without_rewards, str(error)])) from error
    metric = wanted or measure.headline
    notes = [*_notes(sides), *shared.notes]
    measured, lacking = _measured(shared.models, metric, measure, is_wanted=wanted is not None)
    notes += lacking
    wrong, whose = _wrong(shared.models, measured)
    matrix = distance.starc_matrix(shared.rewards, shared.counts)
    pairs = _pairs(shared, measured, seed)
    dependent = None
    if wrong is None:
        notes.append("no errors in common: no example has a right and a wrong response that all models rewarded")
    else:
        pairs, dependent = _with_errors(pairs, wrong, whose, seed)
        if dependent.clusters < dependent.examples:
            notes.append(
                f"CD takes examples as independent given their difficulty, and {dependent.examples:,} examples are of "
                f"{dependent.clusters:,} clusters: its p are too small where a cluster's errors go together"
            )
    said = measured[0].whole[0] if measured else None
    ensemble = members(measured, shared, seed) if measured else "there is no metric of all members"
    if isinstance(ensemble, str):
        notes.append(f"no ensemble: {ensemble}")
    made = TaskDistances(
        result.label,
        result.task.version,
        [model.name for model in shared.models],
        {model.name: model.view for model in shared.models},
        len(shared.counts),
        shared.of_prompts,
        int(shared.counts.sum()),
        len(np.unique(shared.clusters)),
        metric,
        "" if said is None else said.title,
        "" if said is None else said.unit,
        "number" if said is None else said.kind,
        said is not None and said.better == "lower",
        matrix.tolist(),
        distance.dendrogram(matrix),
        pairs,
        dependent,
        [one for model in shared.models for one in _conflicts(model, shared, seed)],
        None if isinstance(ensemble, str) else ensemble,
        notes,
        is_try(sides),
    )
    return made, [*without_rewards, *without_numbers]


def _notes(sides: Sequence[Side]) -> list[str]:
    notes = []
    if is_try(sides):
        notes.append("a try, of examples that --limit cut off: it decides nothing; run the task whole")
    if parts := list(dict.fromkeys(side.part for side in sides if side.part)):
        notes.append(f"no whole task: {'; '.join(parts)}")
    return notes


def _measured(
    models: Sequence[Rewarding], metric: str, measure: Measure, *, is_wanted: bool
) -> tuple[list[Measured], list[str]]:
    """The metric of each model; none, and why, where one has no such metric and nobody asked for it."""
    try:
        return [Measured.of(model.judged, model.view, metric, measure) for model in models], []
    except UsageError as error:
        if is_wanted:
            raise
        return [], [f"no metric: {error}"]


def _pairs(shared: SharedRewards, measured: Sequence[Measured], seed: int) -> list[PairOfModels]:
    """Every two models, without what they err in."""
    places = list(combinations(range(len(shared.models)), 2))
    names = [model.name for model in shared.models]
    rewards, counts = shared.rewards, shared.counts
    apart = [distance.starc("starc", rewards[i], rewards[j], counts) for i, j in places]
    others = [choice.other_choice("other", rewards[i], rewards[j], counts) for i, j in places]
    estimates = estimate([*apart, *others], shared.clusters, seed=seed)
    differences = [_difference([measured[i], measured[j]], seed) if measured else None for i, j in places]
    adjusted = _adjusted([math.nan if one is None else one.p for one in differences])
    pairs = []
    for (i, j), one, other, difference, p in zip(
        places, estimates[: len(places)], estimates[len(places) :], differences, adjusted, strict=True
    ):
        starc = _figure(one)
        epic = Figure(*(distance.epic(end) for end in (starc.value, starc.low, starc.high)))
        pairs.append(PairOfModels(names[i], names[j], starc, epic, _figure(other), difference, p, None))
    return pairs


def _difference(two: Sequence[Measured], seed: int) -> Difference | None:
    both = common(two, np.ones(len(two[0].judged.clusters), bool))
    return None if both is None else both.difference(seed=seed)


def _wrong(models: Sequence[Rewarding], measured: Sequence[Measured]) -> tuple[Array | None, list[str]]:
    """Whether each model is wrong [t, m] on the examples that count for all, with their clusters [t].

    By the metric where it is a share of right ones; else a model is wrong where not every response of the highest label
    that it likes best is above all others, as in `accuracy`.
    """
    clusters = models[0].judged.clusters
    if measured:
        whole = common(measured, np.ones(len(clusters), bool))
        verdicts = None if whole is None else whole.verdicts
        if whole is not None and verdicts is not None:
            return 1 - np.column_stack(verdicts), [clusters[row] for row in np.flatnonzero(whole.rows)]
    wins = np.column_stack([comparison.wins(model.outcomes, model.view) for model in models])
    counted = np.isfinite(wins).all(axis=1)
    kept = [clusters[row] for row in np.flatnonzero(counted)]
    return (1 - wins[counted] if counted.any() else None), kept


def _with_errors(
    pairs: Sequence[PairOfModels], wrong: Array, clusters: Sequence[str], seed: int
) -> tuple[list[PairOfModels], Dependence]:
    """The pairs with what they err in, and all errors together."""
    places = list(combinations(range(wrong.shape[1]), 2))
    statistics: list[Statistic] = []
    for i, j in places:
        statistics += [make("errors", wrong[:, i], wrong[:, j]) for make in (dependence.phi, dependence.kappa)]
    figures = [_figure(one) for one in estimate(statistics, clusters, seed=seed)]
    beyond = dependence.beyond_difficulty(wrong, seed=seed)
    adjusted = _adjusted([float(beyond.p[i, j]) for i, j in places])
    told = [
        replace(
            pair,
            errors=_errors(
                overlap(1 - wrong[:, [j]], 1 - wrong[:, [i]]),
                (figures[2 * at], figures[2 * at + 1]),
                (float(beyond.correlation[i, j]), float(beyond.p[i, j]), adjusted[at]),
            ),
        )
        for at, (pair, (i, j)) in enumerate(zip(pairs, places, strict=True))
    ]
    all_errors = dependence.cross_dependence(wrong)
    count = len(np.unique(cluster_codes(clusters)))
    return told, Dependence(len(wrong), count, star_p_drawn=beyond.star_p, **asdict(all_errors))


def _errors(wrong: Overlap, figures: tuple[Figure, Figure], beyond: tuple[float, float, float]) -> Errors:
    """Of an overlap in which the second model is ours."""
    return Errors(
        round(wrong.only_theirs),
        round(wrong.only_ours),
        round(wrong.both),
        round(wrong.neither),
        wrong.common,
        wrong.common_if_independent,
        *figures,
        *beyond,
    )


def _conflicts(model: Rewarding, shared: SharedRewards, seed: int) -> list[Conflict]:
    """Every two views of a model that have rewards, over all prompts with several responses; the most at odds first."""
    rewards = {view: rewards_of(model, view, shared.several) for view in model.judged.side.views}
    views = [view for view, given in rewards.items() if np.isfinite(given).any()]
    counts = np.array([len(prompt.rows) for prompt in shared.several], np.intp)
    clusters = [prompt.cluster for prompt in shared.several]
    names = list(combinations(views, 2))
    made = [choice.conflict("conflict", rewards[one], rewards[other], counts) for one, other in names]
    found = [
        Conflict(model.name, one, other, _figure(figure))
        for (one, other), figure in zip(names, estimate(made, clusters, seed=seed), strict=True)
    ]
    return sorted(found, key=lambda conflict: (math.isnan(conflict.opposite.value), -conflict.opposite.value))


def _figure(estimated: Estimate) -> Figure:
    return Figure(estimated.value, estimated.ci_low, estimated.ci_high)


def _adjusted(p_values: Sequence[float]) -> list[float]:
    """Holm's adjustment of those that are numbers; the others stay nan."""
    told = [at for at, p in enumerate(p_values) if not math.isnan(p)]
    adjusted = dict(zip(told, holm([p_values[at] for at in told]), strict=True))
    return [adjusted.get(at, math.nan) for at in range(len(p_values))]


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


def _plain(value: Any) -> Any:
    """Dataclasses as mappings, what is no number as None."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
