"""Signs of group-relative advantages against a Monte Carlo and closed forms; variance within prompts against loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from rmbench.metrics import advantages
from rmbench.metrics.advantages import Baseline
from rmbench.metrics.pools import pools_of
from rmbench.types import Array

BASELINES: dict[Baseline, Callable[[Array], float]] = {"mean": np.mean, "median": np.median}


def half_apart(one: Array, other: Array) -> Array:
    return np.abs(np.sign(one) - np.sign(other)) / 2


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("size", [2, 4, 8, 16])
def test_shares_are_those_of_a_monte_carlo(baseline: Baseline, size: int) -> None:
    rng = np.random.default_rng(size)
    golds = [rng.normal(size=count) for count in (16, 20, 33, 16) * 25]
    pools = pools_of(golds)
    proxy = pools.gold + rng.normal(size=len(pools.gold))
    spread = rng.uniform(0.1, 1.5, len(pools.gold))
    flips = advantages.sign_flips(pools, proxy, spread, [size], baseline)
    of, noise, against = BASELINES[baseline], [], []
    for _ in range(60):
        for first, count in zip(pools.starts, pools.counts, strict=True):
            group = first + rng.choice(count, size, replace=False)
            ours, gold = proxy[group] - of(proxy[group]), pools.gold[group] - of(pools.gold[group])
            noisy = proxy[group] + spread[group] * rng.standard_normal(size)
            noise.append(half_apart(ours, noisy - of(noisy)).mean())
            against.append(half_apart(ours, gold).mean())
    assert np.nanmean(flips.by_noise) == pytest.approx(np.mean(noise), abs=0.012)
    assert np.nanmean(flips.against_gold) == pytest.approx(np.mean(against), abs=0.012)


@pytest.mark.parametrize("baseline", BASELINES)
def test_of_two_samples_noise_turns_both_or_none(baseline: Baseline) -> None:
    pools = pools_of([np.array([0.0, 1.0])] * 4000)
    proxy, spread = np.tile([0.3, 1.0], 4000), np.tile([0.5, 0.8], 4000)
    flips = advantages.sign_flips(pools, proxy, spread, [2], baseline)
    expected = norm.cdf(-0.7 / np.hypot(0.5, 0.8))
    exact = 1e-12 if baseline == "mean" else 0.01
    assert flips.by_noise.mean() == pytest.approx(expected, abs=exact)
    assert (flips.against_gold == 0).all()


def test_the_chance_over_a_mean_is_exact_given_the_group() -> None:
    rewards, spread = np.array([0.0, 0.4, 0.5, 2.0]), np.array([0.1, 0.6, 0.3, 1.0])
    flips = advantages.sign_flips(pools_of([np.zeros(4)]), rewards, spread, [4], "mean")
    own = [np.where(np.arange(4) == at, 3 / 4, -1 / 4) for at in range(4)]
    chances = [
        norm.cdf(-abs(reward - rewards.mean()) / np.sqrt((weights**2 * spread**2).sum()))
        for reward, weights in zip(rewards, own, strict=True)
    ]
    assert flips.by_noise[0, 0] == pytest.approx(np.mean(chances))


def test_signs_against_gold_count_where_gold_teaches() -> None:
    pools = pools_of([np.array([1.0, 0.0, 0.0, 0.0]), np.array([1.0, 1.0, 1.0, 1.0])])
    proxy = np.array([5.0, 9.0, 1.0, 5.0, 1.0, 2.0, 3.0, 4.0])
    means = advantages.sign_flips(pools, proxy, None, [4], "mean")
    # 5, 9, 1, 5 about 5 are 0, +, -, 0, of which gold says +, -, -, -
    np.testing.assert_allclose(means.against_gold[:, 0], [(0.5 + 1 + 0 + 0.5) / 4, np.nan])
    medians = advantages.sign_flips(pools, proxy, None, [4], "median")
    np.testing.assert_allclose(medians.against_gold[:, 0], [0.5, np.nan])  # about its median only the right one is told
    assert np.isnan(means.by_noise).all()


@pytest.mark.parametrize("baseline", BASELINES)
def test_what_does_not_vary_has_no_sign_and_no_noise_turns_none(baseline: Baseline) -> None:
    pools = pools_of([np.array([1.0, 0.0, 1.0, 0.0])])
    flat = advantages.sign_flips(pools, np.full(4, 0.1), np.zeros(4), [2, 4], baseline)
    assert (flat.by_noise == 0).all()
    assert (flat.against_gold == 0.5).all()
    noisy = advantages.sign_flips(pools, np.full(4, 0.1), np.ones(4), [2, 4], "mean")
    np.testing.assert_allclose(noisy.by_noise, 0.5)


def test_groups_larger_than_a_prompt_and_missing_spreads_are_nan() -> None:
    pools = pools_of([np.array([1.0, 0.0]), np.array([1.0, 0.0, 0.0, 1.0])])
    spread = np.array([0.1, np.nan, 0.1, 0.1, 0.1, 0.1])
    for baseline in BASELINES:
        flips = advantages.sign_flips(pools, np.arange(6.0), spread, [2, 4], baseline)
        assert np.isnan(flips.by_noise).tolist() == [[True, True], [False, False]]
        assert np.isnan(flips.against_gold).tolist() == [[False, True], [False, False]]
    with pytest.raises(ValueError, match="groups of 1"):
        advantages.sign_flips(pools, np.arange(6.0), spread, [1, 2], "mean")


def test_proxies_of_one_seed_are_grouped_alike() -> None:
    rng = np.random.default_rng(0)
    pools = pools_of([rng.normal(size=9) for _ in range(20)])
    proxy, spread = rng.normal(size=180), np.ones(180)
    one = advantages.sign_flips(pools, proxy, spread, [4], "median", seed=3)
    assert np.array_equal(
        one.against_gold, advantages.sign_flips(pools, 2 * proxy + 1, None, [4], "median", seed=3).against_gold
    )
    other = advantages.sign_flips(pools, proxy, spread, [4], "median", seed=4)
    assert not np.array_equal(one.against_gold, other.against_gold)


def test_the_share_of_variance_is_that_of_an_analysis_of_variance() -> None:
    rng = np.random.default_rng(1)
    groups = [
        rng.normal(loc, 1.5, size) for loc, size in zip(rng.normal(0, 2, 30), rng.integers(2, 9, 30), strict=True)
    ]
    pools, proxy = pools_of(groups), np.concatenate(groups)
    sizes, means = np.array([len(g) for g in groups]), np.array([g.mean() for g in groups])
    inside = sum(((g - g.mean()) ** 2).sum() for g in groups) / (sizes.sum() - len(groups))
    apart = (sizes * (means - proxy.mean()) ** 2).sum() / (len(groups) - 1)
    each = (sizes.sum() - (sizes**2).sum() / sizes.sum()) / (len(groups) - 1)
    share = advantages.variance_within(advantages.variance_columns(pools, proxy).sum(axis=0))
    assert share == pytest.approx(inside / (inside + (apart - inside) / each))


def test_the_share_of_variance_is_the_true_one_on_average_and_does_not_move_with_scale() -> None:
    rng = np.random.default_rng(2)
    pools = pools_of([np.zeros(4)] * 5000)
    proxy = np.repeat(rng.normal(0, 2, 5000), 4) + rng.normal(0, 1, 20_000)
    columns = advantages.variance_columns(pools, proxy)
    assert advantages.variance_within(columns.sum(axis=0)) == pytest.approx(1 / 5, abs=0.01)
    moved = advantages.variance_columns(pools, 1e4 + 3 * proxy).sum(axis=0)
    assert advantages.variance_within(moved) == pytest.approx(advantages.variance_within(columns.sum(axis=0)))
    noise = advantages.variance_columns(pools, rng.normal(size=20_000)).sum(axis=0)
    assert advantages.variance_within(noise) == pytest.approx(1, abs=0.02)


def test_draws_of_prompts_are_weights_of_the_columns() -> None:
    rng = np.random.default_rng(3)
    groups = [rng.normal(loc, 1, 5) for loc in rng.normal(0, 1, 6)]
    columns = advantages.variance_columns(pools_of(groups), np.concatenate(groups))
    drawn = [0, 0, 2, 5, 5, 5]
    counts = np.bincount(drawn, minlength=6)
    again = [groups[at] for at in drawn]
    expected = advantages.variance_columns(pools_of(again), np.concatenate(again)).sum(axis=0)
    assert advantages.variance_within(counts @ columns) == pytest.approx(advantages.variance_within(expected))


def test_a_constant_reward_has_no_share_of_variance() -> None:
    columns = advantages.variance_columns(pools_of([np.zeros(3)] * 2), np.full(6, 2.0))
    assert np.isnan(advantages.variance_within(columns.sum(axis=0)))
