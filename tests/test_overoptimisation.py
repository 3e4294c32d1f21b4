"""Where gold turns over: known simulations, nulls, clusters and what is looked at twice."""

from __future__ import annotations

import numpy as np
import pytest
from overoptimise import World

from rmbench.metrics.overoptimisation import apart, curves_of, proxy_at_best, turn_over
from rmbench.metrics.pools import pools_of

SIZES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)


def pool(noise, prompts=500, samples=64, seed=0):
    """Gold and a proxy of gold plus noise."""
    rng = np.random.default_rng(seed)
    gold = rng.normal(size=(prompts, samples))
    more = rng.standard_t(2, gold.shape) if noise == "t" else rng.normal(size=gold.shape)
    return pools_of(list(gold)), (gold + more).ravel()


def curves(noise, prompts=500, seed=0, sizes=SIZES):
    return curves_of(*pool(noise, prompts, seed=seed), sizes, draws=400)


def test_with_t_noise_gold_peaks_at_point_7_near_12_and_falls_below_half():
    gold = np.mean([curves_of(*pool("t", seed=seed), SIZES, draws=1).gold.mean(axis=0) for seed in range(5)], axis=0)
    assert dict(zip(SIZES, gold, strict=True))[12] == pytest.approx(0.70, abs=0.03)
    assert SIZES[int(np.argmax(gold))] in (8, 12, 16)
    assert gold[-1] < 0.5
    truth = World(500, 64).truth()
    assert (truth.max(), truth[-1]) == pytest.approx((0.698, 0.467), abs=0.001)
    assert World(500, 64, noise="normal").truth()[-1] == pytest.approx(2.3437 / np.sqrt(2), abs=1e-3)


@pytest.mark.parametrize("seed", [0, 2, 5])
def test_t_noise_turns_over(seed):
    found = turn_over(curves("t", seed=seed))
    assert found.verdict == "turns over"
    assert found.p < 0.01
    assert found.best_n.low <= 12 <= found.best_n.high < 64
    assert 0 < found.degree.low < 0.231 < found.degree.high
    assert found.gold_at_best.low < 0.698 < found.gold_at_best.high
    assert found.degree.value == pytest.approx(found.gold_at_best.value - found.gold_at_end.value)
    assert found.proxy_rise.low > 1


@pytest.mark.parametrize("seed", range(3))
def test_normal_noise_does_not(seed):
    found = turn_over(curves("normal", seed=seed))
    assert found.verdict == "still rises"
    assert (found.degree.value, found.degree.low, found.p) == (0, 0, 1)
    assert (found.best_n.value, found.best_n.high) == (64, 64)


def test_noise_alone_seldom_turns_over_though_its_best_n_is_chosen_by_looking():
    """Of 60 pools; a test at the n that looks best would be wrong far more often."""
    ours, naive = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        pools = pools_of(list(rng.normal(size=(60, 16))))
        seen = curves_of(pools, rng.normal(size=960), (1, 2, 4, 8, 12, 16), draws=50)
        ours.append(turn_over(seen).p < 0.05)
        fall = seen.gold[:, seen.best] - seen.gold[:, -1]
        naive.append(fall.mean() > 1.96 * fall.std(ddof=1) / np.sqrt(60) if fall.any() else False)
    assert np.sum(ours) <= 4  # at most 1.5 are expected
    assert np.sum(naive) > np.sum(ours)


def test_a_right_sample_in_64_that_was_never_last_is_no_turn_over():
    """Gold at the end is 0 by chance in 60 prompts: at one right sample in 64, one expected."""
    gold = np.zeros((60, 64))
    gold[:, 0] = 1
    proxy = np.tile(np.r_[1.0, np.arange(1, 64)], (60, 1))  # the right one shares the smallest reward
    rng = np.random.default_rng(0)
    proxy[:, 0] = rng.integers(1, 63, 60)
    found = turn_over(curves_of(pools_of(list(gold)), proxy.ravel(), SIZES, draws=100))
    assert found.gold_at_end.value == 0
    assert found.degree.value > 0
    assert found.verdict == "open"


