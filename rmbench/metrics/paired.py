"""Can models be told apart on the same examples? Paired differences, tests over clusters, tiers and ranks."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.interval import (
    LEVEL,
    Codes,
    Kind,
    Statistic,
    cluster_codes,
    cluster_strata,
    estimate,
    is_mean,
    mean,
    percentiles,
    replicates,
    row_parts,
    values_without,
    variance_of_mean,
    whole_value,
    widening,
)
from rmbench.metrics.sign_flip import sign_flip_p, sign_flip_ps
from rmbench.types import Array

_POWER = 0.8
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Difference:
    """Ours minus theirs over `n` rows in `clusters` clusters.

    `p` is two-sided; `mcnemar_p` is None where a cluster has several rows, a value is neither 0 nor 1, or a model has
    several runs. `detectable` is the smallest true difference that one test at 5 % finds in 80 % of such samples.
    What too few clusters, or none that differ, leave open is nan.
    """

    value: float
    ci_low: float
    ci_high: float
    p: float
    mcnemar_p: float | None
    detectable: float
    n: int
    clusters: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """Which errors two models share: numbers of rows, of several runs the mean over every pair of them.

    `common` is the share that both get wrong of what either does, `common_if_independent` what it would be if one
    model's errors said nothing of the other's; nan where nothing is wrong.
    """

    only_theirs: float
    only_ours: float
    both: float
    neither: float
    common: float
    common_if_independent: float


@dataclass(frozen=True, slots=True)
class Rank:
    """A place among models, the highest mean first, with the places that a 95 % interval leaves open."""

    rank: int
    low: int
    high: int


def difference(
    ours: Array, theirs: Array, clusters: NDArray[np.integer], *, kind: Kind = "number", seed: int = 0
) -> Difference:
    """Ours minus theirs: values [n, runs], all finite, of the same n rows; `clusters` [n] numbers their clusters.

    With one run each, p is that of the cluster sign-flip test. The interval of a `proportion`, a mean of zeros and
    ones, is Student's, over clusters, with one row more that is won and one that is lost in the variance, each as many
    as the design effect (after Bonett and Price, J. Educ. Behav. Stat. 37, 2012): without them it would cover too
    little where few rows differ. Other differences get the bootstrap of `interval.estimate`.

    Runs are seeds of one model, over which a row's values are averaged; where a model has several, they are a sample as
    the clusters are: interval and p are Student's, and the variance of the runs' means is added to that over clusters,
    less what is particular to a run and an example and is in both.

    The smallest detectable difference is (t_.975 + t_.8) standard errors (Bloom, Evaluation Review 19, 1995).
    """
    from scipy.special import stdtrit

    clusters = np.unique(clusters, return_inverse=True)[1]
    rows = _apart_by_row(ours, theirs)
    n, c, value = len(rows), int(clusters.max(initial=-1)) + 1, float(rows.mean())
    single = _are_single(ours, theirs)
    variance, freedom = _variance(rows, clusters, [] if single else [ours, theirs])
    quantile = float(stdtrit(freedom, 0.5 + LEVEL / 2))
    if single and kind != "proportion":
        [estimated] = estimate([mean("difference", rows)], clusters, seed=seed)
        low, high = estimated.ci_low, estimated.ci_high
    else:
        added = _two_more_rows(rows, clusters) if kind == "proportion" else 0.0
        half = quantile * float(np.sqrt(variance + added))
        low, high = (value - half, value + half) if half > 0 else (np.nan, np.nan)
    if kind == "proportion":
        low, high = max(low, -1.0), min(high, 1.0)
    return Difference(
        value,
        low,
        high,
        p=paired_p(ours, theirs, clusters, seed=seed),
        mcnemar_p=mcnemar_p(rows) if single and c == n and is_binary(ours) and is_binary(theirs) else None,
        detectable=(quantile + float(stdtrit(freedom, _POWER))) * float(np.sqrt(variance)) if variance > 0 else np.nan,
        n=n,
        clusters=c,
    )


def difference_of(
    ours: Statistic,
    theirs: Statistic,
    clusters: Sequence[Hashable] | NDArray[np.integer],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> Difference:
    """Our value minus theirs, for two statistics of one run each over the same n rows; `clusters` [n] are the rows'.

    Means are compared by their rows, as `difference` does. Of anything else, a ratio with its SD, a pooled AUC, a
    macro, the value is taken from the value draw by draw, over the same clusters, and gets the interval of
    `interval.estimate`. p and the smallest detectable difference are those of the clusters' parts, their jackknife
    pseudo-values times their rows (Busing, Meijer and van der Leeden, Statistics and Computing 9, 1999): with v the
    difference and v_c that without the n_c rows of cluster c, part c is n v - (n - n_c) v_c, less what all of these
    are above n v. For a mean it is the sum of the cluster's rows. The parts' signs are flipped, and their variance
    gives the standard error.

    A row counts where it does for both. What is nan in one, or without one of the clusters, leaves the difference open;
    statistics of the slow form, and macros, are to be made of the outcomes that count for both.
    """
    codes = cluster_codes(clusters)
    counted = ours.counts(len(codes)) & theirs.counts(len(codes))
    ours, theirs = _over(ours, counted), _over(theirs, counted)
    if ours.columns is not None and theirs.columns is not None and is_mean(ours) and is_mean(theirs) and counted.any():
        values = ours.columns[counted, :1], theirs.columns[counted, :1]
        return difference(*values, codes[counted], kind=_common_kind(ours, theirs), seed=seed)
    return _difference_of(ours, theirs, codes, counted, draws, seed)


def _difference_of(
    ours: Statistic, theirs: Statistic, codes: Codes, counted: NDArray[np.bool_], draws: int, seed: int
) -> Difference:
    from scipy.special import stdtrit

    rows = np.bincount(codes[counted], minlength=int(codes.max(initial=-1)) + 1).astype(float)
    there, n = rows > 0, int(rows.sum())
    c = int(np.count_nonzero(there))
    strata = _common_strata(ours, theirs, codes)
    ours, theirs = (replace(one, strata=None if strata is None else strata[codes]) for one in (ours, theirs))
    our_value, their_value = whole_value(ours, codes), whole_value(theirs, codes)
    value = our_value - their_value
    if abs(value) <= _ROUNDING * max(abs(our_value), abs(their_value)):
        value = 0.0
    if not np.isfinite(value):
        return Difference(np.nan, np.nan, np.nan, np.nan, None, np.nan, n, c)
    parts = (_parts(ours, codes, rows) - _parts(theirs, codes, rows))[there]
    freedom = c - (1 if strata is None else len(np.unique(strata[there])))
    if not np.isfinite(parts).all() or c < 2:
        return Difference(value, np.nan, np.nan, np.nan, None, np.nan, n, c)
    our_draws, their_draws = replicates([ours, theirs], codes, draws=draws, seed=seed)
    widened = _widened(ours, theirs, codes, counted, None if strata is None else strata[there])
    low, high = percentiles(value, our_draws - their_draws, c, freedom, widened)
    residuals = parts - rows[there] * value
    error = widened * float(np.sqrt(c / (c - 1) * (residuals @ residuals))) / n
    detectable = float(stdtrit(c - 1, 0.5 + LEVEL / 2) + stdtrit(c - 1, _POWER)) * error
    p = sign_flip_p(_unrounded(parts, n * max(abs(our_value), abs(their_value))), seed=seed)
    return Difference(value, low, high, p, None, detectable if error > 0 else np.nan, n, c)


def _widened(
    ours: Statistic, theirs: Statistic, codes: Codes, counted: NDArray[np.bool_], strata: Codes | None
) -> float:
    """How much wider than their draws say the interval is where clusters differ in size; `strata` are the clusters'."""
    inside = np.unique(codes[counted], return_inverse=True)[1]
    sizes = np.bincount(inside).astype(float)
    stratum = np.zeros(len(sizes), np.intp) if strata is None else strata
    our_parts, their_parts = row_parts(ours, codes), row_parts(theirs, codes)
    if our_parts is None or their_parts is None:
        return widening(sizes, np.square(sizes), sizes, stratum)
    apart_rows = our_parts - their_parts
    return widening(_summed(apart_rows, inside), _summed(np.square(apart_rows), inside), sizes, stratum)


