"""How far probabilities are from what happens: calibration error, Brier score, log loss, reliability table.

All functions take rows: `p` [n] in [0, 1], `y` [n] in [0, 1] (1 where it happened, 0 where not; anything between is
that much of each, as for a tie), `weight` [n] above 0, and `clusters` [n], the number of each row's cluster, from 0.
Rows of a cluster may depend on one another in any way.

With weights that sum to 1, in bin b and cluster c: u_cb is the sum of weight * (y - p), m_cb that of weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.interval import LEVEL, Estimate, wilson_interval
from rmbench.types import Array

BINS = 15
CLUSTERS_A_BIN = 20
POINT_CLUSTERS = 200  # below it an error by itself is a toss of a coin, and its interval is what there is to say
SAME = 1e-12  # of what is no further apart it is rounding that makes a difference

Codes = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class ConfidenceBin:
    """Rows of like probability: weighted mean of p and y, the latter with a 95 % interval over clusters."""

    predicted: float
    observed: float
    ci_low: float
    ci_high: float
    n: int


def figures(p: Array, y: Array, weight: Array, clusters: Codes, folds: Codes | None = None) -> list[Estimate]:
    """`ece`, `ece_l1`, `brier` and its parts `reliability`, `resolution` and `uncertainty`.

    `folds` [n] says which map p is from where there are several, each fitted on the other folds; a cluster is in one.

    The squared calibration error is the part of the Brier score that a better map could take away:

        reliability = sum_b m_b (sum_cd u_cb u_db) / (sum_cd m_cb m_db)     over clusters c != d of the same fold

    Chance does not raise it, because rows of one cluster are never multiplied, and rows of different folds are not,
    because a row that raises its own fold's y raises p in the others. For calibrated p its mean is 0, and it may be
    negative. With one row a cluster and equal p in a bin it is the debiased estimate of Kumar, Liang and Ma (NeurIPS
    2019). `ece` is its square root (0 if negative), so a root mean square over bins; `ece_l1` is sum_b |u_b|, the
    plug-in that is commonly reported, which chance raises, so that it never reaches 0. Of calibrated rewards half of
    the draws have an `ece` of 0, and the rest whatever chance made of it: `POINT_CLUSTERS`.

    The mean absolute error is between the mean square and its root, as no gap is above 1. So the ends of its interval
    are the low end of reliability and the high end of ece: wider than it need be, and never too narrow.

    brier = reliability - resolution + uncertainty (Murphy, 1973) holds exactly: uncertainty is that of the mean of y,
    ybar (1 - ybar), and resolution is what is left. It has no interval: the obvious one covers too little wherever rows
    of one kind are few. Those of ece and reliability are score intervals, see `_squared_error`, that of brier is
    `_mean`'s, and that of uncertainty is what ybar (1 - ybar) takes as ybar moves through Wilson's.
    """
    share, code, count = _prepared(weight, clusters)
    blocks = list(_blocks(p, y, share, code, count, np.zeros(len(p), int) if folds is None else folds))
    error, low, high = _squared_error(blocks, count)
    squares = np.square(1 - p), np.square(p)
    brier = _mean("brier", _losses(*squares, y), _losses(*squares, 1 - y), share, code, count, most=1.0)
    observed = float(share @ y)
    uncertainty, n = observed * (1 - observed), len(p)
    resolution = error + uncertainty - brier.value
    plug_in = float(np.abs(sum(u.sum(axis=0) for u, _, _ in blocks)).sum())
    plug_in = plug_in if plug_in > SAME else 0.0
    return [
        Estimate("ece", _root(error), _root(low), _root(high), n, count),
        Estimate("ece_l1", plug_in, *_between(plug_in, np.maximum(low, 0.0), _root(high)), n, count),
        brier,
        Estimate("reliability", error, low, high, n, count),
        Estimate("resolution", resolution, np.nan, np.nan, n, count),
        Estimate("uncertainty", uncertainty, *_uncertainty_interval(*_wilson(y, share, code)), n, count),
    ]


def log_loss(logits: Array, y: Array, weight: Array, clusters: Codes) -> Estimate:
    """The mean of -y log p - (1 - y) log(1 - p), p being the sigmoid of `logits` [n]; `log_loss`."""
    share, code, count = _prepared(weight, clusters)
    either = np.logaddexp(0, -logits), np.logaddexp(0, logits)
    return _mean("log_loss", _losses(*either, y), _losses(*either, 1 - y), share, code, count)


def table(p: Array, y: Array, weight: Array, clusters: Codes) -> list[ConfidenceBin]:
    """The bins in rising order of p. Intervals are `wilson_interval`'s, weights scaled to their effective number."""
    share, code, count = _prepared(weight, clusters)
    bin_of = bins(p, share, count)
    order = np.argsort(bin_of, kind="stable")
    rows = []
    for inside in np.split(order, np.flatnonzero(np.diff(bin_of[order])) + 1):
        predicted, observed = (float(np.average(values[inside], weights=share[inside])) for values in (p, y))
        rows.append(ConfidenceBin(predicted, observed, *_wilson(y[inside], share[inside], code[inside]), len(inside)))
    return rows


