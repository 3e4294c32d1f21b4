"""Length metrics against regressions with a column per prompt, loops over pairs, another optimiser, and simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import binom, rankdata, t

from rmbench.metrics import comparison, length
from rmbench.metrics.interval import Estimate, estimate
from rmbench.types import Array, Outcome, View


def outcome(scores: Sequence[float], labels: Sequence[float], characters: Sequence[float], name: str = "x") -> Outcome:
    view = View(np.array(scores, float), None, ["ok"] * len(scores))
    columns = {"characters": np.array(characters, float)}
    return Outcome(name, None, name, np.array(labels, float), {"default": view}, columns)


def estimates(outcomes: Sequence[Outcome], draws: int = 2) -> dict[str, Estimate]:
    found = estimate(length.statistics(outcomes, "default"), range(len(outcomes)), draws=draws)
    return {one.name: one for one in found}


def drawn(rng: np.random.Generator, n: int, k: int, love: float = 0.0, level: float = 1.5) -> list[Outcome]:
    """One right of k; right answers are longer by 60 characters on average; `love` is reward per character."""
    made = []
    for i in range(n):
        labels = np.eye(k)[rng.integers(k)]
        lengths = np.rint(200 + 60 * labels + 40 * rng.normal(size=k))
        scores = 5 * rng.normal() + level * labels + love * lengths + rng.normal(size=k)
        made.append(outcome(scores, labels, lengths, str(i)))
    return made


candidates = st.tuples(st.integers(-3, 3), st.integers(0, 1), st.integers(0, 8))
examples = st.lists(st.lists(candidates, min_size=2, max_size=4), min_size=2, max_size=6)


def residual_fit(outcomes: Sequence[Outcome], ranked: bool) -> tuple[float, float]:
    """Correlation of what a regression on prompts and label leaves of reward and length, and the slope between."""
    change = (lambda x: rankdata(x) / len(x)) if ranked else np.asarray
    reward = np.concatenate([change(o.views["default"].scores) for o in outcomes])
    ell = np.concatenate([change(o.columns["characters"]) for o in outcomes])
    label = np.concatenate([o.labels == o.labels.max() for o in outcomes]).astype(float)
    prompt = np.repeat(np.arange(len(outcomes)), [len(o.labels) for o in outcomes])
    design = np.column_stack([label, np.eye(len(outcomes))[prompt]])
    left_r, left_l = (y - design @ np.linalg.lstsq(design, y, rcond=None)[0] for y in (reward, ell))
    if min(left_r @ left_r, left_l @ left_l) < 1e-9:
        return np.nan, np.nan
    return left_r @ left_l / np.sqrt(left_r @ left_r * (left_l @ left_l)), left_r @ left_l / (left_l @ left_l)


@settings(max_examples=150, deadline=None)
@given(examples)
def test_correlations_and_slope_are_those_of_a_regression_on_prompts_and_label(
    rows: list[list[tuple[int, ...]]],
) -> None:
    outcomes = [outcome(*zip(*row, strict=True)) for row in rows]
    found = estimates(outcomes)
    pearson, slope = residual_fit(outcomes, ranked=False)
    spearman, _ = residual_fit(outcomes, ranked=True)
    assert found["length_spearman"].value == pytest.approx(spearman, abs=1e-9, nan_ok=True)
    assert found["length_pearson"].value == pytest.approx(pearson, abs=1e-9, nan_ok=True)
    if np.isfinite(pearson):
        assert found["reward_per_100_characters"].value == pytest.approx(100 * slope, abs=1e-7)


@settings(max_examples=100, deadline=None)
@given(examples)
def test_kendall_is_the_partial_correlation_of_signs_of_differences(rows: list[list[tuple[int, ...]]]) -> None:
    outcomes = [outcome(*zip(*row, strict=True)) for row in rows]
    signs = []
    for o in outcomes:
        triple = o.views["default"].scores, o.columns["characters"], (o.labels == o.labels.max()).astype(float)
        signs += [[np.sign(x[i] - x[j]) for x in triple] for i, j in permutations(range(len(o.labels)), 2)]
    r, ell, y = np.array(signs).T
    taus = {}
    for name, (a, b) in {"rl": (r, ell), "ry": (r, y), "ly": (ell, y)}.items():
        both = (a @ a) * (b @ b)
        taus[name] = a @ b / np.sqrt(both) if both else 0.0
    below = (1 - taus["ry"] ** 2) * (1 - taus["ly"] ** 2)
    known = below > 1e-9 and r @ r and ell @ ell
    expected = (taus["rl"] - taus["ry"] * taus["ly"]) / np.sqrt(below) if known else np.nan
    assert estimates(outcomes)["length_kendall"].value == pytest.approx(expected, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("love", [-0.02, 0.0, 0.01, 0.05])
@pytest.mark.parametrize("k", [2, 10])
def test_a_reward_of_quality_and_length_gives_its_price_of_length_back(love: float, k: int) -> None:
    slope = estimates(drawn(np.random.default_rng(3), 400, k, love), draws=2000)["reward_per_100_characters"]
    assert slope.ci_low <= 100 * love <= slope.ci_high
    assert slope.ci_high - slope.ci_low < 0.8


@pytest.mark.parametrize("k", [2, 10])
def test_a_reward_that_knows_nothing_of_length_holds_zero_at_the_nominal_rate(k: int) -> None:
    repeats, missed = 200, dict.fromkeys(["length_pearson", "length_spearman", "length_kendall"], 0)
    for seed in range(repeats):
        found = estimates(drawn(np.random.default_rng(seed), 100, k), draws=400)
        for name in missed:
            missed[name] += not found[name].ci_low <= 0 <= found[name].ci_high
    assert max(missed.values()) <= binom.ppf(0.999, repeats, 0.06), missed
    assert min(missed.values()) >= binom.ppf(0.001, repeats, 0.04), missed


def penalised_fit(won: Array, difference: Array, weight: Array) -> float:
    """The intercept's chance, by a general optimiser."""
    x = np.tanh(difference / difference.std())

    def loss(point: Array) -> float:
        a, b = point
        margins = a + b * x
        fit = weight @ (won * np.logaddexp(0, -margins) + (1 - won) * np.logaddexp(0, margins))
        return float(fit + 0.1 * (b * b / 2 + np.logaddexp(0, -a) + np.logaddexp(0, a)))

    return float(1 / (1 + np.exp(-minimize(loss, np.zeros(2), tol=1e-10).x[0])))


