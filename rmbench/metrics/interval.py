"""95 % intervals over clusters: Wilson's with an effective n for what lies in [0, 1], else the bootstrap's percentiles.

Where clusters differ in size their own totals say too little of how much an estimate varies: a large one draws it
towards itself, so that its residual looks small, and what happens to the largest happens once. With h_c = n_c / n the
share of a cluster's rows, a variance is then the larger of two (`variance_of_sum`):

- that of the totals of residuals over 1 - h_c, which is the jackknife's (Bell and McCaffrey, Survey Methodology 28,
  2002, call such residuals leverage-corrected);
- that of rows which correlate alike in every cluster, because clusters of all sizes tell that correlation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics import draws as drawing
from rmbench.metrics.sign_flip import sign_flip_p
from rmbench.types import Array

Kind = Literal["proportion", "fraction", "number"]
Better = Literal["higher", "lower"]
Codes = NDArray[np.intp]

LEVEL = 0.95
_ENTRIES = 1 << 21  # numbers held at once: 16 MiB
_ALONE = 1 << 18  # multiplications that OpenBLAS leaves to one thread


class Words(TypedDict, total=False):
    """What a statistic says of itself; see `Statistic`."""

    title: str
    unit: str
    better: Better | None
    bounds: tuple[float | None, float | None]
    caveat: str
    at: float | None


@dataclass(frozen=True, slots=True)
class Statistic:
    """A number that n rows, in c clusters, give; in one of two forms.

    - Sums: it depends on the rows only through sums of `columns` [n, s]; `value` maps sums [..., s] to [...]. A row
      with an entry that is not finite is left out.
    - `of`: from how often each cluster counts [draws, c] to its value in each draw [draws], for what no sums give, as a
      pooled AUC. Clusters are numbered in the order of their first row. `counted` [n] says which rows count, all unless
      told. It is slow: give sums where there are any.

    `kind` picks the interval:

    - `proportion`: columns are (success, 1) with successes 0 or 1 (one in between, as for a tie that is broken at
      random, only makes the interval wider than it need be): Wilson's, `wilson_interval`;
    - `fraction`: anything with values in [0, 1]: Wilson's with the n whose variance is that of the draws;
    - `number`: anything else: percentiles of the draws, or, of a mean with a least and no most, a score interval.

    `effects` [n], where given, are what a test against zero flips the signs of: each row's part in the effect.
    `interval`, where given, replaces that of the kind: from the sums [c, s] of c clusters (s = 0 with `of`) to both
    ends. `strata` [n], where given, are those that whole clusters are drawn within. `effective_n` is the n of Wilson's
    interval of a fraction where every draw is the same; the number of clusters unless told.

    `title` names it in the field's words and `unit` what it counts; `better` is whether more of it or less is better,
    None where neither is; `bounds` are the least and the most that it can be; `caveat` is what it cannot say; `at` is
    the x of a point on a curve.
    """

    name: str
    columns: Array | None = None
    value: Callable[[Array], Array] | None = None
    kind: Kind = "number"
    effects: Array | None = None
    interval: Callable[[Array], tuple[float, float]] | None = None
    of: Callable[[Array], Array] | None = None
    counted: NDArray[np.bool_] | None = None
    strata: NDArray[np.integer] | None = None
    effective_n: float | None = None
    title: str = ""
    unit: str = ""
    better: Better | None = None
    bounds: tuple[float | None, float | None] = (None, None)
    caveat: str = ""
    at: float | None = None

    def __post_init__(self) -> None:
        sums, both = self.columns is not None, (self.columns is None) == (self.value is None)
        if not both or sums == (self.of is not None):
            raise ValueError(f"statistic {self.name!r}: expected `columns` with `value`, or `of`")
        if self.of is not None and self.kind == "proportion":
            raise ValueError(f"statistic {self.name!r}: `of` gives no proportion; expected kind 'fraction'")
        if self.kind != "number" and self.bounds == (None, None):
            object.__setattr__(self, "bounds", (0.0, 1.0))

    def counts(self, n: int) -> NDArray[np.bool_]:
        """Which of its n rows count [n]."""
        if self.columns is not None:
            return np.asarray(np.isfinite(self.columns).all(axis=1))
        return np.ones(n, dtype=bool) if self.counted is None else self.counted


@dataclass(frozen=True, slots=True)
class Estimate:
    """`n` rows in `clusters` clusters gave `value`; nan where there is none, or too little for an interval.

    `p` is that of the cluster sign-flip test against zero, None where the statistic is no effect. `clusters_effective`
    are as many clusters alike in size (`kish`), and `n_effective` as many independent rows, as tell as much; nan where
    that is not known.
    """

    name: str
    value: float
    ci_low: float
    ci_high: float
    n: int
    clusters: int
    p: float | None = None
    kind: Kind = "number"
    clusters_effective: float = np.nan
    n_effective: float = np.nan


def mean(name: str, values: Array, kind: Kind = "number", **words: Unpack[Words]) -> Statistic:
    """The mean of `values` [n], of which those that are not finite are left out."""
    return Statistic(name, np.column_stack([values, np.ones(len(values))]), ratio, kind, **words)


def ratio(sums: Array) -> Array:
    """The first of two sums [..., 2] over the second."""
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

    Proportions get `wilson_interval`. For the rest whole clusters are drawn with replacement; all statistics see the
    same `draws`, so that they can be compared draw by draw. A fraction v of variance V gets Wilson's interval with
    n = v (1 - v) / V; where every draw is the same, as where all is 0 or 1, n is its `effective_n`, `kish` unless told.
    A mean that has a least and no most, as a rank, gets the same with a variance that grows from there. Any other
    number gets the expanded percentile interval (Hesterberg, What Teachers Should Know about the Bootstrap, 2015,
    section 3.3), nan where every draw is the same. Degrees of freedom are clusters less strata. Where clusters differ
    in size both are widened by what `variance_of_sum` has beyond the draws.
    """
    codes = cluster_codes(clusters)
    resampled = [one for one in statistics if one.kind != "proportion" and one.interval is None]
    drawn = dict(zip(map(id, resampled), replicates(resampled, codes, draws=draws, seed=seed), strict=True))
    return [_estimate(statistic, codes, drawn.get(id(statistic)), seed) for statistic in statistics]


