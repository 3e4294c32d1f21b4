"""Maps against scikit-learn and other optimisers; out-of-fold calibration against simulated truth and real scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

import rmbench
from rmbench.calibration import maps
from rmbench.calibration.fit import _folds, _read, calibrate
from rmbench.calibration.maps import Rows, apply, fit, probabilities
from rmbench.results.schema import Calibration
from rmbench.types import Outcome, View


def pair_rows(differences, weight=None):
    """Rows of right minus wrong rewards, one pair a prompt."""
    n = len(differences)
    y = (np.sign(differences) + 1) / 2
    return Rows(np.abs(differences), y, np.ones(n) if weight is None else weight, np.arange(n))


def pooled_rows(n=400, seed=0):
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(2, 3, n), 1)  # with ties
    y = (rng.random(n) < expit(0.8 * x - 1)).astype(float)
    return Rows(x, y, rng.uniform(0.5, 2, n), np.arange(n))


def outcome(name, scores, labels, cluster=None):
    scores = None if scores is None else np.asarray(scores, float)
    return Outcome(name, None, cluster or name, np.asarray(labels, float), {"default": View(scores, None, ())})


def ten_each(n=200, temperature=2.0, seed=0):
    """One right of ten by a softmax of rewards / temperature; the right one stands first."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        scores = rng.normal(0, 3, 10)
        right = rng.choice(10, p=softmax(scores / temperature))
        scores[[0, right]] = scores[[right, 0]]
        found.append(outcome(f"example {i:05}", scores, [1] + [0] * 9))
    return found


