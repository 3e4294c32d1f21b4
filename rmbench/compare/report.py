"""The numbers of a comparison: paired differences of every model with the first, overlap of errors, ranking."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmbench.compare.entrants import Model, Side, shared_tasks, sides_of, unknown
from rmbench.errors import ResultError, UsageError
from rmbench.metrics import summary
from rmbench.metrics.interval import LEVEL, Better, Kind, Statistic, is_mean
from rmbench.metrics.measure import Measure
from rmbench.metrics.paired import Difference, Overlap, Rank, difference, holm, is_binary, overlap, ranks
from rmbench.results.replay import examples_of, outcomes_of
from rmbench.results.schema import TaskResult
from rmbench.types import Array


@dataclass(frozen=True)
class Contrast:
    """A model against the baseline, over the `n` examples of a subset that count for both; `dropped` do not.

    `difference` is the model's value minus the baseline's. A headline is of the primary views, over the whole;
    `p_holm` is adjusted for all headlines of the report, None elsewhere. Without an example there is no number.
    """

    baseline: str
    model: str
    baseline_view: str
    model_view: str
    subset: str
    headline: bool
    n: int
    dropped: int
    baseline_value: float | None = None
    model_value: float | None = None
    difference: Difference | None = None
    p_holm: float | None = None
    overlap: Overlap | None = None

    @property
    def is_told(self) -> bool:
        """Whether the adjusted p tells the two apart at 5 %."""
        return self.p_holm is not None and self.p_holm < 1 - LEVEL


@dataclass(frozen=True)
class Place:
    """A model's rank by its primary view, over the `n` examples that count for every model."""

    model: str
    value: float
    rank: Rank
    n: int


@dataclass(frozen=True)
class TaskComparison:
    """One task: the contrasts of every model with the first, and the ranking where there are more than two."""

    task: str
    version: int
    metric: str
    lower_is_better: bool
    examples: int
    kind: Kind
    contrasts: Sequence[Contrast]
    ranking: Sequence[Place]
    notes: Sequence[str]


@dataclass(frozen=True)
class Report:
    """All that was found. `models` has the runs of each, `refused` a line for what cannot be compared."""

    models: Mapping[str, Sequence[str]]
    tasks: Sequence[TaskComparison]
    refused: Sequence[str]

    def json(self) -> str:
        """One JSON document; null where there is no number."""
        return json.dumps(_plain(asdict(self)), indent=1, allow_nan=False)


def compare(
    models: Sequence[Model],
    probes: Callable[[str], Measure],
    *,
    metric: str | None = None,
    tasks: Sequence[str] = (),
    view: str | None = None,
    seed: int = 0,
) -> Report:
    """Compares the first of `models` with each other one, on `tasks`, else on every task that it shares with one.

    `metric` is the headline of the measure unless told. `probes` finds the measure of a probe by its task's name; that
    of other tasks is `summary.COMPARISON`. An effect is compared with the scale of each model held at what it is. A
    task, or a model on a task, that cannot be compared is a line of the report. Where nothing can, raises UsageError if
    there is no such task, view or metric, else ResultError.
    """
    found, refused, misnamed = list[TaskComparison](), list[str](), False
    for task in shared_tasks(models, tasks):
        try:
            sides, lines = sides_of(task, models)
            refused += lines
            if len(sides) > 1:
                found.append(_compared(sides, probes, metric, view, seed))
        except (ResultError, UsageError) as error:
            refused.append(f"{task} is not compared: {error}")
            misnamed = misnamed or isinstance(error, UsageError)
    if not found:
        raise (UsageError if misnamed else ResultError)("; ".join(refused))
    runs = {model.name: [run.name for run in model.runs] for model in models}
    return Report(runs, _adjusted(found), refused)


