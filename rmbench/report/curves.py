"""What the plots show: small tables made from the rewards of a result, whatever its number of examples.

Points are mappings of plain numbers and names, ready for JSON; what has no finite value has no point.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.interval import Estimate, Statistic, estimate, mean
from rmbench.types import Array, Outcome

Point = dict[str, Any]

LENGTH_BINS, MARGIN_BINS, RANKS = 10, 30, 20
_DRAWS = 500  # enough for the ends of a line in a plot


@dataclass(frozen=True, slots=True)
class Rewards:
    """The n candidates of the e examples that have a right and a wrong one, and a finite reward for each.

    `starts` [e] is the first candidate of each example; `right` (the highest label of its example), `reward`,
    `characters` (nan where unknown) and `clusters` are [n]. `left_out` counts the other examples.
    """

    starts: NDArray[np.intp]
    right: NDArray[np.bool_]
    reward: Array
    characters: Array
    clusters: Sequence[str]
    left_out: int

    @property
    def sizes(self) -> NDArray[np.intp]:
        """How many candidates each example has [e]."""
        return np.diff(np.append(self.starts, len(self.reward)))


def rewards_of(outcomes: Sequence[Outcome], view: str) -> Rewards | None:
    """The rewards of one view that can be drawn; None where no example has any."""
    kept = [outcome for outcome in outcomes if _drawable(outcome, view)]
    if not kept:
        return None
    sizes = [len(outcome.labels) for outcome in kept]
    return Rewards(
        np.cumsum([0, *sizes[:-1]]),
        np.concatenate([outcome.labels == outcome.labels.max() for outcome in kept]),
        np.concatenate([scores for outcome in kept if (scores := outcome.views[view].scores) is not None]),
        np.concatenate([outcome.columns.get("characters", np.full(len(outcome.labels), np.nan)) for outcome in kept]),
        [outcome.cluster for outcome in kept for _ in outcome.labels],
        len(outcomes) - len(kept),
    )


def length_curve(rewards: Rewards) -> list[Point]:
    """Mean reward by length, both less the mean of their prompt, in bins of like counts: right and wrong apart."""
    characters, reward = (_centred(values, rewards) for values in (rewards.characters, rewards.reward))
    finite = np.isfinite(characters)
    statistics, points = [], []
    for answers, chosen in (("right", rewards.right & finite), ("wrong", ~rewards.right & finite)):
        if not chosen.any():
            continue
        inner = np.unique(np.quantile(characters[chosen], np.linspace(0, 1, LENGTH_BINS + 1)[1:-1]))
        bins = np.searchsorted(inner, characters, side="right")
        for at in np.unique(bins[chosen]):
            inside = chosen & (bins == at)
            statistics.append(mean("reward", np.where(inside, reward, np.nan)))
            points.append({"answers": answers, "characters": float(characters[inside].mean())})
    return _with_intervals(points, statistics, rewards.clusters)


@dataclass(frozen=True, slots=True)
class Margins:
    """Bars of a histogram, and how many margins lie beyond its ends and are counted in the first or last bar."""

    bars: list[Point]
    beyond: int


def margins(rewards: Rewards) -> Margins:
    """How many examples have which reward of the best right answer minus the best wrong one; 0 is an edge of a bar."""
    with np.errstate(over="ignore"):
        right = np.maximum.reduceat(np.where(rewards.right, rewards.reward, -np.inf), rewards.starts)
        wrong = np.maximum.reduceat(np.where(rewards.right, -np.inf, rewards.reward), rewards.starts)
        margin = right - wrong
    margin = margin[np.isfinite(margin)]
    # A single far margin would leave all others in one bar
    low, high = np.quantile(margin, [0.005, 0.995]) if len(margin) else (0.0, 0.0)
    step = round_step((max(high, 0.0) - min(low, 0.0)) / MARGIN_BINS)
    places = np.floor(margin / step)
    first, last = np.floor(min(low, 0.0) / step), np.floor(max(high, 0.0) / step)
    bars = []
    for ahead, chosen in (("right answer ahead", margin > 0), ("wrong answer ahead", margin < 0), ("tie", margin == 0)):
        for place, count in zip(*np.unique(np.clip(places[chosen], first, last), return_counts=True), strict=True):
            bars.append(
                {
                    "ahead": ahead,
                    "from": float(place * step),
                    "to": float((place + 1) * step),
                    "examples": int(count),
                }
            )
    return Margins(bars, int(np.count_nonzero((places < first) | (places > last))))


def by_rank(rewards: Rewards) -> list[Point]:
    """The share of right answers at each rank of the reward, 1 the highest; equal rewards share their ranks."""
    examples = np.repeat(np.arange(len(rewards.starts)), rewards.sizes)
    order = np.lexsort((-rewards.reward, examples))
    reward, right = rewards.reward[order], rewards.right[order].astype(float)
    rank = np.arange(len(order)) - rewards.starts[examples]  # examples stay where they are, so `starts` do too
    fresh = np.append(True, (examples[1:] != examples[:-1]) | (reward[1:] != reward[:-1]))
    level = np.cumsum(fresh) - 1
    share = (np.bincount(level, weights=right) / np.bincount(level))[level]
    points: list[Point] = [{"rank": at + 1} for at in range(min(int(rewards.sizes.max()), RANKS))]
    statistics = [
        mean("share", np.where(rank == at, share, np.nan), "fraction")
        for at in range(min(int(rewards.sizes.max()), RANKS))
    ]
    return _with_intervals(points, statistics, rewards.clusters)


def share_right(rewards: Rewards) -> float:
    """The mean over examples of the share of right answers: what every rank would have if rewards were random."""
    return float(np.mean(np.add.reduceat(rewards.right.astype(float), rewards.starts) / rewards.sizes))


def _drawable(outcome: Outcome, view: str) -> bool:
    seen, labels = outcome.views.get(view), outcome.labels
    if seen is None or seen.scores is None or not len(labels):
        return False
    return bool(np.isfinite(seen.scores).all() and labels.max() > labels.min())  # nan labels compare as False


def _centred(values: Array, rewards: Rewards) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        means = np.add.reduceat(values, rewards.starts) / rewards.sizes
        centred: Array = values - np.repeat(means, rewards.sizes)
    return centred


def round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `least`; 1 for 0."""
    if not 0 < least < np.inf:
        return 1.0
    power = 10.0 ** np.floor(np.log10(least))
    return float(next(power * times for times in (1, 2, 5, 10) if power * times >= least * (1 - 1e-9)))


def _with_intervals(points: Sequence[Point], statistics: Sequence[Statistic], clusters: Sequence[str]) -> list[Point]:
    """Each point with its value, ends and n; without those that have no finite value."""
    estimated: Iterable[tuple[Point, Estimate]] = zip(points, estimate(statistics, clusters, draws=_DRAWS), strict=True)
    return [
        point | {at.name: at.value, "low": _end(at.ci_low, at), "high": _end(at.ci_high, at), "n": at.n}
        for point, at in estimated
        if np.isfinite(at.value)
    ]


def _end(end: float, at: Estimate) -> float:
    """An end that can be drawn: none is as good as the value itself."""
    return end if np.isfinite(end) else at.value
