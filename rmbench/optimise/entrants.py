"""All that is found of one reward on a pool: its curves, where they turn over, and what choosing by it does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics import advantages, best_of, diversity, rank_bias, tilted, winners
from rmbench.metrics.curve import Curve, Figure, are_shares, curve, estimates, figure, figure_of
from rmbench.metrics.interval import Statistic, estimate, percentiles
from rmbench.metrics.overoptimisation import Curves, curves_of, fits_of, proxy_at_best, turn_over
from rmbench.metrics.pools import Codes, Pools
from rmbench.metrics.useful_range import useful_range
from rmbench.optimise.pool import Proxy
from rmbench.optimise.report import Coverage, Entrant, SignFlip, UsefulRange
from rmbench.types import Array

_GROUPS = (2, 4, 8, 16)  # samples of a prompt that group-relative training draws
_BASELINES: tuple[advantages.Baseline, ...] = ("mean", "median")
Marks = NDArray[np.bool_]


@dataclass(frozen=True)
class Setting:
    """What all rewards on a pool share: the `pools`, which samples are `good` [s], the n of the curves, and draws."""

    pools: Pools
    good: Marks
    sizes: tuple[int, ...]
    draws: int
    seed: int

    def curve(self, rows: Array, sizes: Sequence[int] | None = None, *, shares: bool | None = None) -> Curve:
        """The mean of rows [p, m] over prompts at each n; whether they are `shares`, if told."""
        at = self.sizes if sizes is None else sizes
        kl, drawn = best_of.kl(at).tolist(), {"draws": self.draws, "seed": self.seed}
        return curve(at, kl, rows, self.pools.clusters, shares=shares, **drawn)

    def curve_if_any(self, rows: Array) -> Curve | None:
        """The same; None where no prompt has a number."""
        return self.curve(rows) if np.isfinite(rows).any() else None

    def of_gold(self, rows: Array) -> Curve:
        """The mean over prompts, at each n, of the gold [p, m] of what is chosen."""
        return self.curve(rows, shares=are_shares(self.pools.gold))

    def at_random(self) -> Figure:
        """The gold of a random sample, where every prompt weighs the same."""
        rows = np.add.reduceat(self.pools.gold, self.pools.starts) / self.pools.counts
        shares = are_shares(self.pools.gold)
        return figure(rows, self.pools.clusters, draws=self.draws, seed=self.seed, shares=shares)

    def figures(self, columns: Sequence[Array]) -> list[Figure]:
        """The mean of each of several rows [p], by draws that are made once."""
        means = estimates(columns, self.pools.clusters, draws=self.draws, seed=self.seed)
        return [figure_of(one) for one in means]

    def of_sums(self, columns: Array, value: object) -> Figure:
        """What `value` makes of the sums of columns [p, k] over prompts."""
        statistic = Statistic("of sums", columns, value)  # type: ignore[arg-type]
        [estimated] = estimate([statistic], self.pools.clusters, draws=self.draws, seed=self.seed)
        return figure_of(estimated)

    def curves(self, rewards: Array) -> Curves:
        """The curves of best-of-n by finite rewards [s]."""
        return curves_of(self.pools, rewards, self.sizes, draws=self.draws, seed=self.seed)


def entrant_of(setting: Setting, proxy: Proxy) -> tuple[Entrant, Curves]:
    """All figures of one reward, and its curves, which are held against those of the others."""
    pools, sizes = setting.pools, setting.sizes
    rewards, is_finite = in_order(proxy.rewards), bool(np.isfinite(proxy.rewards).all())
    curves = setting.curves(rewards)
    turning = turn_over(curves)
    likely = rank_bias.rank_bias(pools, rewards, setting.good)
    tilted_curve, tilted_gap = _tilted(setting, rewards) if is_finite else (_no_curve(()), Figure(math.nan))
    variance = setting.of_sums(advantages.variance_columns(pools, rewards), advantages.variance_within)
    wins, losses = (of(pools, rewards, setting.good, sizes) for of in (winners.poor_wins, winners.good_loses))
    entrant = Entrant(
        name=proxy.name,
        view=proxy.view,
        result=proxy.result,
        gold=setting.of_gold(curves.gold),
        proxy=setting.curve(curves.proxy, shares=False) if is_finite else _no_curve(sizes),
        tilted=tilted_curve,
        tilted_gap=tilted_gap,
        fits=fits_of(curves),
        best_n=turning.best_n,
        gold_at_best=turning.gold_at_best,
        gold_at_end=turning.gold_at_end,
        gain_at_end=turning.gain_at_end,
        degree=turning.degree,
        proxy_rise=turning.proxy_rise if is_finite else Figure(math.nan),
        turns_over_p=turning.p,
        verdict=turning.verdict,
        poor_wins=setting.curve_if_any(wins),
        good_loses=setting.curve_if_any(losses),
        by_coverage=_by_coverage(setting, wins[:, -1], losses[:, -1]),
        weighted_majority=_weighted_majority(setting, rewards),
        rank_bias=None if likely is None else setting.of_sums(likely.columns, likely.value),
        likelihood=None if likely is None else likely.likelihood,
        variance_within=variance if is_finite else Figure(math.nan),
        sign_flips=_sign_flips(setting, rewards, proxy.spread) if is_finite else [],
        distinct=_distinct(setting, rewards),
        useful=[one for name, member in proxy.members.items() for one in _useful(setting, name, member)],
        statuses=dict(proxy.statuses),
    )
    return entrant, curves


def in_order(rewards: Array) -> Array:
    """Finite rewards in the same order: an infinity stands one reach of the others above or below them."""
    finite = rewards[np.isfinite(rewards)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    reach = max(high - low, 1.0)
    return np.clip(rewards, low - reach, high + reach)


def _no_curve(sizes: Sequence[int]) -> Curve:
    nothing = [math.nan] * len(sizes)
    return Curve([float(n) for n in sizes], best_of.kl(sizes).tolist(), nothing, nothing, nothing)


def _tilted(setting: Setting, rewards: Array) -> tuple[Curve, Figure]:
    """Gold of the tilted policy at the KL of best-of-n, and where the two are furthest apart."""
    pools, fewest = setting.pools, int(setting.pools.counts.min())
    sizes = tilted.sizes_that_tell(setting.sizes, fewest)
    if not sizes:
        return _no_curve(()), Figure(math.nan)
    strengths, apart = tilted.gap(pools, rewards, pools.gold, sizes)
    divergences, values = tilted.tilted(pools, rewards, pools.gold, strengths)
    kl = divergences.mean(axis=0).tolist()
    drawn = {"draws": setting.draws, "seed": setting.seed}
    of_tilted = curve(strengths.tolist(), kl, values, pools.clusters, shares=are_shares(pools.gold), **drawn)
    return of_tilted, tilted.largest_gap(apart, pools.clusters, setting.seed)


def _by_coverage(setting: Setting, wins: Array, losses: Array) -> list[Coverage]:
    """Both sides of the winner's curse at the largest n, by how many samples of a prompt are good."""
    bins = winners.coverage_bins(winners.coverage(setting.pools, setting.good))
    present = [at for at in range(len(winners.COVERAGE_EDGES) - 1) if (bins == at).any()]
    sides = setting.figures([np.where(bins == at, rows, np.nan) for at in present for rows in (wins, losses)])
    ends = winners.COVERAGE_EDGES
    return [
        Coverage(ends[at], ends[at + 1], int((bins == at).sum()), *pair)
        for at, pair in zip(present, _by_two(sides), strict=True)
    ]


