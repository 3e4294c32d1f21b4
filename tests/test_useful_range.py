"""The range of a member's reward in which it helps, where that is known."""

from __future__ import annotations

import numpy as np

from rmbench.metrics.best_of import best_of
from rmbench.metrics.pools import pools_of
from rmbench.metrics.useful_range import useful_range
from rmbench.types import Array

SIZES = (1, 2, 4, 8, 16, 32, 64)


def curves(gold_of, prompts: int = 300) -> tuple[Array, Array]:
    """Mean gold and reward of best-of-n by a normal reward, gold being a function of it."""
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(prompts, 64))
    pools = pools_of(list(gold_of(rewards)))
    rows = (best_of(pools, rewards.ravel(), values, SIZES) for values in (pools.gold, rewards.ravel()))
    gold, proxy = (row.mean(axis=0) for row in rows)
    return gold, proxy


def test_a_member_that_helps_up_to_a_reward_is_useful_up_to_about_there() -> None:
    # best of 4 is 1.03 on average, of 8 1.42: gold that is highest at a reward of 1 peaks at 4
    gold, proxy = curves(lambda reward: -((reward - 1) ** 2))
    ends = useful_range(gold, proxy)
    assert SIZES[int(ends.at)] == 4
    np.testing.assert_allclose([ends.low, ends.high, ends.gold], [0, 1.03, gold[2]], atol=0.05)
    assert not ends.is_open


def test_a_member_that_always_helps_is_open_and_one_that_harms_has_no_range() -> None:
    gold, proxy = curves(lambda reward: reward)
    assert useful_range(gold, proxy).is_open
    assert useful_range(gold, proxy).high == proxy[-1]
    harmful = useful_range(-gold, proxy)
    assert harmful.at == 0
    assert harmful.low == harmful.high


def test_each_draw_finds_its_own_peak() -> None:
    gold = np.array([[0.1, 0.3, 0.2], [0.3, 0.2, 0.1], [0.1, 0.2, 0.2]])
    ends = useful_range(gold, np.array([[0.0, 1.0, 2.0], [0.5, 1.5, 2.5], [0.0, 1.0, 2.0]]))
    assert ends.at.tolist() == [1, 0, 1]
    assert ends.high.tolist() == [1.0, 0.5, 1.0]
    assert ends.low.tolist() == [0.0, 0.5, 0.0]
    assert ends.is_open.tolist() == [False, False, False]
