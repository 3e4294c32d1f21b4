"""Forms of one figure on another: statsmodels, scipy, refitting without each model, and closed forms."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm

from rmbench.metrics.fits import Form, Share, choose, line_from, parabola_from, predicted, probits
from rmbench.types import Array

N = 9
FRACTION = Share(1.0, np.full(N, np.nan))


def panel(seed: int, n: int = N, slope: float = 1.0, bend: float = 0.0, noise: float = 0.3) -> tuple[Array, Array]:
    """Shares and a figure that follows them."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.4, 0.9, n)
    away = (x - 0.65) / 0.15
    return x, 1200 + 10 * (slope * away + bend * away**2 + noise * rng.standard_normal(n))


def design(form: Form, x: Array) -> Array:
    columns = {"mean": [], "line": [x], "probit": [scipy.stats.norm.ppf(x)], "parabola": [x, x**2]}[form]
    return np.column_stack([np.ones(len(x)), *columns])


@pytest.mark.parametrize("form", ["mean", "line", "probit", "parabola"])
def test_each_form_is_that_of_statsmodels(form: Form) -> None:
    x, y = panel(1)
    fit = choose(x, y, FRACTION).of(form)
    theirs = sm.OLS(y, design(form, x)).fit()
    k = design(form, x).shape[1] + 1
    aicc = -2 * theirs.llf + 2 * k + 2 * k * (k + 1) / (N - k - 1)
    left_out = theirs.get_influence().resid_press
    assert fit.coefficients == pytest.approx(theirs.params, rel=1e-6)
    assert fit.error == pytest.approx(np.sqrt(theirs.ssr / N))
    assert fit.aicc == pytest.approx(aicc)
    assert fit.left_out_error == pytest.approx(np.sqrt(np.mean(left_out**2)))


def test_a_model_left_out_is_foretold_by_a_fit_that_never_saw_it() -> None:
    """Refitted without each, on the scale of the downstream share itself."""
    x, _ = panel(2)
    y = 100 * scipy.stats.norm.cdf(scipy.stats.norm.ppf(x) + 0.2 * np.random.default_rng(2).standard_normal(N))
    percent = Share(100.0, np.full(N, np.nan))
    found = choose(x, y, FRACTION, percent)
    errors: dict[str, list[float]] = {"line": [], "parabola": [], "probit": []}
    for i in range(N):
        rest = np.arange(N) != i
        for form, degree in (("line", 1), ("parabola", 2)):
            errors[form].append(y[i] - np.polyval(np.polyfit(x[rest], y[rest], degree), x[i]))
        line = scipy.stats.linregress(scipy.stats.norm.ppf(x[rest]), scipy.stats.norm.ppf(y[rest] / 100))
        errors["probit"].append(
            y[i] - 100 * scipy.stats.norm.cdf(line.intercept + line.slope * scipy.stats.norm.ppf(x[i]))
        )
    for form, apart in errors.items():
        assert found.of(form).left_out_error == pytest.approx(np.sqrt(np.mean(np.square(apart)))), form  # type: ignore[arg-type]


def test_aicc_of_probits_of_both_is_of_the_density_of_the_share_itself() -> None:
    x, _ = panel(3)
    y = 100 * scipy.stats.norm.cdf(0.8 * scipy.stats.norm.ppf(x) + 0.2 * np.random.default_rng(3).standard_normal(N))
    fit = choose(x, y, FRACTION, Share(100.0, np.full(N, np.nan))).of("probit")
    intercept, slope = fit.coefficients
    spread = np.sqrt(np.mean((scipy.stats.norm.ppf(y / 100) - intercept - slope * scipy.stats.norm.ppf(x)) ** 2))

    def below(at: Array) -> Array:
        """The chance of a share below `at`, given each x."""
        mean = intercept + slope * scipy.stats.norm.ppf(x)
        return np.asarray(scipy.stats.norm.cdf(scipy.stats.norm.ppf(at / 100), mean, spread))

    density = (below(y + 1e-4) - below(y - 1e-4)) / 2e-4
    assert fit.aicc == pytest.approx(-2 * np.log(density).sum() + 6 + 24 / (N - 4), rel=1e-6)


def test_the_form_is_found_that_the_figures_were_made_with() -> None:
    x = np.linspace(0.45, 0.97, 14)
    rng = np.random.default_rng(0)
    share = Share(1.0, np.full(14, np.nan))
    made = {
        "line": 3 + 2 * x + 0.01 * rng.standard_normal(14),
        "probit": 3 + 2 * scipy.stats.norm.ppf(x) + 0.05 * rng.standard_normal(14),
        "parabola": 3 - 8 * (x - 0.7) ** 2 + 0.01 * rng.standard_normal(14),
    }
    for form, y in made.items():
        found = choose(x, y, share)
        assert (found.by_aicc, found.by_left_out) == (form, form)
        assert sum(fit.weight for fit in found.fits) == pytest.approx(1)
        assert max(found.fits, key=lambda fit: fit.weight).form == form