def _weighted_majority(setting: Setting, rewards: Array) -> Curve | None:
    pools = setting.pools
    if (pools.answers < 0).all():
        return None
    weights = best_of.vote_weights(pools, rewards)
    return setting.of_gold(best_of.weighted_majority(pools, weights, setting.sizes, setting.seed))


def _sign_flips(setting: Setting, rewards: Array, spread: Array | None) -> list[SignFlip]:
    pools, sizes = setting.pools, [size for size in _GROUPS if size <= setting.pools.counts.max()]
    columns: list[Array] = []
    for baseline in _BASELINES:
        flips = advantages.sign_flips(pools, rewards, spread, sizes, baseline, seed=setting.seed)
        columns += [rows[:, at] for at in range(len(sizes)) for rows in (flips.by_noise, flips.against_gold)]
    groups = [(size, baseline) for baseline in _BASELINES for size in sizes]
    return [SignFlip(*group, *pair) for group, pair in zip(groups, _by_two(setting.figures(columns)), strict=True)]


def _by_two(figures: Sequence[Figure]) -> list[tuple[Figure, Figure]]:
    """Every two of them."""
    return list(zip(figures[::2], figures[1::2], strict=True))


def _distinct(setting: Setting, rewards: Array) -> Curve | None:
    """How many different answers, else texts, are chosen in effect."""
    pools = setting.pools
    codes: Codes = pools.answers if (pools.answers >= 0).any() else pools.texts
    sizes = [n for n in setting.sizes if 2 * n <= pools.counts.max()]
    if (codes < 0).all() or not sizes:
        return None
    same = setting.curve(diversity.same_chosen(pools, rewards, codes, sizes), sizes)
    value, high, low = (diversity.effective(np.array(ends)).tolist() for ends in (same.value, same.low, same.high))
    return Curve(same.at, same.kl, value, low, high)


def _useful(setting: Setting, name: str, rewards: Array) -> list[UsefulRange]:
    """The useful range of a member; none of one that has no finite number for some sample."""
    if not np.isfinite(rewards).all():
        return []
    curves = setting.curves(rewards)
    ends = useful_range(curves.gold.mean(axis=0), curves.proxy.mean(axis=0))
    drawn = useful_range(curves.drawn_gold, curves.drawn_proxy)
    clusters, value = len(np.unique(setting.pools.clusters)), float(ends.gold)
    gold = Figure(value, *percentiles(value, drawn.gold, clusters, clusters - 1))
    high = proxy_at_best(curves)
    return [UsefulRange(name, float(ends.low), high, setting.sizes[int(ends.at)], gold, bool(ends.is_open))]