def replicates(statistics: Sequence[Statistic], codes: Codes, *, draws: int, seed: int) -> list[Array]:
    """The value [draws] of each statistic when clusters are drawn anew, `codes` [n] being those of the rows.

    Statistics of the same strata see the same draws.
    """
    groups: dict[bytes | None, list[int]] = {}
    for i, statistic in enumerate(statistics):
        strata = cluster_strata(statistic, codes)
        groups.setdefault(None if strata is None else strata.tobytes(), []).append(i)
    values: dict[int, Array] = {}
    for places in groups.values():
        group = [statistics[i] for i in places]
        drawn = _replicates(group, codes, cluster_strata(group[0], codes), draws, seed)
        values |= zip(places, drawn, strict=True)
    return [values[i] for i in range(len(statistics))]


def as_function(statistic: Statistic, codes: Codes) -> Callable[[Array], Array]:
    """A statistic as a function of how often each cluster counts: [draws, c] to [draws], whatever its form."""
    if statistic.of is not None:
        return statistic.of
    sums, value = _cluster_sums(statistic, codes)[0], _value(statistic)
    return lambda times: value(_product(times, sums))


def whole_value(statistic: Statistic, codes: Codes) -> float:
    """The value of a statistic, `codes` [n] being the clusters of its rows."""
    with np.errstate(all="ignore"):  # a ratio over an empty sum is nan
        if statistic.of is not None:
            return float(statistic.of(np.ones((1, int(codes.max(initial=-1)) + 1)))[0])
        return float(_value(statistic)(_cluster_sums(statistic, codes)[0].sum(axis=0)))


