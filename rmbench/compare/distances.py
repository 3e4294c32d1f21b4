"""The numbers of `rmbench distances`: how far rewards are apart, where they err together, what they would select."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import combinations

import numpy as np

from rmbench.compare.distance_report import (
    Conflict,
    Dependence,
    DistanceReport,
    Errors,
    PairOfModels,
    TaskDistances,
)
from rmbench.compare.entrants import ComparedModel, Side, is_try, part_notes, shared_tasks, sides_of
from rmbench.compare.measured import Measured, common
from rmbench.compare.members import members
from rmbench.compare.shared_rewards import Rewarding, SharedRewards, rewarding, rewards_of, shared_rewards
from rmbench.errors import ResultError, UsageError
from rmbench.metrics import choice, comparison, dependence, distance
from rmbench.metrics.curve import Figure
from rmbench.metrics.interval import Estimate, Statistic, cluster_codes, estimate
from rmbench.metrics.measure import Measure
from rmbench.metrics.paired import Difference, Overlap, holm, overlap
from rmbench.results.measuring import Find, measure_of
from rmbench.types import Array


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
    notes = [*part_notes(sides), *shared.notes]
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
        if dependent.clusters < dependent.examples and not math.isnan(dependent.cd):
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
