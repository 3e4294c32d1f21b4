"""Errors in common: phi and kappa against scikit-learn, CD and CD* by simulation, what is beyond difficulty."""

from __future__ import annotations

import numpy as np
import pytest

from rmbench.metrics import dependence
from rmbench.metrics.dependence import Difficulty
from rmbench.metrics.interval import estimate, whole_value
from rmbench.types import Array


def errors(seed: int, models: int = 6, examples: int = 400, shared: float = 0.0) -> Array:
    """Errors [examples, models] of one difficulty; on a `shared` part of examples the second model copies the first."""
    rng = np.random.default_rng(seed)
    difficulty = Difficulty(rng.normal(-0.5, 1, models), rng.uniform(0.5, 2.5, models))
    (wrong,) = (block[0] for block in difficulty.draws(examples, 1, seed))
    copied = rng.random(examples) < shared
    wrong[copied, 1] = wrong[copied, 0]
    return np.asarray(wrong)


def factor_panel(rng: np.random.Generator, t: int, n: int, network: float = 0.0) -> Array:
    """A panel [t, n] with one strong factor of unlike loadings; errors of neighbours correlate with a `network`."""
    noise = rng.normal(size=(t, n)) @ np.linalg.inv(np.eye(n) - network / 2 * (np.eye(n, k=1) + np.eye(n, k=-1)))
    return np.asarray(rng.normal(size=(t, 1)) * rng.normal(1, 1, n) + noise * np.sqrt(rng.chisquare(2, n) / 4 + 0.5))


def test_phi_and_kappa_are_those_of_an_independent_implementation() -> None:
    from sklearn.metrics import cohen_kappa_score, matthews_corrcoef

    first, second = errors(0)[:, :2].T
    codes = np.arange(len(first))
    assert whole_value(dependence.phi("phi", first, second), codes) == pytest.approx(matthews_corrcoef(first, second))
    found = whole_value(dependence.kappa("kappa", first, second), codes)
    assert found == pytest.approx(cohen_kappa_score(first, second))


def test_a_model_without_an_error_has_no_correlation_with_another() -> None:
    never, some = np.zeros(6), np.array([1.0, 0, 1, 0, 0, 0])
    assert np.isnan(estimate([dependence.phi("phi", never, some)], range(6))[0].value)
    assert np.isnan(estimate([dependence.kappa("kappa", never, never)], range(6))[0].value)


def test_cd_is_the_sum_of_correlations_as_a_loop_has_it() -> None:
    panel = np.random.default_rng(1).normal(size=(60, 4))
    total = sum(np.corrcoef(panel[:, i], panel[:, j])[0, 1] for i in range(4) for j in range(i))
    assert dependence.cross_dependence(panel).cd == pytest.approx(np.sqrt(2 * 60 / 12) * total)


def test_cd_star_is_its_formula_written_out() -> None:
    panel = factor_panel(np.random.default_rng(2), 80, 10)
    apart = panel - panel.mean(axis=0)
    values, vectors = np.linalg.eigh(apart @ apart.T)
    factor = vectors[:, -1] * np.sqrt(80)  # of mean square 1; loadings by least squares
    loadings = apart.T @ factor / 80
    scale = np.sqrt(np.mean(loadings**2))
    factor, loadings = factor * scale, loadings / scale  # loadings of mean square 1
    left = apart - np.outer(factor, loadings)
    sds = left.std(axis=0)
    direction = np.mean(loadings / sds)
    a = [1 - sd * direction * loading for sd, loading in zip(sds, loadings, strict=True)]
    theta = 1 - np.mean(np.square(a))
    correlations = np.corrcoef(left.T)[np.triu_indices(10, 1)]
    cd = np.sqrt(2 * 80 / 90) * correlations.sum()
    found = dependence.cross_dependence(panel)
    assert (found.cd_left, found.theta) == (pytest.approx(cd), pytest.approx(theta))
    assert found.star == pytest.approx((cd + np.sqrt(40) * theta) / (1 - theta))
    assert values[-1] > 0


def test_without_a_factor_cd_rejects_independence_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    p = [dependence.cross_dependence(rng.normal(size=(100, 20))).cd_p for _ in range(400)]
    assert 0.025 <= np.mean(np.array(p) < 0.05) <= 0.08