def values_without(statistic: Statistic, codes: Codes) -> Array:
    """The value [c] of a statistic without each of its clusters."""
    with np.errstate(all="ignore"):  # as above
        if statistic.of is None:
            sums = _cluster_sums(statistic, codes)[0]
            return np.asarray(_value(statistic)(sums.sum(axis=0) - sums))
        c = int(codes.max(initial=-1)) + 1
        values, most = np.empty(c), max(1, _ENTRIES // max(1, c))
        for start in range(0, c, most):
            out = np.arange(start, min(start + most, c))
            times = np.ones((len(out), c))
            times[np.arange(len(out)), out] = 0.0
            values[out] = statistic.of(times)
        return values


def cluster_codes(clusters: Sequence[Hashable] | NDArray[np.integer]) -> Codes:
    """Clusters numbered from 0 in the order of their first row. A dict beats sorting a million strings."""
    seen: dict[Hashable, int] = {}
    return np.fromiter((seen.setdefault(cluster, len(seen)) for cluster in clusters), np.intp, len(clusters))


def cluster_strata(statistic: Statistic, codes: Codes) -> Codes | None:
    """The stratum of each cluster [c], numbered from 0; None where there is one."""
    if statistic.strata is None:
        return None
    strata = np.zeros(int(codes.max(initial=-1)) + 1, np.intp)
    strata[codes] = statistic.strata
    names, numbered = np.unique(strata, return_inverse=True)
    return numbered if len(names) > 1 else None


def is_mean(statistic: Statistic) -> bool:
    """Whether a statistic is the plain mean of its first column over the rows that count."""
    if statistic.columns is None or statistic.value is None or statistic.columns.shape[1] != 2:
        return False
    ones = bool((statistic.columns[statistic.counts(len(statistic.columns)), 1] == 1).all())
    return ones and bool(np.allclose(statistic.value(np.array([[1.0, 2.0], [3.0, 4.0]])), [0.5, 0.75]))


def kish(sizes: Array) -> Array:
    """How many clusters alike in size tell as much as those of `sizes` [..., c] where rows of a cluster say the same.

    Kish, Survey Sampling (1965), section 8.2: (sum n_c)^2 / sum n_c^2; nan without rows.
    """
    sizes = np.asarray(sizes, float)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.square(sizes.sum(-1)) / np.square(sizes).sum(-1))