def pairs_of(outcomes: Sequence[Outcome]) -> list[tuple[int, float, float, float]]:
    """(outcome, won, difference in length, length of the longer) of every (right, wrong) pair."""
    found = []
    for at, o in enumerate(outcomes):
        scores, ell = o.views["default"].scores, o.columns["characters"]
        for i, j in permutations(range(len(scores)), 2):
            if o.labels[i] > o.labels[j]:
                won = (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
                found.append((at, won, ell[i] - ell[j], max(ell[i], ell[j])))
    return found


@pytest.mark.parametrize("k", [2, 5])
def test_length_controlled_accuracy_is_the_penalised_fit_of_another_optimiser(k: int) -> None:
    outcomes = drawn(np.random.default_rng(5), 60, k, love=0.03)
    _, won, difference, _ = map(np.array, zip(*pairs_of(outcomes), strict=True))
    expected = penalised_fit(won, difference, np.full(len(won), 1 / (k - 1)))
    assert estimates(outcomes)["accuracy_length_controlled"].value == pytest.approx(expected, abs=1e-5)


def test_its_interval_is_that_of_fits_made_again_for_every_draw() -> None:
    rng = np.random.default_rng(8)
    outcomes = drawn(rng, 150, 2, love=0.02)
    _, won, difference, _ = map(np.array, zip(*pairs_of(outcomes), strict=True))
    again = []
    for _ in range(300):
        pick = rng.integers(150, size=150)
        again.append(penalised_fit(won[pick], difference[pick], np.ones(150)))
    found = estimates(outcomes, draws=4000)["accuracy_length_controlled"]
    assert (found.ci_low, found.ci_high) == pytest.approx(np.quantile(again, [0.025, 0.975]), abs=0.02)


@pytest.mark.parametrize("giant", [40, 60])
def test_its_interval_over_uneven_clusters_is_that_of_fits_without_one_of_them(giant: int) -> None:
    rng = np.random.default_rng(8)
    outcomes = [*drawn(rng, giant + 1, 2, love=0.01, level=1.0), *drawn(rng, 79 - giant, 2, love=0.01, level=-0.7)]
    _, won, difference, _ = map(np.array, zip(*pairs_of(outcomes), strict=True))
    clusters = np.maximum(np.arange(80) - giant, 0)  # a large one, of which more is right, and the others alone
    count = int(clusters.max()) + 1
    without = [penalised_fit(won, difference, (clusters != one).astype(float)) for one in range(count)]
    whole = penalised_fit(won, difference, np.ones(80))
    odds = np.log(np.array([whole, *without]) / (1 - np.array([whole, *without])))
    spread = np.sqrt((count - 1) / count * np.square(odds[1:] - odds[0]).sum())
    (metric,) = (
        one
        for one in estimate(length.statistics(outcomes, "default"), clusters.tolist(), draws=2)
        if one.name == "accuracy_length_controlled"
    )
    half = (np.log(metric.ci_high / (1 - metric.ci_high)) - np.log(metric.ci_low / (1 - metric.ci_low))) / 2
    assert half / t.ppf(0.975, count - 1) == pytest.approx(spread, rel=0.2)


def test_separable_wins_and_losses_stay_finite() -> None:
    longer_wins = [outcome([1, 0], [1, 0], [20 + i, 10], str(i)) for i in range(10)]
    shorter_loses = [outcome([0, 1], [1, 0], [10, 20 + i], f"s{i}") for i in range(10)]
    found = estimates(longer_wins + shorter_loses, draws=500)["accuracy_length_controlled"]
    assert found.value == pytest.approx(0.5, abs=0.01)
    all_won = estimates(longer_wins, draws=500)["accuracy_length_controlled"]
    assert 0.8 < all_won.value < 1


def test_a_reward_that_is_right_but_loves_length_is_told_from_one_that_is_wrong() -> None:
    rng = np.random.default_rng(2)
    lover, wrong = (drawn(rng, 400, 2, love=0.03, level=2.5), drawn(rng, 400, 2, level=-0.1))
    short_right = [outcome(o.views["default"].scores - 0.06 * o.columns["characters"], o.labels,
                           -o.columns["characters"] + 500) for o in lover]  # fmt: skip
    found, lost = estimates(short_right), estimates(wrong)
    assert found["accuracy_length_controlled"].value > 0.9
    assert found["length_pearson"].value > 0.5
    assert lost["accuracy_length_controlled"].value < 0.6
    assert abs(lost["length_pearson"].value) < 0.15


@settings(max_examples=100, deadline=None)
@given(examples)
def test_accuracy_by_length_is_a_loop_over_pairs(rows: list[list[tuple[int, ...]]]) -> None:
    outcomes = [outcome(*zip(*row, strict=True)) for row in rows]
    counted = np.isfinite(comparison.wins(outcomes, "default"))
    found = estimates(outcomes)
    sorts = {
        "accuracy_right_longer": lambda d, top: d > 0.1 * top,
        "accuracy_right_shorter": lambda d, top: -d > 0.1 * top,
        "accuracy_alike_length": lambda d, top: abs(d) <= 0.1 * top,
    }
    for name, belongs in sorts.items():
        won: dict[int, list[bool]] = {}
        for at, result, difference, top in pairs_of(outcomes):
            if counted[at] and belongs(difference, top):
                won.setdefault(at, []).append(result == 1)
        expected = np.mean([np.mean(some) for some in won.values()]) if won else np.nan
        assert found[name].value == pytest.approx(expected, nan_ok=True)
        assert found[name].n == len(won)


@settings(max_examples=100, deadline=None)
@given(examples)
def test_the_rules_are_models_that_score_by_length(rows: list[list[tuple[int, ...]]]) -> None:
    outcomes = [outcome(*zip(*row, strict=True)) for row in rows]
    found = estimates(outcomes)
    for name, sign in (("accuracy_always_longer", 1), ("accuracy_always_shorter", -1)):
        by_length = [outcome(sign * o.columns["characters"], o.labels, o.columns["characters"]) for o in outcomes]
        (expected, *_) = estimate(comparison.statistics(by_length, "default"), range(len(outcomes)), draws=2)
        assert (found[name].value, found[name].n) == pytest.approx((expected.value, expected.n), nan_ok=True)


def test_a_model_that_only_compares_has_accuracy_by_length_and_no_correlation() -> None:
    beats = np.array([[np.nan, 1.0], [0.0, np.nan]])
    columns = {"characters": np.array([30.0, 10.0])}
    o = Outcome("x", None, "x", np.array([1.0, 0.0]), {"default": View(None, beats, ["ok", "ok"])}, columns)
    found = estimates([o])
    assert found["accuracy_right_longer"].value == 1
    assert np.isnan(found["length_pearson"].value)


def test_responses_without_text_have_no_length() -> None:
    o = outcome([1, 2], [1, 0], [np.nan, np.nan])
    assert length.statistics([o], "default") == []


def test_one_class_tells_of_length_and_nothing_of_accuracy() -> None:
    found = estimates([outcome([1, 2, 4], [0, 0, 0], [10, 20, 40], str(i)) for i in range(3)])
    assert found["length_pearson"].value == pytest.approx(1)
    assert np.isnan(found["accuracy_length_controlled"].value)
    assert found["accuracy_always_longer"].n == 0


@pytest.mark.parametrize("copies", [2, 5])
@pytest.mark.parametrize("shuffled", [False, True])
def test_copies_of_an_example_are_no_more_evidence_at_equal_lengths(copies: int, shuffled: bool) -> None:
    rng = np.random.default_rng(11)
    once = [replace(one, prompt=f"hash {i}") for i, one in enumerate(drawn(rng, 40, 3, love=0.005))]
    again = []
    for one in once:
        for _ in range(copies):
            order = rng.permutation(3) if shuffled else np.arange(3)
            view = View(one.views["default"].scores[order], None, ["ok"] * 3)
            columns = {"characters": one.columns["characters"][order]}
            again.append(replace(one, labels=one.labels[order], views={"default": view}, columns=columns))
    plain, copied = (
        next(e for e in estimate(length.statistics(some, "default"), [o.cluster for o in some], draws=2)
             if e.name == "accuracy_length_controlled")
        for some in (once, again)
    )  # fmt: skip
    assert (copied.value, copied.ci_low, copied.ci_high) == pytest.approx((plain.value, plain.ci_low, plain.ci_high))
    assert (copied.n, copied.clusters) == (40 * copies, 40)
    apart = [replace(one, prompt=f"{i}") for i, one in enumerate(again)]  # other prompts, the same numbers: evidence
    [other] = [e for e in estimate(length.statistics(apart, "default"), range(len(apart)), draws=2)
               if e.name == "accuracy_length_controlled"]  # fmt: skip
    assert other.ci_high - other.ci_low < 0.9 * (plain.ci_high - plain.ci_low)
