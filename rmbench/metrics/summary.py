"""Every metric of a comparison task, in the order of results, and the measure that they are."""

from __future__ import annotations

from collections.abc import Sequence

from rmbench.metrics import comparison, length, order, scale
from rmbench.metrics.interval import Statistic
from rmbench.metrics.measure import Unfitted
from rmbench.types import Outcome


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """What one view of `outcomes` [n] gives, ready for `interval.estimate` with the clusters of the outcomes."""
    return [statistic for topic in (comparison, order, length, scale) for statistic in topic.statistics(outcomes, view)]


COMPARISON = Unfitted("comparison", "accuracy", statistics, comparison.left_out, comparison.ties)
