"""Do models err together, and more than the difficulty of the examples explains?

Two models: `phi` and `kappa` of their errors. Several: Pesaran's CD, the sum of all correlations between the models'
errors over its standard error were they independent (Pesaran, General Diagnostic Tests for Cross Section Dependence in
Panels, 2004; Econometric Reviews 34, 2015).

Models err together because some examples are hard for all: a common factor. CD of what a first principal component
leaves is biased downwards by sqrt(t / 2), since with the component taken off residuals have to sum to little; CD* puts
that right (Pesaran and Xie, A Bias-Corrected CD Test for Error Cross-Sectional Dependence in Panel Data Models with
Latent Factors, 2021). With loadings g [n] and SDs s [n] of what is left,

    a_i = 1 - s_i g_i mean(g / s) / mean(g^2),   theta = 1 - mean(a^2),   CD* = (CD + sqrt(t / 2) theta) / (1 - theta)

is normal where models are many, loadings differ and curves are lines: it says nothing where theta is near 1, as it is
for few models that find the same examples hard. Of simulated panels whose dependence is one factor the normal p is
below .05 for 6 to 8 % with 20 to 60 models and numbers, but for all with 8 models and errors of 0 and 1 (500 examples).
For those there is a null that is no limit: `Difficulty`, one factor of any
distribution with a logistic curve a model, and labels of which some are wrong. Its draws give CD* a p, and each pair of
models what their errors have in common beyond difficulty, from five models on (with fewer, one factor explains any
correlations, or nearly). Where most models are of one family, what is hard for that family is the difficulty.

A panel is [t, n]: t examples, n models. Examples are taken as independent given their difficulty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from rmbench.metrics.interval import Statistic
from rmbench.types import Array

FEWEST = 5  # models: of four, 6 correlations are left 2 degrees of freedom, and a pair's p is too small
_STEPS, _NEWTON = 100, 3
_NODES = 21
_STEEPEST, _FURTHEST = 8.0, 12.0
_ENTRIES = 1 << 21  # numbers held at once: 16 MiB
_SETTLED = 1e-4
_PRIOR = 10  # examples' worth of a normal difficulty
_MISLABELLED, _MOST_MISLABELLED = 0.02, 0.3  # at first, and at most: beyond, it is the models that are wrong


@dataclass(frozen=True, slots=True)
class CrossDependence:
    """CD of a panel as it is, `cd_left` of what a common factor leaves, and CD*, with the `theta` of its correction.

    `cd_p` and `star_p` are two-sided, by the normal limit; nan where there is none.
    """

    cd: float
    cd_p: float
    cd_left: float
    star: float
    star_p: float
    theta: float


@dataclass(frozen=True, slots=True)
class Beyond:
    """What n models' errors have in common beyond difficulty.

    `star_p` is the p of CD* by draws of the fitted `Difficulty`, two-sided. `correlation` [n, n] is by how much phi of
    two models exceeds what one factor leaves it, less what the same is on average in the draws, and `p` [n, n] its
    two-sided p, of one pair; nan on the diagonal and with fewer than five models.
    """

    star_p: float
    correlation: Array
    p: Array


def phi(name: str, first: Array, second: Array) -> Statistic:
    """Pearson's correlation of two models' errors [n], each 0 or 1: of 2 x 2 counts, phi. nan where one never errs.

    In simulation 95 % intervals, of kappa too, hold the truth in 92 to 95 %, and in 90 % of 60 examples with 12 errors.
    """
    columns = np.stack([np.ones(len(first)), first, second, first * second], axis=1)
    return Statistic(
        name,
        columns,
        _phi,
        title="Correlation of errors",
        unit="phi",
        bounds=(-1.0, 1.0),
        caveat="grows with what is hard for all; cannot reach 1 where error rates differ",
    )


def kappa(name: str, first: Array, second: Array) -> Statistic:
    """Cohen's kappa of two models being right or wrong [n], each 0 or 1; nan where chance alone agrees always."""
    columns = np.stack([np.ones(len(first)), first, second, first * second], axis=1)
    return Statistic(
        name,
        columns,
        _kappa,
        title="Agreement on what is wrong, beyond chance",
        unit="kappa",
        bounds=(-1.0, 1.0),
        caveat="chance is of the two error rates alone, not of difficulty",
    )


def cross_dependence(panel: Array) -> CrossDependence:
    """CD and CD*, with one common factor, of a panel [t, n]; all nan where a column is constant.

    Of fewer than four models there is no CD*: a factor takes all, or nearly, of what they have in common.
    """
    from scipy.special import ndtr

    cd = float(_cd(panel))
    if panel.shape[1] < FEWEST - 1:
        return CrossDependence(cd, float(2 * ndtr(-abs(cd))), np.nan, np.nan, np.nan, np.nan)
    left, star, theta = (float(value) for value in _star(panel))
    return CrossDependence(cd, float(2 * ndtr(-abs(cd))), left, star, float(2 * ndtr(-abs(star))), theta)