def test_prompts_said_twice_in_one_cluster_tell_no_more():
    pools, proxy = pool("t", prompts=60, seed=2)
    gold = pools.gold.reshape(60, 64)
    once = turn_over(curves_of(pools, proxy, SIZES, draws=300))
    doubled = pools_of([row for row in gold for _ in range(3)], [str(i) for i in range(60) for _ in range(3)])
    thrice = turn_over(curves_of(doubled, np.repeat(proxy.reshape(60, 64), 3, axis=0).ravel(), SIZES, draws=300))
    assert thrice.p == pytest.approx(once.p)
    assert thrice.best_n == once.best_n
    for name in ("degree", "gold_at_end", "proxy_rise"):
        one, other = getattr(once, name), getattr(thrice, name)
        assert (other.low, other.value, other.high) == pytest.approx((one.low, one.value, one.high), abs=0.02)


def test_rewards_that_are_all_equal_are_level():
    pools, _ = pool("t", prompts=30, samples=8)
    found = turn_over(curves_of(pools, np.zeros(240), (1, 2, 8), draws=100))
    assert (found.verdict, found.p, found.degree.value, found.degree.high) == ("level", 1, 0, 0)
    assert np.isnan(found.proxy_rise.value)


def test_gold_that_is_the_same_for_all_samples_of_a_prompt_says_nothing():
    pools = pools_of([np.full(8, float(right)) for right in [0, 0, 1] * 10])
    found = turn_over(curves_of(pools, np.random.default_rng(0).normal(size=240), (1, 2, 8), draws=100))
    assert (found.verdict, found.p, found.degree.value) == ("open", 1, 0)


def test_a_reward_that_is_gold_where_gold_has_a_ceiling_is_level():
    rng = np.random.default_rng(3)
    pools = pools_of(list((rng.random((400, 32)) < 0.5).astype(float)))
    assert turn_over(curves_of(pools, pools.gold, (1, 2, 4, 8, 16, 32), draws=100)).verdict == "level"


def test_a_reward_against_gold_is_best_not_used():
    rng = np.random.default_rng(4)
    pools = pools_of(list((rng.random((100, 16)) < 0.5).astype(float)))
    found = turn_over(curves_of(pools, rng.normal(size=1600) - pools.gold, (1, 2, 4, 8, 16), draws=100))
    assert (found.verdict, found.best_n) == ("turns over", type(found.best_n)(1, 1, 1))
    assert found.gain_at_end.high < 0


def test_of_few_right_samples_the_gain_at_the_end_allows_for_those_never_won():
    rng, held = np.random.default_rng(16), []
    for _ in range(60):
        gold = (rng.random((12, 32)) < 0.03).astype(float)
        seen = curves_of(pools_of(list(gold)), rng.normal(size=gold.size), (1, 4, 32), draws=10)
        gain = turn_over(seen).gain_at_end
        held.append(not (gain.low > 0 or gain.high < 0))
    assert np.mean(held) > 0.93  # a bootstrap of the prompts that were seen: .31


def test_what_the_proxy_has_at_its_best_n_is_open_where_that_n_is():
    rng = np.random.default_rng(16)
    z = rng.normal(size=(150, 32))
    pools = pools_of(list(z - 0.4 * z**2 + 0.3 * rng.normal(size=z.shape)))
    seen = curves_of(pools, z.ravel(), range(1, 33), draws=400)
    found, at_best = turn_over(seen), proxy_at_best(seen)
    best_n, rise, means = found.best_n, found.proxy_rise, seen.proxy.mean(axis=0)
    assert best_n.low < best_n.value < best_n.high
    assert at_best.low < means[int(best_n.low) - 1] < at_best.value < means[int(best_n.high) - 1] < at_best.high
    assert rise.low < (means[-1] - means[int(best_n.high) - 1]) / seen.proxy_sd < rise.value
    assert rise.value < (means[-1] - means[int(best_n.low) - 1]) / seen.proxy_sd < rise.high


def test_few_prompts_decide_nothing_and_stay_within_what_gold_can_be():
    for prompts in (1, 2, 3, 5):
        rng = np.random.default_rng(prompts)
        gold = (rng.random((prompts, 8)) < 0.5).astype(float)
        seen = curves_of(pools_of(list(gold)), rng.normal(size=gold.size), (1, 2, 4, 8), draws=100)
        found = turn_over(seen)
        assert found.verdict == "open"
        assert not found.degree.high > 1
        assert all(not abs(one.difference.high) > 3 for one in apart(seen, seen))