def cluster_parts(statistic: Statistic, codes: Codes) -> Array:
    """Each cluster's part [c] in a statistic over rows that all count; together they are n times its value.

    Jackknife pseudo-values, as `difference_of` has them, less their bias: of a mean the sums of the clusters' rows.
    """
    return _parts(statistic, codes, np.bincount(codes).astype(float))


def _parts(statistic: Statistic, codes: Codes, rows: Array) -> Array:
    """The same where of each cluster so many `rows` [c] count."""
    n, value = rows.sum(), whole_value(statistic, codes)
    parts = n * value - (n - rows) * values_without(statistic, codes)
    shifted: Array = parts + rows * (value - parts[rows > 0].sum() / n)
    return shifted


def _apart_by_row(ours: Array, theirs: Array) -> Array:
    """Ours minus theirs [n], both [n, runs] and averaged over their runs, 0 where rounding alone makes it another."""
    ours, theirs = ours.mean(axis=1), theirs.mean(axis=1)
    scale = float(np.maximum(np.abs(ours), np.abs(theirs)).max(initial=0.0))
    return _unrounded(ours - theirs, scale)


def _unrounded(differences: Array, scale: float) -> Array:
    """Differences without those that rounding of numbers as large as `scale` makes: a test would take them for some.

    None at all where one is open, which tells nothing.
    """
    told = np.isfinite(differences).all() & (np.abs(differences) > _ROUNDING * scale)
    result: Array = np.where(told, differences, 0.0)
    return result


