"""How far one figure goes with another over n models: correlations, a test, intervals and ranks for few models."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.interval import LEVEL
from rmbench.metrics.paired import Rank, holm
from rmbench.types import Array

MINIMUM = 6  # models; of fewer, two figures that have nothing to do with each other often correlate above .8
EXACT = 9  # models up to which every order is tried: 362,880
_PERMUTATIONS = 9_999
_DRAWS = 2_000
_ROUNDING = 1e-9


def pearson(x: Array, y: Array) -> float:
    """Pearson's r of two figures [n] of the same models; nan where one is constant."""
    return float(_pearson(x, y)) if len(x) > 1 else np.nan


def spearman(x: Array, y: Array) -> float:
    """Spearman's rho: Pearson's r of the ranks of x and y [n], ties sharing their mean rank; nan for a constant."""
    return pearson(_order(x).sum(axis=1), _order(y).sum(axis=1))


def kendall(x: Array, y: Array) -> float:
    """Kendall's tau-b (1945) of x and y [n]: agreeing less disagreeing pairs of models, over the geometric mean of the
    pairs that x and that y tell apart; nan for a constant.
    """
    a, b = _order(x), _order(y)
    pairs = float(np.sqrt(np.abs(a).sum() * np.abs(b).sum()))
    return float((a * b).sum()) / pairs if pairs else np.nan


def somers_d(independent: Array, dependent: Array) -> float:
    """Somers' D (American Sociological Review 27, 1962) of two figures [n]: agreeing less disagreeing pairs of models,
    over the pairs that the `independent` figure tells apart; nan where it is constant.

    With what is to be predicted as the independent figure it is 2c - 1, c being how often a predictor puts two models
    that do differ in the right order, a tie counting half (Newson, Stata Journal 2, 2002).
    """
    a, b = _order(independent), _order(dependent)
    pairs = float(np.abs(a).sum())
    return float((a * b).sum()) / pairs if pairs else np.nan


def permutation_p(x: Array, y: Array, *, seed: int = 0) -> float:
    """Two-sided p of Pearson's r of x and y [n]: how often a random order of y gives an r at least as far from 0.

    Exact up to nine models; else from 9,999 seeded orders, the data counting as one more, so that p is never 0 (Phipson
    and Smyth, Stat. Appl. Genet. Mol. Biol. 9, 2010). nan where r is.
    """
    observed = abs(pearson(x, y))
    if np.isnan(observed):
        return np.nan
    a, b = ((values - values.mean()) / (values.std() * np.sqrt(len(values))) for values in (x, y))
    if len(x) <= EXACT:
        return float(np.mean(np.abs(b[_orders(len(x))] @ a) >= observed - _ROUNDING))
    orders = np.random.default_rng(seed).permuted(np.tile(b, (_PERMUTATIONS, 1)), axis=1)
    beyond = int(np.count_nonzero(np.abs(orders @ a) >= observed - _ROUNDING))
    return (beyond + 1) / (_PERMUTATIONS + 1)


def correlation_interval(x: Array, y: Array, x_error: Array, y_error: Array, *, seed: int = 0) -> tuple[float, float]:
    """Low and high end of the 95 % interval of Pearson's r of x and y [n]; nan where leaving out a model leaves none.

    On Fisher's scale, z = artanh r, with a variance of two parts. That over models is the jackknife's, but at least
    1 / (n - 3), Fisher's for normal figures: the jackknife sees heavy tails and outliers, of which Fisher knows
    nothing, and Fisher what too few models hide from the jackknife. That of the figures themselves is the variance of z
    when each is drawn anew from a normal around it with its standard error, `x_error` and `y_error` [n], 0 where it is
    unknown. The interval is about r of figures as noisy as these: noise also pulls r towards 0, which is not undone.

    In simulation (normal and t(5) figures; n = 6, 9, 13, 30; rho = 0, .5, .9) it covers 94 to 98 %; percentiles of
    resampled models cover 84 to 94, BCa 88 to 97, Fisher's variance alone 87 to 97; with figures as noisy as half
    the spread of the models, 97 to 99 % of r as noisy.
    """
    rng = np.random.default_rng(seed)
    return drawn_interval(x, y, _drawn(x, x_error, rng), _drawn(y, y_error, rng))