def bins(p: Array, weight: Array, clusters: int) -> NDArray[np.intp]:
    """The bin of each row [n], from 0: of equal mass, rising in p; equal p share a bin, and no bin is empty.

    There are up to 15, one for each twenty clusters, since the mean of a bin that few clusters share says little.
    """
    most = max(1, min(BINS, clusters // CLUSTERS_A_BIN))
    of = alike(p, SAME)
    mass = np.bincount(of, weights=weight)
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    _, dense = np.unique(np.floor(most * middle), return_inverse=True)
    result: NDArray[np.intp] = dense[of]
    return result


def alike(values: Array, apart: float) -> NDArray[np.intp]:
    """The number [n] of each value's group, from 0, rising: values go together that no gap above `apart` divides."""
    distinct, of = np.unique(values, return_inverse=True)
    group: NDArray[np.intp] = np.cumsum(np.diff(distinct, prepend=distinct[:1]) > apart)
    return group[of]


_Block = tuple[Array, Array, Array]


def _blocks(p: Array, y: Array, share: Array, code: Codes, count: int, folds: Codes) -> Iterator[_Block]:
    """For each fold: u and m of its clusters [c, bins], and the least that the u of a bin may vary [bins].

    The least is what independent rows of chance (s + 1) / (c + 2) would have, with s successes or failures, whichever
    are fewer, among the c clusters that the bin has in effect: where all went well, one might have been different.
    """
    bin_of = bins(p, share, count)
    width = int(bin_of.max()) + 1
    everywhere = np.bincount(bin_of, weights=share)
    clusters = np.square(everywhere) / np.square(_by_cluster(share, code, bin_of, width)).sum(axis=0)
    happened = np.bincount(bin_of, weights=share * y) / everywhere
    chance = (clusters * np.minimum(happened, 1 - happened) + 1) / (clusters + 2)
    for fold in np.unique(folds):
        inside = folds == fold
        w, b = share[inside], bin_of[inside]
        local = _renumbered(code[inside])
        u = _by_cluster(w * (y[inside] - p[inside]), local, b, width)
        least = chance * (1 - chance) * np.bincount(b, weights=np.square(w), minlength=width)
        yield u, _by_cluster(w, local, b, width), least


def _squared_error(blocks: list[_Block], count: int) -> tuple[float, float, float]:
    """Reliability with the ends of its interval, over `count` clusters.

    It is a sum over pairs of clusters, of sum_b scale_b u_cb u_db, so its variance has a part that chance alone gives,
    twice the sum of squares of those products, and one that grows with the error itself: that of its linearisation.
    With the second written as error * slope, the interval holds the errors from which the estimate is no more than
    Student's quantile of standard deviations away, as Wilson's does for proportions.
    """
    gaps, masses = (np.array([block[at].sum(axis=0) for block in blocks]) for at in (0, 1))
    own_gaps, own_masses = (sum(np.square(block[at]).sum(axis=0) for block in blocks) for at in (0, 1))
    gap, mass, pairs = gaps.sum(axis=0), masses.sum(axis=0), np.square(masses).sum(axis=0) - own_masses
    several = pairs > SAME * np.square(mass)  # a bin with one cluster a fold says nothing of its own chance
    if not several.any():
        return np.nan, np.nan, np.nan
    scale = np.where(several, mass / np.where(several, pairs, 1.0), 0.0)
    plugged = float(scale @ np.square(gaps).sum(axis=0))
    error = plugged - float(scale @ own_gaps)

    first, chance = 0.0, 0.0
    freedom = count / max(count - len(mass), 1)
    for direction, (u, m, least) in zip(2 * scale * gaps, blocks, strict=True):
        centred = u - m * (gap / mass)
        first += float(direction @ _at_least(freedom * centred.T @ centred, least) @ direction)
        moments = _at_least(u.T @ u, least) * scale
        chance += 2 * float((moments * moments.T).sum() - np.square(np.square(u) @ scale).sum())
    z = _quantile(count)
    middle = error + z * z * (first / plugged if plugged > 0 else 0.0) / 2
    half = float(np.sqrt(np.maximum(0.0, middle * middle - error * error + z * z * chance)))
    low, high = middle - half, np.minimum(middle + half, 1.0)  # no probability is further than 1 from what happens
    return _told(error), _told(float(np.minimum(error, low))), _told(float(np.maximum(error, high)))


def _told(square: float) -> float:
    """A square whose root is more than rounding, or 0."""
    return 0.0 if abs(square) <= SAME**2 else square


def _at_least(covariance: Array, least: Array) -> Array:
    result = covariance.copy()
    np.fill_diagonal(result, np.maximum(np.diagonal(covariance), least))
    return result


def _losses(right: Array, wrong: Array, y: Array) -> Array:
    """The loss of each row [n], from what it would be if it happened and if not."""
    return y * right + (1 - y) * wrong


def _mean(
    name: str, losses: Array, flipped: Array, share: Array, code: Codes, count: int, most: float = np.inf
) -> Estimate:
    """The mean of `losses` [n]; its interval is Student's with two clusters more, one of them with y `flipped`.

    That is Agresti and Coull's idea (1998) for losses: where nearly all went well, the interval knows what it would
    have cost otherwise.
    """
    value, other = float(share @ losses), float(share @ flipped)
    middle = (count * value + value + other) / (count + 2)
    influence = _sums(share * (losses - middle), code, count) * count / (count + 2)
    parts = np.append(influence, np.array([value - middle, other - middle]) / (count + 2))
    half = _quantile(count) * float(np.sqrt((count + 2) / (count + 1) * np.square(parts).sum()))
    low, high = np.maximum(0.0, middle - half), np.minimum(most, middle + half)  # nan stays nan
    return Estimate(name, value, float(np.minimum(value, low)), float(np.maximum(value, high)), len(losses), count)


def _wilson(y: Array, weight: Array, code: Codes) -> tuple[float, float]:
    """`wilson_interval` of the mean of y, weights scaled to their effective number."""
    code = _renumbered(code)
    scaled = weight * (weight.sum() / np.square(weight).sum())
    count = int(code.max()) + 1
    low, high = wilson_interval(_sums(scaled * y, code, count), np.round(_sums(scaled, code, count), 9))
    return float(low), float(high)


def _uncertainty_interval(low: float, high: float) -> tuple[float, float]:
    """What x (1 - x) takes between `low` and `high`."""
    ends = low * (1 - low), high * (1 - high)
    return min(ends), 0.25 if low <= 0.5 <= high else max(ends)


def _prepared(weight: Array, clusters: Codes) -> tuple[Array, NDArray[np.intp], int]:
    """Weights that sum to 1, clusters numbered from 0, and how many there are."""
    code = _renumbered(clusters)
    return weight / weight.sum(), code, int(code.max()) + 1


def _renumbered(clusters: Codes) -> NDArray[np.intp]:
    """Numbers without gaps, in the same order; counting them beats sorting a million."""
    numbers = np.cumsum(np.bincount(clusters) > 0) - 1
    return numbers[clusters]


def _sums(values: Array, code: Codes, count: int) -> Array:
    return np.bincount(code, weights=values, minlength=count).astype(float)


def _by_cluster(values: Array, code: Codes, bin_of: Codes, width: int) -> Array:
    """Sums [clusters, width] of `values` [n]."""
    clusters = int(code.max()) + 1
    return _sums(values, code * width + bin_of, clusters * width).reshape(clusters, width)


def _quantile(clusters: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(clusters - 1, 0.5 + LEVEL / 2)) if clusters > 1 else np.nan


def _between(value: float, low: float, high: float) -> tuple[float, float]:
    """Ends that hold the value too; nan where there are none."""
    return float(np.minimum(value, low)), float(np.maximum(value, high))


def _root(value: float) -> float:
    return float(np.sqrt(np.maximum(0.0, value)))
