"""Selection among n against every subset, exact binomials and an oracle."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench.metrics import best_of, selection
from rmbench.metrics.interval import estimate
from rmbench.types import Outcome, View


def outcome(proxy, gold, answers=None, policies=None, name="e"):
    tags = [{} for _ in gold]
    for key, values in (("answer", answers), ("policy", policies)):
        for tag, value in zip(tags, values or [], strict=False):
            if value is not None:
                tag[key] = value
    view = View(np.array(proxy, float), None, ["ok"] * len(gold))
    return Outcome(name, None, name, np.array(gold, float), {"default": view}, tags=tags)


def over_subsets(proxy, values, n):
    """The mean over all subsets of the mean value of those with the largest proxy."""
    found = []
    for subset in combinations(range(len(proxy)), n):
        best = max(proxy[i] for i in subset)
        found.append(np.mean([values[i] for i in subset if proxy[i] == best]))
    return float(np.mean(found))


def majority_over_subsets(answers, gold, n):
    found = []
    for subset in combinations(range(len(answers)), n):
        votes = [answers[i] for i in subset if answers[i] is not None]
        most = max((votes.count(vote) for vote in votes), default=0)
        winners = {vote for vote in votes if votes.count(vote) == most} or {None}
        worth = [np.mean([gold[i] for i in subset if answers[i] == winner]) for winner in winners]
        found.append(np.mean(worth))
    return float(np.mean(found))


def figures(outcomes, sizes, **more):
    found = selection.statistics(selection.choices(outcomes, "default", sizes, **more))
    return {one.name: one for one in estimate(found, [o.cluster for o in outcomes], draws=500)}


candidates = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=8)


@given(candidates)
def test_what_a_reward_chooses_is_the_mean_over_all_subsets_with_ties_at_random(rows):
    proxy, gold = (np.array(column, float) for column in zip(*rows, strict=True))
    sizes = range(1, len(rows) + 1)
    assert selection.expected_choice(proxy, gold, sizes) == pytest.approx([over_subsets(proxy, gold, n) for n in sizes])


@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_an_oracle_finds_a_right_candidate_wherever_there_is_one(labels):
    gold, n = np.array(labels, float), len(labels)
    wrong = n - sum(labels)
    expected = [1 - math.comb(wrong, size) / math.comb(n, size) for size in range(1, n + 1)]
    assert selection.expected_choice(gold, gold, range(1, n + 1)) == pytest.approx(expected)


@given(st.lists(st.tuples(st.sampled_from([None, "a", "b", "c"]), st.booleans()), min_size=1, max_size=8))
def test_a_majority_is_the_mean_over_all_subsets_with_ties_at_random(rows):
    answers = [answer for answer, _ in rows]
    right = {answer: float(label) for answer, label in rows}
    gold = np.array([right[answer] for answer in answers])
    sizes = range(1, len(rows) + 1)
    found = selection.expected_majority(answers, gold, sizes, np.random.default_rng(0))
    assert found == pytest.approx([majority_over_subsets(answers, gold, n) for n in sizes])


def test_a_majority_among_many_is_drawn_and_repeats_with_the_seed():
    answers = ["right"] * 8 + ["wrong"] * 6 + ["other"] * 2
    gold = np.array([1.0] * 8 + [0.0] * 8)
    found = [selection.expected_majority(answers, gold, (1, 3, 16), np.random.default_rng(3)) for _ in range(2)]
    exact = [majority_over_subsets(answers, gold, n) for n in (1, 3)]
    assert found[0] == pytest.approx([*exact, 1.0], abs=0.04)
    assert found[0].tolist() == found[1].tolist()


def test_chances_are_exact_binomials_where_these_have_thousands_of_digits():
    total, sizes = 10_000, (1, 2, 100, 5_000, 9_999, 10_000)
    found = best_of.chances_of_ranks(total, sizes)
    assert found.sum(axis=0) == pytest.approx(np.ones(len(sizes)), abs=1e-11)
    for column, n in zip(found.T, sizes, strict=True):
        for i in (1, n, 5_000, 9_990, 10_000):
            exact = float(Fraction(math.comb(i - 1, n - 1), math.comb(total, n)))
            assert column[i - 1] == pytest.approx(exact, rel=1e-10, abs=1e-300)


@pytest.mark.parametrize("size", [0, 4])
def test_a_size_that_is_no_number_of_candidates_is_refused(size):
    with pytest.raises(ValueError, match="from 1 to 3"):
        selection.expected_choice(np.arange(3.0), np.arange(3.0), [size])


def test_figures_are_means_over_prompts():
    data = [
        outcome([3, 2, 1], [0, 1, 1], name="a"),
        outcome([1, 2, 3], [0, 0, 1], name="b"),
        outcome([0, 0, 0], [1, 0, 0], name="c"),
    ]
    found = figures(data, [1, 2, 3])
    assert found["selection_random"].value == pytest.approx((2 / 3 + 1 / 3 + 1 / 3) / 3)
    assert found["selection_at_1"].value == pytest.approx(found["selection_random"].value)
    assert found["selection_at_2"].value == pytest.approx((1 / 3 + 2 / 3 + 1 / 3) / 3)
    assert found["selection_at_3"].value == pytest.approx((0 + 1 + 1 / 3) / 3)
    assert found["selection_at_3_oracle"].value == 1
    assert found["selection_at_2_reward"].value == pytest.approx((8 / 3 + 8 / 3 + 0) / 3)
    assert found["selection_at_3_gain"].value == pytest.approx((4 / 3 - 4 / 3) / 3, abs=1e-12)
    assert found["selection_at_3_majority"].n == 0


def test_at_n_1_there_is_no_gain_and_nothing_to_test():
    rng = np.random.default_rng(0)
    data = [outcome(rng.normal(size=7), rng.integers(0, 2, 7), name=str(i)) for i in range(40)]
    found = figures(data, [1, 4])["selection_at_1_gain"]
    assert (found.value, found.p) == (0.0, 1.0)


def test_a_reward_that_knows_gains_and_one_that_draws_does_not():
    rng = np.random.default_rng(1)
    gold = [rng.integers(0, 2, 8) for _ in range(200)]
    knows = figures([outcome(g + rng.normal(size=8), g, name=str(i)) for i, g in enumerate(gold)], [8])
    draws = figures([outcome(rng.normal(size=8), g, name=str(i)) for i, g in enumerate(gold)], [8])
    assert knows["selection_at_8_gain"].ci_low > 0.2
    assert knows["selection_at_8_gain"].p == pytest.approx(1e-4)
    assert draws["selection_at_8_gain"].ci_low < 0 < draws["selection_at_8_gain"].ci_high
    assert draws["selection_at_8_gain"].p > 0.05


def test_an_interval_near_an_end_is_wilsons():
    near = [outcome([1, 2], [0, 1], name=str(i)) for i in range(59)] + [outcome([2, 1], [0, 1], name="59")]
    found = figures(near, [2])
    assert found["selection_at_2"].ci_low == pytest.approx(0.9114, abs=1e-3)  # Wilson of 59 in 60
    assert found["selection_at_2_oracle"].ci_low == pytest.approx(0.9398, abs=1e-3)  # of 60 in 60


def test_labels_beyond_0_and_1_are_how_good_a_response_is():
    found = figures([outcome([1, 2], [3.0, 9.0], name=str(i)) for i in range(3)], [1, 2])
    assert (found["selection_at_2"].value, found["selection_random"].value) == (9.0, 6.0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (outcome([1, 2], [1, np.nan]), "unlabelled candidate"),
        (outcome([1, np.nan], [1, 0]), "no reward"),
        (outcome([1, 2], [1, 0]), "fewer than 3 candidates"),
        (Outcome("e", None, "e", np.array([1.0, 0, 0]), {"default": View(None, np.eye(3), ())}), "no reward"),
        (outcome([1, np.inf, -np.inf], [1, 0, 0]), ""),
        (outcome([1, 2, 3], [0, 0, 0]), ""),
    ],
)
def test_what_says_nothing_of_the_choice_is_left_out_with_its_reason(data, reason):
    assert selection.reason_left_out(data, "default", 3) == reason
    found = selection.choices([data], "default", [3])
    assert np.isnan(found.selected).all() == bool(reason)


def test_an_infinite_reward_is_chosen_first_or_last():
    found = selection.choices([outcome([1, np.inf, -np.inf], [0, 1, 0])], "default", [1, 2, 3])
    assert found.selected[0] == pytest.approx([1 / 3, 2 / 3, 1])
    assert found.reward[0, 2] == np.inf


def test_policies_are_counted_and_best_of_n_has_its_kl():
    data = [outcome([1, 2], [0, 1], policies=["p", None]), outcome([1, 2], [0, 1])]
    assert selection.policies(data) == {"p": 1, None: 3}
    assert best_of.kl([1, 4]) == pytest.approx([0, math.log(4) - 0.75])