@dataclass(frozen=True, slots=True)
class Difficulty:
    """n models' errors, given one difficulty d an example: independent, with log-odds `levels` + `slopes` d, no slope
    below 0. d is each of the nodes of a normal's quadrature with the chance `weights` [q]; of a share `mislabelled` of
    the examples the label is the wrong one, so that whoever errs is right.
    """

    levels: Array
    slopes: Array
    mislabelled: float = 0.0
    weights: Array = field(default_factory=lambda: _quadrature()[1])

    @classmethod
    def of(cls, wrong: Array) -> Difficulty:
        """The model of most likelihood for errors [t, n] of 0 and 1, by EM (Bock and Aitkin, Psychometrika 46, 1981),
        levels and slopes drawn a little towards 0, so that it ends where a curve has no end, and weights towards a
        normal's."""
        nodes, normal = _quadrature()
        patterns, counts = np.unique(wrong, axis=0, return_counts=True)
        t, n = len(wrong), wrong.shape[1]
        rates = np.clip(wrong.mean(axis=0), 0.5 / t, 1 - 0.5 / t)
        fitted = cls(np.log(rates / (1 - rates)), np.ones(n), _MISLABELLED)
        for _ in range(_STEPS):
            before, (truly, turned) = fitted, fitted._shares(patterns, nodes)
            truly, turned = truly * counts[:, None], turned * counts[:, None]
            there, errors = (truly + turned).sum(axis=0), patterns.T @ truly + (1 - patterns).T @ turned
            levels, slopes = _curves(before.levels, before.slopes, there, errors, nodes)
            mislabelled = float(np.clip(turned.sum() / t, 1e-6, _MOST_MISLABELLED))
            fitted = cls(levels, slopes, mislabelled, (there + _PRIOR * normal) / (t + _PRIOR))
            if max(np.abs(levels - before.levels).max(), np.abs(slopes - before.slopes).max()) < _SETTLED:
                break
        return fitted

    def _shares(self, patterns: Array, nodes: Array) -> tuple[Array, Array]:
        """How likely each difficulty is given each of `patterns` [u, n]: with the label right [u, q], and wrong."""
        odds = self.levels[:, None] + self.slopes[:, None] * nodes
        wrong, right = -np.logaddexp(0, -odds), -np.logaddexp(0, odds)
        truly = patterns @ wrong + (1 - patterns) @ right + np.log(self.weights * (1 - self.mislabelled))
        turned = patterns @ right + (1 - patterns) @ wrong + np.log(self.weights * self.mislabelled)
        largest = np.maximum(truly.max(axis=1), turned.max(axis=1))[:, None]
        truly, turned = np.exp(truly - largest), np.exp(turned - largest)
        total = (truly + turned).sum(axis=1)[:, None]
        return truly / total, turned / total

    def draws(self, t: int, count: int, seed: int) -> Iterator[Array]:
        """`count` panels of `t` examples, in blocks [some, t, n]."""
        rng, nodes = np.random.default_rng(seed), _quadrature()[0]
        most = max(1, _ENTRIES // (t * len(self.levels)))
        for start in range(0, count, most):
            block = (min(most, count - start), t, 1)
            odds = self.levels + self.slopes * rng.choice(nodes, block, p=self.weights)
            turned = rng.random(block) < self.mislabelled
            yield ((rng.random(odds.shape) < 1 / (1 + np.exp(-odds))) != turned).astype(float)


def beyond_difficulty(wrong: Array, *, draws: int = 400, seed: int = 0) -> Beyond:
    """What errors [t, n] of 0 and 1 have in common beyond difficulty, against `draws` of the difficulty fitted to them.

    Of a pair of models it is phi less the product of two loadings, those of the one factor that is nearest to all phi
    (least squares off the diagonal), which leaves something where curves are no lines; what the draws leave on average
    is taken off, and their SD gives the p. All nan where a model never errs, always does, or there are fewer than four.
    """
    from scipy.special import ndtr

    n = wrong.shape[1]
    nothing = np.full((n, n), np.nan)
    if n < FEWEST - 1 or not (wrong.std(axis=0) > 0).all():
        return Beyond(np.nan, nothing, nothing)
    star, left = float(_star(wrong)[1]), _left_of_factor(_correlations(wrong))
    stars, lefts = list[Array](), list[Array]()
    for panels in Difficulty.of(wrong).draws(len(wrong), draws, seed):
        stars.append(_star(panels)[1])
        lefts.append(_left_of_factor(_correlations(panels)))
    drawn, over = np.concatenate(stars), np.concatenate(lefts)
    drawn = drawn[np.isfinite(drawn)]
    above, below = (1 + np.count_nonzero(drawn >= star)), (1 + np.count_nonzero(drawn <= star))
    star_p = min(1.0, 2 * min(above, below) / (len(drawn) + 1))
    if n < FEWEST:
        return Beyond(star_p, nothing, nothing)
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.where(np.eye(n, dtype=bool), np.nan, left - np.nanmean(over, axis=0))
        p = 2 * ndtr(-np.abs(excess) / np.nanstd(over, axis=0))
    return Beyond(star_p, excess, p)


def _phi(sums: Array) -> Array:
    n, one, other, both = np.moveaxis(sums, -1, 0)
    spread = one * (n - one) * other * (n - other)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(spread > 0, (n * both - one * other) / np.sqrt(spread), np.nan))