def _over(statistic: Statistic, counted: NDArray[np.bool_]) -> Statistic:
    """A statistic over the rows that count [n]; one of the slow form as it is."""
    if statistic.columns is None:
        return statistic
    return replace(statistic, columns=np.where(counted[:, None], statistic.columns, np.nan))


def _common_kind(ours: Statistic, theirs: Statistic) -> Kind:
    return ours.kind if ours.kind == theirs.kind else "number"


def _common_strata(ours: Statistic, theirs: Statistic, codes: Codes) -> Codes | None:
    """The stratum of each cluster [c] where those in one stratum are so for both; None where all are in one."""
    both = [strata for one in (ours, theirs) if (strata := cluster_strata(one, codes)) is not None]
    return np.unique(np.column_stack(both), axis=0, return_inverse=True)[1].reshape(-1) if both else None


def paired_p(ours: Array, theirs: Array, clusters: NDArray[np.integer], *, seed: int = 0) -> float:
    """The p of `difference`: of the cluster sign-flip test, or Student's where a model has several runs that vary."""
    from scipy.special import stdtr

    clusters = np.unique(clusters, return_inverse=True)[1]
    rows = _apart_by_row(ours, theirs)
    variance, freedom = (0.0, 0.0) if _are_single(ours, theirs) else _variance(rows, clusters, [ours, theirs])
    if not variance > 0:
        return sign_flip_p(_summed(rows, clusters), seed=seed)
    return float(2 * stdtr(freedom, -abs(float(rows.mean())) / np.sqrt(variance)))


def is_binary(values: Array) -> bool:
    """Whether every value is 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def mcnemar_p(differences: Array) -> float:
    """McNemar's exact test (1947), two-sided, of differences [n] of -1, 0 or 1 between independent rows."""
    from scipy.special import bdtr

    won, lost = int(np.sum(differences > 0)), int(np.sum(differences < 0))
    return min(1.0, 2 * float(bdtr(min(won, lost), won + lost, 0.5)))


def overlap(ours: Array, theirs: Array) -> Overlap:
    """What two models get wrong: values [n, runs] of 0, wrong, and 1, right, of the same n rows."""
    our, their = 1 - ours.mean(axis=1), 1 - theirs.mean(axis=1)
    both, our_errors, their_errors, n = float(our @ their), float(our.sum()), float(their.sum()), len(our)
    either, by_chance = our_errors + their_errors - both, our_errors * their_errors / n
    return Overlap(
        only_theirs=their_errors - both,
        only_ours=our_errors - both,
        both=both,
        neither=n - either,
        common=both / either if either else np.nan,
        common_if_independent=by_chance / (our_errors + their_errors - by_chance) if either else np.nan,
    )


def ranks(values: Sequence[Array], clusters: NDArray[np.integer], *, seed: int = 0) -> list[Rank]:
    """The rank of each of m models by its mean; equal means share the better one.

    `values` holds one array [n, runs] a model, all finite, of the same n rows. A model's best rank comes after all that
    are told to be above it, its worst before all told to be below, by `paired_p`, Holm over all pairs, at
    5 %. So models that are equal share their ranks, which percentiles of resampled ranks would deny (Mogstad, Romano,
    Shaikh and Wilhelm, Review of Economic Studies 91, 2024).
    """
    means = np.array([float(units.mean()) for units in values])
    told = apart(values, clusters, seed=seed) < 1 - LEVEL
    above = means > means[:, None] + _ROUNDING
    return [
        Rank(1 + int(higher.sum()), 1 + int((higher & units).sum()), len(means) - int((lower & units).sum()))
        for higher, lower, units in zip(above, above.T, told, strict=True)
    ]