def rank_interval(x: Array, y: Array, x_error: Array, y_error: Array, *, seed: int = 0) -> tuple[float, float]:
    """The same of Spearman's rho; its least variance over models is (1 + rho^2 / 2) / (n - 3) (Bonett and Wright,
    Psychometrika 65, 2000).

    In simulation (normal figures; n = 6, 7, 9, 13, 30; rho = 0, .5, .9) it covers 97 to 99 %.
    """
    rng = np.random.default_rng(seed)
    return drawn_rank_interval(x, y, _drawn(x, x_error, rng), _drawn(y, y_error, rng))


def drawn_interval(x: Array, y: Array, x_drawn: Array, y_drawn: Array) -> tuple[float, float]:
    """The interval of `correlation_interval` for figures [n] that were drawn anew [draws, n], in whatever way."""
    if len(x) < 4:
        return np.nan, np.nan
    kept = _without_one(len(x))
    over_models = max(_jackknife(_fisher(x[kept], y[kept])), 1 / (len(x) - 3))
    return _interval(float(_fisher(x, y)), over_models, _fisher(x_drawn, y_drawn))


def drawn_rank_interval(x: Array, y: Array, x_drawn: Array, y_drawn: Array) -> tuple[float, float]:
    """The interval of `rank_interval` for figures [n] that were drawn anew [draws, n], in whatever way."""
    if len(x) < 4:
        return np.nan, np.nan
    kept, centre = _without_one(len(x)), float(_rank_fisher(x, y))
    least = (1 + np.tanh(centre) ** 2 / 2) / (len(x) - 3)
    over_models = max(_jackknife(_rank_fisher(x[kept], y[kept])), float(least))
    return _interval(centre, over_models, _rank_fisher(x_drawn, y_drawn))


def _interval(centre: float, over_models: float, drawn: Array) -> tuple[float, float]:
    """Both ends around a z, from its variance over models and its draws; a draw in which a figure is constant tells
    nothing.
    """
    from scipy.special import ndtri

    told = drawn[np.isfinite(drawn)]
    half = float(ndtri(0.5 + LEVEL / 2)) * np.sqrt(over_models + (float(np.var(told)) if len(told) else 0.0))
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))


def same_correlation_p(
    first: Array, second: Array, y: Array, first_error: Array, second_error: Array, y_error: Array, *, seed: int = 0
) -> float:
    """Two-sided p that two figures [n] of the same models correlate alike with y [n]; nan where r is, or n < 4.

    The difference on Fisher's scale over its standard error, whose variance over models is the jackknife's, but at
    least that of Meng, Rosenthal and Rubin (Psychological Bulletin 111, 1992) for normal figures; errors as in
    `correlation_interval`.
    """
    from scipy.special import ndtr

    if len(y) < 4:
        return np.nan
    apart = float(_fisher(first, y) - _fisher(second, y))
    kept = _without_one(len(y))
    jackknifed = _jackknife(_fisher(first[kept], y[kept]) - _fisher(second[kept], y[kept]))
    rng = np.random.default_rng(seed)
    noisy = _drawn(y, y_error, rng)
    drawn = _fisher(_drawn(first, first_error, rng), noisy) - _fisher(_drawn(second, second_error, rng), noisy)
    error = float(np.sqrt(max(jackknifed, _meng(first, second, y)) + np.var(drawn)))
    if np.isnan(apart) or np.isnan(error):
        return np.nan
    if abs(apart) < _ROUNDING:
        return 1.0
    return float(2 * ndtr(-abs(apart) / error)) if error > 0 else 0.0


