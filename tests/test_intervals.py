"""Intervals against scipy, survey formulas, a plain bootstrap loop and simulated coverage."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import binomtest, t

from rmbench.metrics import draws, interval
from rmbench.metrics.interval import Statistic, estimate, kish, mean, variance_of_mean, wilson_interval


def ends(estimate_):
    return estimate_.ci_low, estimate_.ci_high


# Proportions.


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 30), (30, 30), (7, 30), (499, 500)])
def test_singletons_get_the_plain_wilson_interval(k, n):
    [found] = estimate([mean("accuracy", np.repeat([1.0, 0.0], [k, n - k]), "proportion")], range(n))
    expected = binomtest(k, n).proportion_ci(method="wilson")
    assert ends(found) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (found.value, found.n, found.clusters) == (pytest.approx(k / n), n, n)
    assert found.ci_low <= found.value <= found.ci_high


def test_rows_repeated_within_their_cluster_add_nothing_but_the_fewer_degrees_of_freedom():
    rows = np.repeat([1.0, 0.0], [30, 10])
    [found] = estimate([mean("accuracy", np.repeat(rows, 5), "proportion")], np.repeat(np.arange(40), 5))
    level = 1 - 2 * t.cdf(-t.ppf(0.975, 39), 1e9)  # binomtest speaks of the normal quantile
    expected = binomtest(30, 40).proportion_ci(float(level), method="wilson")
    # c / (c - 1): the variance between clusters is estimated.
    assert ends(found) == pytest.approx((expected.low, expected.high), abs=3e-3)


def test_the_n_effective_is_n_over_the_design_effect_of_the_cluster_totals():
    successes, rows = np.array([5, 1, 0, 4, 2, 3.0]), np.full(6, 5.0)
    n, p, c = rows.sum(), successes.sum() / rows.sum(), len(rows)
    variance = c / (c - 1) * sum((s - p * m) ** 2 for s, m in zip(successes, rows, strict=True)) / n**2
    effective = n / (variance / (p * (1 - p) / n))
    assert effective < n
    quantile = t.ppf(0.975, c - 1)
    for end in wilson_interval(successes, rows):  # Wilson: the ends solve |p - x| = quantile * sqrt(x (1 - x) / n)
        assert abs(p - end) == pytest.approx(quantile * np.sqrt(end * (1 - end) / effective))


UNEVEN = np.array([9, 1, 3, 1, 2, 6, 1, 2.0])


def test_the_variance_over_clusters_is_the_jackknifes_or_that_of_rows_that_correlate_alike():
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(8), UNEVEN.astype(int))
    for correlated in (0.0, 3.0):
        rows = rng.normal(size=25) + correlated * rng.normal(size=8)[codes]
        without = [rows[codes != c].mean() for c in range(8)]
        jackknife = 7 / 8 * sum((rows.mean() - mean_) ** 2 for mean_ in without)
        apart = rows - rows.mean()
        pairs = sum(apart[i] * apart[j] / (UNEVEN[codes[i]] - 1)
                    for i in range(25) for j in range(25) if i != j and codes[i] == codes[j])  # fmt: skip
        several = UNEVEN[UNEVEN > 1].sum()
        squares = np.bincount(codes, np.square(apart))[UNEVEN > 1]
        seen, unequal = squares.sum() ** 2 / np.square(squares).sum(), 1 - 25**2 / np.square(UNEVEN).sum() / 8
        correlation = np.clip(pairs / several / np.square(apart).mean(), 0, 1)
        correlation = (seen * correlation + unequal) / (seen + unequal)
        alike = np.square(apart).mean() / 25 * (1 + (np.square(UNEVEN).sum() / 25 - 1) * correlation)
        assert variance_of_mean(rows, codes) == pytest.approx(max(jackknife, alike))


def test_clusters_alike_in_size_have_the_variance_of_their_totals():
    rows, codes = np.random.default_rng(1).normal(size=60), np.repeat(np.arange(12), 5)
    totals = np.bincount(codes, rows - rows.mean())
    assert variance_of_mean(rows, codes) == pytest.approx(12 / 11 * np.square(totals).sum() / 60**2)


@pytest.mark.parametrize(
    ("sizes", "effective"), [([1, 1, 1], 3), ([5, 5], 2), ([10, 1], 121 / 101), ([4], 1), ([3, 0, 3], 2)]
)
def test_kishs_number_of_clusters(sizes, effective):
    assert kish(np.array(sizes)) == pytest.approx(effective)


def uneven(kind, rng, clusters):
    """Sizes of clusters: of a Pareto distribution, or one with 83 % of the rows."""
    if kind == "pareto":
        return np.floor(1 + rng.pareto(1.1, clusters)).clip(max=300)
    return np.append(np.full(clusters - 1, 2.0), np.round(0.83 / 0.17 * 2 * (clusters - 1)))


@pytest.mark.parametrize("kind", ["pareto", "giant"])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.95])
@pytest.mark.parametrize("statistic", ["proportion", "fraction", "number"])
def test_clusters_that_differ_in_size_do_not_make_intervals_too_narrow(kind, p, statistic):
    rng, held, repeats = np.random.default_rng(3), 0, 120
    for repeat in range(repeats):
        sizes = uneven(kind, rng, 40).astype(int)
        codes = np.repeat(np.arange(40), sizes)
        chance = rng.beta(p * 7 / 3, (1 - p) * 7 / 3, 40)[codes]  # intra-cluster correlation .3
        rows = (rng.random(len(codes)) < chance).astype(float)
        [found] = estimate([mean("share", rows, statistic)], codes, draws=100, seed=repeat)
        held += not (found.ci_low > p or found.ci_high < p)
    assert held >= 120 * 0.95 - 3 * np.sqrt(120 * 0.05 * 0.95)  # at least 95 % but for chance; 1 to 86 % without
    assert found.clusters_effective == pytest.approx(sizes.sum() ** 2 / np.square(sizes).sum())


@pytest.mark.parametrize("kind", ["proportion", "fraction", "number"])
def test_the_n_effective_is_that_of_the_variance(kind):
    rows, codes = np.random.default_rng(4).integers(0, 2, 40).astype(float), np.repeat(np.arange(40), 5)
    [alone] = estimate([mean("share", rows, kind)], range(40))
    [copied] = estimate([mean("share", np.repeat(rows, 5), kind)], codes)
    assert (alone.n_effective, alone.clusters_effective) == (40, 40)
    assert copied.n_effective == pytest.approx(39, abs=1e-9)  # (c - 1): the variance between clusters is estimated
    assert copied.clusters_effective == 40


def test_clusters_that_balance_themselves_do_not_raise_n():
    low, high = wilson_interval(np.full(100, 1), np.full(100, 2))
    width = np.diff(binomtest(100, 200).proportion_ci(method="wilson"))[0]
    assert width < high - low < 1.02 * width  # the design effect is 0, floored at 1


def test_where_all_rows_succeed_n_is_the_number_of_clusters():
    low, high = wilson_interval(np.full(20, 5), np.full(20, 5))
    quantile = t.ppf(0.975, 19)
    assert (low, high) == (pytest.approx(20 / (20 + quantile**2)), 1)


def test_one_cluster_of_several_rows_says_nothing():
    assert wilson_interval(np.array([3.0]), np.array([4.0])) == (0, 1)


def test_leading_axes_are_repeats():
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 4, (7, 30))
    successes = rng.binomial(rows, 0.7)
    low, high = wilson_interval(successes, rows)
    for i in range(7):
        assert (low[i], high[i]) == wilson_interval(successes[i], rows[i])


@pytest.mark.parametrize("size", [1, 5])
def test_coverage_at_a_hundred_clusters(size):
    rng = np.random.default_rng(size)
    chance = rng.beta(7 / 6, 7 / 6, (10_000, 100))  # intra-cluster correlation 1 / (1 + 7 / 3) = .3
    low, high = wilson_interval(rng.binomial(size, chance), np.full((10_000, 100), size))
    assert 0.93 < np.mean((low <= 0.5) & (high >= 0.5)) < 0.97


# Everything else.


def test_the_bootstrap_equals_a_loop_that_draws_rows_cluster_by_cluster():
    rng = np.random.default_rng(1)
    rows, clusters = rng.normal(3, 1, 48), rng.permutation(np.repeat(np.arange(12), 4))
    [found] = estimate([mean("mean_rank", rows)], clusters, draws=200, seed=9)
    groups, [times] = [rows[clusters == c] for c in dict.fromkeys(clusters.tolist())], draws.times(12, 200, 9)
    means = [np.concatenate([np.tile(g, int(k)) for g, k in zip(groups, draw, strict=True)]).mean() for draw in times]
    tail = ndtr(np.sqrt(12 / 11) * t.ppf(0.025, 11))
    assert ends(found) == pytest.approx(np.quantile(means, [tail, 1 - tail]))
    assert found.value == pytest.approx(rows.mean())


def test_the_interval_of_many_rows_is_that_of_the_normal_distribution():
    rows = np.random.default_rng(2).exponential(size=3000)
    [found] = estimate([mean("mean_rank", rows)], range(3000))
    half = 1.96 * rows.std(ddof=1) / np.sqrt(3000)
    assert ends(found) == pytest.approx((rows.mean() - half, rows.mean() + half), abs=0.1 * half)


def test_statistics_share_their_draws():
    rows, clusters = np.random.default_rng(4).normal(size=60), np.arange(60) // 2
    one, two = estimate([mean("one", rows), mean("two", 2 * rows + 1)], clusters)
    assert ends(two) == pytest.approx((2 * one.ci_low + 1, 2 * one.ci_high + 1))


def test_a_ratio_of_sums_is_resampled_as_a_ratio():
    rng = np.random.default_rng(5)
    columns = np.stack([rng.random(200), 1 + rng.random(200)], axis=1)
    [found] = estimate([Statistic("ratio", columns, lambda s: s[..., 0] / s[..., 1])], range(200))
    top, bottom = columns.T
    ratio = top.sum() / bottom.sum()
    half = 1.96 * np.std(top - ratio * bottom) / bottom.mean() / np.sqrt(200)  # the delta method
    assert found.value == pytest.approx(ratio)
    assert ends(found) == pytest.approx((ratio - half, ratio + half), abs=0.15 * half)


def test_the_same_seed_gives_the_same_interval_and_another_does_not():
    statistics = [mean("mrr", np.random.default_rng(6).random(50), "fraction")]
    assert estimate(statistics, range(50), seed=1) == estimate(statistics, range(50), seed=1)
    assert estimate(statistics, range(50), seed=1) != estimate(statistics, range(50), seed=2)


def test_the_slow_form_gives_what_sums_give():
    rows, clusters = np.random.default_rng(7).normal(size=60), np.arange(60) // 4
    totals = rows.reshape(15, 4).sum(axis=1)
    slow = Statistic("slow", of=lambda times: times @ totals / times.sum(axis=1) / 4)
    quick, found = estimate([mean("quick", rows), slow], clusters, seed=3)
    assert (found.value, found.n, found.clusters) == (pytest.approx(quick.value), 60, 15)
    assert ends(found) == pytest.approx(ends(quick))


def test_a_pooled_auc_is_resampled_by_whole_clusters():
    rng = np.random.default_rng(8)
    right, wrong = rng.normal(1, 1, (80, 1)), rng.normal(0, 1, (80, 1))
    won = (right > wrong.T).astype(float)
    auc = Statistic("pooled_auc", of=lambda times: np.einsum("di,ij,dj->d", times, won, times) / 6400, kind="fraction")
    [found] = estimate([auc], range(80))
    influence = won.mean(axis=1) + won.mean(axis=0)
    half = 1.96 * influence.std() / np.sqrt(80)
    assert found.value == pytest.approx(won.mean())
    assert ends(found) == pytest.approx((won.mean() - half, won.mean() + half), abs=0.3 * half)


def test_rows_that_do_not_count_are_no_part_of_the_slow_form():
    statistic = Statistic("some", of=lambda times: times[:, 0], counted=np.array([True, True, False, False, True]))
    [found] = estimate([statistic], list("aabbc"))
    assert (found.n, found.clusters) == (3, 2)


def test_clusters_are_drawn_within_their_strata():
    rows = np.r_[np.random.default_rng(9).normal(0, 1, 30), np.random.default_rng(10).normal(50, 1, 30)]
    strata = np.repeat([0, 1], 30)
    whole, within = mean("whole", rows), replace(mean("within", rows), strata=strata)
    free, held = estimate([whole, within], range(60))
    variance = (rows[:30].var(ddof=1) + rows[30:].var(ddof=1)) / 4 / 30
    half = t.ppf(0.975, 58) * np.sqrt(variance)
    assert ends(held) == pytest.approx((rows.mean() - half, rows.mean() + half), abs=0.1 * half)
    assert free.ci_high - free.ci_low > 10 * half


def test_as_many_clusters_as_strata_leave_nothing_open():
    [found] = estimate([replace(mean("a", np.arange(3.0)), strata=np.arange(3))], range(3))
    assert np.isnan(ends(found)).all()


def test_a_statistic_has_one_form():
    for wrong in ({}, {"columns": np.ones((2, 2))}, {"of": np.sum, "kind": "proportion"}):
        with pytest.raises(ValueError, match="statistic 'a'"):
            Statistic("a", **wrong)


def test_what_lies_between_0_and_1_says_so():
    assert mean("a", np.ones(3), "fraction").bounds == (0, 1)
    assert mean("a", np.ones(3), "fraction", bounds=(0.1, 1)).bounds == (0.1, 1)
    assert mean("a", np.ones(3)).bounds == (None, None)


# What counts, and what cannot be said.


def test_left_out_rows_are_in_neither_n_nor_clusters():
    rows = np.array([1, 0, np.nan, np.nan, 1, 0.0])
    found = estimate([mean("a", rows, "proportion"), mean("b", rows)], ["x", "x", "x", "y", "z", "z"])
    assert [(e.n, e.clusters, e.value) for e in found] == [(4, 2, 0.5), (4, 2, 0.5)]
    [same] = estimate([mean("a", rows[[0, 1, 4, 5]], "proportion")], ["x", "x", "z", "z"])
    assert found[0] == same


def test_clusters_are_names_or_numbers():
    statistics = [mean("a", np.arange(6.0))]
    assert estimate(statistics, list("aabbcc")) == estimate(statistics, np.array([7, 7, 2, 2, 9, 9]))


@pytest.mark.parametrize("rows", [[], [np.nan, np.nan]])
@pytest.mark.parametrize("kind", ["proportion", "fraction", "number"])
def test_nothing_that_counts_is_nan(rows, kind):
    [found] = estimate([mean("a", np.array(rows, float), kind)], range(len(rows)))
    assert np.isnan([found.value, found.ci_low, found.ci_high]).all()
    assert (found.n, found.clusters) == (0, 0)


def test_a_perfect_fraction_is_not_certain():
    [found] = estimate([mean("mrr", np.ones(20), "fraction")], range(20))
    expected = binomtest(20, 20).proportion_ci(method="wilson")
    assert ends(found) == pytest.approx((expected.low, 1))


@pytest.mark.parametrize("kind", ["fraction", "number"])
def test_one_cluster_has_no_bootstrap_interval(kind):
    [found] = estimate([mean("a", np.array([0.2, 0.4]), kind)], ["x", "x"])
    assert found.value == pytest.approx(0.3)
    assert np.isnan(ends(found)).all()


def test_a_number_that_never_varies_has_no_interval():
    [found] = estimate([mean("mean_rank", np.full(20, 2.0))], range(20))
    assert found.value == 2
    assert np.isnan(ends(found)).all()


def test_a_value_that_is_not_defined_is_nan_without_a_warning():
    [found] = estimate([Statistic("ratio", np.zeros((5, 2)), lambda s: s[..., 0] / s[..., 1])], range(5))
    assert np.isnan([found.value, *ends(found)]).all()
    assert found.n == 5


def test_a_product_in_parts_is_the_product() -> None:
    rng = np.random.default_rng(0)
    times, table = rng.integers(5, size=(20, 3001)).astype(float), rng.integers(-9, 9, size=(3001, 40)).astype(float)
    assert interval._ALONE // (20 * 40) < 3001, "it is made of parts"
    assert np.array_equal(interval._product(times, table), times @ table)