def test_an_infinite_reward_is_taken_first_and_leaves_only_its_own_curve_open():
    pools, proxy = pool("normal", prompts=40, samples=8)
    proxy[:2] = np.inf, -np.inf
    seen = curves_of(pools, proxy, (1, 2, 4, 8), draws=100)
    assert np.isfinite(seen.gold).all()
    assert np.isnan(turn_over(seen).proxy_rise.value)


@pytest.mark.parametrize("sizes", [(), (1,), (2, 4), (1, 4, 2), (1, 2, 2), (1, 9)])
def test_sizes_that_are_no_curve_are_refused(sizes):
    pools, proxy = pool("normal", prompts=3, samples=8)
    with pytest.raises(ValueError, match="expected 1 and larger ones in order, up to 8"):
        curves_of(pools, proxy, sizes)


def test_a_reward_that_is_nan_is_refused():
    pools, _ = pool("normal", prompts=3, samples=8)
    with pytest.raises(ValueError, match="24 rewards are nan"):
        curves_of(pools, np.full(24, np.nan), (1, 2))


def test_rewards_are_apart_in_what_they_differ_in():
    heavy, light = curves("t", prompts=300), curves("normal", prompts=300)
    found = {one.figure: one for one in apart(heavy, light)}
    assert found["gold_at_end"].difference.low < 0.467 - 1.657 < found["gold_at_end"].difference.high
    assert found["gold_at_best"].difference.low < 0.698 - 1.657 < found["gold_at_best"].difference.high
    assert found["degree"].difference.low < 0.231 < found["degree"].difference.high
    assert max(one.p for one in found.values()) < 1e-3
    assert found["optimum"].difference.high < 0
    assert found["optimum"].difference.value == pytest.approx(np.log2(heavy.sizes[heavy.best] / 64))


def test_a_reward_is_not_apart_from_itself():
    seen = curves("t", prompts=50)
    for one in apart(seen, seen):
        assert (one.difference.value, one.p) == (0, 1)
        assert not one.difference.low > 0
        assert not one.difference.high < 0


def test_the_best_n_is_the_first_of_a_plateau():
    """At 8 of 16 each prompt has its right sample for certain: rounding decides nothing."""
    gold = np.tile(np.r_[np.ones(9), np.zeros(7)], (40, 1))
    seen = curves_of(pools_of(list(gold)), np.random.default_rng(0).normal(size=640) / 9 + gold.ravel(), (1, 8, 12, 16))
    assert seen.sizes[seen.best] == 8


def test_the_interval_of_an_optimum_apart_leaves_out_0_just_where_p_says_so():
    told = []
    for seed in range(12):
        found = apart(curves("t", prompts=60, seed=seed), curves("normal", prompts=60, seed=seed))[-1]
        told.append((found.p < 0.05, found.difference.high < 0))
    assert all(by_p == by_interval for by_p, by_interval in told)
    assert (True, True) in told


def test_differences_hold_the_truth():
    """Of 40 pools; the truth is an integral over the distribution of the proxy."""
    heavy, light = World(60, 32), World(60, 32, noise="normal")
    sizes, one, other = heavy.sizes, heavy.truth(), light.truth()
    truth = {
        "gold_at_best": one.max() - other.max(),
        "gold_at_end": one[-1] - other[-1],
        "degree": (one.max() - one[-1]) - (other.max() - other[-1]),
        "optimum": np.log2(sizes[int(np.argmax(one))] / sizes[int(np.argmax(other))]),
    }
    rng, held = np.random.default_rng(1), dict.fromkeys(truth, 0)
    for _ in range(40):
        gold = rng.normal(size=(60, 32))
        noise = rng.standard_t(2, gold.shape), rng.normal(size=gold.shape)
        pools = pools_of(list(gold))
        for found in apart(*(curves_of(pools, (gold + more).ravel(), sizes, draws=20) for more in noise)):
            held[found.figure] += found.difference.low - 1e-9 <= truth[found.figure] <= found.difference.high + 1e-9
    assert min(held.values()) >= 34  # 38 at least are expected


def test_two_rewards_alike_are_seldom_apart():
    told = []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        gold = rng.normal(size=(60, 16))
        pools = pools_of(list(gold))
        proxies = [(gold + rng.standard_t(2, gold.shape)).ravel() for _ in range(2)]
        seen = [curves_of(pools, proxy, (1, 2, 4, 8, 16), draws=50) for proxy in proxies]
        told += [one.p < 0.05 for one in apart(*seen)]
    assert np.sum(told) <= 9  # 5 of 100 at most are expected