def _kappa(sums: Array) -> Array:
    n, one, other, both = np.moveaxis(sums, -1, 0)
    agree = n - one - other + 2 * both
    chance = (one * other + (n - one) * (n - other)) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(chance < n, (agree - chance) / (n - chance), np.nan))


def _cd(panels: Array) -> Array:
    """CD [...] of panels [..., t, n]."""
    t, n = panels.shape[-2:]
    pairs = np.triu_indices(n, 1)
    correlations = _correlations(panels)[..., pairs[0], pairs[1]]
    return np.asarray(np.sqrt(2 * t / (n * (n - 1))) * correlations.sum(axis=-1))


def _star(panels: Array) -> tuple[Array, Array, Array]:
    """CD of what the first principal component leaves of panels [..., t, n], CD* and its theta; [...] each."""
    apart = panels - panels.mean(axis=-2, keepdims=True)
    first = np.linalg.eigh(_turned(apart) @ apart)[1][..., -1:]
    factor = apart @ first
    loadings = _turned(apart) @ factor / np.square(factor).sum(axis=-2, keepdims=True)
    left = apart - factor @ _turned(loadings)
    loadings, sds = loadings[..., 0], left.std(axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_ratio = (loadings / sds).mean(axis=-1, keepdims=True)
        a = 1 - sds * loadings * mean_ratio / np.square(loadings).mean(axis=-1, keepdims=True)
        theta = 1 - np.square(a).mean(axis=-1)
        cd = _cd(left)
        return cd, np.asarray((cd + np.sqrt(panels.shape[-2] / 2) * theta) / (1 - theta)), np.asarray(theta)


def _correlations(panels: Array) -> Array:
    """Pearson's r [..., n, n] between the columns of panels [..., t, n]; nan with a constant one."""
    apart = panels - panels.mean(axis=-2, keepdims=True)
    sds = np.sqrt(np.square(apart).sum(axis=-2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(_turned(apart) @ apart / (sds[..., :, None] * sds[..., None, :]))


def _left_of_factor(correlations: Array) -> Array:
    """What one factor, of no negative loading, leaves of correlations [..., n, n] off the diagonal, where it is nearest
    to them."""
    n = correlations.shape[-1]
    between = correlations * (1 - np.eye(n))
    loadings = np.full(correlations.shape[:-1], 0.5)
    for _ in range(_STEPS):
        squares = np.square(loadings)
        others = np.maximum(squares.sum(axis=-1, keepdims=True) - squares, 1e-12)
        nearest = (between @ loadings[..., None])[..., 0] / others
        loadings = np.clip((loadings + nearest) / 2, 0.0, 1.0)  # half a step, which does not swing
    return np.asarray(between - loadings[..., :, None] * loadings[..., None, :] * (1 - np.eye(n)))


def _curves(levels: Array, slopes: Array, there: Array, wrong: Array, nodes: Array) -> tuple[Array, Array]:
    """Levels and slopes [n] of more likelihood, `wrong` [n, q] of `there` [q] examples being wrong at each node."""
    for _ in range(_NEWTON):
        rates = 1 / (1 + np.exp(-(levels[:, None] + slopes[:, None] * nodes)))
        errors, weights = wrong - there * rates, there * rates * (1 - rates)
        up, along = errors.sum(axis=1) - 1e-3 * levels, errors @ nodes - 1e-2 * slopes
        h, cross, square = weights.sum(axis=1) + 1e-3, weights @ nodes, weights @ np.square(nodes) + 1e-2
        determinant = h * square - cross * cross
        levels = np.clip(levels + (square * up - cross * along) / determinant, -_FURTHEST, _FURTHEST)
        slopes = np.clip(slopes + (h * along - cross * up) / determinant, 0.0, _STEEPEST)
    return levels, slopes


def _quadrature() -> tuple[Array, Array]:
    """Nodes and weights [q] of a standard normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return nodes, weights / weights.sum()


def _turned(panels: Array) -> Array:
    return np.asarray(np.swapaxes(panels, -1, -2))
