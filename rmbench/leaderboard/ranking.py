"""Tiers of models by the headline of their task's measure, each in its primary view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.interval import LEVEL, Statistic, is_mean
from rmbench.metrics.measure import Measure
from rmbench.metrics.paired import difference_of, holm
from rmbench.results.replay import outcomes_of
from rmbench.results.schema import TaskResult
from rmbench.types import Outcome


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
        return self.over(None)

    def over(self, rows: NDArray[np.bool_] | None) -> Statistic:
        """Its headline over the outcomes of `rows` [n], all unless told."""
        view, outcomes = self.result.primary_view, self.outcomes
        some = outcomes if rows is None else [outcomes[i] for i in np.flatnonzero(rows)]
        fitted: Any = self.result.fitted.measure.get(view)
        made = self.measure.statistics(some, view, fitted)
        return next(statistic for statistic in made if statistic.name == self.measure.headline)

    @property
    def value(self) -> float:
        """Its headline as the result states it, nan where there is none."""
        try:
            value = self.result.metric(self.measure.headline).value
        except KeyError:
            return np.nan
        return np.nan if value is None else value


def tiers(models: Sequence[Ranked]) -> list[tuple[int | None, float | None]]:
    """Tier (from 1) of each model, and the adjusted p that put it there, None for the best of its tier.

    The best model leads the first tier, with all that a paired test over the same clusters (Holm over everything it is
    compared with) cannot tell from it at 5 %; the best of the rest leads the next. Two members of a tier may still
    differ: what they share is the leader. A pair is compared on the examples that count for both. Without a headline,
    or where neither more nor less of it is better, there is no tier.
    """
    found: list[tuple[int | None, float | None]] = [(None, None)] * len(models)
    waiting = [i for i, model in enumerate(models) if np.isfinite(model.value) and model.whole.better is not None]
    sign = -1 if any(models[i].whole.better == "lower" for i in waiting) else 1
    waiting.sort(key=lambda i: -sign * models[i].value)
    tier = 0
    while waiting:
        tier += 1
        leader, *others = waiting
        found[leader] = tier, None
        adjusted = holm([_p(models[leader], models[other]) for other in others])
        waiting = []
        for other, p in zip(others, adjusted, strict=True):
            if p >= 1 - LEVEL:
                found[other] = tier, p
            else:
                waiting.append(other)
    return found


def _p(ours: Ranked, theirs: Ranked) -> float:
    """p of the difference of two headlines; 1 where nothing can be told."""
    clusters = [outcome.cluster for outcome in ours.outcomes]
    first, second = ours.whole, theirs.whole
    if not (is_mean(first) and is_mean(second)):
        both = first.counts(len(clusters)) & second.counts(len(clusters))
        first, second = ours.over(both), theirs.over(both)
        clusters = [cluster for cluster, counts in zip(clusters, both, strict=True) if counts]
    p = difference_of(first, second, clusters).p
    return 1.0 if np.isnan(p) else p
