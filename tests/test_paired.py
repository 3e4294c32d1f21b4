"""Paired tests against enumeration and statsmodels, intervals and ranks in simulation, tiers of made-up models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from rmbench.metrics import draws
from rmbench.metrics.interval import Kind, Statistic, estimate, mean, mean_interval, percentiles, wilson_interval
from rmbench.metrics.paired import Difference, apart, difference, difference_of, holm, mcnemar_p, overlap, ranks, tiers
from rmbench.metrics.sign_flip import sign_flip_p, sign_flip_ps
from rmbench.types import Array


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
    assert holm([0.03, np.nan, 0.02]) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)  # two tests, not three


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_holm_is_that_of_statsmodels(count: int) -> None:
    p = np.random.default_rng(count).random(count) ** 3
    assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1])


def placed(values: Sequence[Array], clusters: NDArray[np.integer]) -> list[tuple[int, float | None]]:
    return tiers([float(one.mean()) for one in values], apart([one[:, None] for one in values], clusters))


@pytest.mark.parametrize("models", [5, 20])
def test_equal_models_share_a_tier_in_95_of_100_tables(models: int) -> None:
    rng, alone, trials = np.random.default_rng(0), np.arange(200), 100
    tables = (rng.binomial(1, 0.6, (models, 200)).astype(float) for _ in range(trials))
    told = sum(max(tier for tier, _ in placed([*table], alone)) > 1 for table in tables)
    assert told / trials <= 0.10


def test_tiers_of_three_levels() -> None:
    rng = np.random.default_rng(3)
    level = rng.random(1000)
    wins = [(level + 0.05 * rng.random(1000) < p).astype(float) for p in (0.5, 0.9, 0.5, 0.9, 0.2)]
    assert [tier for tier, _ in placed(wins, np.arange(1000))] == [2, 1, 2, 1, 3]


def test_a_leader_that_was_chosen_by_looking_is_tested_as_such() -> None:
    wins = np.zeros((3, 100))  # the first wins nine examples of each other, and loses one to it
    wins[0, :18], wins[1, 9:19], wins[2, :9], wins[2, 19] = 1, 1, 1, 1
    p = 2 * 11 / 2**10
    assert max(holm([p, p])) < 0.05  # as if it had been the leader before anybody looked
    assert placed(wins, np.arange(100)) == [(1, None), (1, pytest.approx(3 * p)), (1, pytest.approx(3 * p))]
    assert [tier for tier, _ in placed(wins[:2], np.arange(100))] == [1, 2]


@pytest.mark.parametrize("kind", ["whole", "shares"])
def test_forty_models_can_still_be_told_apart(kind: str) -> None:
    rng = np.random.default_rng(7)
    wins = rng.random((40, 483)) * (0.9 if kind == "shares" else 1) < 0.3
    values = wins.astype(float) if kind == "whole" else wins * rng.random((40, 483))
    values[17] = values[17].clip(min=0.7) if kind == "shares" else np.maximum(values[17], rng.random(483) < 0.5)
    found = placed(values, np.arange(483))
    assert [i for i, (tier, _) in enumerate(found) if tier == 1] == [17]


def test_what_is_open_is_told_from_nothing() -> None:
    values = [np.ones(30), np.zeros(30), np.full(30, np.nan)]
    found = apart([one[:, None] for one in values], np.arange(30))
    assert found[0, 1] < 0.001
    assert found[2].tolist() == [1.0, 1.0, 1.0]


def test_several_tests_at_once_are_each_alone_and_go_below_what_draws_can_tell() -> None:
    rng = np.random.default_rng(8)
    some = [rng.normal(0.1, 1, 90) * (rng.random(90) < share) for share in (0.9, 0.5, 0.7)]
    some += [rng.normal(size=12), rng.binomial(2, 0.5, 40) - 1.0, np.zeros(3)]
    assert sign_flip_ps(some) == [sign_flip_p(one) for one in some]
    (told,) = sign_flip_ps([np.full(100, 0.5)])
    assert 2.0**-99 <= told < 1e-9 < sign_flip_p(np.full(100, 0.5))


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


def latent(rng: np.random.Generator, clusters: int, size: int) -> Array:
    """Standard normal values [clusters, size]; those of a cluster correlate by 0.3."""
    return np.sqrt(0.3) * rng.normal(size=(clusters, 1)) + np.sqrt(0.7) * rng.normal(size=(clusters, size))


def two_models(rng: np.random.Generator, clusters: int, size: int, theirs: float, ours: float) -> tuple[Array, Array]:
    """Right answers [n, 1] of two models of these accuracies, which find the same examples hard."""
    hard = latent(rng, clusters, size)
    right = [np.sqrt(0.6) * hard + np.sqrt(0.4) * latent(rng, clusters, size) < ndtri(p) for p in (theirs, ours)]
    return right[0].reshape(-1, 1).astype(float), right[1].reshape(-1, 1).astype(float)


def simulate(repeats: int, clusters: int, size: int, theirs: float, ours: float) -> list[Difference]:
    """The differences found in `repeats` samples."""
    rng, codes = np.random.default_rng(clusters + size), np.repeat(np.arange(clusters), size)
    samples = (two_models(rng, clusters, size, theirs, ours) for _ in range(repeats))
    return [difference(b, a, codes, kind="proportion") for a, b in samples]


def coverage(found: list[Difference], truth: float) -> float:
    return float(np.mean([one.ci_low <= truth <= one.ci_high for one in found]))


@pytest.mark.parametrize("seed", range(4))
def test_mcnemar_is_that_of_statsmodels(seed: int) -> None:
    theirs, ours = np.random.default_rng(seed).binomial(1, 0.6, (2, 80, 1)).astype(float)
    table = [[np.sum((ours == a) & (theirs == b)) for b in (1, 0)] for a in (1, 0)]
    expected = mcnemar(table, exact=True).pvalue
    assert mcnemar_p((ours - theirs).ravel()) == pytest.approx(expected, rel=1e-9)
    found = difference(ours, theirs, np.arange(80), kind="proportion")
    assert found.mcnemar_p == pytest.approx(expected, rel=1e-9)
    assert found.p == pytest.approx(expected, rel=1e-9)


def test_mcnemar_is_silent_where_its_rows_are_not_independent_or_not_right_and_wrong() -> None:
    ours, theirs = np.array([[1.0], [1.0], [0.0]]), np.array([[0.0], [1.0], [0.0]])
    assert difference(ours, theirs, np.array([4, 7, 9])).mcnemar_p == 1.0
    assert difference(ours, theirs, np.array([4, 4, 9])).mcnemar_p is None
    assert difference(ours / 2, theirs, np.arange(3)).mcnemar_p is None
    assert difference(np.hstack([ours, ours]), theirs, np.arange(3)).mcnemar_p is None


def test_a_difference_of_other_means_is_that_of_their_differences() -> None:
    rng, clusters = np.random.default_rng(6), np.repeat(np.arange(30), 2)
    ours, theirs = 1 / rng.integers(1, 11, (2, 60, 1))
    found = difference(ours, theirs, clusters, kind="fraction")
    [expected] = estimate([mean("", (ours - theirs).ravel())], clusters)
    due = expected.value, expected.ci_low, expected.ci_high
    assert (found.value, found.ci_low, found.ci_high) == pytest.approx(due)
    assert (found.n, found.clusters) == (60, 30)
    swapped = difference(theirs, ours, clusters, kind="fraction")
    assert (swapped.value, swapped.p, swapped.detectable) == pytest.approx((-found.value, found.p, found.detectable))


@pytest.mark.parametrize("kind", ["proportion", "number"])
def test_models_that_are_alike_on_every_row_do_not_differ(kind: Kind) -> None:
    values = np.random.default_rng(7).binomial(1, 0.5, (50, 1)).astype(float)
    found = difference(values, values, np.arange(50), kind=kind)
    assert (found.value, found.p, found.mcnemar_p) == (0.0, 1.0, 1.0)
    assert np.isnan(found.detectable)
    assert found.ci_low == pytest.approx(-0.057, abs=1e-3) if kind == "proportion" else np.isnan(found.ci_low)


def test_one_cluster_says_nothing_of_others() -> None:
    for runs in (1, 2):
        found = difference(np.ones((6, runs)), np.zeros((6, 1)), np.zeros(6, int), kind="proportion")
        assert (found.value, found.p, found.clusters) == (1.0, 1.0, 1)
        assert np.isnan([found.ci_low, found.ci_high, found.detectable]).all()


@pytest.mark.parametrize(("size", "theirs", "ours"), [(1, 0.3, 0.4), (5, 0.93, 0.95), (1, 0.5, 0.5)])
def test_the_interval_of_a_difference_covers_what_it_says(size: int, theirs: float, ours: float) -> None:
    assert 0.93 <= coverage(simulate(1000, 100, size, theirs, ours), ours - theirs) <= 0.985


@pytest.mark.prove
@pytest.mark.parametrize("clusters", [100, 500])
@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize(("theirs", "ours"), [(0.5, 0.5), (0.3, 0.4), (0.93, 0.95), (0.99, 0.995)])
def test_intervals_of_differences_cover(clusters: int, size: int, theirs: float, ours: float) -> None:
    covered = coverage(simulate(2000, clusters, size, theirs, ours), ours - theirs)
    often_differ = clusters * size * abs(1 - (theirs + ours) / 2) >= 25
    assert covered >= 0.93
    assert covered <= 0.97 or not often_differ, "rare differences are covered more often than need be, never less"


@pytest.mark.parametrize("size", [1, 5])
def test_equal_models_are_told_apart_at_the_nominal_rate(size: int) -> None:
    found = simulate(1000, 100, size, 0.6, 0.6)
    assert 0.025 <= np.mean([one.p <= 0.05 for one in found]) <= 0.07


@pytest.mark.parametrize(("clusters", "size"), [(200, 1), (100, 4)])
def test_the_smallest_detectable_difference_is_found_in_four_of_five_samples(clusters: int, size: int) -> None:
    smallest = float(np.mean([one.detectable for one in simulate(100, clusters, size, 0.5, 0.6)]))
    found = simulate(600, clusters, size, 0.5, 0.5 + smallest)
    assert 0.75 <= np.mean([one.p <= 0.05 for one in found]) <= 0.86


def seeds_of_a_model(rng: np.random.Generator, level: float, hard: Array, runs: int, spread: float) -> Array:
    """Right answers [n, runs] of a model whose runs differ in how good they are, by a standard deviation `spread`."""
    own = hard + 0.5 * rng.normal(size=len(hard))
    quality = level * np.sqrt(1.74 + spread**2) + rng.normal(0, spread, runs)
    return (own[:, None] + 0.7 * rng.normal(size=(len(hard), runs)) < quality).astype(float)


@pytest.mark.parametrize(("ours_runs", "spread"), [(3, 0.2), (5, 0.2), (3, 0.0)])
def test_an_interval_over_seeds_covers_other_seeds(ours_runs: int, spread: float) -> None:
    rng, clusters, truth = np.random.default_rng(ours_runs), np.arange(200), 0.5 - 0.5792597
    found, only_examples = [], []
    for _ in range(600):
        hard = rng.normal(size=200)
        theirs = seeds_of_a_model(rng, 0.2, hard, 3, spread)
        ours = seeds_of_a_model(rng, 0.0, hard, ours_runs, spread)
        found.append(difference(ours, theirs, clusters, kind="proportion"))
        averages = [values.mean(axis=1, keepdims=True) for values in (ours, theirs)]
        only_examples.append(difference(averages[0], averages[1], clusters, kind="proportion"))
    assert 0.93 <= coverage(found, truth) <= 0.99
    assert coverage(only_examples, truth) < 0.9 or spread == 0, "a test that cannot tell would prove nothing"


def test_what_runs_do_by_chance_on_each_example_is_counted_once() -> None:
    rng, found = np.random.default_rng(14), []
    for _ in range(600):
        ours, theirs = (rng.random((150, 4)) < 0.5).astype(float), (rng.random((150, 4)) < 0.5).astype(float)
        found.append(difference(ours, theirs, np.arange(150)))
    due = 2 * 1.96 * np.sqrt(2 * 0.25 / 600)
    # Twice would be 1.5: some is left, because half of all samples vary more between runs than is due, and none less
    assert np.mean([one.ci_high - one.ci_low for one in found]) == pytest.approx(1.26 * due, rel=0.05)


def test_seeds_that_vary_are_no_difference() -> None:
    rng = np.random.default_rng(8)
    told, told_by_examples = [], []
    for _ in range(400):
        hard = rng.normal(size=300)
        ours, theirs = (seeds_of_a_model(rng, 0.0, hard, 3, 0.3) for _ in range(2))
        told.append(difference(ours, theirs, np.arange(300), kind="proportion").p <= 0.05)
        told_by_examples.append(sign_flip_p(ours.sum(axis=1) - theirs.sum(axis=1)) <= 0.05)
    assert np.mean(told) <= 0.08
    assert np.mean(told_by_examples) > 0.2


def test_one_run_twice_is_not_two_seeds_of_evidence() -> None:
    ours, theirs = np.random.default_rng(9).binomial(1, [[0.6], [0.4]], (2, 100)).astype(float)[..., None]
    once = difference(ours, theirs, np.arange(100), kind="proportion")
    twice = difference(np.hstack([ours, ours]), theirs, np.arange(100), kind="proportion")
    assert (twice.ci_low, twice.ci_high) == pytest.approx((once.ci_low, once.ci_high), abs=0.001)


def test_overlap_counts_who_is_wrong() -> None:
    ours, theirs = np.array([[1.0], [1.0], [0.0], [0.0], [0.0]]), np.array([[1.0], [0.0], [1.0], [0.0], [0.0]])
    found = overlap(ours, theirs)
    assert (found.only_theirs, found.only_ours, found.both, found.neither) == (1, 1, 2, 1)
    assert found.common == 0.5
    assert found.common_if_independent == pytest.approx(0.36 / 0.84)


def test_overlap_of_runs_is_the_mean_over_pairs_of_them() -> None:
    ours, theirs = np.random.default_rng(10).binomial(1, 0.6, (2, 30, 3)).astype(float)
    pairs = [overlap(ours[:, [i]], theirs[:, [j]]) for i, j in product(range(3), repeat=2)]
    found = overlap(ours, theirs)
    for name in ("only_theirs", "only_ours", "both", "neither"):
        assert getattr(found, name) == pytest.approx(np.mean([getattr(pair, name) for pair in pairs]))


def test_without_errors_there_is_nothing_to_share() -> None:
    found = overlap(np.ones((4, 1)), np.ones((4, 1)))
    assert found.neither == 4
    assert np.isnan([found.common, found.common_if_independent]).all()


def test_independent_errors_are_common_as_often_as_they_would_be() -> None:
    ours, theirs = np.random.default_rng(11).binomial(1, 0.7, (2, 20_000, 1)).astype(float)
    found = overlap(ours, theirs)
    assert found.common == pytest.approx(found.common_if_independent, abs=0.01)


def test_ranks_of_models_far_apart_and_of_copies() -> None:
    rng = np.random.default_rng(12)
    level = rng.random((400, 1))
    found = ranks([(level < p).astype(float) for p in (0.5, 0.9, 0.5, 0.1)], np.arange(400))
    assert [(one.rank, one.low, one.high) for one in found] == [(2, 2, 3), (1, 1, 1), (2, 2, 3), (4, 4, 4)]


@pytest.mark.parametrize("gap", [0.0, 0.02, 0.1])
def test_rank_intervals_hold_the_true_ranks(gap: float) -> None:
    rng, quality = np.random.default_rng(13), 0.5 + gap * np.arange(5)
    held = 0
    for _ in range(200):
        level = rng.random((150, 1))
        values = [(0.5 * level + 0.5 * rng.random((150, 1)) < p).astype(float) for p in quality]
        held += all(one.low <= 5 - i <= one.high or (gap == 0 and (one.low, one.high) == (1, 5))
                    for i, one in enumerate(ranks(values, np.arange(150))))  # fmt: skip
    assert held / 200 >= 0.93


# Statistics that are no means, value minus value.


def standardised(gap: Array, scatter: Array) -> Statistic:
    """A mean gap over the pooled SD, as `margin_sd` and `effect_*` are."""

    def value(sums: Array) -> Array:
        return np.asarray(sums[..., 0] / sums[..., 1] / np.sqrt(sums[..., 2] / sums[..., 1]))

    return Statistic("sd", np.column_stack([gap, np.ones_like(gap), scatter]), value)


def pooled_auc(right: Array, wrong: Array) -> Statistic:
    """The slow form over rows that are a cluster each."""
    won = (right[:, None] > wrong[None]).astype(float)

    def of(times: Array) -> Array:
        return np.einsum("di,ij,dj->d", times, won, times) / np.square(times.sum(axis=1))

    return Statistic("pooled_auc", of=of, kind="fraction")


def two_standardised(rng: np.random.Generator, n: int, apart: float = 0.0) -> tuple[Statistic, Statistic]:
    """Standardised gaps of two models whose rewards share what a prompt is; true values .5 + apart and .5."""
    shared, scales = rng.normal(size=n), rng.chisquare(3, (2, n)) / 3
    own = rng.normal(size=(2, n))
    gaps = 0.6 * shared + 0.8 * own + np.array([[0.5 + apart], [0.5]])
    return standardised(3 * gaps[0], 9 * scales[0]), standardised(gaps[1], scales[1])


@pytest.mark.parametrize("kind", ["proportion", "fraction", "number"])
def test_for_means_the_difference_of_statistics_is_that_of_their_rows(kind: Kind) -> None:
    rng, clusters = np.random.default_rng(20), np.repeat(np.arange(30), 2)
    ours, theirs = rng.binomial(1, [[0.7], [0.5]], (2, 60)).astype(float)
    found = difference_of(mean("a", ours, kind), mean("a", theirs, kind), clusters)
    assert found == difference(ours[:, None], theirs[:, None], clusters, kind=kind)


def test_parts_of_a_mean_in_another_form_are_its_rows() -> None:
    rng, clusters = np.random.default_rng(21), np.repeat(np.arange(40), 3)
    n = 120
    ours, theirs = rng.normal([[0.3], [0.0]], 1, (2, n))
    sums = [np.bincount(clusters, weights=values) for values in (ours, theirs)]
    sizes = np.bincount(clusters).astype(float)
    slow = [Statistic("slow", of=lambda times, s=s: times @ s / (times @ sizes)) for s in sums]
    found = difference_of(*slow, clusters)
    due = difference(ours[:, None], theirs[:, None], clusters)
    for name in ("value", "ci_low", "ci_high", "p", "detectable", "n", "clusters"):
        assert getattr(found, name) == pytest.approx(getattr(due, name)), name


def test_over_clusters_that_differ_in_size_it_is_as_wide_as_that_of_a_mean() -> None:
    """By three sums instead of two, so that it is no mean to whoever looks; draws alone are .6 times as wide."""
    rng = np.random.default_rng(28)
    codes = np.repeat(np.arange(30), [1] * 27 + [9, 20, 60])
    ours, theirs = rng.normal([[0.3], [0.0]], 1, (2, len(codes))) + rng.normal(size=30)[codes] * [[1], [0]]

    def value(sums: Array) -> Array:
        return np.asarray(sums[..., 0] / sums[..., 1] * sums[..., 2] / sums[..., 1])

    ones = np.ones(len(codes))
    found = difference_of(*(Statistic("x", np.column_stack([x, ones, ones]), value) for x in (ours, theirs)), codes)
    due = difference(ours[:, None], theirs[:, None], codes)
    for name in ("value", "ci_low", "ci_high", "p", "detectable", "n", "clusters"):
        assert getattr(found, name) == pytest.approx(getattr(due, name)), name


@pytest.mark.parametrize(
    "make", [two_standardised, lambda rng, n: tuple(pooled_auc(*rng.normal([[1], [0]], 1, (2, n))) for _ in "ab")]
)
def test_a_difference_is_value_minus_value_in_every_draw(make: Callable[..., tuple[Statistic, Statistic]]) -> None:
    n, values = 40, []
    ours, theirs = make(np.random.default_rng(22), n)
    for [times] in [draws.times(n, 300, 4)]:
        for draw in times:
            kept = np.repeat(np.arange(n), draw.astype(int))
            both = [
                one.of(draw[None])[0] if one.of else one.value(one.columns[kept].sum(axis=0)) for one in (ours, theirs)
            ]
            values.append(both[0] - both[1])
    found = difference_of(ours, theirs, range(n), draws=300, seed=4)
    assert (found.ci_low, found.ci_high) == pytest.approx(percentiles(found.value, np.array(values), n, n - 1))
    assert found.mcnemar_p is None


def test_a_scale_that_only_one_model_has_makes_no_difference() -> None:
    rng = np.random.default_rng(23)
    gap, scatter = rng.normal(0.5, 1, 50), rng.chisquare(3, 50)
    found = difference_of(standardised(gap, scatter), standardised(7 * gap, 49 * scatter), range(50))
    assert (found.value, found.p) == (0.0, 1.0)


@pytest.mark.parametrize("offset", [0.1, 100.0, -7e3])
def test_means_that_only_rounding_tells_apart_are_level(offset: float) -> None:
    rewards = np.random.default_rng(26).normal(0.5, 1, (50, 3))
    ours, theirs = rewards[:, 0] - rewards[:, 1], (rewards[:, 0] + offset) - (rewards[:, 1] + offset)
    assert (ours != theirs).any()
    found = difference_of(mean("lead", ours), mean("lead", theirs), range(50))
    assert (found.value, found.p) == (0.0, 1.0)
    runs = difference(np.column_stack([ours, ours]), np.column_stack([theirs, theirs]), np.arange(50))
    assert (runs.value, runs.p) == (0.0, 1.0)


def test_rows_that_count_for_one_only_are_left_out_of_both() -> None:
    ours, theirs = two_standardised(np.random.default_rng(24), 30)
    holed = replace(ours, columns=np.where(np.arange(30)[:, None] < 5, np.nan, ours.columns))
    found = difference_of(holed, theirs, range(30))
    due = difference_of(*(replace(one, columns=one.columns[5:]) for one in (ours, theirs)), range(25))
    assert (found.value, found.n, found.clusters, found.p) == (pytest.approx(due.value), 25, 25, pytest.approx(due.p))


def test_strata_of_either_are_kept() -> None:
    ours, theirs = two_standardised(np.random.default_rng(25), 40)
    strata = np.repeat([0, 1], 20)
    held = difference_of(replace(ours, strata=strata), theirs, range(40), seed=1)
    assert held == difference_of(replace(ours, strata=strata), replace(theirs, strata=strata), range(40), seed=1)
    assert held != difference_of(ours, theirs, range(40), seed=1)


def test_too_little_leaves_a_difference_open() -> None:
    ours, theirs = two_standardised(np.random.default_rng(26), 1)
    alone = difference_of(ours, theirs, [0])
    assert np.isnan([alone.ci_low, alone.ci_high, alone.p, alone.detectable]).all()
    nothing = replace(ours, columns=np.full((1, 3), np.nan))
    assert difference_of(nothing, theirs, [0]).n == 0


def test_intervals_and_p_of_a_ratio_with_its_sd_hold() -> None:
    rng, held, low, powerful = np.random.default_rng(27), 0, 0, 0
    for seed in range(500):
        found = difference_of(*two_standardised(rng, 80), range(80), draws=400, seed=seed)
        held += found.ci_low <= 0 <= found.ci_high
        low += found.p <= 0.05
        apart = difference_of(*two_standardised(rng, 80, apart=0.35), range(80), draws=50, seed=seed)
        powerful += apart.p <= 0.05
    assert 0.93 <= held / 500 <= 0.97
    assert 0.03 <= low / 500 <= 0.075
    assert 0.6 < powerful / 500 < 0.95
