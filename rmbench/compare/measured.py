"""One metric of a model on a task, made again from its records over any of the examples, and the tests of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rmbench.compare.entrants import Side, unknown
from rmbench.errors import ResultError, UsageError
from rmbench.metrics.interval import Statistic, cluster_codes, is_mean, whole_value
from rmbench.metrics.measure import Measure
from rmbench.metrics.paired import Difference, Rank, cluster_parts, difference, difference_of, is_binary, ranks
from rmbench.results.figures import subsets_of
from rmbench.results.replay import outcomes_of
from rmbench.results.schema import TaskResult
from rmbench.types import Array, Outcome

Rows = NDArray[np.bool_]


def label(statistic: Statistic) -> str:
    """What a statistic is asked for by: its name, with the x where it is a point of a curve, as in `best@8`."""
    return statistic.name if statistic.at is None else f"{statistic.name}@{statistic.at:g}"


class SideOutcomes:
    """The outcomes of a side, one list a run, in the order of `like`, else of its first run.

    Sums in the order that a result has are those that it states, to the last digit.
    """

    def __init__(self, side: Side, like: SideOutcomes | None = None) -> None:
        self.side = side
        first, *others = (outcomes_of(result) for _, result in side.results)
        order = {one.example_id: place for place, one in enumerate(first if like is None else like.runs[0])}
        self.runs: list[list[Outcome]] = [
            sorted(run, key=lambda outcome: order[outcome.example_id]) for run in (first, *others)
        ]

    @property
    def clusters(self) -> list[str]:
        """The cluster of each example [n]."""
        return [outcome.cluster for outcome in self.runs[0]]

    @property
    def subsets(self) -> dict[str, list[int]]:
        """`all`, and every `facet=value`, with the places of its examples."""
        return subsets_of([outcome.facets for outcome in self.runs[0]])


@dataclass(frozen=True)
class Measured:
    """One metric of a side in one view: `over` makes it of any of its n examples, `whole` is it of all, a run each."""

    judged: SideOutcomes
    view: str
    metric: str
    measure: Measure
    whole: Sequence[Statistic]

    @classmethod
    def of(cls, judged: SideOutcomes, view: str, metric: str, measure: Measure) -> Measured:
        """Raises UsageError where there is no such view or metric, ResultError where a result states another value."""
        side = judged.side
        if view not in side.views:
            raise UsageError(f"{side.name}: {unknown('view', view, side.views)}")
        whole = []
        for (path, result), outcomes in zip(side.results, judged.runs, strict=True):
            made = _made(measure, outcomes, view, result)
            if metric not in made:
                raise UsageError(f"{side.name}: {unknown('metric', metric, list(made))}")
            _check_stated(f"{path}: {metric} of view {view!r}", result, view, made[metric], judged.clusters)
            whole.append(made[metric])
        return cls(judged, view, metric, measure, whole)

    @property
    def name(self) -> str:
        """The model's."""
        return self.judged.side.name

    def over(self, rows: Rows) -> list[Statistic] | None:
        """The metric over the examples of `rows` [n], a run each; None where a run has none of it there."""
        if rows.all():
            return list(self.whole)
        figures = []
        for (_, result), outcomes in zip(self.judged.side.results, self.judged.runs, strict=True):
            kept = [outcomes[place] for place in np.flatnonzero(rows)]
            made = _made(self.measure, kept, self.view, result)
            if self.metric not in made:
                return None
            figures.append(made[self.metric])
        return figures