def apart(values: Sequence[Array], clusters: NDArray[np.integer], *, seed: int = 0) -> Array:
    """The p [m, m] that two of m models are equal: `paired_p`, Holm over all pairs; 1 on the diagonal.

    `values` holds one array [n, runs] a model, of the same n rows; what is not finite is told from nothing.
    """
    clusters = np.unique(clusters, return_inverse=True)[1]
    pairs = list(combinations(range(len(values)), 2))
    if all(rows.shape[1] == 1 for rows in values):
        sums = [_summed(rows[:, 0], clusters) for rows in values]
        scale = max((float(np.abs(rows).max(initial=0.0)) for rows in values), default=0.0)
        p_values = sign_flip_ps([_unrounded(sums[i] - sums[j], scale) for i, j in pairs], seed=seed)
    else:
        p_values = [paired_p(values[i], values[j], clusters, seed=seed) for i, j in pairs]
    p_matrix: Array = np.ones((len(values), len(values)))
    for (i, j), p in zip(pairs, holm(p_values), strict=True):
        p_matrix[i, j] = p_matrix[j, i] = p
    return p_matrix


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down adjustment of [m] p values, in their order: an error rate of the whole family.

    nan, where nothing was tested, stays nan and is none of the family.
    """
    adjusted, floor = [np.nan] * len(p_values), 0.0
    tested = [index for index, p in enumerate(p_values) if not np.isnan(p)]
    for rank, index in enumerate(sorted(tested, key=lambda i: p_values[i])):
        floor = max(floor, min(1.0, (len(tested) - rank) * p_values[index]))
        adjusted[index] = floor
    return adjusted


def tiers(values: Sequence[float], apart: Array) -> list[tuple[int, float | None]]:
    """Tier (from 1) of each of m models, and the p that put it there, None for the best of its tier.

    The highest of `values` [m] leads the first tier, with all that `apart` [m, m] (see there) does not tell from it at
    5 %; the best of the rest leads the next, by the same p. So a leader that was chosen by looking is tested as such:
    of models that are all equal a second tier is seen in at most 5 % of samples. Two members of a tier may still
    differ: what they share is the leader.
    """
    places: list[tuple[int, float | None]] = [(0, None)] * len(values)
    waiting, tier = sorted(range(len(values)), key=lambda i: -values[i]), 0
    while waiting:
        tier += 1
        leader, *others = waiting
        places[leader] = tier, None
        places = [(tier, float(apart[leader, i])) if i in others and apart[leader, i] >= 1 - LEVEL else place
                 for i, place in enumerate(places)]  # fmt: skip
        waiting = [i for i in others if apart[leader, i] < 1 - LEVEL]
    return places


def _are_single(ours: Array, theirs: Array) -> bool:
    return (ours.shape[1], theirs.shape[1]) == (1, 1)


def _variance(rows: Array, clusters: NDArray[np.integer], sides: Sequence[Array]) -> tuple[float, float]:
    """The variance of the mean of `rows` [n], over clusters and over the runs of `sides` [n, runs] each, and its
    degrees of freedom (Satterthwaite, 1946); nan with one cluster.
    """
    c = int(clusters.max(initial=-1)) + 1
    if c < 2:
        return np.nan, np.nan
    over_clusters = variance_of_mean(rows, clusters.astype(np.intp))
    repeated = [side for side in sides if side.shape[1] > 1]
    of_runs = [(float(side.mean(axis=0).var(ddof=1)) / side.shape[1], side.shape[1] - 1) for side in repeated]
    over_runs = sum(part for part, _ in of_runs) - sum(_interaction(side, clusters) for side in repeated)
    if over_runs <= 0:
        return over_clusters, float(c - 1)
    total = over_clusters + over_runs
    uncertainty = over_clusters**2 / (c - 1) + sum(part**2 / freedom for part, freedom in of_runs)
    return total, max(total**2 / uncertainty, float(min(freedom for _, freedom in of_runs)))


def _interaction(values: Array, clusters: NDArray[np.integer]) -> float:
    """The part of the variance of the mean of `values` [n, runs] that belongs to neither clusters nor runs."""
    apart = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    residuals = np.stack([_summed(run, clusters) for run in apart.T])
    runs, c = residuals.shape
    mean_square = float(np.square(residuals).sum()) / ((c - 1) * (runs - 1))
    return float(c * mean_square / (runs * len(values) ** 2))


def _two_more_rows(rows: Array, clusters: NDArray[np.integer]) -> float:
    """What a row won and a row lost add to the variance of the mean of `rows` [n], times the design effect.

    Where rows do not differ the design effect cannot be seen and is the mean size of a cluster, its most.
    """
    apart = rows - rows.mean()
    alone, together = float(apart @ apart), _summed(apart, clusters)
    effect = max(1.0, float(together @ together) / alone) if alone > 0 else len(rows) / len(together)
    return 2 * effect / len(rows) ** 2


def _summed(rows: Array, clusters: NDArray[np.integer]) -> Array:
    """The sum [c] of the rows [n] of each cluster."""
    return np.bincount(clusters, weights=rows, minlength=1).astype(float)
