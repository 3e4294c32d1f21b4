"""Tests of the highest of several means against every way to sign clusters, Student's interval and simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from rmbench.metrics import highest
from rmbench.metrics.sign_flip import sign_flip_p


def parts(rows, unseen=0.0, seed=0):
    """Parts of means over rows of which each is a cluster."""
    rows = np.asarray(rows, float)
    return highest.parts_of(rows, np.ones(len(rows)), np.full(rows.shape[1], unseen), seed=seed)


def every_sign(rows):
    """The one-sided p of the largest studentised sum over all signs of the clusters."""
    scale = np.sqrt(np.square(rows).sum(axis=0))
    observed = (rows.sum(axis=0) / scale).max()
    found = [((np.array(signs) @ rows) / scale).max() for signs in product([-1, 1], repeat=len(rows))]
    return np.mean(np.array(found) >= observed - 1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_p_is_that_of_every_way_to_sign_the_clusters(seed):
    rows = np.random.default_rng(seed).normal(0.3, 1, size=(9, 4)) * [1, 5, 0.1, 2]
    exact = every_sign(rows)
    assert highest.none_above(parts(rows)) == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 9_999))


def test_of_one_mean_it_is_half_of_the_two_sided_sign_flip_test():
    rows = np.random.default_rng(1).normal(0.3, 1, size=40)
    assert highest.none_above(parts(rows[:, None])) == pytest.approx(sign_flip_p(rows) / 2, abs=0.01)


def test_below_what_draws_can_tell_it_is_a_bound_that_is_never_0():
    p = highest.none_above(parts(np.ones((60, 2)) + 0.1 * np.random.default_rng(2).normal(size=(60, 2))))
    assert 2.0**-60 < p < 1e-9


def test_means_that_do_not_vary_say_nothing():
    assert highest.none_above(parts(np.zeros((8, 3)))) == 1
    assert highest.highest(parts(np.zeros((8, 3)), 5.0), np.ones(3, bool)) == (0, 0)
    low, high, p = highest.difference_of_highest(*[parts(np.zeros((8, 2)))] * 2, (np.ones(2, bool), np.ones(2, bool)))
    assert np.isnan([low, high]).all()
    assert p == 1


def test_the_more_means_are_looked_at_the_larger_p():
    rows = np.random.default_rng(3).normal(size=(50, 30))
    few, many = rows[:, :1] + 0.3, np.column_stack([rows[:, :1] + 0.3, rows[:, 1:] - 0.5])
    assert highest.none_above(parts(many)) > 5 * highest.none_above(parts(few))


def test_what_a_row_could_add_and_none_did_keeps_p_from_certainty():
    rows = np.full((100, 1), 1 / 64)  # each prompt a little, while one in 64 would lose 1
    assert highest.none_above(parts(rows)) < 1e-9
    assert highest.none_above(parts(rows, unseen=1.0)) == pytest.approx(0.25, abs=0.02)


def test_the_interval_of_a_single_mean_is_students():
    rows = np.random.default_rng(4).normal(2, 3, size=60)
    error = rows.std(ddof=1) / np.sqrt(60)
    low, high = highest.highest(parts(rows[:, None]), np.ones(1, bool))
    assert [low, high] == pytest.approx(rows.mean() + stats.t(59).ppf([0.025, 0.975]) * error, abs=0.1 * error)


def test_the_interval_of_the_highest_holds_it_where_many_are_level_and_where_one_leads():
    rng, held = np.random.default_rng(5), {"level": [], "leads": []}
    for name, truth in (("level", np.zeros(6)), ("leads", np.r_[1.0, np.zeros(5)])):
        for seed in range(80):
            means = parts(truth + rng.normal(size=(40, 1)) * 0.5 + rng.normal(size=(40, 6)), seed=seed)
            low, high = highest.highest(means, highest.p_highest(means) > highest.MAYBE)
            held[name].append(low <= truth.max() <= high)
    assert np.mean(held["level"]) > 0.9
    assert 0.88 < np.mean(held["leads"]) < 1


def test_the_highest_is_among_those_left_open_and_the_plainly_lower_are_not():
    rng, kept = np.random.default_rng(6), []
    for seed in range(60):
        chances = highest.p_highest(parts(np.array([0.0, 0.1, -2.0]) + rng.normal(size=(50, 3)), seed=seed))
        kept.append(chances > highest.TAIL)
    assert np.mean(kept, axis=0)[1] > 0.9
    assert np.mean(kept, axis=0)[2] == 0


def test_a_difference_turns_its_sign_with_its_sides_and_holds_the_truth():
    rng, held = np.random.default_rng(7), []
    for seed in range(60):
        shared = rng.normal(size=(80, 1))
        ours = parts([0.0, 0.3, 0.6] + shared + 0.5 * rng.normal(size=(80, 3)), seed=seed)
        theirs = parts([0.2, 0.0, 0.1] + shared + 0.5 * rng.normal(size=(80, 3)), seed=seed)
        maybe = tuple(highest.p_highest(one) > highest.MAYBE for one in (ours, theirs))
        low, high, p = highest.difference_of_highest(ours, theirs, maybe)
        assert highest.difference_of_highest(theirs, ours, maybe[::-1]) == pytest.approx((-high, -low, p))
        held.append(low <= 0.4 <= high)
        assert (p < 0.05) == (low > 0 or high < 0) or min(abs(low), abs(high)) < 0.005
    assert np.mean(held) > 0.9


def test_an_interval_of_a_difference_leaves_out_0_just_where_p_says_so():
    rng, told = np.random.default_rng(8), []
    for seed in range(60):
        ours, theirs = (parts(rng.normal(0.1, 1, size=(30, 3)), 0.5, seed) for _ in range(2))
        low, high, p = highest.difference_of_highest(ours, theirs, (np.ones(3, bool), np.ones(3, bool)))
        told.append((p < 0.05, low > 0 or high < 0))
    ours, theirs = parts(np.eye(1, 3) + 0.01 * rng.normal(size=(60, 3))), parts(np.zeros((60, 3)))
    low, high, p = highest.difference_of_highest(ours, theirs, (np.ones(3, bool), np.array([True, False, False])))
    told.append((p < 1e-3, low > 0.98))
    assert all(by_p == by_interval for by_p, by_interval in told)
    assert (True, True) in told


def test_an_end_of_a_difference_that_is_rounding_alone_is_0():
    apart = np.array([0.0, 0.5, 0.75, 0.0, 0.5, 0.25, 0.0, 0.5, 1.0, 0.5, -0.5, 0.0])[:, None]
    ours, theirs = (highest.parts_of(one, np.ones(12), np.zeros(1)) for one in (apart / 3 + 0.1, 0.1 - apart * 2 / 3))
    every = np.ones(1, bool)
    low, _, p = highest.difference_of_highest(ours, theirs, (every, every))
    assert p > 0.05
    assert low == 0


def test_means_that_are_both_0_for_certain_leave_a_difference_open_only_where_nothing_else_is_there():
    rows = np.random.default_rng(10).normal(1, 1, size=(40, 2)) * [1, 0]
    ours, theirs, every = parts(rows), parts(np.zeros((40, 2))), np.ones(2, bool)
    low, high, _ = highest.difference_of_highest(ours, theirs, (every, every))
    assert 0 < low < rows[:, 0].mean() < high
    assert np.isnan(highest.difference_of_highest(ours, theirs, (np.array([False, True]), every))[0])


def test_the_interval_of_the_furthest_holds_for_all():
    rng, held = np.random.default_rng(9), []
    for seed in range(60):
        truth = np.array([0.0, 0.1, -0.2, 0.0, 0.0, 0.0])
        means = parts(truth + rng.normal(size=(50, 6)), seed=seed)
        place, half = highest.furthest(means)
        assert abs(means.means[place]) == np.abs(means.means).max()
        held.append(abs(means.means[place] - truth[place]) <= half)
    assert np.mean(held) > 0.9


def test_five_clusters_have_too_few_signs_for_a_lower_end():
    low, high = highest.highest(parts([[1.0, 2.0], [2.0, 4.0]] * 2 + [[1.0, 2.0]]), np.ones(2, bool))
    assert (low, np.isfinite(high)) == (-np.inf, True)
    assert np.isfinite(highest.highest(parts([[1.0, 2.0], [2.0, 4.0]] * 3), np.ones(2, bool))).all()
    assert np.isnan(highest.highest(parts([[1.0, 2.0]]), np.ones(2, bool))).all()
