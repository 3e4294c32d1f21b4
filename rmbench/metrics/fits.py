"""How one figure of n models follows another: the mean alone, a line, a line of probits, a parabola; which to take.

    mean        y = a: the other figure says nothing
    line        y = a + b x
    probit      y = a + b z(x), z the quantile of a standard normal, for a metric that is a share; where y is a share
                too, z(y) = a + b z(x), as for "accuracy on the line" (Miller et al., ICML 2021)
    parabola    y = a + b x + c x^2

All are least squares. Two things choose: AICc, Akaike's criterion corrected for few rows (Hurvich and Tsai, Biometrika
76, 1989), and the error of foretelling each model from the others. AICc is of the density of y itself: one of z(y) is
multiplied by dz/dy, or the forms would not be of the same data. Weights, and what is known of how noisy each figure is,
are not used.

A share of 0 or 1 has no probit. Where the number of its trials is known it is moved by half a trial, to 1 / (2 n) or
1 - 1 / (2 n) (Macmillan and Kaplan, Psychological Bulletin 98, 1985), and counted; else there is no line of probits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rmbench.types import Array

Form = Literal["mean", "line", "probit", "parabola"]
FORMS: tuple[Form, ...] = ("mean", "line", "probit", "parabola")
_COEFFICIENTS = {"mean": 1, "line": 2, "probit": 2, "parabola": 3}
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Share:
    """That a figure [n] is a share of `whole`, 1 or 100, each of so many `trials` [n], nan where unknown."""

    whole: float
    trials: Array


@dataclass(frozen=True, slots=True)
class Fit:
    """One form fitted to n models.

    `coefficients` are a, b and c of the form. `error` is the root mean square of what it leaves, `left_out_error` that
    of foretelling each model from the others, both in the unit of y; nan where a model decides a coefficient alone.
    `aicc` is inf where n is too small for it. `weight` is Akaike's: how much of the evidence among the forms fitted is
    for this one. `moved` is how many shares of 0 or 1 were moved.
    """

    form: Form
    coefficients: tuple[float, ...]
    error: float
    left_out_error: float
    aicc: float
    weight: float = math.nan
    moved: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """Every form that can be fitted, which of them AICc takes and which has the least error of models left out.

    `reasons` say of the other forms why they were not fitted.
    """

    fits: tuple[Fit, ...]
    by_aicc: Form
    by_left_out: Form
    reasons: dict[Form, str]

    def of(self, form: Form) -> Fit:
        """The fit of a form. Raises KeyError where it was not fitted."""
        return {fit.form: fit for fit in self.fits}[form]


def choose(x: Array, y: Array, x_share: Share | None = None, y_share: Share | None = None) -> Choice:
    """Every form of y [n] on x [n], all finite, and the choice among them; a form of no use for n models is not fitted.

    Raises ValueError where all x, or all y, are the same, which leaves nothing to choose.
    """
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        raise ValueError("a constant figure follows nothing, and nothing follows it")
    fits, reasons = list[Fit](), dict[Form, str]()
    for form in FORMS:
        made = _probit(x, y, x_share, y_share) if form == "probit" else _polynomial(form, x, y)
        if isinstance(made, str):
            reasons[form] = made
        else:
            fits.append(made)
    weighed = _weighed(fits)
    least = min(weighed, key=lambda fit: fit.aicc)
    foretells = min(weighed, key=lambda fit: math.inf if math.isnan(fit.left_out_error) else fit.left_out_error)
    return Choice(tuple(weighed), least.form, foretells.form, reasons)


def predicted(fit: Fit, x: Array, x_share: Share | None = None, y_share: Share | None = None) -> Array:
    """What a fit says of y at x [m], with the shares that it was made with."""
    from scipy.special import ndtr

    if fit.form != "probit":
        return np.polynomial.Polynomial(fit.coefficients)(np.asarray(x, float)) + np.zeros(len(x))
    if x_share is None:
        raise ValueError("a line of probits is of shares; expected the share that it was fitted with")
    line = fit.coefficients[0] + fit.coefficients[1] * probits(x, x_share)[0]
    return np.asarray(line if y_share is None else y_share.whole * ndtr(line))


def probits(values: Array, share: Share) -> tuple[Array, int]:
    """The normal quantile [n] of each share in `values` [n], and how many stood at 0 or 1 and were moved.

    nan where such a one is of an unknown number of trials. Raises ValueError for what is no share.
    """
    from scipy.special import ndtri

    fractions = np.asarray(values, float) / share.whole
    if not ((fractions >= 0) & (fractions <= 1)).all():
        raise ValueError(f"expected shares from 0 to {share.whole:g}, got {values!r}")
    at_an_end = (fractions == 0) | (fractions == 1)
    half_a_trial = 1 / (2 * share.trials)
    moved = np.where(fractions == 0, half_a_trial, np.where(fractions == 1, 1 - half_a_trial, fractions))
    return np.asarray(ndtri(moved)), int(at_an_end.sum())


def line_from(n: int) -> float:
    """From which |r| on AICc takes a line over the mean for n models; nan where n is too small for a line."""
    return math.sqrt(1 - _least_gain(n, 1)) if n > 4 else math.nan


def parabola_from(n: int) -> float:
    """Which part of a line's sum of squares a parabola may leave for AICc to take it, of n models; nan below 6."""
    return _least_gain(n, 2) if n > 5 else math.nan


