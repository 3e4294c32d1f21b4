"""95 % intervals: Wilson with an effective n for proportions, the bootstrap over clusters for everything else."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.sign_flip import sign_flip_p
from rmbench.types import Array

Kind = Literal["proportion", "fraction", "number"]

LEVEL = 0.95
_PICKS = 1 << 21  # cluster picks held at once while resampling: 16 MiB
_ALONE = 1 << 18  # multiplications that OpenBLAS leaves to one thread


@dataclass(frozen=True, slots=True)
class Statistic:
    """A number that depends on the n rows only through sums of `columns` [n, s]; `value` maps sums [..., s] to [...].

    A row with an entry that is not finite is left out. `kind` picks the interval:

    - `proportion`: columns are (success, 1) with successes 0 or 1 (one in between, as for a tie that is broken at
      random, only makes the interval wider than it need be);
    - `fraction`: anything with values in [0, 1];
    - `number`: anything else.

    `effects` [n], where given, are what a test against zero flips the signs of: each row's part in the effect.
    `interval`, where given, replaces that of the kind: from the sums [c, s] of c clusters to both ends.
    """

    name: str
    columns: Array
    value: Callable[[Array], Array]
    kind: Kind = "number"
    effects: Array | None = None
    interval: Callable[[Array], tuple[float, float]] | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """`n` rows in `clusters` clusters gave `value`; nan where there is none, or too little for an interval.

    `p` is that of the cluster sign-flip test against zero, None where the statistic is no effect.
    """

    name: str
    value: float
    ci_low: float
    ci_high: float
    n: int
    clusters: int
    p: float | None = None
    kind: Kind = "number"


def mean(name: str, values: Array, kind: Kind = "number") -> Statistic:
    """The mean of `values` [n], of which those that are not finite are left out."""
    return Statistic(name, np.column_stack([values, np.ones(len(values))]), _ratio, kind)


def _ratio(sums: Array) -> Array:
    result: Array = sums[..., 0] / sums[..., 1]
    return result


def estimate(
    statistics: Sequence[Statistic],
    clusters: Sequence[Hashable] | NDArray[np.integer],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> list[Estimate]:
    """One estimate per statistic, with a 95 % interval over `clusters` [n], the cluster of each row.

    Proportions get `wilson_interval`. The rest get the expanded percentile interval of a bootstrap that draws whole
    clusters with replacement (Hesterberg, What Teachers Should Know about the Bootstrap, 2015, section 3.3); all
    statistics see the same `draws`, so that they can be compared draw by draw. Where every draw is the same the
    bootstrap knows nothing: a fraction then gets Wilson's interval with n = clusters, a number gets nan.
    """
    codes = _codes(clusters)
    tables = [_cluster_sums(statistic, codes) for statistic in statistics]
    resampled = [i for i, one in enumerate(statistics) if one.kind != "proportion" and one.interval is None]
    replicates = dict(zip(resampled, _resample([tables[i][0] for i in resampled], draws, seed), strict=True))
    return [
        _estimate(statistic, sums, rows, replicates.get(i), _effects(statistic, codes), seed)
        for i, (statistic, (sums, rows)) in enumerate(zip(statistics, tables, strict=True))
    ]


def wilson_interval(successes: Array, rows: Array) -> tuple[Array, Array]:
    """Low and high ends [...] for the proportion of `successes` among `rows`, both counts per cluster [..., c].

    Wilson's score interval (1927). Where a cluster has more than one row, n is divided by the design effect, the
    variance of the proportion between clusters over its binomial variance, never below 1, and the quantile is
    Student's with c - 1 degrees of freedom (Franco et al., J. Survey Stat. Methodol. 7, 2019, compare such
    intervals). Where all rows succeed or all fail the design effect cannot be seen and n is the number of clusters,
    its least. One cluster of several rows says nothing: [0, 1].
    """
    from scipy.special import ndtri, stdtrit

    successes, rows = np.asarray(successes, float), np.asarray(rows, float)
    c, n = rows.shape[-1], rows.sum(-1)
    p = successes.sum(-1) / n
    clustered = (rows > 1).any(-1)
    if c == 1:
        low, high = wilson(p, n, ndtri(0.5 + LEVEL / 2))
        return np.where(clustered, 0.0, low), np.where(clustered, 1.0, high)
    between = c / (c - 1) * np.square(successes - p[..., None] * rows).sum(-1) / np.square(n)
    binomial = p * (1 - p) / n
    with np.errstate(invalid="ignore"):
        effect = np.where(binomial > 0, np.maximum(between / binomial, 1.0), n / c)
    effect = np.where(clustered, effect, 1.0)
    quantile = np.where(clustered, stdtrit(c - 1, 0.5 + LEVEL / 2), ndtri(0.5 + LEVEL / 2))
    return wilson(p, n / effect, quantile)


def mean_interval(values: Array, lows: Array, highs: Array) -> tuple[float, float, float]:
    """The mean of t independent estimates [t] with its 95 % interval, from theirs.

    The method of variance estimates recovery (Zou and Donner, Statistics in Medicine 27, 2008): distances to the ends
    add up as standard errors do, so that the interval stays as lopsided as its parts and within their range.
    """
    mean_value = float(np.mean(values))
    below = float(np.sqrt(np.square(values - lows).sum())) / len(values)
    above = float(np.sqrt(np.square(highs - values).sum())) / len(values)
    return mean_value, mean_value - below, mean_value + above


def wilson(p: Array, n: Array, quantile: Array) -> tuple[Array, Array]:
    square = np.square(quantile) / n
    centre = (p + square / 2) / (1 + square)
    half = np.sqrt(square * (p * (1 - p) + square / 4)) / (1 + square)
    # Rounding must not push an end past the value itself.
    return np.clip(centre - half, 0.0, p), np.clip(centre + half, p, 1.0)


def _codes(clusters: Sequence[Hashable] | NDArray[np.integer]) -> NDArray[np.intp]:
    """Clusters numbered from 0 in the order of their first row. A dict beats sorting a million strings."""
    seen: dict[Hashable, int] = {}
    return np.fromiter((seen.setdefault(cluster, len(seen)) for cluster in clusters), np.intp, len(clusters))


def _cluster_sums(statistic: Statistic, codes: NDArray[np.intp]) -> tuple[Array, Array]:
    """Sums of the columns [c, s] and how many rows count [c], by cluster."""
    counted = np.isfinite(statistic.columns).all(axis=1)
    kept, codes, c = statistic.columns[counted], codes[counted], int(codes.max(initial=-1)) + 1
    sums = [np.bincount(codes, weights=column, minlength=c) for column in kept.T]
    return np.stack(sums, axis=1), np.bincount(codes, minlength=c).astype(float)


def _resample(tables: Sequence[Array], draws: int, seed: int) -> list[Array]:
    """Column sums [draws, s] of each table [c, s], over clusters drawn with replacement."""
    if not tables or not len(tables[0]):
        return [np.full((draws, table.shape[1]), np.nan) for table in tables]
    table = np.concatenate(tables, axis=1)
    c, rng = len(table), np.random.default_rng(seed)
    sums = np.empty((draws, table.shape[1]))
    chunk = max(1, _PICKS // c)
    for start in range(0, draws, chunk):
        count = min(chunk, draws - start)
        picks = rng.integers(c, size=(count, c))
        picks += np.arange(count)[:, None] * c
        times = np.bincount(picks.ravel(), minlength=count * c).reshape(count, c)
        sums[start : start + count] = _product(times, table)
    return np.split(sums, np.cumsum([t.shape[1] for t in tables])[:-1], axis=1)


def _product(times: NDArray[np.integer], table: Array) -> Array:
    """`times` [draws, c] @ `table` [c, s]; few draws of many clusters in parts too small for several threads.

    On busy cores these wait for each other fifty times as long as the product takes.
    """
    draws, c = times.shape
    part = _ALONE // (draws * table.shape[1])
    if part < 64 or c <= part:
        return np.asarray(times.astype(float) @ table)
    sums: Array = np.zeros((draws, table.shape[1]))
    for at in range(0, c, part):
        sums += times[:, at : at + part].astype(float) @ table[at : at + part]
    return sums


def _effects(statistic: Statistic, codes: NDArray[np.intp]) -> Array | None:
    """The sum of the effects of each cluster, over the rows that count."""
    if statistic.effects is None:
        return None
    counted = np.isfinite(statistic.columns).all(axis=1) & np.isfinite(statistic.effects)
    return np.bincount(codes[counted], weights=statistic.effects[counted], minlength=1).astype(float)


def _estimate(
    statistic: Statistic, sums: Array, rows: Array, replicates: Array | None, effects: Array | None, seed: int
) -> Estimate:
    n, clusters = int(rows.sum()), int(np.count_nonzero(rows))
    if n == 0:
        return Estimate(statistic.name, np.nan, np.nan, np.nan, 0, 0, kind=statistic.kind)
    with np.errstate(all="ignore"):  # a ratio over an empty sum is nan, in a draw as in the whole
        value = float(statistic.value(sums.sum(axis=0)))
        if statistic.interval is not None:
            low, high = map(np.asarray, statistic.interval(sums[rows > 0]))
        elif replicates is None:
            low, high = wilson_interval(sums[rows > 0, 0], rows[rows > 0])
        else:
            low, high = _percentiles(statistic, value, statistic.value(replicates), clusters)
    p = None if effects is None else sign_flip_p(effects, seed=seed)
    return Estimate(statistic.name, value, float(low), float(high), n, clusters, p, statistic.kind)


def _percentiles(statistic: Statistic, value: float, drawn: Array, clusters: int) -> tuple[Array, Array]:
    from scipy.special import ndtr, ndtri, stdtrit

    drawn = drawn[np.isfinite(drawn)]
    if clusters < 2 or not np.isfinite(value) or not drawn.size or np.ptp(drawn) <= 1e-12 * max(1.0, abs(value)):
        if statistic.kind == "fraction" and clusters > 1 and np.isfinite(value):
            at = np.asarray(np.clip(value, 0.0, 1.0))
            return wilson(at, np.asarray(float(clusters)), ndtri(0.5 + LEVEL / 2))
        return np.asarray(np.nan), np.asarray(np.nan)
    # Percentiles of few clusters are too narrow: the expansion makes them as wide as Student's interval of a mean.
    tail = ndtr(np.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, (1 - LEVEL) / 2))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return low, high
