"""The tilted policy against its closed forms: a Gaussian, two samples, none and an infinite strength."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbench.metrics import tilted
from rmbench.metrics.best_of import best_of, kl
from rmbench.metrics.pools import pools_of


def normal(prompts, samples, seed=0):
    return pools_of(list(np.random.default_rng(seed).normal(size=(prompts, samples))))


def test_a_gaussian_reward_moves_by_its_strength_at_a_kl_of_half_its_square():
    pools = normal(50, 20_000)
    strengths = np.array([0.0, 0.5, 1.0, 1.5])
    divergence, value = tilted.tilted(pools, pools.gold, pools.gold, strengths)
    assert value.mean(axis=0) == pytest.approx(strengths, abs=0.01)
    assert divergence.mean(axis=0) == pytest.approx(strengths**2 / 2, abs=0.01)


def test_gold_that_goes_with_the_reward_moves_with_its_covariance():
    pools, rng = normal(50, 20_000), np.random.default_rng(1)
    proxy = pools.gold + rng.normal(size=len(pools.gold))
    value = tilted.tilted(pools, proxy, pools.gold, [0.5])[1]
    assert value.mean() == pytest.approx(0.5, abs=0.01)  # strength times covariance, whatever the noise


def test_of_two_samples_the_weights_are_a_logistic_curve():
    pools = pools_of([np.array([0.0, 1.0]), np.array([1.0, 0.0, 0.0])])
    divergence, value = tilted.tilted(pools, np.array([1.0, 3.0, 5.0, 5.0, 5.0]), pools.gold, [0.7])
    chance = 1 / (1 + math.exp(-0.7 * 2))
    assert value[:, 0] == pytest.approx([chance, 1 / 3])
    lost = chance * math.log(chance) + (1 - chance) * math.log(1 - chance)
    assert divergence[:, 0] == pytest.approx([math.log(2) + lost, 0.0])


def test_without_strength_it_is_the_policy_and_with_endless_strength_the_best_of_all():
    rng = np.random.default_rng(2)
    pools = pools_of([rng.normal(size=size) for size in (3, 8, 8, 5)])
    proxy = np.round(rng.normal(size=len(pools.gold)))  # ties
    divergence, value = tilted.tilted(pools, proxy, pools.gold, [0.0, np.inf])
    for row, size in enumerate(pools.counts):
        assert value[row, 0] == pytest.approx(pools.gold[pools.prompts == row].mean())
        assert value[row, 1] == pytest.approx(best_of(pools, proxy, pools.gold, [size])[row, 0])
    at_the_top = [np.count_nonzero(proxy[pools.prompts == i] == proxy[pools.prompts == i].max()) for i in range(4)]
    assert divergence == pytest.approx(np.column_stack([np.zeros(4), np.log(pools.counts / at_the_top)]))


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6), st.floats(0, 10), st.floats(0, 10))
def test_its_kl_and_its_reward_only_rise_with_the_strength(rewards, one, another):
    pools = pools_of([np.array(rewards)])
    divergence, value = tilted.tilted(pools, pools.gold, pools.gold, sorted([one, another]))
    assert np.diff(divergence[0]) >= -1e-9
    assert np.diff(value[0]) >= -1e-9
    assert divergence.max() <= math.log(len(rewards)) + 1e-9


@pytest.mark.parametrize("noise", ["normal", "t"])
def test_a_strength_is_found_for_every_kl_that_can_be_reached(noise):
    rng, pools = np.random.default_rng(3), normal(200, 32)
    more = rng.normal(size=6400) if noise == "normal" else rng.standard_t(2, 6400)
    proxy = 1e4 * (pools.gold + more)
    wanted = [0.0, 1e-4, *kl([2, 4, 8]), 3.4, math.log(32), 5.0]
    strengths = tilted.strengths_for(pools, proxy, wanted)
    assert strengths[0] == 0
    assert np.isinf(strengths[-2:]).all()
    assert tilted.tilted(pools, proxy, pools.gold, strengths[:-2])[0].mean(axis=0) == pytest.approx(
        wanted[:-2], rel=1e-5
    )


def test_equal_rewards_can_only_be_the_policy():
    pools = pools_of([np.array([1.0, 2.0]), np.array([0.0, 0.0])])
    assert tilted.strengths_for(pools, np.ones(4), [0.0, 0.1]).tolist() == [0.0, np.inf]


def test_it_gets_a_little_more_of_the_reward_than_best_of_n_at_the_same_kl():
    pools = normal(400, 256)
    strengths, apart = tilted.gap(pools, pools.gold, pools.gold, [1, 2, 4, 8])
    assert strengths == pytest.approx(np.sqrt(2 * kl([1, 2, 4, 8])), rel=0.03)
    means = apart.mean(axis=0)
    assert means[0] == pytest.approx(0, abs=1e-12)
    # sqrt(2 KL) less the mean of the largest of n normal numbers (.5642, 1.0294, 1.4236)
    assert means[1:] == pytest.approx(np.sqrt(2 * kl([2, 4, 8])) - [0.5642, 1.0294, 1.4236], abs=0.01)


def test_the_largest_gap_is_of_the_point_furthest_from_0_with_an_interval_for_all_points():
    rng = np.random.default_rng(4)
    apart = np.array([0.0, -0.5, 0.2]) + rng.normal(size=(100, 3))
    found = tilted.largest_gap(apart, np.arange(100))
    error = apart[:, 1].std(ddof=1) / 10
    assert found.value == pytest.approx(apart[:, 1].mean())
    assert 2.0 < (found.high - found.value) / error < 3.0  # 1.98 for one point alone
    assert math.isnan(tilted.largest_gap(apart, np.zeros(100, int)).low)


def test_sizes_tell_up_to_a_quarter_of_the_samples():
    assert tilted.sizes_that_tell([1, 2, 8, 9, 32], 32) == [1, 2, 8]