@dataclass(frozen=True)
class Common:
    """One metric of several models over the m examples that count for all of them: `models` has one statistic a run.

    `codes` [m] are the examples' clusters, `rows` [n] which of all examples they are.
    """

    models: Sequence[Sequence[Statistic]]
    codes: NDArray[np.intp]
    rows: Rows

    @property
    def n(self) -> int:
        """How many examples there are."""
        return len(self.codes)

    @property
    def value(self) -> list[float]:
        """The value of each model, of several runs their mean."""
        return [float(np.mean([whole_value(one, self.codes) for one in runs])) for runs in self.models]

    @property
    def verdicts(self) -> list[Array] | None:
        """Whether each example is right, 1, or wrong, 0 [m, runs], by model; None where the metric does not say."""
        first = self.models[0][0]
        if not self._are_means or first.kind != "proportion" or first.better is None:
            return None
        values = self._values
        if not all(map(is_binary, values)):
            return None
        return values if first.better == "higher" else [1 - values_of for values_of in values]

    def difference(self, *, seed: int) -> Difference:
        """The second model minus the first."""
        their_runs, our_runs = self.models
        if len(their_runs) == len(our_runs) == 1:
            return difference_of(our_runs[0], their_runs[0], self.codes, seed=seed)
        their_values, our_values = self._units
        kind = self.models[0][0].kind if self._are_means else "number"
        if not np.isfinite(our_values).all() or not np.isfinite(their_values).all():
            their, our = self.value
            return Difference(our - their, np.nan, np.nan, np.nan, None, np.nan, self.n, len(np.unique(self.codes)))
        estimate = difference(our_values, their_values, self._unit_clusters, kind=kind, seed=seed)
        return replace(estimate, n=self.n)

    def ranks(self, *, seed: int) -> list[Rank]:
        """The rank of each model, the best first; [] where a value is open without one of the clusters."""
        sign = -1.0 if self.models[0][0].better == "lower" else 1.0
        values = [sign * units for units in self._units]
        return ranks(values, self._unit_clusters, seed=seed) if all(np.isfinite(v).all() for v in values) else []

    @property
    def _are_means(self) -> bool:
        return all(is_mean(one) for runs in self.models for one in runs)

    @property
    def _values(self) -> list[Array]:
        """The rows' values [m, runs] of each model, of a metric that is their mean."""
        return [np.column_stack([np.asarray(one.columns)[:, 0] for one in runs]) for runs in self.models]

    @property
    def _units(self) -> list[Array]:
        """What tests of several runs or models are over: rows of a mean, else the clusters' parts; [units, runs]."""
        if self._are_means:
            return self._values
        each = len(np.unique(self.codes)) / self.n  # so that the mean over clusters is the value
        return [np.column_stack([each * cluster_parts(one, self.codes) for one in runs]) for runs in self.models]

    @property
    def _unit_clusters(self) -> NDArray[np.intp]:
        return self.codes if self._are_means else np.arange(len(np.unique(self.codes)))


def common(models: Sequence[Measured], rows: Rows) -> Common | None:
    """The metric of `models` over those of `rows` [n] that count for all of them; None where there are none.

    It is made anew of them, as a macro or a pooled correlation has to be, until all of them count.
    """
    clusters = models[0].judged.clusters
    while rows.any():
        made = [model.over(rows) for model in models]
        shared = [runs for runs in made if runs is not None]
        if len(shared) < len(made):
            return None
        counted = np.all([one.counts(int(rows.sum())) for runs in shared for one in runs], axis=0)
        if counted.all():
            codes = cluster_codes([clusters[place] for place in np.flatnonzero(rows)])
            return Common(shared, codes, rows)
        rows = rows.copy()
        rows[rows] = counted
    return None


def _made(measure: Measure, outcomes: Sequence[Outcome], view: str, result: TaskResult) -> dict[str, Statistic]:
    """What the measure gives of these outcomes, by label, with the fit that the result states."""
    return {label(one): one for one in measure.statistics(outcomes, view, result.fitted.measure.get(view))}


def _check_stated(what: str, result: TaskResult, view: str, made: Statistic, clusters: Sequence[str]) -> None:
    try:
        stated = result.metric(made.name, view=view, at=made.at).value
    except KeyError:
        stated = None
    value = whole_value(made, cluster_codes(clusters))
    due = value if np.isfinite(value) and made.counts(len(clusters)).any() else None
    if stated != due and (stated is None or due is None or not np.isclose(stated, due, rtol=1e-6, atol=1e-9)):
        raise ResultError(f"{what} is {stated}, its records give {due}")
