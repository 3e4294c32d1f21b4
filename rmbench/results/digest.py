"""Which figures of a task stand where in a table, by what its statistics say of themselves, never by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rmbench.metrics import doubt
from rmbench.metrics.reliability import POINT_CLUSTERS
from rmbench.results.schema import Calibration, CalibrationMap, Definition, Figure, Metric, TaskResult

FEW = 10  # clusters, in effect, below which a reader is warned


@dataclass(frozen=True)
class Digest:
    """The figures that some result of a task has a number of: `statistics` by name, `tested` those against zero.

    `headline` is what the task's measure looks at first; it may have no number.
    """

    headline: str
    statistics: Mapping[str, Definition]
    tested: frozenset[str]

    @cached_property
    def variants(self) -> list[str]:
        """Figures of the headline's unit and direction: the same counted otherwise, or of a part."""
        return [name for name in self._of_headlines_unit if self._direction(name) == self._direction(self.headline)]

    @cached_property
    def rules(self) -> list[str]:
        """Of the headline's unit, where less or more is no better: what the data give to a rule that does not read."""
        if self._direction(self.headline) is None:
            return []
        return [name for name in self._of_headlines_unit if self._direction(name) is None]

    @cached_property
    def beside(self) -> list[str]:
        """The first figure of each other unit and direction that has a least and a most.

        So it says the same of two models whatever the scale of their rewards. What is said of their doubt is apart.
        """
        firsts: dict[tuple[str, str | None], str] = {}
        for name, definition in self.statistics.items():
            apart = name.startswith(doubt.PREFIX) or name in self._of_headlines_unit
            if None not in definition.bounds and name != self.headline and not apart:
                firsts.setdefault((definition.unit, definition.better), name)
        return list(firsts.values())

    def heading(self, name: str) -> str:
        """What a column of it is called, with its unit where that is a share; one of pairs is no share of examples."""
        of_pairs = name in self.statistics and re.search(r"\bpairs?\b", self.statistics[name].unit)
        return f"{name.replace('_', ' ')}{' (pairs)' if of_pairs else ''}{' %' if self.is_share(name) else ''}"

    def is_share(self, name: str) -> bool:
        """Whether it is shown in percent."""
        return name in self.statistics and self.statistics[name].kind != "number"

    @property
    def _of_headlines_unit(self) -> list[str]:
        first = self.statistics.get(self.headline)
        if first is None:
            return []
        return [
            name
            for name, other in self.statistics.items()
            if name != self.headline and (other.unit, other.kind == "number") == (first.unit, first.kind == "number")
        ]

    def _direction(self, name: str) -> str | None:
        return self.statistics[name].better if name in self.statistics else None


def digest(results: Sequence[TaskResult]) -> Digest:
    """The figures of results of one task."""
    headline = results[0].task.headline
    measured = [metric for result in results for metric in result.metrics if metric.subset == "all"]
    shown = {headline, *(metric.name for metric in measured if metric.value is not None)}
    statistics = {name: result.statistics[name] for result in results for name in result.statistics if name in shown}
    return Digest(headline, statistics, frozenset(metric.name for metric in measured if metric.p is not None))


def figure(result: TaskResult, name: str, view: str) -> Metric | None:
    """A metric over the whole in one view, of a curve its last point; None where it was not measured."""
    metrics = [m for m in result.metrics if (m.name, m.view, m.subset) == (name, view, "all")]
    return max(metrics, key=lambda metric: metric.at or 0.0, default=None)


def whole(result: TaskResult, view: str) -> list[Metric]:
    """Every metric over the whole in one view."""
    return [metric for metric in result.metrics if (metric.view, metric.subset) == (view, "all")]


def with_effective(count: int, effective: float | None) -> str:
    """A count, with as many independent ones as tell as much where these are fewer."""
    if effective is None or abs(count - effective) < 0.05:
        return f"{count:,}"
    return f"{count:,} ({effective:,.{0 if effective >= 100 else 1}f})"


def few_clusters(result: TaskResult) -> str | None:
    """A warning where the headline rests on too few clusters, or on a few large ones, to say much; else None."""
    headline = figure(result, result.task.headline, result.primary_view)
    if headline is None or headline.clusters_effective is None or headline.clusters_effective >= FEW:
        return None
    many = f"{headline.clusters:,} cluster{'s' * (headline.clusters > 1)}"
    if headline.clusters - headline.clusters_effective >= 0.05:
        many += f", which tell as much as {headline.clusters_effective:.1f} alike in size"
    return f"{headline.n:,} examples in {many}; below {FEW} an interval is wide and may be wrong"


FITTED = {"pairs": "temperature", "softmax": "temperature", "pooled": "isotonic"}
ERROR_WORDS = (
    "RMS: root mean square calibration error over bins, debiased; L1: mean absolute error, the published ECE, "
    f"which chance raises; below {POINT_CLUSTERS} clusters RMS is its interval alone"
)


def calibration_map(calibration: Calibration | None, scope: str, *, fitted: bool) -> CalibrationMap | None:
    """The map that tables and plots show of a scope: of rewards as they are, or the one fitted; None without one."""
    how = FITTED[scope] if fitted else "raw"
    maps = () if calibration is None else calibration.maps
    return next((one for one in maps if (one.scope, one.map) == (scope, how)), None)


def calibration_errors(fitted_map: CalibrationMap) -> tuple[Figure, Figure]:
    """Its root mean square error, debiased, and its mean absolute one.

    The first has no value below `POINT_CLUSTERS`: of calibrated rewards it is 0 or chance there, half of the time each,
    and what can be said is the interval.
    """
    square, absolute = fitted_map.figure("ece"), fitted_map.figure("ece_l1")
    return square if square.clusters >= POINT_CLUSTERS else square.model_copy(update={"value": None}), absolute


def said(definition: Definition) -> list[str]:
    """What a statistic is, in words: its title with the unit, which way is better, its ends, what it cannot say."""
    low, high = (None if end is None else f"{end:g}" for end in definition.bounds)
    ends = f"{low} to {high}" if low and high else f"from {low}" if low else f"to {high}" if high else ""
    better = "neither more nor less is better" if definition.better is None else f"{definition.better} is better"
    title = f"{definition.title}{f' ({definition.unit})' if definition.unit else ''}"
    return [part for part in (title, better, ends, definition.caveat) if part]