def corrected(residuals: Array, sizes: Array) -> Array:
    """Sums of residuals by cluster [..., c], corrected for leverage: their squares sum to the jackknife's variance.

    Of c clusters alike in size, that is c / (c - 1) times the sum of squares. A cluster that has all the rows says
    nothing: nan.
    """
    residuals, sizes = np.asarray(residuals, float), np.asarray(sizes, float)
    c = np.count_nonzero(sizes, axis=-1)[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(residuals * np.sqrt((c - 1) / c) / (1 - sizes / sizes.sum(-1, keepdims=True)))


def variance_of_sum(residuals: Array, squares: Array, sizes: Array) -> Array:
    """The variance [...] of the sum of all rows, from sums of `residuals` and of their `squares`, by cluster [..., c].

    That of the `corrected` residuals; where `sizes`, the rows of each cluster, differ, never below that of rows which
    correlate alike in every cluster. Their correlation is that of the pairs of rows of a cluster, each row weighing the
    same, and 1 for as much as is not seen of it: the more unequal clusters are, and the fewer the clusters of several
    rows whose residuals matter, the more.
    """
    residuals, squares, sizes = (np.asarray(given, float) for given in (residuals, squares, sizes))
    over_clusters = np.square(corrected(residuals, sizes)).sum(-1)
    alike = sizes.max(-1) == np.where(sizes > 0, sizes, np.inf).min(-1)
    if alike.all():
        return np.asarray(over_clusters)
    n, total = sizes.sum(-1), squares.sum(-1)
    several = sizes > 1
    weight = np.where(several, 1 / np.maximum(sizes - 1, 1), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        pairs = (weight * (np.square(residuals) - squares)).sum(-1) / (several * sizes).sum(-1)
        correlation = np.nan_to_num(np.clip(pairs * n / total, 0.0, 1.0))
        seen = np.nan_to_num(kish(np.where(several, squares, 0.0)))
        unequal = 1 - kish(sizes) / np.count_nonzero(sizes, axis=-1)
        correlation = np.nan_to_num((seen * correlation + unequal) / (seen + unequal), nan=1.0)
    within = total * (1 + (np.square(sizes).sum(-1) / n - 1) * correlation)
    return np.asarray(np.where(alike, over_clusters, np.fmax(over_clusters, within)))


def variance_of_mean(rows: Array, codes: Codes) -> float:
    """The variance of the mean of `rows` [n], all finite, over the clusters `codes` [n]; nan with one cluster."""
    apart, sizes = rows - rows.mean(), np.bincount(codes)
    there = sizes > 0
    if np.count_nonzero(there) < 2:
        return np.nan
    residuals, squares = (np.asarray(np.bincount(codes, part)[there], float) for part in (apart, np.square(apart)))
    return float(variance_of_sum(residuals, squares, sizes[there].astype(float))) / len(rows) ** 2


def wilson_interval(successes: Array, rows: Array) -> tuple[Array, Array]:
    """Low and high ends [...] for the proportion of `successes` among `rows`, both counts per cluster [..., c].

    Wilson's score interval (1927). Where a cluster has more than one row, n is `proportion_n` and the quantile is
    Student's with c - 1 degrees of freedom (Franco et al., J. Survey Stat. Methodol. 7, 2019, compare such intervals).
    One cluster of several rows says nothing: [0, 1].
    """
    from scipy.special import ndtri, stdtrit

    successes, rows = np.asarray(successes, float), np.asarray(rows, float)
    c, n = rows.shape[-1], rows.sum(-1)
    p = successes.sum(-1) / n
    clustered = (rows > 1).any(-1)
    if c == 1:
        low, high = wilson(p, n, ndtri(0.5 + LEVEL / 2))
        return np.where(clustered, 0.0, low), np.where(clustered, 1.0, high)
    quantile = np.where(clustered, stdtrit(c - 1, 0.5 + LEVEL / 2), ndtri(0.5 + LEVEL / 2))
    return wilson(p, proportion_n(successes, rows), quantile)


def proportion_n(successes: Array, rows: Array) -> Array:
    """As many independent rows [...] as tell as much of the proportion of `successes` among `rows`, counts by cluster
    [..., c]: n over the design effect, the variance of the proportion over its binomial variance, never below 1.

    Where all rows succeed or all fail the design effect cannot be seen and n is `kish`, its least.
    """
    successes, rows = np.asarray(successes, float), np.asarray(rows, float)
    n = rows.sum(-1)
    p = successes.sum(-1) / n
    each = p[..., None]
    squares = successes * np.square(1 - each) + (rows - successes) * np.square(each)
    variance, binomial = variance_of_sum(successes - each * rows, squares, rows), n * p * (1 - p)
    with np.errstate(divide="ignore", invalid="ignore"):
        told = np.where(binomial > 0, n / np.maximum(variance / binomial, 1.0), kish(rows))
    return np.asarray(np.where((rows > 1).any(-1), told, n))


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


def _cluster_sums(statistic: Statistic, codes: Codes) -> tuple[Array, Array]:
    """Sums of the columns [c, s] and how many rows count [c], by cluster."""
    counted, c = statistic.counts(len(codes)), int(codes.max(initial=-1)) + 1
    kept, rows = codes[counted], np.bincount(codes[counted], minlength=c).astype(float)
    if statistic.columns is None:
        return np.empty((c, 0)), rows
    return np.stack(
        [np.bincount(kept, weights=column, minlength=c) for column in statistic.columns[counted].T], 1
    ), rows


def _value(statistic: Statistic) -> Callable[[Array], Array]:
    if statistic.value is None:
        raise ValueError(f"statistic {statistic.name!r} has no sums")
    return statistic.value


def _replicates(
    statistics: Sequence[Statistic], codes: Codes, strata: Codes | None, draws: int, seed: int
) -> list[Array]:
    """The values [draws] of statistics of the same strata: one product with all of their sums, and `of` by itself."""
    tables = [_cluster_sums(statistic, codes)[0] for statistic in statistics]
    table, widths = np.concatenate(tables, axis=1), np.cumsum([one.shape[1] for one in tables])
    sums, slow = np.empty((draws, table.shape[1])), np.full((len(statistics), draws), np.nan)
    if not len(table):
        return [np.full(draws, np.nan) for _ in statistics]
    at = 0
    with np.errstate(all="ignore"):  # a ratio over an empty sum is nan
        for times in drawing.times(len(table), draws, seed, strata):
            inside = slice(at, at := at + len(times))
            if table.shape[1]:
                sums[inside] = _product(times, table)
            for values, statistic in zip(slow, statistics, strict=True):
                if statistic.of is not None:
                    values[inside] = statistic.of(times)
        return [
            values if statistic.of is not None else np.asarray(_value(statistic)(drawn))
            for statistic, values, drawn in zip(statistics, slow, np.split(sums, widths[:-1], axis=1), strict=True)
        ]


def _product(times: Array, table: Array) -> Array:
    """`times` [draws, c] @ `table` [c, s]; few draws of many clusters in parts too small for several threads.

    On busy cores these wait for each other fifty times as long as the product takes.
    """
    draws, c = times.shape
    part = _ALONE // (draws * table.shape[1])
    if part < 64 or c <= part:
        return np.asarray(times @ table)
    sums: Array = np.zeros((draws, table.shape[1]))
    for at in range(0, c, part):
        sums += times[:, at : at + part] @ table[at : at + part]
    return sums


def _effects(statistic: Statistic, codes: Codes) -> Array | None:
    """The sum of the effects of each cluster, over the rows that count."""
    if statistic.effects is None:
        return None
    counted = statistic.counts(len(codes)) & np.isfinite(statistic.effects)
    return np.bincount(codes[counted], weights=statistic.effects[counted], minlength=1).astype(float)


def _estimate(statistic: Statistic, codes: Codes, drawn: Array | None, seed: int) -> Estimate:
    sums, rows = _cluster_sums(statistic, codes)
    n, there = int(rows.sum()), rows > 0
    clusters = int(np.count_nonzero(there))
    if n == 0:
        return Estimate(statistic.name, np.nan, np.nan, np.nan, 0, 0, kind=statistic.kind)
    with np.errstate(all="ignore"):  # a ratio over an empty sum is nan, in a draw as in the whole
        value, spread = whole_value(statistic, codes), _spread(statistic, codes, rows)
        if statistic.interval is not None:
            low, high = statistic.interval(sums[there])
        elif drawn is None:
            low, high = map(float, wilson_interval(sums[there, 0], rows[there]))
        else:
            strata = cluster_strata(statistic, codes)
            freedom = clusters - (1 if strata is None else len(np.unique(strata[there])))
            low, high = _drawn_interval(statistic, value, drawn, clusters, freedom, spread)
    effects = _effects(statistic, codes)
    p = None if effects is None else sign_flip_p(effects, seed=seed)
    return Estimate(statistic.name, value, low, high, n, clusters, p, statistic.kind, spread.clusters, spread.n)


@dataclass(frozen=True, slots=True)
class _Spread:
    """How many `clusters` alike and independent rows, `n`, tell as much; `widened` is how much wider an interval is
    than draws alone would have it.
    """

    clusters: float
    n: float
    widened: float = 1.0


def _spread(statistic: Statistic, codes: Codes, rows: Array) -> _Spread:
    """How far clusters that are not alike, or have several rows, say less than as many rows; `rows` [c] are theirs."""
    there = rows > 0
    sizes, n = rows[there], float(rows.sum())
    clusters = float(kish(sizes))
    if sizes.max() <= 1 or len(sizes) < 2:
        return _Spread(clusters, clusters)
    if statistic.kind == "proportion":
        return _Spread(clusters, float(proportion_n(_cluster_sums(statistic, codes)[0][there, 0], sizes)))
    strata, parts = cluster_strata(statistic, codes), row_parts(statistic, codes)
    stratum = np.zeros(len(sizes), np.intp) if strata is None else strata[there]
    if parts is None:
        return _Spread(clusters, np.nan, widening(sizes, np.square(sizes), sizes, stratum))
    kept = codes[statistic.counts(len(codes))]
    residuals, squares = (np.bincount(kept, part, len(rows))[there].astype(float) for part in (parts, np.square(parts)))
    effect = _variance(residuals, squares, sizes, stratum) / squares.sum()
    return _Spread(
        clusters, n / max(1.0, effect) if effect > 0 else clusters, widening(residuals, squares, sizes, stratum)
    )


def row_parts(statistic: Statistic, codes: Codes) -> Array | None:
    """What each row that counts adds to the value; None where sums do not tell."""
    if statistic.columns is None:
        return None
    columns = statistic.columns[statistic.counts(len(codes))]
    total, value = columns.sum(axis=0), _value(statistic)
    most = max(1, _ENTRIES // max(1, columns.shape[1]))
    without = [value(total - columns[at : at + most]) for at in range(0, len(columns), most)]
    parts = value(total) - np.concatenate(without)
    return parts if np.isfinite(parts).all() else None


def _variance(residuals: Array, squares: Array, sizes: Array, stratum: Codes) -> float:
    """`variance_of_sum` over strata; of one cluster alone in its stratum nothing is known, and draws keep it."""
    inside = [stratum == one for one in np.unique(stratum)]
    return sum(
        float(variance_of_sum(residuals[one], squares[one], sizes[one])) for one in inside if np.count_nonzero(one) > 1
    )


def widening(residuals: Array, squares: Array, sizes: Array, stratum: Codes) -> float:
    """How much larger the standard error of clusters that differ in size is than that of their expanded draws."""
    strata = np.unique(stratum)
    freedom = len(sizes) - len(strata)
    if freedom < 1 or all(np.ptp(sizes[stratum == one]) == 0 for one in strata):
        return 1.0
    shared = np.array([np.count_nonzero(stratum == one) for one in strata])[np.searchsorted(strata, stratum)] > 1
    drawn = len(sizes) / freedom * float(np.square(residuals[shared]).sum())
    return float(np.sqrt(max(1.0, _variance(residuals, squares, sizes, stratum) / drawn))) if drawn > 0 else 1.0


def _drawn_interval(
    statistic: Statistic, value: float, drawn: Array, clusters: int, freedom: int, spread: _Spread
) -> tuple[float, float]:
    if clusters < 2 or not np.isfinite(value):
        return np.nan, np.nan
    drawn, (least, most) = drawn[np.isfinite(drawn)], statistic.bounds
    variance = float(np.var(drawn)) * clusters / freedom * spread.widened**2 if _tell(drawn, value, freedom) else 0.0
    if statistic.kind != "number":
        n = spread.clusters if statistic.effective_n is None else statistic.effective_n
        return _fraction_interval(float(np.clip(value, 0.0, 1.0)), variance, freedom, n)
    if variance > 0 and least is not None and most is None and value > least and is_mean(statistic):
        low, high = _score_above(value - least, variance, freedom)
        return least + low, least + high
    low, high = percentiles(value, drawn, clusters, freedom, spread.widened)
    low = low if least is None else max(low, min(least, value))
    return low, high if most is None else min(high, max(most, value))


def _fraction_interval(value: float, variance: float, freedom: int, n: float) -> tuple[float, float]:
    """Wilson's, with the n that has this variance; with `n` where it is not known."""
    from scipy.special import ndtri, stdtrit

    quantile = ndtri(0.5 + LEVEL / 2)
    if variance > 0 and 0 < value < 1:
        n, quantile = value * (1 - value) / variance, stdtrit(freedom, 0.5 + LEVEL / 2)
    low, high = wilson(np.asarray(value), np.asarray(n), quantile)
    return float(low), float(high)


def _score_above(value: float, variance: float, freedom: int) -> tuple[float, float]:
    """Those x above 0 that a mean is no further from than Student's quantile, its variance growing with x.

    It is the end of Wilson's interval where 1 is far away.
    """
    from scipy.special import stdtrit

    square = float(stdtrit(freedom, 0.5 + LEVEL / 2)) ** 2 * variance / value
    half = math.sqrt(square * (value + square / 4))
    return value + square / 2 - half, value + square / 2 + half


def percentiles(value: float, drawn: Array, clusters: int, freedom: int, widened: float = 1.0) -> tuple[float, float]:
    """Both ends of the expanded percentile interval of a value that was `drawn` [draws] anew, `widened` times as wide.

    nan where there is no freedom, no value, or no draw that differs.
    """
    from scipy.special import ndtr, stdtrit

    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not _tell(drawn, value, freedom):
        return np.nan, np.nan
    # Percentiles of few clusters are too narrow: the expansion makes them as wide as Student's interval of a mean.
    tail = ndtr(np.sqrt(clusters / freedom) * stdtrit(freedom, (1 - LEVEL) / 2))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(value - widened * (value - low)), float(value + widened * (high - value))


def _tell(drawn: Array, value: float, freedom: int) -> bool:
    """Whether draws say how far a value may be off: they differ by more than rounding."""
    return freedom > 0 and bool(drawn.size) and float(np.ptp(drawn)) > 1e-12 * max(1.0, abs(value))
