"""Calibration figures against loops, published estimators, scikit-learn and simulated coverage."""

import numpy as np
import pytest
from calibration import DESIGNS, simulated, truth
from scipy.special import expit, logit
from scipy.stats import binomtest
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from rmbench.metrics import reliability
from rmbench.metrics.reliability import bins, figures, log_loss, table


def some_rows(n=600, size=3, seed=0):
    """Overconfident p, y, uneven weights and clusters of `size` rows."""
    rng = np.random.default_rng(seed)
    chance = rng.beta(3, 2, n)
    y = (rng.random(n) < chance).astype(float)
    return expit(2 * logit(chance)), y, rng.uniform(0.5, 2, n), np.arange(n) // size


def figure(name, *rows):
    return next(found for found in figures(*rows) if found.name == name)


# Bins.


def test_bins_of_different_p_have_equal_mass_and_rise():
    p = np.random.default_rng(0).random(900)
    bin_of = bins(p, np.ones(900), 900)
    assert np.bincount(bin_of).tolist() == [60] * 15
    assert (np.diff(bin_of[np.argsort(p)]) >= 0).all()


def test_weights_are_what_is_equal():
    p, weight = np.random.default_rng(0).random(900), np.random.default_rng(1).uniform(0.1, 3, 900)
    mass = np.bincount(bins(p, weight, 900), weights=weight) / weight.sum()
    assert mass == pytest.approx(np.full(15, 1 / 15), abs=0.005)


@pytest.mark.parametrize("values", [[0.3], [0.1, 0.9], np.linspace(0, 1, 10), [0.2, 0.2 + 1e-15, 0.7]])
def test_equal_p_are_never_split_and_no_bin_is_empty(values):
    p = np.random.default_rng(0).choice(values, 1000)
    bin_of = bins(p, np.ones(1000), 1000)
    assert np.bincount(bin_of).min() > 0
    assert len({(round(value, 9), b) for value, b in zip(p, bin_of, strict=True)}) == len(set(np.round(values, 9)))


def test_p_that_only_rounding_tells_apart_are_never_split():
    p = np.repeat([0.2, 0.5, 0.3 / 0.5], 50) + np.tile([0, 1e-16, -1e-16, 2e-13, -2e-13], 30)
    found = bins(p, np.ones(150), 400)
    assert [len(set(found[at : at + 50])) for at in (0, 50, 100)] == [1, 1, 1]


@pytest.mark.parametrize("tiny", [0.0, 1e-62, 1e-30, 1e-14])
def test_an_error_that_is_rounding_is_0(tiny):
    p, y = np.full(400, tiny), np.zeros(400)
    found = {one.name: one for one in figures(p, y, np.ones(400), np.arange(400))}
    assert (found["ece"].value, found["ece_l1"].value, found["reliability"].value) == (0, 0, 0)


def test_few_clusters_have_few_bins():
    p = np.random.default_rng(0).random(2000)
    assert [bins(p, np.ones(2000), clusters).max() + 1 for clusters in (1, 39, 100, 5000)] == [1, 1, 5, 15]


# Figures.


def test_reliability_equals_a_loop_over_pairs_of_rows_of_different_clusters():
    p, y, weight, clusters = some_rows(200)
    share, folds = weight / weight.sum(), (clusters * 7) % 3
    bin_of = bins(p, weight, int(clusters.max()) + 1)
    for chosen in (None, folds):
        total = 0.0
        for b in range(bin_of.max() + 1):
            top = bottom = 0.0
            for i in np.flatnonzero(bin_of == b):
                for j in np.flatnonzero(bin_of == b):
                    if clusters[i] != clusters[j] and (chosen is None or chosen[i] == chosen[j]):
                        top += share[i] * (y[i] - p[i]) * share[j] * (y[j] - p[j])
                        bottom += share[i] * share[j]
            total += share[bin_of == b].sum() * top / bottom
        assert figure("reliability", p, y, weight, clusters, chosen).value == pytest.approx(total)


def test_with_one_row_a_cluster_it_is_the_debiased_estimate_of_kumar_liang_and_ma():
    rng = np.random.default_rng(0)
    p = rng.choice([0.2, 0.5, 0.9], 600)
    y = (rng.random(600) < p**2).astype(float)
    expected = 0.0
    for value in (0.2, 0.5, 0.9):
        inside = y[p == value]
        n, mean = len(inside), inside.mean()
        expected += n / 600 * ((mean - value) ** 2 - mean * (1 - mean) / (n - 1))
    found = figures(p, y, np.ones(600), np.arange(600))
    assert {e.name: e.value for e in found}["reliability"] == pytest.approx(expected)
    assert {e.name: e.value for e in found}["ece"] == pytest.approx(np.sqrt(expected))


def test_the_plug_in_is_the_weighted_mean_gap_of_the_bins():
    p, y, weight, clusters = some_rows()
    bin_of, expected = bins(p, weight, 200), 0.0
    for b in range(bin_of.max() + 1):
        mine = bin_of == b
        observed, predicted = (np.average(values[mine], weights=weight[mine]) for values in (y, p))
        expected += abs(observed - predicted) * weight[mine].sum() / weight.sum()
    found = figure("ece_l1", p, y, weight, clusters)
    assert found.value == pytest.approx(expected)
    assert found.ci_low <= found.value <= found.ci_high


def test_brier_and_log_loss_equal_those_of_scikit_learn():
    p, y, weight, clusters = some_rows()
    assert figure("brier", p, y, weight, clusters).value == pytest.approx(brier_score_loss(y, p, sample_weight=weight))
    found = log_loss(logit(p), y, weight, clusters)
    assert found.value == pytest.approx(sklearn_log_loss(y, p, sample_weight=weight))
    assert found.ci_low < found.value < found.ci_high