def mixed(n=200, seed=0):
    """Several right ones, or none, of five; two examples a cluster."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, (n, 5))
    labels = rng.random((n, 5)) < expit(scores)
    return [outcome(f"example {i:05}", scores[i], labels[i], f"cluster {i // 2}") for i in range(n)]


# Maps.


def test_a_temperature_is_recovered_within_two_percent():
    rng = np.random.default_rng(0)
    d = rng.normal(0, 4, 400_000)
    found = fit("pairs", "temperature", pair_rows(np.where(rng.random(len(d)) < expit(d / 2), d, -d)))
    assert found.note is None
    assert found.parameters["temperature"] == pytest.approx(2.0, rel=0.02)


def test_the_softmax_temperature_is_recovered_within_two_percent():
    rng = np.random.default_rng(1)
    x = rng.normal(5, 4, (100_000, 4))
    right = np.argmax(x / 2 + rng.gumbel(size=x.shape), axis=1)
    y = (np.arange(4) == right[:, None]).astype(float)
    rows = Rows(x.ravel(), y.ravel(), np.full(x.size, 0.25), np.repeat(np.arange(len(x)), 4))
    assert fit("softmax", "temperature", rows).parameters["temperature"] == pytest.approx(2.0, rel=0.02)


def test_temperatures_are_those_of_another_optimiser():
    rng = np.random.default_rng(2)
    d, weight = rng.normal(1, 3, 300), rng.uniform(0.1, 2, 300)
    found = fit("pairs", "temperature", pair_rows(d, weight)).parameters["temperature"]
    spread = np.sqrt(np.average(np.square(d), weights=weight))

    def held(t, spread):
        """One pair of the usual margin, won half."""
        return (np.logaddexp(0, -spread / t) + np.logaddexp(0, spread / t)) / 2

    best = minimize_scalar(
        lambda t: weight @ np.logaddexp(0, -d / t) + held(t, spread), bounds=(0.1, 100), options={"xatol": 1e-9}
    )
    assert found == pytest.approx(best.x, rel=1e-5)

    groups = [rng.normal(0, 2, size) for size in rng.integers(2, 6, 200)]
    rows = Rows(
        np.concatenate(groups),
        np.concatenate([np.arange(len(g)) == 0 for g in groups]).astype(float),
        np.concatenate([np.full(len(g), 1 + i % 3) for i, g in enumerate(groups)]).astype(float),
        np.repeat(np.arange(200), [len(g) for g in groups]),
    )
    rows.x[rows.y == 1] += 1.5
    found = fit("softmax", "temperature", rows).parameters["temperature"]

    def loss(t):
        split = np.split(rows.x, np.flatnonzero(np.diff(rows.prompt)) + 1)
        return sum(-log_softmax(x / t)[0] * (1 + i % 3) for i, x in enumerate(split)) + mean_weight * held(t, spread)

    mean_weight = rows.weight.mean()
    behind = rows.x - rows.x[rows.y == 1][rows.prompt]
    spread = np.sqrt(np.average(np.square(behind), weights=rows.weight))
    assert found == pytest.approx(minimize_scalar(loss, bounds=(0.1, 100), options={"xatol": 1e-9}).x, rel=1e-5)


@pytest.mark.parametrize("wins", [50, 10])
def test_a_temperature_stays_within_its_bound_and_says_so(wins):
    d = np.where(np.arange(100) < wins, 3.0, -3.0)
    found = fit("pairs", "temperature", pair_rows(d))
    assert found.parameters["temperature"] == pytest.approx(3 * 100)
    assert "upper bound" in found.note


def test_where_no_pair_is_in_the_wrong_order_the_temperature_is_that_of_one_more_pair_won_half():
    found = fit("pairs", "temperature", pair_rows(np.full(100, 3.0)))
    assert expit(3 / found.parameters["temperature"]) == pytest.approx((100 + 0.5) / 101)
    assert "prior" in found.note


@pytest.mark.parametrize("wrong", [0, 1, 2])
@pytest.mark.parametrize("size", [1.0, 20.0])
def test_near_separability_a_temperature_is_about_as_good_as_rewards_as_they_are(wrong, size):
    worse = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        d = np.abs(rng.normal(3, 1, 100)) * np.where(np.arange(100) < wrong, -1, 1)
        outcomes = [outcome(f"{i:03}", [size * x, 0.0], [1, 0]) for i, x in enumerate(d)]
        report, _ = calibrated(calibrate(outcomes, "default", seed=seed))
        best = np.mean(np.logaddexp(0, -d))  # of d itself, which size hides
        worse.append(report.of("pairs", "temperature").figure("log_loss").value - best)
    assert np.mean(worse) < 0.05  # without the pair that holds it: .4 to .9 with one wrong


def test_a_map_that_is_worse_out_of_fold_than_rewards_as_they_are_says_so():
    rng = np.random.default_rng(5)
    margin = rng.normal(0, 1.5, 60)
    won = np.where(rng.random(60) < expit(np.abs(margin)), 1, -1) * np.abs(margin)
    outcomes = [outcome(f"{i:03}", [x, 0.0], [1, 0]) for i, x in enumerate(won)]
    report, _ = calibrated(calibrate(outcomes, "default"))
    told = set()
    for described in report.maps:
        raw = report.of(described.scope, "raw").figure("log_loss").value
        is_worse = described.figure("log_loss").value > raw
        assert ("worse than rewards as they are" in (described.note or "")) == is_worse
        told.add(is_worse)
    assert told == {True, False}


@pytest.mark.parametrize("factor", [2.0**-10, 2.0**7, 1 / 10, 1 / 3, 0.7, 1e6])
@pytest.mark.parametrize("kind", ["ratings", "halves", "rewards"])
def test_no_figure_of_a_fitted_map_depends_on_the_unit_of_the_rewards(kind, factor):
    rng = np.random.default_rng(6)
    outcomes, scaled = [], []
    for i in range(150):
        scores = {
            "ratings": rng.integers(1, 11, 3),
            "halves": rng.integers(2, 21, 3) / 2,
            "rewards": rng.normal(size=3),
        }
        given = scores[kind].astype(float)
        labels = np.roll([1, 0, 0], 0 if rng.random() < 0.7 else 1)
        given = np.sort(given)[::-1]
        outcomes.append(outcome(f"{i:03}", given, labels))
        scaled.append(outcome(f"{i:03}", given * factor, labels))
    plain, other = (calibrated(calibrate(some, "default"))[0] for some in (outcomes, scaled))
    for one, two in zip(plain.maps, other.maps, strict=True):
        if one.map != "raw":
            for figure, same in zip(one.figures, two.figures, strict=True):
                assert same.value == pytest.approx(figure.value, abs=1e-6), (one.scope, one.map, figure.name)
                assert same.ci_low == pytest.approx(figure.ci_low, abs=1e-6, nan_ok=True)


def test_the_isotonic_map_of_pairs_is_that_of_scikit_learn_on_both_orientations():
    rng = np.random.default_rng(3)
    d, weight = np.round(rng.normal(0.7, 1, 500), 1), rng.uniform(0.5, 2, 500)
    d[d == 0] = 0.05
    found = fit("pairs", "isotonic", pair_rows(d, weight))
    both = IsotonicRegression(y_min=1 / 1000, y_max=1 - 1 / 1000, out_of_bounds="clip")
    both.fit(np.append(d, -d), np.repeat([1.0, 0.0], 500), sample_weight=np.tile(weight / 2, 2))
    at = np.linspace(-5, 5, 1001)
    p = apply("pairs", "isotonic", found.parameters, at)
    assert p == pytest.approx(both.predict(at), abs=1e-9)
    assert p + p[::-1] == pytest.approx(np.ones(1001))


def test_the_pooled_isotonic_map_is_that_of_scikit_learn():
    rows = pooled_rows()
    found = fit("pooled", "isotonic", rows).parameters
    other = IsotonicRegression(y_min=1 / 800, y_max=1 - 1 / 800, out_of_bounds="clip")
    other.fit(rows.x, rows.y, sample_weight=rows.weight)
    at = np.linspace(-15, 15, 1001)
    assert apply("pooled", "isotonic", found, at) == pytest.approx(other.predict(at), abs=1e-9)
    assert len(found["x"]) < 60  # ends of steps alone


def test_the_pooled_isotonic_map_preserves_the_mean():
    rng = np.random.default_rng(4)
    x = rng.normal(0, 1, 3000)
    rows = Rows(x, (rng.random(3000) < 0.3 + 0.4 * expit(x)).astype(float), rng.uniform(0.5, 2, 3000), np.arange(3000))
    p = apply("pooled", "isotonic", fit("pooled", "isotonic", rows).parameters, x)
    assert rows.weight @ p / rows.weight.sum() == pytest.approx(rows.weight @ rows.y / rows.weight.sum(), abs=1 / 6000)


def test_the_platt_map_is_that_of_another_optimiser_on_smoothed_targets():
    rows = pooled_rows()
    right, wrong = rows.weight @ rows.y, rows.weight @ (1 - rows.y)
    target = np.where(rows.y == 1, (right + 1) / (right + 2), 1 / (wrong + 2))

    def loss(given):
        z = given[0] * rows.x + given[1]
        return rows.weight @ (np.logaddexp(0, z) - target * z)

    best = minimize(loss, [0, 0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000}).x
    found = fit("pooled", "platt", rows).parameters
    assert [found["slope"], found["intercept"]] == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e12])
def test_separable_data_have_a_finite_platt_map(scale):
    x = scale * np.append(np.linspace(-2, -1, 50), np.linspace(1, 2, 50))
    rows = Rows(x, (x > 0).astype(float), np.ones(100), np.arange(100))
    p = apply("pooled", "platt", fit("pooled", "platt", rows).parameters, x)
    assert 0.8 < p[50:].min() <= p.max() < 1
    assert 0 < p.min() <= p[:50].max() < 0.2


def test_a_map_that_learned_the_reverse_says_so():
    rows = pooled_rows()
    against = Rows(-rows.x, rows.y, rows.weight, rows.prompt)
    assert "negative" in fit("pooled", "platt", against).note
    assert "flat" in fit("pooled", "isotonic", against).note
    assert "flat" in fit("pairs", "isotonic", pair_rows(-1 - np.arange(20.0))).note


@pytest.mark.parametrize("how", maps.HOWS["pairs"])
def test_swapping_a_pair_swaps_its_probability(how):
    d = np.random.default_rng(5).normal(1, 2, 200)
    parameters = fit("pairs", how, pair_rows(d)).parameters
    assert apply("pairs", how, parameters, d) + apply("pairs", how, parameters, -d) == pytest.approx(np.ones(200))
    assert apply("pairs", how, parameters, np.zeros(1)) == 0.5


# Out of fold.


def calibrated(found):
    assert found.reason is None
    return found.report, found.probabilities


def test_folds_are_whole_clusters_dealt_evenly():
    outcomes = [outcome(f"{i:03}", [i, -i], [i % 3 > 0, i % 3 == 0], f"cluster {i % 23:02}") for i in range(1, 116)]
    data = _read(outcomes, "default")
    fold = _folds(data.clusters, data.names, 0)
    assert sorted(np.bincount(fold).tolist()) == [4, 4, 5, 5, 5]
    few = _folds(data.clusters[:20], data.names, 0)  # examples 1 to 10
    assert sorted(few[1:11].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert {few[0], *few[11:].tolist()} == {5}  # nobody has seen those: the fit to everything judges them


def test_a_cluster_is_judged_by_a_fit_that_did_not_see_it():
    outcomes = mixed()
    changed = [
        outcome(o.example_id, o.views["default"].scores, 1 - o.labels, o.cluster) if o.cluster == "cluster 7" else o
        for o in outcomes
    ]
    one, two = (calibrate(some, "default").probabilities for some in (outcomes, changed))
    mine = [o.cluster == "cluster 7" for o in outcomes]
    assert sum(mine) == 2
    assert all(a.tolist() == b.tolist() for a, b, m in zip(one, two, mine, strict=True) if m)
    assert not all(a.tolist() == b.tolist() for a, b, m in zip(one, two, mine, strict=True) if not m)


def test_a_calibrator_that_saw_its_judges_looks_better_than_it_is_and_the_cross_fitted_does_not():
    rng = np.random.default_rng(0)
    in_fold, out_of_fold = [], []
    for _ in range(20):
        outcomes = [outcome(f"{i:03}", rng.normal(size=4), rng.permutation([1, 1, 0, 0])) for i in range(60)]
        y, x = (
            np.concatenate([o.labels for o in outcomes]),
            np.concatenate([o.views["default"].scores for o in outcomes]),
        )
        report, found = calibrated(calibrate(outcomes, "default"))
        leaking = probabilities(report, [o.views["default"].scores for o in outcomes])
        assert roc_auc_score(y, x) == pytest.approx(0.5, abs=0.15)
        in_fold.append(np.mean(np.square(np.concatenate(leaking) - y)))
        out_of_fold.append(report.of("pooled", "isotonic").figure("brier").value)
        assert out_of_fold[-1] == pytest.approx(np.mean(np.square(np.concatenate(found) - y)))
    assert np.mean(in_fold) < 0.245  # 1/4 is the best there is: the reward is noise
    assert np.mean(out_of_fold) > 0.25


def test_a_softmax_is_fitted_where_every_example_has_exactly_one_right():
    outcomes = ten_each(2000)
    report, found = calibrated(calibrate(outcomes, "default"))
    assert (report.kind, report.map) == ("softmax", "temperature")
    assert [some.sum() for some in found] == pytest.approx(np.ones(2000))
    fitted, raw = report.of("softmax", "temperature"), report.of("softmax", "raw")
    assert fitted.parameters["temperature"] == pytest.approx(2, rel=0.1)
    assert fitted.figure("ece").ci_low == 0
    assert raw.figure("ece").ci_low > 0.01
    expected = np.mean([-np.log(some[0]) for some in found])
    assert fitted.figure("log_loss").value == pytest.approx(expected)
    assert (fitted.figure("log_loss").n, fitted.figure("brier").n) == (2000, 20_000)
    assert [(m.scope, m.map) for m in report.maps] == [
        ("pairs", "raw"), ("pairs", "temperature"), ("pairs", "isotonic"), ("softmax", "raw"),
        ("softmax", "temperature"), ("pooled", "raw"), ("pooled", "isotonic"), ("pooled", "platt"),
    ]  # fmt: skip


def test_pairs_are_every_right_with_every_wrong_one_of_an_example_each_example_weighing_one():
    outcomes = mixed(60)
    report, _ = calibrated(calibrate(outcomes, "default"))
    losses = []
    for o in outcomes:
        scores = o.views["default"].scores
        mine = [expit(a - b) for a in scores[o.labels == 1] for b in scores[o.labels == 0]]
        losses += [np.mean([(1 - p) ** 2 for p in mine])] if mine else []
    assert report.of("pairs", "raw").figure("brier").value == pytest.approx(np.mean(losses))


def test_judged_figures_are_those_of_the_probabilities_in_the_records():
    outcomes = mixed()
    report, found = calibrated(calibrate(outcomes, "default"))
    y, p = np.concatenate([o.labels for o in outcomes]), np.concatenate(found)
    fitted = report.of("pooled", "isotonic")
    assert fitted.figure("brier").value == pytest.approx(np.mean(np.square(p - y)))
    assert fitted.figure("log_loss").value == pytest.approx(-np.mean(np.log(np.where(y == 1, p, 1 - p))))
    assert sum(b.n for b in fitted.reliability) == len(y)


@pytest.mark.parametrize("data", [ten_each, mixed])
def test_the_order_of_examples_changes_nothing(data):
    outcomes = data()
    shuffled = np.random.default_rng(0).permutation(len(outcomes))
    straight, mixed_up = calibrate(outcomes, "default"), calibrate([outcomes[i] for i in shuffled], "default")
    assert mixed_up.report == straight.report
    for at, i in enumerate(shuffled):
        assert mixed_up.probabilities[at].tolist() == straight.probabilities[i].tolist()


def test_another_seed_deals_other_folds():
    outcomes = mixed()
    one, two = (calibrate(outcomes, "default", seed=seed).report for seed in (0, 1))
    assert one.of("pooled", "isotonic").parameters == two.of("pooled", "isotonic").parameters
    assert one.of("pooled", "isotonic").figures != two.of("pooled", "isotonic").figures


def test_the_offset_of_a_prompt_moves_pooled_probabilities_alone():
    outcomes, rng = ten_each(), np.random.default_rng(0)
    moved = [outcome(o.example_id, o.views["default"].scores + rng.integers(-9, 9), o.labels) for o in outcomes]
    one, two = calibrate(outcomes, "default").report, calibrate(moved, "default").report
    for scope, how in [("pairs", "temperature"), ("pairs", "isotonic"), ("softmax", "temperature")]:
        for a, b in zip(one.of(scope, how).figures, two.of(scope, how).figures, strict=True):
            assert a.value == pytest.approx(b.value, abs=1e-9)
    assert one.of("pooled", "isotonic").figure("brier") != two.of("pooled", "isotonic").figure("brier")


def test_graded_labels_are_right_where_they_are_the_highest_of_their_example():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(100, 3))
    graded = [outcome(f"{i:03}", s, [3, 7, 7] if i % 2 else [1, 5, 2]) for i, s in enumerate(scores)]
    plain = [outcome(f"{i:03}", s, [0, 1, 1] if i % 2 else [0, 1, 0]) for i, s in enumerate(scores)]
    assert calibrate(graded, "default").report == calibrate(plain, "default").report


def test_missing_rewards_and_labels_are_left_out():
    outcomes = mixed()
    whole = calibrate(outcomes, "default").report.of("pooled", "raw").figure("brier")
    extra = [
        outcome("x", [np.nan, 1, 2, np.inf], [1, 0, np.nan, 1]),
        outcome("y", None, [1, 0]),
        Outcome("z", None, "z", np.array([1.0, 0.0]), {}),
    ]
    report, found = calibrated(calibrate(outcomes + extra, "default"))
    assert report.of("pooled", "raw").figure("brier").n == whole.n + 1
    assert np.isfinite(found[200]).tolist() == [False, True, True, False]  # unlabelled, but it has a reward
    assert np.isnan(np.concatenate(found[201:])).all()


def test_rewards_too_large_to_square_are_left_out_as_infinite_ones_are():
    outcomes = [*mixed(), outcome("x", [1e300, -1e300, 1], [1, 0, 1])]
    report, found = calibrated(calibrate(outcomes, "default"))
    assert np.isnan(found[-1]).tolist() == [True, True, False]
    assert np.isnan(probabilities(report, [np.array([1e300, -np.inf, 0])])[0]).tolist() == [True, True, False]


def test_an_example_without_all_its_rewards_has_no_softmax():
    outcomes = ten_each()
    broken = outcomes[7].views["default"].scores.copy()
    broken[3] = np.nan
    outcomes[7] = outcome(outcomes[7].example_id, broken, outcomes[7].labels)
    report, found = calibrated(calibrate(outcomes, "default"))
    assert report.kind == "softmax"
    assert [bool(np.isnan(some).all()) for some in found].index(True) == 7
    assert report.of("pairs", "raw").figure("ece").n == 9 * 200 - 1


def test_separable_data_still_calibrate_and_say_so():
    rng = np.random.default_rng(0)
    outcomes = [outcome(f"{i:03}", [5, *rng.normal(size=3)], [1, 0, 0, 0]) for i in range(100)]
    report, found = calibrated(calibrate(outcomes, "default"))
    assert "prior" in report.of("pairs", "temperature").note
    assert "prior" in report.of("softmax", "temperature").note
    assert all(np.isfinite(some).all() for some in found)
    for described in report.maps:
        assert all(f.value is not None and np.isfinite(f.value) for f in described.figures)


ONE_LINES = {
    "no candidate is labelled": [outcome(str(i), [1, 2], [np.nan, np.nan]) for i in range(20)],
    "every candidate with a label and a reward is right": [outcome(str(i), [i, 2], [1, 1]) for i in range(20)],
    "every candidate with a label and a reward is wrong": [outcome(str(i), [i, 2], [0, 0]) for i in range(20)],
    "the largest reward is 2e-300, and below 1e-100 squares are 0": [
        outcome(str(i), [1e-300, 2e-300], [1, 0]) for i in range(20)
    ],
    "every reward is the same, 3": [outcome(str(i), [3, 3], [1, 0]) for i in range(20)],
    "only comparisons were asked, and they give no rewards": [
        Outcome(str(i), None, str(i), np.array([1.0, 0]), {"default": View(None, np.full((2, 2), 0.5), ())})
        for i in range(20)
    ],
    "no labelled candidate has a finite reward": [outcome(str(i), [np.inf, np.nan], [1, 0]) for i in range(20)],
    "9 independent clusters are too few: at least 10 are needed": [
        outcome(str(i), [i, 2], [1, 0], str(i % 9)) for i in range(50)
    ],
    "no example has candidates that are all labelled, some higher than others": [
        outcome(str(i), [i, 2], [3, np.nan] if i % 2 else [4, 4]) for i in range(50)
    ],
}  # fmt: skip


@pytest.mark.parametrize("reason", ONE_LINES)
def test_what_cannot_be_calibrated_has_one_line_that_says_why(reason):
    found = calibrate(ONE_LINES[reason], "default")
    assert (found.report, found.probabilities, found.reason) == (None, None, reason)


def test_no_outcome_at_all_is_unlabelled():
    assert calibrate([], "default").reason == "no candidate is labelled"


def test_rewards_that_only_differ_between_prompts_have_a_pooled_map_alone():
    rng = np.random.default_rng(0)
    outcomes = [outcome(f"{i:03}", [x, x], [1, 0]) for i, x in enumerate(rng.normal(size=50))]
    report, _ = calibrated(calibrate(outcomes, "default"))
    assert report.kind == "pooled"
    assert {m.scope for m in report.maps} == {"pooled"}


def test_examples_of_one_class_each_have_a_pooled_map_alone():
    rng = np.random.default_rng(0)
    outcomes = [outcome(f"{i:03}", rng.normal(i % 2, 1, 3), np.full(3, i % 2)) for i in range(50)]
    report, _ = calibrated(calibrate(outcomes, "default"))
    assert {m.scope for m in report.maps} == {"pooled"}


def test_rewards_of_any_size_calibrate():
    for scale in (1e-12, 1e12):
        scaled = [outcome(o.example_id, o.views["default"].scores * scale, o.labels) for o in ten_each()]
        report, _ = calibrated(calibrate(scaled, "default"))
        expected = calibrate(ten_each(), "default").report
        for scope, how in [("pairs", "temperature"), ("pooled", "platt"), ("softmax", "temperature")]:
            found = report.of(scope, how).figure("brier").value
            assert found == pytest.approx(expected.of(scope, how).figure("brier").value, rel=1e-6)


# Applied to other responses.


@pytest.mark.parametrize("data", [ten_each, mixed])
def test_a_calibration_read_back_from_json_applies_identically(data):
    report = calibrate(data(), "default").report
    again = Calibration.model_validate_json(report.model_dump_json())
    again = Calibration.model_validate(json.loads(again.model_dump_json()))
    rewards = [o.views["default"].scores for o in data(seed=1)]
    for one, two in zip(probabilities(report, rewards), probabilities(again, rewards), strict=True):
        assert one.tolist() == two.tolist()


def test_a_softmax_is_over_the_responses_to_a_prompt_and_a_single_one_has_none():
    report = calibrate(ten_each(), "default").report
    temperature = report.of("softmax", "temperature").parameters["temperature"]
    rewards = [np.array([1.0, 3.0]), np.array([2.0]), np.array([]), np.array([1.0, np.nan, 2.0]), np.arange(3.0)]
    two, one, none, broken, three = probabilities(report, rewards)
    assert two == pytest.approx(softmax(np.array([1, 3]) / temperature))
    assert three == pytest.approx(softmax(np.arange(3) / temperature))
    assert (np.isnan(one).tolist(), none.tolist(), np.isnan(broken).tolist()) == ([True], [], [True] * 3)


def test_a_pooled_map_is_applied_to_each_response():
    report = calibrate(mixed(), "default").report
    parameters = report.of("pooled", "isotonic").parameters
    one, two = probabilities(report, [np.array([1.0, np.nan, 50.0]), np.array([-50.0])])
    assert one[0] == np.interp(1.0, parameters["x"], parameters["probability"])
    assert np.isnan(one[1])
    assert (one[2], two[0]) == (parameters["probability"][-1], parameters["probability"][0])
    assert probabilities(report, []) == []


# RewardMATH's official score files.


def test_every_official_scorer_with_rewards_has_a_calibration(rmbench_data: Path):
    rows = []
    for file in sorted((rmbench_data / "rewardmath" / "scores").glob("*.json")):
        (result,) = rmbench.evaluate(f"scores:{file}", ["rewardmath"], data={"rewardmath": file})
        if "pairwise" in file.name:
            assert "comparisons" in result.calibration_reason
            continue
        assert result.calibration.kind == "softmax"
        raw, fitted = (result.calibration.of("pairs", how) for how in ("raw", "temperature"))
        assert fitted.figure("log_loss").value < np.log(2) + 0.01
        eces = [m.figure("ece") for m in (raw, fitted)]
        assert all(np.isfinite([ece.value, ece.ci_low, ece.ci_high]).all() for ece in eces)
        line = "".join(f"  {100 * e.value:6.2f} [{100 * e.ci_low:5.2f}, {100 * e.ci_high:5.2f}]" for e in eces)
        rows.append(f"{file.stem:28}{line}  T {fitted.parameters['temperature']:.4g}  {fitted.note or ''}")
    print("\nECE of pairs in %, raw and after temperature", *rows, sep="\n")
    assert len(rows) == 10


@pytest.mark.parametrize(
    ("fitted", "applied", "said"), [(2, 8, "2 responses"), (4, 2, "4 responses"), (2, 2, None), (3, 1, None)]
)
def test_a_softmax_fitted_to_other_numbers_of_responses_is_not_applied_without_a_note(fitted, applied, said):
    rng = np.random.default_rng(9)
    outcomes = [outcome(f"{i:03}", rng.normal(size=fitted) + np.eye(fitted)[0], np.eye(fitted)[0]) for i in range(60)]
    report, _ = calibrated(calibrate(outcomes, "default"))
    assert report.responses == (fitted, fitted)
    note = maps.unlike_fit(report, [applied] * 3 + [fitted])
    assert (note is None) == (said is None)
    if note is not None:
        assert said in note
        assert f"3 with {applied}" in note
    older = report.model_copy(update={"responses": None})  # a file of yesterday does not say
    assert maps.unlike_fit(older, [applied]) is None