def _compared(
    sides: Sequence[Side], probes: Callable[[str], Measure], wanted: str | None, view: str | None, seed: int
) -> TaskComparison:
    """The primary views, else `view`, of each side against those of the first; then every view that all have."""
    results = [result for side in sides for _, result in side.results]
    frame, notes = _Frame.of(results[0]), list[str]()
    if any(_Frame.of(result).subsets != frame.subsets for result in results[1:]):
        frame = replace(frame, subsets=[None] * len(frame.ids))
        notes.append("subsets are not compared: the results divide the examples differently")
    if len({len(side.results) > 1 for side in sides}) > 1:
        alone = ", ".join(side.name for side in sides if len(side.results) == 1)
        notes.append(f"of one run, so no interval says how far other seeds would be from it: {alone}")
    info = results[0].task
    measure: Measure = summary.COMPARISON if info.measure == summary.COMPARISON.name else probes(info.name)
    metric = wanted or measure.headline
    if view is not None and not any(view in side.views for side in sides):
        raise UsageError(unknown("view", view, list(dict.fromkeys(name for side in sides for name in side.views))))
    views = [view if view in side.views else side.primary_view for side in sides]
    first = [
        _Measured.of(side, seen or side.primary_view, metric, measure) for side, seen in zip(sides, views, strict=True)
    ]
    contrasts = _contrasts(first, frame, seed, headline=True)
    for name in _further_views(sides, [measured.view for measured in first]) if view is None else []:
        try:
            further = [_Measured.of(side, name, metric, measure) for side in sides]
        except ResultError as error:
            notes.append(f"view {name} is not compared: {error}")
        else:
            contrasts += _contrasts(further, frame, seed, headline=False)
    lower = first[0].better == "lower"
    ranked = len(sides) > 2 and first[0].better is not None
    ranking = _ranking(first, frame, seed, -1 if lower else 1) if ranked else []
    return TaskComparison(
        info.name, info.version, metric, lower, len(frame.ids), first[0].kind, contrasts, ranking, notes
    )


def _further_views(sides: Sequence[Side], shown: Sequence[str]) -> list[str]:
    common = [view for view in sides[0].views if all(view in side.views for side in sides)]
    return [view for view in common if any(view != primary for primary in shown)]


@dataclass(frozen=True)
class _Frame:
    """The examples of a task, by their ids: `clusters` [n] are numbers, `subsets` [n] names or None."""

    ids: Sequence[str]
    clusters: NDArray[np.intp]
    subsets: Sequence[str | None]

    @classmethod
    def of(cls, result: TaskResult) -> _Frame:
        judged = sorted(examples_of(result), key=lambda example: example.id)
        _, clusters = np.unique([example.cluster or example.id for example in judged], return_inverse=True)
        return cls([example.id for example in judged], clusters, [example.facets.get("subset") for example in judged])

    def parts(self) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Which rows [n] are the whole, and then each subset, in the order of their names."""
        yield "all", np.ones(len(self.ids), dtype=bool)
        for name in sorted({subset for subset in self.subsets if subset is not None}):
            yield name, np.array([subset == name for subset in self.subsets])


@dataclass(frozen=True)
class _Measured:
    """One view of a side: the metric's value of each example and run [n, runs], nan where it does not count."""

    name: str
    view: str
    metric: str
    values: Array
    kind: Kind
    better: Better | None

    @classmethod
    def of(cls, side: Side, view: str, metric: str, measure: Measure) -> _Measured:
        if view not in side.views:
            raise UsageError(f"{side.name}: {unknown('view', view, side.views)}")
        runs, found = list[Array](), list[Statistic]()
        for path, result in side.results:
            outcomes = sorted(outcomes_of(result), key=lambda outcome: outcome.example_id)
            statistics = measure.statistics(outcomes, view, measure.fit(outcomes, view))
            means = {s.name: s for s in statistics if is_mean(s) or s.effects is not None}
            if metric not in means:
                raise UsageError(unknown("mean over examples", metric, list(means)))
            values = _values(means[metric])
            stated = result.metric(metric, view=view).value
            due = float(np.nanmean(values)) if np.isfinite(values).any() else None
            if stated != due and (stated is None or due is None or not np.isclose(stated, due, rtol=1e-6, atol=1e-9)):
                raise ResultError(f"{path}: {metric} of view {view!r} is {stated}, its records give {due}")
            runs.append(values)
            found.append(means[metric])
        return cls(side.name, view, metric, np.stack(runs, axis=1), found[0].kind, found[0].better)