def test_with_a_factor_cd_of_what_is_left_is_biased_and_cd_star_mends_it() -> None:
    rng = np.random.default_rng(4)
    found = [dependence.cross_dependence(factor_panel(rng, 100, 60)) for _ in range(300)]
    assert np.mean([one.cd_p < 0.05 for one in found]) > 0.95  # the factor itself
    assert np.mean([abs(one.cd_left) > 1.96 for one in found]) > 0.8
    assert np.mean([one.cd_left for one in found]) < -2.5
    assert 0.02 <= np.mean([one.star_p < 0.05 for one in found]) <= 0.085
    assert abs(np.mean([one.star for one in found])) < 0.25


def test_cd_star_finds_a_network_beside_a_factor() -> None:
    rng = np.random.default_rng(5)
    found = [dependence.cross_dependence(factor_panel(rng, 200, 60, network=0.4)) for _ in range(50)]
    assert np.mean([one.star_p < 0.05 for one in found]) > 0.8


def test_the_fitted_difficulty_gives_the_rates_and_correlations_of_the_errors() -> None:
    wrong = errors(6, models=5, examples=5_000)
    drawn = np.concatenate([*Difficulty.of(wrong).draws(20_000, 1, 0)])[0]
    assert drawn.mean(axis=0) == pytest.approx(wrong.mean(axis=0), abs=0.02)
    assert np.corrcoef(drawn.T) == pytest.approx(np.corrcoef(wrong.T), abs=0.05)


def test_errors_that_only_difficulty_joins_are_seldom_said_to_have_more_in_common() -> None:
    p = np.array([dependence.beyond_difficulty(errors(seed), draws=100).p[np.triu_indices(6, 1)] for seed in range(40)])
    assert 0.01 <= np.mean(p < 0.05) <= 0.09
    assert np.mean((15 * p.min(axis=1)) < 0.05) <= 0.15  # of 40 families 2 are expected


@pytest.mark.parametrize("seed", [12, 13])
def test_wrong_labels_are_errors_of_all_and_of_no_pair(seed: int) -> None:
    """With a tenth of the labels wrong all models that know better err there together."""
    wrong = errors(seed, models=8, examples=2_000)
    turned = np.random.default_rng(seed + 100).random(2_000) < 0.1
    wrong[turned] = 1 - wrong[turned]
    assert np.nanmin(dependence.beyond_difficulty(wrong, draws=100).p) > 0.05 / 28


def test_two_models_that_copy_each_other_are_found_and_named() -> None:
    found = [dependence.beyond_difficulty(errors(seed, models=8, examples=800, shared=0.3)) for seed in range(6)]
    pairs = np.triu_indices(8, 1)
    named = [int(np.argmin(one.p[pairs])) == 0 and one.p[0, 1] < 0.05 / 28 for one in found]
    assert np.mean(named) >= 0.8
    assert all(one.correlation[0, 1] > 0.05 for one in found)
    assert (found[0].p[pairs] == found[0].p.T[pairs]).all()


def test_too_few_models_and_models_without_an_error_leave_it_open() -> None:
    four = dependence.beyond_difficulty(errors(7, models=4), draws=50)
    assert np.isnan(four.p).all()
    assert 0 < four.star_p <= 1
    three = errors(7, models=3)
    assert np.isnan(dependence.beyond_difficulty(three).star_p)
    assert np.isnan(dependence.cross_dependence(three).star)
    assert np.isfinite(dependence.cross_dependence(three).cd)
    never = errors(7)
    never[:, 2] = 0
    assert np.isnan(dependence.beyond_difficulty(never).p).all()


@pytest.mark.prove
def test_the_size_of_what_is_beyond_difficulty() -> None:
    """Of pairs of models whose errors only difficulty joins 5 % are told at 5 %, however difficult examples are."""
    kinds = {
        "normal": lambda rng: rng.normal(size=(480, 1)),
        "two kinds": lambda rng: rng.choice([-1.0, 1.0], (480, 1)),
        "skewed": lambda rng: rng.exponential(size=(480, 1)) - 1,
        "labels of which 5 % are wrong": lambda rng: rng.normal(size=(480, 1)),
    }
    pairs = np.triu_indices(8, 1)
    for kind, difficulties in kinds.items():
        told = []
        for seed in range(20):
            rng = np.random.default_rng(seed)
            odds = rng.normal(-0.5, 1, 8) + rng.uniform(0.5, 2.5, 8) * difficulties(rng)
            wrong = rng.random(odds.shape) < 1 / (1 + np.exp(-odds))
            turned = rng.random((480, 1)) < 0.05 * ("labels" in kind)
            told.append(dependence.beyond_difficulty((wrong != turned).astype(float), draws=100).p[pairs] < 0.05)
        print(f"8 models, 480 examples, difficulty {kind}: {np.mean(told):.1%} of pairs told at 5 %")
        assert 0.01 <= np.mean(told) <= 0.085
