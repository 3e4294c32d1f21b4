"""Where optimising a reward stops helping: the best n, how much is lost beyond it, and whether that is certain.

The best n is chosen by looking, so that gold there is above gold at the end in every sample. What is stated allows for
that (`highest`): `p`, that gold is nowhere above its end, is of the largest studentised difference over all n, and the
best n has an interval of all n that may be the best. The verdict is one of

    turns over    gold at some n is above gold at the largest, p < .05
    still rises   gold at the largest n is above that at half of it, at 2.5 % on that side
    level         neither, and both differences are within a tenth of gold's standard deviation within prompts
    open          neither, and they may be larger; or no prompt has samples of different gold

so that of rewards that say nothing of gold at most one in twenty is said to rise or to turn over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from rmbench.metrics import highest
from rmbench.metrics.best_of import best_of, within_sd
from rmbench.metrics.curve import Figure, are_shares, by_cluster, drawn_means, estimates, figure
from rmbench.metrics.gold_fits import FORMS, Fit, fit
from rmbench.metrics.interval import percentiles
from rmbench.metrics.pools import Codes, Pools
from rmbench.types import Array

Verdict = Literal["turns over", "still rises", "level", "open"]
Compared = Literal["gold_at_best", "gold_at_end", "degree", "optimum"]

_ROUNDING = 1e-12
_LEVEL = 0.1  # of gold's standard deviation within prompts


@dataclass(frozen=True)
class Curves:
    """What best-of-n gets of one reward, prompt by prompt: `gold` and `proxy` [p, m] at `sizes` [m], from 1 upwards.

    `drawn_gold` and `drawn_proxy` [draws, m] are their means with the `clusters` [p] drawn anew, and `parts` those of
    gold above that of a random sample: of two rewards on the same pools and seed, of the same draws. `gold_sd` and
    `proxy_sd` are standard deviations within prompts.
    """

    sizes: tuple[int, ...]
    gold: Array
    proxy: Array
    clusters: Codes
    drawn_gold: Array
    drawn_proxy: Array
    parts: highest.Parts
    gold_sd: float
    proxy_sd: float

    @property
    def best(self) -> int:
        """The place of the n where gold is highest, the first of equal ones."""
        above = self.parts.means
        return int(np.argmax(above >= above.max() - _ROUNDING * np.abs(above).max()))

    @property
    def number_of_clusters(self) -> int:
        return len(np.unique(self.clusters))

    @property
    def span(self) -> float:
        """How far two means of gold can be apart: 1 where gold is from 0 to 1."""
        return 1.0 if ((self.gold >= 0) & (self.gold <= 1)).all() else np.inf

    @cached_property
    def chances(self) -> Array:
        """The one-sided p [m] that gold is at no other n above that at this one."""
        return highest.p_highest(self.parts)

    @property
    def left_open(self) -> Codes:
        """The places of the n that may be the best, a set that has it in it with chance 97.5 %."""
        return np.flatnonzero(self.chances > highest.TAIL)

    @property
    def maybe(self) -> highest.Candidates:
        """Which n [m] may be the best, erring on the side of more."""
        return self.chances > highest.MAYBE


@dataclass(frozen=True)
class TurnOver:
    """What the curve of gold does.

    `best_n` is the n where gold is highest, with the first and the last that may be. `degree` is gold there less gold
    at the largest n, `proxy_rise` what the proxy rises from the one to the other in its SD within prompts. `p` is that
    gold nowhere is above its end, two-sided.
    """

    best_n: Figure
    gold_at_best: Figure
    gold_at_end: Figure
    gain_at_end: Figure
    degree: Figure
    proxy_rise: Figure
    p: float
    verdict: Verdict


@dataclass(frozen=True)
class Apart:
    """The first of two rewards less the second in one figure, over the same prompts and draws; p is two-sided."""

    figure: Compared
    difference: Figure
    p: float


def curves_of(pools: Pools, proxy: Array, sizes: Sequence[int], *, draws: int = 2000, seed: int = 0) -> Curves:
    """The curves of best-of-n by `proxy` [s], none nan, at `sizes`, which begin with 1 and no prompt is short of.

    Of a proxy that is somewhere infinite the curve of the proxy itself is nan.
    """
    wanted = tuple(int(n) for n in sizes)
    most = int(min(pools.counts, default=0))
    if len(wanted) < 2 or wanted[0] != 1 or list(wanted) != sorted(set(wanted)) or wanted[-1] > most:
        raise ValueError(f"sizes {wanted}; expected 1 and larger ones in order, up to {most}, the samples of a prompt")
    if np.isnan(proxy).any():
        raise ValueError(f"{np.count_nonzero(np.isnan(proxy))} rewards are nan, which is larger than nothing")
    gold, is_finite = best_of(pools, proxy, pools.gold, wanted), bool(np.isfinite(proxy).all())
    rewards = best_of(pools, proxy, proxy, wanted) if is_finite else np.full(gold.shape, np.nan)
    unseen = _reach(pools) * (1 - np.array(wanted) / wanted[-1])
    drawn_gold, drawn_proxy = np.hsplit(drawn_means(np.hstack([gold, rewards]), pools.clusters, draws, seed), 2)
    above, rows = by_cluster(gold - gold[:, :1], pools.clusters)
    return Curves(
        wanted,
        gold,
        rewards,
        pools.clusters,
        drawn_gold,
        drawn_proxy,
        highest.parts_of(above, rows, unseen, seed=seed),
        within_sd(pools, pools.gold),
        within_sd(pools, proxy) if is_finite else np.nan,
    )


def turn_over(curves: Curves) -> TurnOver:
    """Whether, where and how much gold turns over."""
    left_open = curves.left_open
    p = min(1.0, 2 * float(curves.chances[-1]))
    degree = _degree(curves, p)
    return TurnOver(
        Figure(*(float(curves.sizes[place]) for place in (curves.best, left_open[0], left_open[-1]))),
        _gold_at_best(curves),
        figure(curves.gold[:, -1], curves.clusters),
        _gain_at_end(curves),
        degree,
        _proxy_rise(curves),
        p,
        _verdict(curves, degree, p),
    )


def fits_of(curves: Curves) -> list[Fit]:
    """Both forms of `gold_fits` with their optimum, fitted to the curve of gold."""
    gold, clusters = curves.gold.mean(axis=0), curves.number_of_clusters
    return [fit(form, curves.sizes, gold, curves.drawn_gold, clusters) for form in FORMS]


def apart(first: Curves, second: Curves) -> list[Apart]:
    """Paired differences of two rewards on the same pools, sizes, draws and seed, one of each `Compared`.

    `optimum` is in doublings of n, log2 of the best n; its interval and p are of the n that each of both leaves open at
    half the level, and so are wide.
    """
    last, maybe = len(first.sizes) - 1, (first.maybe, second.maybe)
    at_end = np.arange(len(first.sizes)) == last
    ours, theirs, span = first.parts, second.parts, first.span
    beyond = ours.over(last), theirs.over(last)
    return [
        _of_highest("gold_at_best", ours, theirs, maybe, span),
        _of_highest("gold_at_end", ours, theirs, (at_end, at_end), span),
        _of_highest("degree", *beyond, maybe, span),
        _of_optimum(first, second),
    ]


def _degree(curves: Curves, p: float) -> Figure:
    """Gold at its best less gold at the end; that is 0 or more, and more only where p says so."""
    beyond = curves.parts.over(len(curves.sizes) - 1)
    low, high = highest.highest(beyond, curves.maybe)
    low = low if p < 2 * highest.TAIL or np.isnan(low) else 0.0
    return Figure(float(beyond.means[curves.best]), low, min(high, curves.span))


def _gain_at_end(curves: Curves) -> Figure:
    """Gold at the largest n above that of a random sample, allowing for rows that could be won or lost and were not:
    of few right samples most draws have only what they lose."""
    gain = curves.parts.over(0).at([len(curves.sizes) - 1])
    value, half = float(gain.means[0]), highest.furthest(gain)[1]
    if not np.isfinite(half):
        return Figure(value)
    return Figure(value, max(value - half, -curves.span), min(value + half, curves.span))


def proxy_at_best(curves: Curves) -> Figure:
    """The proxy of what is chosen at the best n; from the least that it may be at the first n that may be the best to
    the most at the last, since the best one was chosen by looking."""
    first, last = curves.left_open[[0, -1]]
    found = [_with_draws(curves, curves.proxy[:, at], curves.drawn_proxy[:, at]) for at in (curves.best, first, last)]
    return Figure(found[0].value, found[1].low, found[2].high)


def _proxy_rise(curves: Curves) -> Figure:
    """What the proxy rises from the best n to the largest, in its SD within prompts; the ends are of the last and the
    first n that may be the best."""
    first, last = curves.left_open[[0, -1]]
    found = [
        _with_draws(
            curves, curves.proxy[:, -1] - curves.proxy[:, at], curves.drawn_proxy[:, -1] - curves.drawn_proxy[:, at]
        )
        for at in (curves.best, last, first)
    ]
    unit = curves.proxy_sd or np.nan
    return Figure(found[0].value / unit, found[1].low / unit, found[2].high / unit)


def _with_draws(curves: Curves, rows: Array, drawn: Array) -> Figure:
    """The mean of rows [p], by its draws; certain where these are all the same."""
    value, clusters = float(rows.mean()), curves.number_of_clusters
    low, high = (value, value) if np.ptp(drawn) == 0 else percentiles(value, drawn, clusters, clusters - 1)
    return Figure(value, low, high)


def _gold_at_best(curves: Curves) -> Figure:
    """Gold at its best: pointwise intervals of all n that may be the best, the lower arms as much longer as makes
    them hold together."""
    there = np.flatnonzero(curves.maybe)
    points = estimates(list(curves.gold[:, there].T), curves.clusters, shares=are_shares(curves.gold))
    values, lows, highs = np.array([(point.value, point.ci_low, point.ci_high) for point in points]).T
    drawn = curves.drawn_gold[:, there]
    spread = drawn.std(axis=0)
    longer = 1.0
    if (spread > 0).all():
        together = ((drawn - drawn.mean(axis=0)) / spread).max(axis=1)
        longer = max(1.0, float(np.quantile(together, 1 - highest.TAIL)) / 1.96)
    value = float(curves.gold[:, curves.best].mean())
    return Figure(value, float((values - longer * (values - lows)).max()), float(highs.max()))


def _verdict(curves: Curves, degree: Figure, p: float) -> Verdict:
    if p < 2 * highest.TAIL:
        return "turns over"
    last = len(curves.sizes) - 1
    half = max(place for place, n in enumerate(curves.sizes) if 2 * n <= curves.sizes[-1])
    risen = curves.parts.over(half).at([last])
    if highest.none_above(risen) < highest.TAIL:
        return "still rises"
    ends, within = highest.highest(risen, np.ones(1, bool)), _LEVEL * curves.gold_sd
    if not within:  # no choice could matter
        return "open"
    return "level" if degree.high <= within and max(abs(ends[0]), abs(ends[1])) <= within else "open"


def _of_highest(
    compared: Compared,
    ours: highest.Parts,
    theirs: highest.Parts,
    maybe: tuple[highest.Candidates, highest.Candidates],
    span: float,
) -> Apart:
    low, high, p = highest.difference_of_highest(ours, theirs, maybe)
    value = float(ours.means[maybe[0]].max() - theirs.means[maybe[1]].max())
    low, high = np.maximum(min(low, value), -span), np.minimum(max(high, value), span)
    return Apart(compared, Figure(value, float(low), float(high)), p)


def _of_optimum(first: Curves, second: Curves) -> Apart:
    doublings, chances = np.log2(first.sizes), (first.chances, second.chances)
    ours, theirs = (doublings[chance > highest.TAIL] for chance in chances)
    levels = sorted({*chances[0].tolist(), *chances[1].tolist()})
    rejected = (level for level in levels if _are_apart(*(doublings[chance > level] for chance in chances)))
    p = min(1.0, 2 * next(rejected, 1.0))
    value = float(doublings[first.best] - doublings[second.best])
    return Apart("optimum", Figure(value, float(ours[0] - theirs[-1]), float(ours[-1] - theirs[0])), p)


def _are_apart(ours: Array, theirs: Array) -> bool:
    return bool(len(ours) and len(theirs) and (ours[0] > theirs[-1] or ours[-1] < theirs[0]))


def _reach(pools: Pools) -> float:
    """How far the sample farthest from the mean gold of its prompt is from it, over prompts whose samples differ."""
    starts, sizes = pools.starts, pools.counts
    means = np.add.reduceat(pools.gold, starts) / sizes
    farthest = np.maximum.reduceat(np.abs(pools.gold - means[pools.prompts]), starts)
    differ = farthest > 1e-12 * max(1.0, float(np.abs(pools.gold).max()))
    return float(np.sqrt(np.mean(np.square(farthest[differ])))) if differ.any() else 0.0
