"""The chance that two choices are the same response, against every pair of disjoint subsets."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from rmbench.metrics import diversity
from rmbench.metrics.pools import Codes, pools_of
from rmbench.types import Array


def pair_of_subsets(proxy: Array, codes: Codes, n: int) -> float:
    """The mean, over two subsets of n without a common sample, of the chance that their choices have one code."""
    chances = []
    for one in combinations(range(len(proxy)), n):
        rest = [sample for sample in range(len(proxy)) if sample not in one]
        for other in combinations(rest, n):
            first, second = (_best(proxy, chosen) for chosen in (one, other))
            same = [codes[a] == codes[b] and codes[a] >= 0 for a in first for b in second]
            chances.append(float(np.mean(same)))
    return float(np.mean(chances))


def _best(proxy: Array, chosen: tuple[int, ...]) -> list[int]:
    return [sample for sample in chosen if proxy[sample] == max(proxy[list(chosen)])]


@pytest.mark.parametrize("levels", [1, 2, 4, 1000])  # of rewards: all of one, many ties, none
def test_rows_are_the_mean_over_all_pairs_of_disjoint_subsets(levels: int) -> None:
    rng = np.random.default_rng(levels)
    counts = (7, 6, 3, 7, 1)
    pools = pools_of([np.zeros(size) for size in counts])
    proxy, codes = rng.integers(0, levels, sum(counts)).astype(float), rng.integers(-1, 3, sum(counts))
    sizes = (1, 2, 3, 4)
    rows = diversity.same_chosen(pools, proxy, codes, sizes)
    for row, first, count in zip(rows, pools.starts, counts, strict=True):
        mine = slice(first, first + count)
        for value, n in zip(row, sizes, strict=True):
            if 2 * n > count or (codes[mine] < 0).all():
                assert np.isnan(value)
            else:
                assert value == pytest.approx(pair_of_subsets(proxy[mine], codes[mine], n), abs=1e-12)


def test_a_reward_of_the_answer_makes_one_answer_of_many() -> None:
    codes = np.tile(np.arange(4), 50)
    pools = pools_of([np.zeros(200)])
    effective = diversity.effective(diversity.same_chosen(pools, codes.astype(float), codes, [1, 2, 50])[0])
    assert effective[0] == pytest.approx(4, rel=0.03)
    # of two, the best of four equally common answers has chances 1, 3, 5 and 7 of 16
    assert effective[1] == pytest.approx(256 / 84, rel=0.03)
    assert effective[2] == pytest.approx(1)


def test_a_reward_that_knows_nothing_of_answers_chooses_as_diversely_as_the_policy() -> None:
    rng = np.random.default_rng(0)
    pools = pools_of([np.zeros(32)] * 400)
    codes = rng.choice(3, size=32 * 400, p=[0.6, 0.3, 0.1])
    rows = diversity.same_chosen(pools, rng.normal(size=len(codes)), codes, [1, 4, 16])
    np.testing.assert_allclose(rows.mean(axis=0), 0.6**2 + 0.3**2 + 0.1**2, atol=0.05)


def test_samples_nobody_repeats_are_infinitely_many() -> None:
    pools = pools_of([np.zeros(8)])
    same = diversity.same_chosen(pools, np.arange(8.0), np.arange(8), [1, 4])
    assert same.tolist() == [[0.0, 0.0]]
    assert np.isinf(diversity.effective(same)).all()