@pytest.mark.parametrize("n", [6, 7, 9, 13])
def test_where_the_choice_turns_is_what_is_said(n: int) -> None:
    """A line of just more, and just less, than that r; a parabola that leaves just less, and just more, than that."""
    x = np.linspace(-1, 1, n)
    straight, bent = (np.polynomial.Polynomial.fit(x, np.eye(n)[0], degree)(x) for degree in (1, 2))
    basis = np.linalg.qr(np.column_stack([np.ones(n), straight, bent, np.random.default_rng(n).standard_normal(n)]))[0]
    for off, form in ((1e-3, "line"), (-1e-3, "mean")):
        r = line_from(n) + off
        assert choose(x, r * basis[:, 1] + math.sqrt(1 - r * r) * basis[:, 3]).by_aicc == form
    for factor, form in ((0.99, "parabola"), (1.01, "line")):
        left = factor * parabola_from(n)
        y = 100 * basis[:, 1] + math.sqrt(1 - left) * basis[:, 2] + math.sqrt(left) * basis[:, 3]
        assert choose(x, y).by_aicc == form


def test_six_models_tell_next_to_nothing_and_more_tell_more() -> None:
    assert line_from(6) == pytest.approx(0.90, abs=0.005)
    assert 1 / parabola_from(6) == pytest.approx(148.4, abs=0.1)  # e^5
    assert all(a > b for a, b in pairwise([line_from(n) for n in range(5, 40)]))
    assert all(a < b for a, b in pairwise([parabola_from(n) for n in range(6, 40)]))
    assert math.isnan(line_from(4))
    assert math.isnan(parabola_from(5))


def test_a_share_of_none_or_all_is_moved_by_half_a_trial_or_is_not_fitted() -> None:
    values = np.array([0.0, 0.5, 1.0])
    found, moved = probits(values, Share(1.0, np.array([20.0, 20, 50])))
    assert found == pytest.approx(scipy.stats.norm.ppf([1 / 40, 0.5, 1 - 1 / 100]))
    assert moved == 2
    x, y = panel(4)
    x[0] = 1.0
    assert choose(x, y, Share(1.0, np.full(N, 100.0))).of("probit").moved == 1
    unknown = choose(x, y, FRACTION)
    assert unknown.reasons == {"probit": "a share of 0 or 1 of an unknown number of trials has no probit"}
    assert {fit.form for fit in unknown.fits} == {"mean", "line", "parabola"}
    with pytest.raises(ValueError, match="shares from 0 to 1"):
        probits(np.array([1.2]), FRACTION)


def test_what_is_no_share_has_no_probit() -> None:
    x, y = panel(5)
    assert choose(100 * x, y).reasons == {"probit": "the metric is no share"}


def test_units_and_shifts_of_either_figure_change_nothing_that_is_chosen() -> None:
    x, y = panel(6, slope=0.5, bend=0.6)
    plain, scaled = choose(x, y, FRACTION), choose(100 * x, 7 * y - 3, Share(100.0, np.full(N, np.nan)))
    for fit, other in zip(plain.fits, scaled.fits, strict=True):
        assert other.left_out_error == pytest.approx(7 * fit.left_out_error)
        assert other.weight == pytest.approx(fit.weight)


@pytest.mark.parametrize("form", ["mean", "line", "probit", "parabola"])
def test_what_a_fit_says_is_what_it_left(form: Form) -> None:
    x, y = panel(7)
    y = y / 2000
    found = choose(x, y, FRACTION, FRACTION)
    said = predicted(found.of(form), x, FRACTION, FRACTION)
    assert np.sqrt(np.mean((y - said) ** 2)) == pytest.approx(found.of(form).error)


def test_few_models_and_few_different_values_leave_forms_out() -> None:
    x = np.array([0.0, 0, 0, 1, 1, 1])
    y = np.array([1.0, 2, 3, 4, 5, 7])
    assert choose(x, y).reasons["parabola"] == "the metric has too few different values for a parabola"
    alone = choose(np.array([0.0, 0, 0, 0, 0, 1]), y)
    assert math.isnan(alone.of("line").left_out_error)
    assert alone.by_left_out == "mean"
    assert choose(x[1:5] + np.arange(4), y[1:5]).reasons["parabola"] == "4 models are too few; a parabola needs 5"
    assert math.isinf(choose(np.arange(5.0), y[:5]).of("parabola").aicc)
    with pytest.raises(ValueError, match="constant"):
        choose(np.ones(6), y)


def test_what_fits_to_the_last_digit_is_finite() -> None:
    x = np.arange(8.0)
    found = choose(x, 2 * x + 1)
    assert found.by_aicc == "line"
    assert all(math.isfinite(fit.aicc) for fit in found.fits)
    far = choose(1e-320 * x, 1e100 * x)
    assert far.reasons["line"] == "the metric has too few different values for a line"
    assert all(math.isfinite(fit.aicc) for fit in choose(1e100 * x, 1e-300 * x).fits)


def test_where_nothing_goes_with_anything_the_mean_is_taken_most_often() -> None:
    nothing = [choose(*panel(seed, slope=0.0, noise=1.0), FRACTION) for seed in range(400)]
    assert sum(one.by_aicc == "mean" for one in nothing) > 0.85 * len(nothing)
    assert sum(one.by_left_out == "mean" for one in nothing) > 0.5 * len(nothing)
    followed = [choose(*panel(seed, noise=0.3), FRACTION).by_aicc for seed in range(400)]
    assert followed.count("mean") < 0.02 * len(followed)
    assert followed.count("parabola") < 0.15 * len(followed)
