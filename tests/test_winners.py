"""Poor samples that win and good ones that lose, against every subset of a prompt's samples."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest

from rmbench.metrics import winners
from rmbench.metrics.pools import Pools, pools_of
from rmbench.types import Array

COUNTS = (6, 3, 6, 7, 1)


def pool(seed: int) -> tuple[Pools, Array, winners.Marks]:
    """Prompts of different N, rewards with ties, and what is good."""
    rng = np.random.default_rng(seed)
    pools = pools_of([rng.integers(0, 2, size).astype(float) for size in COUNTS])
    return pools, rng.integers(0, 5, sum(COUNTS)).astype(float), winners.good_ones(pools)


def of_prompts(pools: Pools, *arrays: Array) -> list[tuple[Array, ...]]:
    return list(zip(*(np.split(one, pools.starts[1:]) for one in arrays), strict=True))


def subset_wins(proxy: Array, good: Array, n: int) -> float:
    """The mean, over subsets of n, of the share of poor ones among those of the highest reward."""
    shares = []
    for chosen in map(list, combinations(range(len(proxy)), n)):
        best = proxy[chosen] == proxy[chosen].max()
        shares.append(float((~good[chosen][best]).mean()))
    return float(np.mean(shares))


def subset_loses(proxy: Array, good: Array, n: int) -> float:
    """The mean, over good samples and n - 1 others, of the chance to come after a poor one of them."""
    chances = []
    for mine in np.flatnonzero(good):
        others = [other for other in range(len(proxy)) if other != mine]
        for rivals in map(list, combinations(others, n - 1)):
            poor = [proxy[rival] for rival in rivals if not good[rival]]
            equal = sum(reward == proxy[mine] for reward in poor)
            chances.append(1.0 if any(reward > proxy[mine] for reward in poor) else equal / (equal + 1))
    return float(np.mean(chances))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("rows_of", "brute"), [(winners.poor_wins, subset_wins), (winners.good_loses, subset_loses)])
def test_rows_are_the_mean_over_all_subsets(seed: int, rows_of, brute) -> None:
    pools, proxy, good = pool(seed)
    sizes = (1, 2, 3, 5, 7)
    rows = rows_of(pools, proxy, good, sizes)
    for row, (rewards, marks) in zip(rows, of_prompts(pools, proxy, good), strict=True):
        for value, n in zip(row, sizes, strict=True):
            if n > len(rewards) or marks.all() or not marks.any():
                assert np.isnan(value)
            else:
                assert value == pytest.approx(brute(rewards, marks, n), abs=1e-12)


def test_an_oracle_takes_a_poor_one_only_where_nothing_else_is_there() -> None:
    gold = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    pools, sizes = pools_of([gold]), range(1, 7)
    good = winners.good_ones(pools)
    expected = [comb(4, n) / comb(6, n) for n in sizes]
    np.testing.assert_allclose(winners.poor_wins(pools, gold, good, sizes)[0], expected, atol=1e-12)
    np.testing.assert_allclose(winners.good_loses(pools, gold, good, sizes)[0], 0.0, atol=1e-12)
    np.testing.assert_allclose(winners.good_loses(pools, -gold, good, [6])[0], 1.0, atol=1e-12)


def test_a_constant_reward_gets_what_chance_gets() -> None:
    pools = pools_of([np.array([1.0, 0.0, 0.0, 1.0])])
    good = winners.good_ones(pools)
    np.testing.assert_allclose(winners.poor_wins(pools, np.zeros(4), good, [1, 2, 4])[0], 0.5)
    # among four, two poor ones are rivals of each good one: it is ahead of both with chance 1/3
    np.testing.assert_allclose(winners.good_loses(pools, np.zeros(4), good, [4])[0], 2 / 3)


def test_a_reward_that_overrates_one_poor_sample_makes_poor_ones_win_more_often_with_n() -> None:
    gold = np.array([1.0] * 9 + [0.0])
    pools, proxy = pools_of([gold]), np.array([*range(9), 100.0])
    rows = winners.poor_wins(pools, proxy, winners.good_ones(pools), [1, 2, 5, 10])
    np.testing.assert_allclose(rows[0], [0.1, 0.2, 0.5, 1.0])


def test_good_scores_are_those_above_the_mean_of_their_prompt() -> None:
    pools = pools_of([np.array([0.2, 0.4, 0.9]), np.array([0.5, 0.5])])
    assert winners.good_ones(pools).tolist() == [False, False, True, False, False]
    covered = winners.coverage(pools, winners.good_ones(pools))
    np.testing.assert_allclose(covered, [1 / 3, np.nan])
    assert winners.coverage_bins(covered).tolist() == [2, -1]


def test_every_coverage_that_is_told_is_in_one_bin() -> None:
    covered = np.array([0.01, 0.0999, 0.1, 0.25, 0.4999, 0.5, 0.75, 0.99])
    assert winners.coverage_bins(covered).tolist() == [0, 0, 1, 2, 2, 3, 4, 4]
