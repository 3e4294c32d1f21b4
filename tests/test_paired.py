"""Paired tests against enumeration, and tiers on made-up models."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from rmbench.metrics.interval import mean_interval, wilson_interval
from rmbench.metrics.paired import holm, sign_flip_p, tiers


def enumerated(differences: list[int]) -> float:
    """Every one of the 2^c ways to sign the clusters."""
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
            for signs in product((1, -1), repeat=len(differences))]  # fmt: skip
    return float(np.mean([total >= abs(sum(differences)) for total in sums]))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(-5, 5), max_size=9))
def test_the_sign_flip_test_is_every_way_to_flip(differences: list[int]) -> None:
    assert sign_flip_p(np.array(differences, int)) == pytest.approx(enumerated(differences), abs=1e-12)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (8, 2), (60, 41), (700, 600), (5000, 5200)])
def test_with_one_row_a_cluster_it_is_mcnemars_exact_test(wins: int, losses: int) -> None:
    differences = np.array([1] * wins + [-1] * losses + [0] * 7)
    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_flip_p(differences) == pytest.approx(expected, rel=1e-9)


def test_many_large_clusters_agree_with_draws() -> None:
    rng = np.random.default_rng(1)
    differences = rng.integers(-40, 44, size=3000)
    drawn = np.abs(rng.choice([-1, 1], size=(4000, 3000)) @ differences) >= abs(differences.sum())
    assert sign_flip_p(differences) == pytest.approx(drawn.mean(), abs=0.03)


def test_copies_of_a_row_in_a_cluster_are_no_evidence() -> None:
    assert sign_flip_p(np.array([1] * 12)) < 0.001
    assert sign_flip_p(np.array([12])) == 1.0


def test_holm_is_the_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_null_model_is_told_apart_no_more_often_than_stated() -> None:
    rng = np.random.default_rng(0)
    alone = np.arange(200)
    apart = sum(tiers([*rng.binomial(1, 0.6, (4, 200)).astype(float)], alone)[0][0] > 1 for _ in range(200))
    assert apart / 200 < 0.08


def test_tiers_of_three_levels() -> None:
    rng = np.random.default_rng(3)
    level = rng.random(1000)
    wins = [(level + 0.05 * rng.random(1000) < p).astype(float) for p in (0.5, 0.9, 0.5, 0.9, 0.2)]
    assert [tier for tier, _ in tiers(wins, np.arange(1000))] == [2, 1, 2, 1, 3]


def test_a_pair_is_compared_where_both_count() -> None:
    always, sometimes = np.ones(40), np.where(np.arange(40) < 30, np.nan, 1.0)
    assert tiers([always, sometimes], np.arange(40)) == [(1, None), (1, 1.0)]


def test_a_mean_of_one_is_itself_and_of_equals_is_narrower() -> None:
    one = [np.array([0.9]), np.array([0.7]), np.array([0.95])]
    assert mean_interval(*one) == pytest.approx((0.9, 0.7, 0.95))
    four = [np.repeat(x, 4) for x in one]
    assert mean_interval(*four) == pytest.approx((0.9, 0.8, 0.925))


def test_the_interval_of_a_mean_covers_what_it_says() -> None:
    rng, truth = np.random.default_rng(5), np.array([0.5, 0.9, 0.98])
    rows = np.ones((1000, 3, 60))
    wins = (rng.random((1000, 3, 60)) < truth[:, None]).astype(float)
    low, high = wilson_interval(wins, rows)
    found = [mean_interval(*x) for x in zip(wins.mean(-1), low, high, strict=True)]
    covered = np.mean([a <= truth.mean() <= b for _, a, b in found])
    assert 0.93 <= covered <= 0.985
