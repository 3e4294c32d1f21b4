"""Every metric of a comparison task, in the order of results, and the measure that they are.

`accuracy` is micro, every example counting alike. Where a facet divides the examples into categories,
`accuracy_macro_<facet>` stands beside it, the mean of the accuracies of its categories.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rmbench.metrics import comparison, length, order, scale
from rmbench.metrics.interval import Statistic
from rmbench.metrics.measure import Unfitted, macro
from rmbench.types import Outcome

_MOST = 50  # categories; a facet with more names examples, and does not sort them


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """What one view of `outcomes` [n] gives, ready for `interval.estimate` with the clusters of the outcomes."""
    first, *others = comparison.statistics(outcomes, view)
    more = [statistic for topic in (order, length, scale) for statistic in topic.statistics(outcomes, view)]
    return [first, *_macros(outcomes, view), *others, *more]


def _macros(outcomes: Sequence[Outcome], view: str) -> Iterator[Statistic]:
    """The mean accuracy over the categories of each facet that has several."""
    categories: dict[str, dict[str, None]] = {}
    for outcome in outcomes:
        for facet, value in (outcome.facets or {}).items():
            categories.setdefault(facet, {})[value] = None
    part = comparison.alone(comparison.accuracy)
    for facet, values in sorted(categories.items()):
        if 1 < len(values) <= _MOST:
            parts = [(1.0, {facet: value}, part) for value in sorted(values)]
            title = f"Accuracy, ties lost, mean over the {facet}s"
            yield macro(f"accuracy_macro_{facet}", parts, title=title)(outcomes, view, None)


COMPARISON = Unfitted("comparison", "accuracy", statistics, comparison.left_out, comparison.ties)