def _least_gain(n: int, coefficients: int) -> float:
    """What one coefficient more has to leave of the sum of squares, so that AICc is lower."""
    return math.exp((_penalty(n, coefficients) - _penalty(n, coefficients + 1)) / n)


def _penalty(n: int, coefficients: int) -> float:
    """What AICc adds for so many coefficients and the variance."""
    k = coefficients + 1
    return math.inf if n <= k + 1 else 2 * k + 2 * k * (k + 1) / (n - k - 1)


def _polynomial(form: Form, x: Array, y: Array) -> Fit | str:
    """y on powers of x; x is centred and scaled meanwhile, so that powers stay apart."""
    size = _COEFFICIENTS[form]
    centre, scale = float(x.mean()), float(x.std()) or 1.0
    design = np.vander((x - centre) / scale, size, increasing=True)
    solved = _least_squares(design, y, form)
    if isinstance(solved, str):
        return solved
    weights, residuals, left_out = solved
    shifted = np.polynomial.Polynomial(weights)(np.polynomial.Polynomial([-centre / scale, 1 / scale]))
    coefficients = tuple(map(float, [*shifted.coef, *[0.0] * size][:size]))
    return Fit(form, coefficients, _size(residuals), _size(left_out), _aicc(residuals, y, size, 0.0))


def _probit(x: Array, y: Array, x_share: Share | None, y_share: Share | None) -> Fit | str:
    """y, or its probit where it is a share, on the probit of x."""
    from scipy.special import ndtr

    if x_share is None:
        return "the metric is no share"
    z_x, moved = probits(x, x_share)
    z_y, moved_y = (y, 0) if y_share is None else probits(y, y_share)
    if np.isnan(z_x).any() or np.isnan(z_y).any():
        return "a share of 0 or 1 of an unknown number of trials has no probit"
    solved = _least_squares(np.column_stack([np.ones(len(x)), z_x]), z_y, "probit")
    if isinstance(solved, str):
        return solved
    weights, residuals, left_out = solved
    aicc, errors, foretold = _aicc(residuals, z_y, 2, 0.0), residuals, left_out
    if y_share is not None:
        log_density = -0.5 * z_y**2 - 0.5 * math.log(2 * math.pi) + math.log(y_share.whole)  # of dy/dz
        aicc = _aicc(residuals, z_y, 2, 2 * float(log_density.sum()))
        errors, foretold = (y - y_share.whole * ndtr(z_y - apart) for apart in (residuals, left_out))
    return Fit("probit", tuple(map(float, weights)), _size(errors), _size(foretold), aicc, moved=moved + moved_y)


def _least_squares(design: Array, y: Array, form: Form) -> tuple[Array, Array, Array] | str:
    """Coefficients, residuals [n] and those of each row foretold from the others [n]; or why there are none."""
    n, size = design.shape
    if n < size + 2:
        return f"{n} models are too few; a {form} needs {size + 2}"
    basis, triangle = np.linalg.qr(design)
    if np.abs(np.diag(triangle)).min() < _ROUNDING * np.abs(np.diag(triangle)).max():
        return f"the metric has too few different values for a {form}"
    weights = np.linalg.solve(triangle, basis.T @ y)
    residuals = y - design @ weights
    kept = 1 - np.square(basis).sum(axis=1)  # 1 less the leverage
    with np.errstate(divide="ignore", invalid="ignore"):
        left_out = np.where(kept > _ROUNDING, residuals / kept, np.nan)
    return weights, residuals, left_out


def _aicc(residuals: Array, y: Array, coefficients: int, density: float) -> float:
    """AICc of normal residuals [n] of y [n]; `density` is what a change of scale adds to minus twice the likelihood.

    Residuals of rounding alone count as that much: no form is infinitely better than another.
    """
    n = len(residuals)
    rounding = n * (_ROUNDING * float(np.ptp(y))) ** 2
    squares = max(float(residuals @ residuals), rounding, float(np.finfo(float).tiny))
    return n * (math.log(2 * math.pi * squares / n) + 1) + density + _penalty(n, coefficients)


def _weighed(fits: Sequence[Fit]) -> list[Fit]:
    """The same with their Akaike weights."""
    least = min(fit.aicc for fit in fits)
    evidence = [math.exp(-(fit.aicc - least) / 2) for fit in fits]
    return [replace(fit, weight=one / sum(evidence)) for fit, one in zip(fits, evidence, strict=True)]


def _size(errors: Array) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))
