"""Step rewards to scores: against plain Python, and where plain products fail."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench.metrics.aggregate import VIEWS, aggregate

LOOPS = {
    "prod": math.prod,
    "geometric_mean": lambda steps: math.prod(steps) ** (1 / len(steps)),
    "mean": lambda steps: math.fsum(steps) / len(steps),
    "min": min,
    "max": max,
    "last": lambda steps: steps[-1],
    "mean_logit": lambda steps: math.fsum(math.log(step / (1 - step)) for step in steps) / len(steps),
    "mean_odds": lambda steps: math.fsum(step / (1 - step) for step in steps) / len(steps),
}


@given(st.lists(st.lists(st.floats(0.01, 0.99), max_size=20), max_size=6))
def test_every_view_equals_a_loop_and_no_steps_is_nan(steps):
    found = aggregate(steps)
    assert found.keys() == VIEWS.keys() == LOOPS.keys()
    for name, loop in LOOPS.items():
        expected = [loop(rewards) if rewards else math.nan for rewards in steps]
        np.testing.assert_allclose(found[name], expected, rtol=1e-12, atol=1e-14, err_msg=name)


def test_candidates_without_steps_do_not_shift_their_neighbours():
    np.testing.assert_array_equal(aggregate([[], [1, 2], [], [3], []])["last"], [np.nan, 2, np.nan, 3, np.nan])


def test_long_products_keep_their_order_where_a_float_underflows():
    steps = [[0.5] * n for n in (5000, 4000, 2000, 1500, 1015, 1005, 900, 2)]
    assert math.prod(steps[0]) == math.prod(steps[2]) == 0
    found = aggregate(steps)["prod"]
    assert (np.diff(found) > 0).all()
    assert found[0] > 0
    assert found[-1] == 0.25


def test_products_of_raw_rewards_keep_sign_and_order_beyond_a_float():
    found = aggregate([[-9.0] * 2001, [-9.0] * 1001, [-9.0, 1], [9.0, 1], [9.0] * 1001, [9.0] * 2001])["prod"]
    assert (np.diff(found) > 0).all()
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("step", "prod", "geometric_mean"), [(0.0, 0.0, 0.0), (-0.5, -0.25, math.nan), (math.nan, math.nan, math.nan)]
)
def test_a_step_that_is_not_positive(step, prod, geometric_mean):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = aggregate([[0.5, step]])
    np.testing.assert_array_equal([found["prod"][0], found["geometric_mean"][0]], [prod, geometric_mean])


def test_a_step_that_is_nan_shows_in_every_view_but_a_later_last():
    found = aggregate([[math.nan, 0.5]])
    assert [name for name, scores in found.items() if not np.isnan(scores[0])] == ["last"]


def test_one_step_is_its_own_score_in_every_view_but_as_odds():
    found = {name: scores[0] for name, scores in aggregate([[0.25]]).items()}
    assert (found.pop("mean_odds"), found.pop("mean_logit")) == pytest.approx((1 / 3, math.log(1 / 3)))
    assert set(found.values()) == {0.25}


@pytest.mark.parametrize(
    ("steps", "mean_logit", "mean_odds"),
    [
        ((0.5, 1.0), math.inf, math.inf),
        ((0.5, 0.0), -math.inf, 0.5),
        ((0.0, 1.0), math.nan, math.inf),
        ((0.5, -0.1), math.nan, math.nan),
        ((0.5, 1.1), math.nan, math.nan),
    ],
)
def test_odds_are_of_probabilities(steps, mean_logit, mean_odds):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = aggregate([steps])
    np.testing.assert_array_equal([found["mean_logit"][0], found["mean_odds"][0]], [mean_logit, mean_odds])


def test_no_candidate_is_no_score():
    assert all(scores.shape == (0,) for scores in aggregate([]).values())
