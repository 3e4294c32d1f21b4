"""The sign-flip test against enumeration and scipy, for whole numbers and real ones, few clusters and many."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import permutation_test

from rmbench.metrics.sign_flip import sign_flip_p
from rmbench.types import Array


def by_scipy(differences: Array, resamples: float = np.inf) -> float:
    """One sample of permutation type `samples`: signs are flipped at random, all ways where `resamples` is infinite."""
    found = permutation_test(
        (differences,), lambda x, axis: np.sum(x, axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=resamples, rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(found.pvalue)


@pytest.mark.parametrize("seed", range(6))
def test_few_real_differences_are_every_way_to_flip(seed: int) -> None:
    differences = np.random.default_rng(seed).normal(0.3, 1, 10 + seed % 3)
    assert sign_flip_p(differences) == pytest.approx(by_scipy(differences), abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_few_whole_differences_are_every_way_to_flip(seed: int) -> None:
    differences = np.random.default_rng(seed).integers(-3, 5, 13)
    assert sign_flip_p(differences) == pytest.approx(by_scipy(differences.astype(float)), abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2])
def test_many_real_differences_agree_with_scipys_draws(shift: float) -> None:
    differences = np.random.default_rng(1).normal(shift, 1, 200)
    expected = by_scipy(differences, 9_999)
    assert sign_flip_p(differences) == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 9_999) + 1e-4)


def test_many_whole_differences_agree_with_scipys_draws() -> None:
    differences = np.random.default_rng(2).integers(-2, 3, 300)
    assert sign_flip_p(differences) == pytest.approx(by_scipy(differences.astype(float), 9_999), abs=0.04)


def test_p_is_never_zero_and_is_one_without_a_difference() -> None:
    assert sign_flip_p(np.full(100, 0.5)) == pytest.approx(1 / 10_000)
    assert sign_flip_p(np.zeros(100)) == 1.0
    assert sign_flip_p(np.array([0.3, 0.1, -0.1, -0.3])) == 1.0
    assert sign_flip_p(np.array([])) == 1.0


def test_size_and_scale_do_not_matter() -> None:
    differences = np.random.default_rng(3).normal(0.2, 1, 60)
    assert sign_flip_p(1e-9 * differences) == sign_flip_p(differences) == sign_flip_p(-differences)


def test_the_seed_decides_the_draws() -> None:
    differences = np.random.default_rng(4).normal(0.1, 1, 60)
    assert sign_flip_p(differences, seed=1) == sign_flip_p(differences, seed=1)
    assert len({sign_flip_p(differences, seed=seed) for seed in range(5)}) > 1


@pytest.mark.parametrize("clusters", [8, 40])
def test_a_true_null_is_rejected_at_the_nominal_rate(clusters: int) -> None:
    rng = np.random.default_rng(5)
    rejected = np.mean([sign_flip_p(rng.normal(0, 1, clusters)) <= 0.05 for _ in range(400)])
    assert 0.02 <= rejected <= 0.085
