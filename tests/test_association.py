"""Correlations against scipy and loops over pairs, p against every order, intervals and ranks in simulation."""

from __future__ import annotations

import csv
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbench.metrics import association
from rmbench.metrics.association import (
    correlation_interval,
    kendall,
    pearson,
    permutation_p,
    predictive_ranks,
    same_correlation_p,
    somers_d,
    spearman,
)
from rmbench.types import Array

TIED = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=12)


def figures(n: int, seed: int, rho: float = 0.0) -> tuple[Array, Array]:
    x, noise = np.random.default_rng(seed).standard_normal((2, n))
    return x, rho * x + np.sqrt(1 - rho**2) * noise


def pair_counts(x: Array, y: Array) -> tuple[int, int, int]:
    """Agreeing less disagreeing pairs, and the pairs that x and that y tell apart."""
    pairs = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i, j in combinations(range(len(x)), 2)]
    return sum(int(a * b) for a, b in pairs), sum(a != 0 for a, _ in pairs), sum(b != 0 for _, b in pairs)


def constant(values: Array) -> bool:
    return len(set(values.tolist())) == 1


@settings(max_examples=200, deadline=None)
@given(TIED)
def test_tied_figures_correlate_as_scipy_says(rows: list[tuple[int, int]]) -> None:
    x, y = np.array(rows, float).T
    if constant(x) or constant(y):
        assert all(np.isnan(measure(x, y)) for measure in (pearson, spearman, kendall))
    else:
        assert pearson(x, y) == pytest.approx(scipy.stats.pearsonr(x, y)[0], abs=1e-12)
        assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y)[0], abs=1e-12)
        assert kendall(x, y) == pytest.approx(scipy.stats.kendalltau(x, y)[0], abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(TIED)
def test_somers_d_is_a_loop_over_the_pairs_that_the_independent_figure_tells_apart(rows: list[tuple[int, int]]) -> None:
    x, y = np.array(rows, float).T
    agreeing, by_x, by_y = pair_counts(x, y)
    assert somers_d(x, y) == pytest.approx(agreeing / by_x if by_x else np.nan, nan_ok=True)
    assert somers_d(y, x) == pytest.approx(agreeing / by_y if by_y else np.nan, nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_somers_d_takes_the_independent_figure_first_as_scipy_does(seed: int) -> None:
    x, y = np.random.default_rng(seed).integers(0, 5, (2, 13)).astype(float)
    assert somers_d(x, y) == pytest.approx(scipy.stats.somersd(x, y).statistic)
    assert somers_d(x, y) != pytest.approx(somers_d(y, x))


@pytest.mark.parametrize("measure", [pearson, spearman, kendall, somers_d, permutation_p])
def test_a_constant_has_no_correlation_even_where_rounding_gives_it_a_spread(measure: object) -> None:
    assert callable(measure)
    third, x = np.full(9, 0.1 + 0.2), np.arange(9.0)
    assert np.isnan(measure(third, x))
    if measure is not somers_d:
        assert np.isnan(measure(x, third))
    else:
        assert measure(x, third) == 0  # it tells no pair apart that x does


def test_less_than_two_models_have_no_correlation() -> None:
    one = np.array([1.0])
    assert all(np.isnan(measure(one, one)) for measure in (pearson, spearman, kendall, somers_d, permutation_p))


@pytest.mark.parametrize(("n", "seed"), [(2, 0), (4, 1), (6, 2), (6, 3), (7, 4)])
def test_p_is_every_order(n: int, seed: int) -> None:
    x, y = np.random.default_rng(seed).integers(0, 6, (2, n)).astype(float)
    observed = abs(scipy.stats.pearsonr(x, y)[0])
    orders = [abs(np.corrcoef(x, some)[0, 1]) >= observed - 1e-9 for some in permutations(y)]
    assert permutation_p(x, y) == pytest.approx(np.mean(orders), abs=1e-12)


def test_nine_models_are_exact_whatever_the_seed_and_ten_are_drawn() -> None:
    nine, ten = figures(9, 0, 0.5), figures(10, 0, 0.5)
    assert len({permutation_p(*nine, seed=seed) for seed in range(3)}) == 1
    assert len({permutation_p(*ten, seed=seed) for seed in range(3)}) > 1
    assert len(association._orders(9)) == len(np.unique(association._orders(9), axis=0)) == 362_880


def test_drawn_orders_agree_with_scipys_and_p_is_never_zero() -> None:
    x, y = figures(15, 3, 0.4)
    found = scipy.stats.permutation_test(
        (y,), lambda some: scipy.stats.pearsonr(x, some)[0], permutation_type="pairings", n_resamples=4_000,
        rng=np.random.default_rng(1), vectorized=False,
    )  # fmt: skip
    assert permutation_p(x, y) == pytest.approx(found.pvalue, abs=0.03)
    assert permutation_p(x, x) == 1 / 10_000


def test_p_finds_a_correlation_in_noise_no_more_often_than_stated() -> None:
    found = [permutation_p(*figures(6, seed)) <= 0.05 for seed in range(1000)]
    assert 0.03 < np.mean(found) < 0.07


def test_the_interval_of_normal_figures_is_fishers_where_the_jackknife_sees_less() -> None:
    zero = np.zeros(9)
    x = np.arange(9.0)
    y = x + 3 * np.array([1, -1, 0, 1, -1, 0, 1, -1, 0])
    low, high = correlation_interval(x, y, zero, zero)
    fisher = scipy.stats.pearsonr(x, y).confidence_interval(0.95)
    assert (low, high) == pytest.approx((fisher.low, fisher.high), abs=1e-9)


def test_the_interval_is_wider_with_an_outlier_that_makes_the_correlation() -> None:
    zero = np.zeros(9)
    x, y = np.append(figures(8, 0)[0], 9.0), np.append(figures(8, 0)[1], 9.0)
    low, _ = correlation_interval(x, y, zero, zero)
    assert pearson(x, y) > 0.8
    assert low < scipy.stats.pearsonr(x, y).confidence_interval(0.95).low - 0.5


def test_the_interval_carries_the_error_of_each_side() -> None:
    x, y = figures(13, 1, 0.7)
    zero, some = np.zeros(13), np.full(13, 0.4)
    widths = [np.diff(correlation_interval(x, y, *errors))[0] for errors in ((zero, zero), (some, zero), (zero, some))]
    assert widths[0] < widths[1]
    assert widths[0] < widths[2]
    assert np.diff(correlation_interval(x, y, some, some))[0] > max(widths)


def test_errors_widen_the_variance_by_that_of_redrawn_figures() -> None:
    x, y = figures(13, 1, 0.7)
    zero, some = np.zeros(13), np.full(13, 0.4)
    rng = np.random.default_rng(5)
    redrawn = [np.arctanh(pearson(x + some * rng.standard_normal(13), y)) for _ in range(4000)]
    plain, noisy = (
        (np.diff(np.arctanh(correlation_interval(x, y, error, zero)))[0] / 3.92) ** 2 for error in (zero, some)
    )
    assert noisy - plain == pytest.approx(np.var(redrawn), rel=0.1)


def test_an_interval_needs_a_correlation_without_each_model() -> None:
    zero = np.zeros(6)
    one_apart = np.array([0, 0, 0, 0, 0, 1.0])
    assert np.isnan(correlation_interval(one_apart, figures(6, 0)[0], zero, zero)).all()
    assert np.isnan(correlation_interval(zero[:3], zero[:3], zero[:3], zero[:3])).all()


@pytest.mark.prove
@pytest.mark.parametrize("tails", ["normal", "heavy"])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("n", [6, 9, 13, 30])
def test_the_interval_covers(n: int, rho: float, tails: str) -> None:
    rng, zero, hits = np.random.default_rng(n), np.zeros(n), 0
    for _ in range(1500):
        x, noise = rng.standard_normal((2, n))
        y = rho * x + np.sqrt(1 - rho**2) * noise
        spread = np.sqrt(3 / rng.chisquare(5, n)) if tails == "heavy" else 1.0
        low, high = correlation_interval(x * spread, y * spread, zero, zero)
        hits += low <= rho <= high
    assert 0.93 < hits / 1500 < 0.985


@pytest.mark.prove
@pytest.mark.parametrize("n", [6, 9, 13])
def test_with_figures_half_as_noisy_as_models_differ_the_interval_covers_what_such_figures_have(n: int) -> None:
    rng, error, hits = np.random.default_rng(n), np.full(n, 0.5), 0
    for seed in range(600):
        x, noise = rng.standard_normal((2, n))
        y = 0.5 * x + np.sqrt(0.75) * noise
        drawn_x, drawn_y = x + error * rng.standard_normal(n), y + error * rng.standard_normal(n)
        low, high = correlation_interval(drawn_x, drawn_y, error, error, seed=seed)
        hits += low <= 0.5 / 1.25 <= high
    assert hits / 600 > 0.94


def test_figures_that_correlate_alike_are_told_apart_no_more_often_than_stated() -> None:
    rng, zero, told = np.random.default_rng(0), np.zeros(9), 0
    factor = np.linalg.cholesky(np.array([[1, 0.5, 0.6], [0.5, 1, 0.6], [0.6, 0.6, 1]]))
    for _ in range(400):
        first, second, y = factor @ rng.standard_normal((3, 9))
        told += same_correlation_p(first, second, y, zero, zero, zero) < 0.05
    assert told / 400 < 0.06


def test_mengs_variance_is_that_of_his_worked_z() -> None:
    # Over normal figures with no jackknife to see more, z differs by (z1 - z2) sqrt((n - 3) / (2 (1 - rx) h)).
    x1, x2, y = np.random.default_rng(8).standard_normal((3, 200)) + np.random.default_rng(9).standard_normal(200)
    r1, r2, rx = pearson(x1, y), pearson(x2, y), pearson(x1, x2)
    mean_square = (r1**2 + r2**2) / 2
    f = (1 - rx) / (2 * (1 - mean_square))
    h = (1 - f * mean_square) / (1 - mean_square)
    assert association._meng(x1, x2, y) == pytest.approx(2 * (1 - rx) * h / 197)


def test_a_figure_is_not_told_from_itself_and_is_from_its_opposite() -> None:
    x, y = figures(30, 2, 0.9)
    zero = np.zeros(30)
    assert same_correlation_p(x, 2 * x + 1, y, zero, zero, zero) == 1
    assert same_correlation_p(x, -x, y, zero, zero, zero) < 1e-6


def test_ranks_put_the_highest_correlation_first_and_leave_open_what_tests_cannot_tell() -> None:
    y = figures(40, 0)[0]
    noise = np.random.default_rng(4).standard_normal((3, 40))
    good, twin, bad = y + 0.3 * noise[0], y + 0.32 * noise[1], -y + noise[2]
    zero = np.zeros(40)
    ranks = predictive_ranks([bad, good, twin], [zero] * 3, y, zero)
    assert [rank.rank for rank in ranks] == [3, 1, 2]
    assert [(rank.low, rank.high) for rank in ranks] == [(3, 3), (1, 2), (1, 2)]


def test_equal_correlations_share_the_better_rank() -> None:
    x, y = figures(9, 1, 0.5)
    zero = np.zeros(9)
    assert [r.rank for r in predictive_ranks([x, 3 * x - 2, -x], [zero] * 3, y, zero)] == [1, 1, 3]


def test_ranks_compare_over_the_models_that_two_figures_share() -> None:
    y = figures(40, 0)[0]
    noise = np.random.default_rng(4).standard_normal((2, 40))
    good, bad = y + 0.3 * noise[0], -y + noise[1]
    zero = np.zeros(40)
    apart = good.copy(), bad.copy()
    apart[0][22:], apart[1][:18] = np.nan, np.nan  # four models in common
    assert [(r.low, r.high) for r in predictive_ranks([good, bad], [zero] * 2, y, zero)] == [(1, 1), (2, 2)]
    assert [(r.low, r.high) for r in predictive_ranks(apart, [zero] * 2, y, zero)] == [(1, 2), (1, 2)]


def test_a_constant_has_no_rank() -> None:
    zero = np.zeros(9)
    with pytest.raises(ValueError, match="no rank"):
        predictive_ranks([zero], [zero], np.arange(9.0), zero)


def test_length_goes_with_alpaca_evals_win_rate_and_less_with_the_length_controlled_one(rmbench_data: Path) -> None:
    leaderboards = rmbench_data / "alpaca_eval" / "leaderboards" / "data_AlpacaEval_2"
    with (leaderboards / "weighted_alpaca_eval_gpt4_turbo_leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    length, rate, controlled = (
        np.array([float(row[name]) for row in rows]) for name in ("avg_length", "win_rate", "length_controlled_winrate")
    )
    assert len(rows) == 223
    assert (pearson(length, rate), spearman(length, rate)) == pytest.approx((0.658, 0.728), abs=5e-4)
    assert (pearson(length, controlled), spearman(length, controlled)) == pytest.approx((0.506, 0.556), abs=5e-4)
    none = np.zeros(len(rows))
    ends = [correlation_interval(length, figure, none, none) for figure in (rate, controlled)]
    print(ends)
    assert ends[0][0] > ends[1][0] > 0
    assert same_correlation_p(rate, controlled, length, none, none, none) < 0.001