def _values(statistic: Statistic) -> Array:
    """The value of each example [n] whose mean is the statistic, nan where it does not count."""
    if statistic.columns is None or statistic.value is None:
        raise ResultError(f"{statistic.name} is no mean over examples")
    counted = statistic.counts(len(statistic.columns))
    if statistic.effects is None:
        return np.where(counted, statistic.columns[:, 0], np.nan)
    effects = np.where(counted, statistic.effects, np.nan)
    middle = float(np.mean(effects[counted])) if counted.any() else 0.0
    with np.errstate(all="ignore"):  # an effect over no spread is nan
        value = float(statistic.value(statistic.columns[counted].sum(axis=0)))
    return effects * (value / middle) if middle else np.where(np.isnan(effects), np.nan, 0.0)


def _contrasts(measured: Sequence[_Measured], frame: _Frame, seed: int, *, headline: bool) -> list[Contrast]:
    """Every model against the first, over the whole and then over each subset."""
    return [
        _contrast(measured[0], other, frame, subset, rows, seed, headline and subset == "all")
        for subset, rows in frame.parts()
        for other in measured[1:]
    ]


def _contrast(
    theirs: _Measured, ours: _Measured, frame: _Frame, subset: str, rows: NDArray[np.bool_], seed: int, headline: bool
) -> Contrast:
    counted = rows & np.isfinite(theirs.values).all(axis=1) & np.isfinite(ours.values).all(axis=1)
    their, our, n = theirs.values[counted], ours.values[counted], int(counted.sum())
    contrast = Contrast(
        theirs.name, ours.name, theirs.view, ours.view, subset, headline, n, dropped=int(rows.sum()) - n
    )
    if not n:
        return contrast
    right_or_wrong = ours.metric.startswith("accuracy") and is_binary(our) and is_binary(their)
    return replace(
        contrast,
        baseline_value=float(their.mean()),
        model_value=float(our.mean()),
        difference=difference(our, their, frame.clusters[counted], kind=ours.kind, seed=seed),
        overlap=overlap(our, their) if right_or_wrong else None,
    )


def _ranking(measured: Sequence[_Measured], frame: _Frame, seed: int, sign: int) -> list[Place]:
    """Every model's place, the best first; nothing where no example counts for all."""
    counted = np.all([np.isfinite(some.values).all(axis=1) for some in measured], axis=0)
    if not counted.any():
        return []
    values = [some.values[counted] for some in measured]
    found = ranks([sign * some for some in values], frame.clusters[counted], seed=seed)
    n = int(counted.sum())
    places = [
        Place(some.name, float(value.mean()), rank, n)
        for some, value, rank in zip(measured, values, found, strict=True)
    ]
    return sorted(places, key=lambda place: place.rank.rank)


def _adjusted(tasks: Sequence[TaskComparison]) -> list[TaskComparison]:
    """The same, with Holm's adjustment of p over all headlines that have one."""
    tested = [(c, c.difference.p) for task in tasks for c in task.contrasts if c.headline and c.difference]
    known = [(id(contrast), p) for contrast, p in tested if not np.isnan(p)]
    adjusted = dict(zip((place for place, _ in known), holm([p for _, p in known]), strict=True))
    return [replace(task, contrasts=[replace(c, p_holm=adjusted.get(id(c))) for c in task.contrasts]) for task in tasks]


def _plain(value: Any) -> Any:
    """Dataclasses as mappings, nan as None."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value