def predictive_ranks(predictors: Sequence[Array], errors: Sequence[Array], y: Array, y_error: Array) -> list[Rank]:
    """The rank of each of m figures [n] by its r with y [n], the highest first; equal ones share the better rank.

    A model without a figure is nan in it. A figure's best rank comes after all that are told to correlate higher, its
    worst before all told to correlate lower, by `same_correlation_p` over the models that both have, Holm over all
    pairs, at 5 %; with too few models in common nothing is told (as `paired.ranks`, after Mogstad et al., 2024).
    Raises ValueError where an r is nan.
    """
    m, has = len(predictors), [np.isfinite(x) for x in predictors]
    values = np.array([pearson(x[present], y[present]) for x, present in zip(predictors, has, strict=True)])
    if np.isnan(values).any():
        raise ValueError("a figure without a correlation has no rank")
    pairs = [(i, j) for i in range(m) for j in range(i)]
    ranks = []
    for i, j in pairs:
        k = has[i] & has[j]
        p = same_correlation_p(predictors[i][k], predictors[j][k], y[k], errors[i][k], errors[j][k], y_error[k])
        ranks.append(p if k.sum() >= MINIMUM and not np.isnan(p) else 1.0)
    told = np.zeros((m, m), dtype=bool)
    for (i, j), p in zip(pairs, holm(ranks), strict=True):
        told[i, j] = told[j, i] = p < 1 - LEVEL
    above = values > values[:, None] + _ROUNDING
    return [
        Rank(1 + int(higher.sum()), 1 + int((higher & counts).sum()), m - int((lower & counts).sum()))
        for higher, lower, counts in zip(above, above.T, told, strict=True)
    ]


def _pearson(x: Array, y: Array) -> Array:
    """Pearson's r [...] of x and y [..., n] along their last axis, nan where one is constant."""
    x, y = (values - values.mean(axis=-1, keepdims=True) for values in (_or_nan(x), _or_nan(y)))
    products = np.einsum("...i,...i->...", x, y)
    sizes = np.einsum("...i,...i->...", x, x) * np.einsum("...i,...i->...", y, y)
    result: Array = np.clip(products / np.sqrt(sizes), -1.0, 1.0)
    return result


def _or_nan(values: Array) -> Array:
    """Values [..., n], nan where all of a row are the same: rounding would leave them a spread of their own."""
    constant = np.ptp(values, axis=-1, keepdims=True) == 0
    return np.where(constant, np.nan, values) if constant.any() else values


def _fisher(x: Array, y: Array) -> Array:
    """Fisher's z of Pearson's r, finite where r is 1."""
    result: Array = np.arctanh(np.clip(_pearson(x, y), _ROUNDING - 1, 1 - _ROUNDING))
    return result


def _rank_fisher(x: Array, y: Array) -> Array:
    """Fisher's z [...] of Spearman's rho; a rho of 1 counts as half way to the next that so many models can have."""
    n = x.shape[-1]
    most = 1 - 6 / (n * (n * n - 1))
    result: Array = np.arctanh(np.clip(_pearson(_ranked(x), _ranked(y)), -most, most))
    return result


def _ranked(values: Array) -> Array:
    """The ranks [..., n] of values along their last axis, ties sharing their mean rank."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(values, axis=-1))


def _order(values: Array) -> Array:
    """1, 0, -1 [n, n] where the first of two models has more, as much, less."""
    result: Array = np.sign(values[:, None] - values)
    return result


def _without_one(n: int) -> NDArray[np.intp]:
    """The models [n, n - 1] that are left without each of n."""
    return np.array([np.delete(np.arange(n), i) for i in range(n)])


def _jackknife(values: Array) -> float:
    """The jackknife's variance, from the figure [n] without each of the models (Efron and Stein, 1981)."""
    return float((len(values) - 1) * values.var())


def _drawn(values: Array, error: Array, rng: np.random.Generator) -> Array:
    """Draws [draws, n] around values [n] with their standard errors [n]; one draw where none of these is known."""
    if not error.any():
        return values[None]
    return values + error * rng.standard_normal((_DRAWS, len(values)))


def _meng(first: Array, second: Array, y: Array) -> float:
    """The variance of a difference between Fisher's z of normal figures that correlate with each other."""
    square = (pearson(first, y) ** 2 + pearson(second, y) ** 2) / 2
    apart = 1 - pearson(first, second)
    if square >= 1:
        return 0.0
    f = min(1.0, apart / (2 * (1 - square)))
    return 2 * apart * (1 - f * square) / (1 - square) / (len(y) - 3)


@lru_cache(maxsize=2)
def _orders(n: int) -> NDArray[np.int8]:
    """Every order [n!, n] of n models."""
    orders = np.zeros((1, 1), dtype=np.int8)
    for last in range(1, n):
        orders = np.concatenate([np.insert(orders, place, last, axis=1) for place in range(last + 1)])
    return orders
