"""Who stands where: tiers of models that answered everything, by the headline of their task's measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.interval import Statistic, cluster_codes, is_mean
from rmbench.metrics.measure import Measure
from rmbench.metrics.paired import apart, cluster_parts, tiers
from rmbench.results.collection import stands
from rmbench.results.replay import outcomes_of
from rmbench.results.schema import TaskResult
from rmbench.types import Array, Outcome

Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class Standing:
    """Where a result stands. `tier` is counted from 1, `p` that of its difference from the leader of that tier.

    `lost` counts the examples that were not answered; with any there is no tier, and `at_least` is what the headline
    is where these are lost, None where nothing bounds that. Where less is better it is the most that it is.
    """

    tier: int | None = None
    p: float | None = None
    lost: int = 0
    at_least: float | None = None


@dataclass(frozen=True)
class Ranked:
    """A result that is to be ranked, by the headline of `measure` in its primary view."""

    result: TaskResult
    measure: Measure

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """Its outcomes, by the ids of their examples."""
        return sorted(outcomes_of(self.result), key=lambda outcome: outcome.example_id)

    @cached_property
    def whole(self) -> Statistic:
        """Its headline, over all outcomes."""
        return self.over(np.ones(len(self.outcomes), dtype=bool))

    def over(self, rows: Rows) -> Statistic:
        """Its headline over the outcomes of `rows` [n]."""
        view, outcomes = self.result.primary_view, [self.outcomes[i] for i in np.flatnonzero(rows)]
        fitted: Any = self.result.fitted.measure.get(view)
        made = self.measure.statistics(outcomes, view, fitted)
        return next(statistic for statistic in made if statistic.name == self.measure.headline)

    @property
    def value(self) -> float:
        """Its headline as the result states it, nan where there is none."""
        try:
            value = self.result.metric(self.measure.headline).value
        except KeyError:
            return np.nan
        return np.nan if value is None else value

    @cached_property
    def lost(self) -> Rows:
        """Which examples it did not answer [n]: a request of theirs has no reward, or the view no number.

        What could not be read is an answer where the task says what it is worth, and so is an infinity where it counts.
        """
        failed, is_open = np.zeros((2, len(self.outcomes)), dtype=bool)
        for row, outcome in enumerate(self.outcomes):
            statuses = {answer.status for answer in outcome.answers}
            failed[row] = not statuses <= stands(self.result)
            is_open[row] = "inf" in statuses or _is_open(outcome, self.result.primary_view)
        result: Rows = failed | (is_open & ~self._counts)
        return result

    @property
    def at_least(self) -> float | None:
        """Its headline where what it did not answer is lost; None where that has no bound.

        Of a mean of rows within bounds, or of a share whose rows all have as many parts.
        """
        whole = self.whole
        worst = {"higher": whole.bounds[0], "lower": whole.bounds[1], None: None}[whole.better]
        if worst is None or whole.columns is None or whole.value is None or whole.columns.shape[1] != 2:
            return None
        counted = self._counts & ~self.lost
        each = np.unique(whole.columns[counted, 1])
        if not counted.any():
            return worst
        if len(each) != 1 or not np.isclose(whole.value(np.array([3.0, 4.0])), 0.75):
            return None
        n = np.count_nonzero(counted)
        mean = float(whole.columns[counted, 0].sum()) / (n * each[0])
        return float((n * mean + self.lost.sum() * worst) / (n + self.lost.sum()))

    @property
    def _counts(self) -> Rows:
        return self.whole.counts(len(self.outcomes))


def standings(models: Sequence[Ranked]) -> list[Standing]:
    """Where each model stands: the tier of those that answered every example, by paired tests over the same clusters.

    p is adjusted by Holm over all pairs of these; see `paired.tiers`. What a model left unanswered moves nobody else. A
    pair is compared on the examples that count for all. Without a headline, or where neither more nor less of it is
    better, there is no tier.
    """
    placings = [
        Standing(lost=int(model.lost.sum()), at_least=model.at_least) if model.lost.any() else Standing()
        for model in models
    ]
    whole = [i for i, model in enumerate(models) if not placings[i].lost and np.isfinite(model.value)]
    whole = [i for i in whole if models[i].whole.better is not None]
    values, clusters = _units([models[i] for i in whole])
    sign = -1.0 if any(models[i].whole.better == "lower" for i in whole) else 1.0
    placed = tiers([sign * models[i].value for i in whole], apart(values, clusters))
    for i, (tier, p) in zip(whole, placed, strict=True):
        placings[i] = Standing(tier, p)
    return placings


def _units(models: Sequence[Ranked]) -> tuple[list[Array], NDArray[np.intp]]:
    """What tests are over: rows of a mean [n, 1] with their clusters, else the clusters' parts [c, 1] each its own.

    All are over the examples that count for every model, of which what is no mean is made anew. Where a part is open,
    because a value is without one of the clusters, the model is told from no other: its parts are those of none.
    """
    if not models:
        return [], np.zeros(0, np.intp)
    clusters = np.array([outcome.cluster for outcome in models[0].outcomes], dtype=object)
    rows = np.ones(len(clusters), dtype=bool)
    statistics = [model.whole for model in models]
    while not all((counts := np.all([one.counts(int(rows.sum())) for one in statistics], axis=0)).tolist()):
        rows[rows] = counts
        statistics = [model.over(rows) for model in models]
    codes = cluster_codes(clusters[rows])
    if all(map(is_mean, statistics)):
        return [np.asarray(one.columns)[:, :1] for one in statistics], codes
    parts = [cluster_parts(one, codes)[:, None] for one in statistics]
    return parts, np.arange(len(np.unique(codes)))


def _is_open(outcome: Outcome, view: str) -> bool:
    """Whether a view has no number of a candidate that was asked about by itself."""
    seen = outcome.views.get(view)
    if seen is None or seen.scores is None:
        return seen is None
    alone = [answer.candidates[0] for answer in outcome.answers if len(answer.candidates) == 1]
    return bool(np.isnan(seen.scores[alone]).any())