def test_the_parts_of_the_brier_score_add_up_exactly():
    found = {e.name: e.value for e in figures(*some_rows())}
    parts = found["reliability"] - found["resolution"] + found["uncertainty"]
    assert parts == pytest.approx(found["brier"], rel=1e-14)


def test_a_tie_is_half_a_win_and_half_a_loss():
    rng = np.random.default_rng(0)
    p, y = rng.uniform(0.5, 1, 400), rng.choice([0, 0.5, 1], 400)
    split_p, split_y, clusters = np.repeat(p, 2), np.repeat(y, 2), np.repeat(np.arange(400), 2)
    split_y[::2], split_y[1::2] = np.ceil(y), np.floor(y)
    whole, split = figures(p, y, np.ones(400), np.arange(400)), figures(split_p, split_y, np.ones(800), clusters)
    for one, two in zip(whole, split, strict=True):
        assert one.value == pytest.approx(two.value, rel=1e-9)
    assert figure("brier", np.full(50, 0.5), np.full(50, 0.5), np.ones(50), np.arange(50)).value == 0.25


def test_a_logit_of_any_size_has_a_finite_log_loss():
    found = log_loss(np.repeat([5000.0, -5000.0], 10), np.ones(20), np.ones(20), np.arange(20))
    assert found.value == 2500
    assert np.isfinite([found.ci_low, found.ci_high]).all()


def test_the_scale_of_weights_and_the_names_of_clusters_do_not_matter():
    p, y, weight, clusters = some_rows()
    for one, two in zip(figures(p, y, weight, clusters), figures(p, y, 8 * weight, 1000 - 5 * clusters), strict=True):
        assert (one.n, one.clusters) == (two.n, two.clusters)
        ends = [[e.value, e.ci_low, e.ci_high] for e in (one, two)]
        assert ends[0] == pytest.approx(ends[1], rel=1e-9, nan_ok=True)


def test_doubled_rows_of_the_same_clusters_say_nothing_new_about_calibration():
    p, y, weight, clusters = some_rows(size=1)
    once, twice = (figure("ece", *(np.tile(part, times) for part in (p, y, weight, clusters))) for times in (1, 2))
    assert twice.value == pytest.approx(once.value)
    assert twice.ci_high - twice.ci_low == pytest.approx(once.ci_high - once.ci_low, rel=0.15)


def test_one_cluster_says_nothing():
    found = {e.name: e for e in figures(np.full(5, 0.8), np.ones(5), np.ones(5), np.zeros(5, int))}
    assert np.isnan([found["ece"].value, found["reliability"].value, found["resolution"].value]).all()
    assert np.isnan([found[name].ci_low for name in ("ece", "brier")]).all()
    assert found["brier"].value == pytest.approx(0.04)


# The table.


def test_the_table_has_means_and_wilson_intervals_of_each_bin():
    p, y, _, _ = some_rows(900)
    found = table(p, y, np.ones(900), np.arange(900))
    bin_of = bins(p, np.ones(900), 900)
    assert [b.n for b in found] == np.bincount(bin_of).tolist()
    for at, b in enumerate(found):
        inside = bin_of == at
        expected = binomtest(int(y[inside].sum()), b.n).proportion_ci(method="wilson")
        assert (b.predicted, b.observed) == (pytest.approx(p[inside].mean()), pytest.approx(y[inside].mean()))
        assert (b.ci_low, b.ci_high) == (pytest.approx(expected.low, abs=1e-6), pytest.approx(expected.high, abs=1e-6))


def test_rows_that_copy_their_cluster_make_bins_no_surer():
    p, y, _, clusters = some_rows(size=1)
    once = table(p, y, np.ones(600), clusters)
    copied = table(*(np.repeat(part, 5) for part in (p, y, np.ones(600), clusters)))
    for one, five in zip(once, copied, strict=True):
        assert five.n == 5 * one.n
        assert five.ci_high - five.ci_low == pytest.approx(one.ci_high - one.ci_low, rel=0.1)


# Coverage: benchmarks/calibration.py has the long version.


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("size", DESIGNS)
def test_intervals_hold_the_truth_at_the_nominal_rate(size, temperature):
    rng, repeats = np.random.default_rng(int(10 * temperature) + size), 400
    expected, held, errors = truth(temperature, 100), {"ece": 0, "brier": 0, "log_loss": 0}, []
    for _ in range(repeats):
        rows = simulated(rng, 100, size, temperature)
        found = {e.name: e for e in [*figures(*rows), log_loss(logit(rows[0]), *rows[1:])]}
        errors.append(found["reliability"].value)
        for name in held:
            held[name] += found[name].ci_low <= expected[name] <= found[name].ci_high
    for name, count in held.items():
        assert 0.925 <= count / repeats <= 0.985, name
    assert np.mean(errors) == pytest.approx(expected["reliability"], abs=4 * np.std(errors) / np.sqrt(repeats))


def test_the_plug_in_never_reaches_the_zero_that_the_debiased_figure_holds():
    rows = simulated(np.random.default_rng(0), 300, 1, 1.0)
    assert figure("ece_l1", *rows).value > 0.02
    assert figure("ece", *rows).ci_low == 0


def test_the_sizes_that_coverage_was_simulated_for_are_those_in_use():
    assert (reliability.BINS, reliability.CLUSTERS_A_BIN) == (15, 20)
