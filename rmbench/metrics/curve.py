"""A figure and a curve with their 95 % intervals over clusters of prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rmbench.metrics.draws import times
from rmbench.metrics.interval import Estimate, Statistic, estimate, mean
from rmbench.metrics.pools import Codes
from rmbench.types import Array

_FEW = 10  # with fewer prompts than this off an end, a bootstrap covers too little


@dataclass(frozen=True)
class Figure:
    """A number with the ends of its 95 % interval, nan where that, or all of it, is open."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Curve:
    """What is got at each of m points: `kl` [m] in nats from the policy, `value` [m] with the ends of 95 % intervals.

    `at` [m] is the n of best-of-n, or the strength of an exponential tilt.
    """

    at: Sequence[float]
    kl: Sequence[float]
    value: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def curve(
    at: Sequence[float],
    kl: Sequence[float],
    rows: Array,
    clusters: Codes,
    *,
    draws: int = 2000,
    seed: int = 0,
    shares: bool | None = None,
) -> Curve:
    """The mean over prompts of `rows` [p, m] at each point; a prompt that is nan there is left out of it.

    Intervals are those of `interval.estimate`, point by point: Wilson's for `shares`, what can only lie in [0, 1].
    Unless told these are rows of which all lie there.
    """
    means = estimates(list(rows.T), clusters, draws=draws, seed=seed, shares=shares)
    return Curve(
        [float(x) for x in at],
        [float(x) for x in kl],
        [one.value for one in means],
        [one.ci_low for one in means],
        [one.ci_high for one in means],
    )


def figure(rows: Array, clusters: Codes, *, draws: int = 2000, seed: int = 0, shares: bool | None = None) -> Figure:
    """The mean of `rows` [p] over prompts, as `curve` has it."""
    [estimated] = estimates([rows], clusters, draws=draws, seed=seed, shares=shares)
    return figure_of(estimated)


def figure_of(estimated: Estimate) -> Figure:
    """An estimate without what it is of."""
    return Figure(estimated.value, estimated.ci_low, estimated.ci_high)


def estimates(
    columns: Sequence[Array], clusters: Codes, *, draws: int = 2000, seed: int = 0, shares: bool | None = None
) -> list[Estimate]:
    """The mean over prompts of each of the `columns` [p], all with the same draws."""
    told = are_shares(*columns) if shares is None else shares
    return estimate([_mean(column, told) for column in columns], clusters, draws=draws, seed=seed)


def are_shares(*values: Array) -> bool:
    """Whether all finite values lie in [0, 1]."""
    return all(bool(((some >= 0) & (some <= 1) | ~np.isfinite(some)).all()) for some in values)


def by_cluster(rows: Array, clusters: Codes) -> tuple[Array, Array]:
    """Sums [c, m] of `rows` [p, m] by cluster, numbered in their order, and how many rows each cluster has [c]."""
    codes = np.unique(clusters, return_inverse=True)[1]
    counts = np.bincount(codes).astype(float)
    if len(counts) == len(codes):
        return np.asarray(rows[np.argsort(codes)]), counts
    return np.stack([np.bincount(codes, column, len(counts)) for column in rows.T], axis=1), counts


def drawn_means(rows: Array, clusters: Codes, draws: int = 2000, seed: int = 0) -> Array:
    """Means [draws, m] of `rows` [p, m] with the clusters drawn anew: of one seed, the same ones for all rows."""
    sums, counts = by_cluster(rows, clusters)
    return np.concatenate([some @ sums / (some @ counts)[:, None] for some in times(len(counts), draws, seed)])


def _mean(values: Array, is_share: bool) -> Statistic:
    finite = values[np.isfinite(values)]
    if not is_share:
        return mean("mean", values)
    few = min(finite.sum(), (1 - finite).sum()) < _FEW
    return mean("mean", values, "proportion" if few or np.isin(finite, (0, 1)).all() else "fraction")
