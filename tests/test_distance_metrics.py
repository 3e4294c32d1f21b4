"""STARC and EPIC of rewards on one sample, and what rewards choose: closed forms, loops, invariances, coverage."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbench.metrics import choice, distance
from rmbench.metrics.interval import Statistic, estimate, whole_value
from rmbench.types import Array


def sample(seed: int, models: int = 3, prompts: int = 12, most: int = 6) -> tuple[Array, Any]:
    """Rewards [models, s] of normal noise, and how many responses each prompt has, two or more."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(2, most + 1, prompts)
    return rng.normal(size=(models, counts.sum())), counts


def value(statistic: Statistic) -> float:
    assert statistic.columns is not None
    return whole_value(statistic, np.arange(len(statistic.columns)))


def starc(first: Array, second: Array, counts: Any) -> float:
    return value(distance.starc("starc", first, second, counts))


def test_starc_is_the_distance_of_what_is_left_of_two_rewards_as_a_loop_has_it() -> None:
    (first, second, _), counts = sample(0)

    def standardised(rewards: Array) -> list[Array]:
        parts, at, square = [], 0, 0.0
        for count in counts:
            own = rewards[at : at + count] - np.mean(rewards[at : at + count])
            parts.append(own)
            square += np.mean(own**2) / len(counts)
            at += count
        return [part / np.sqrt(square) for part in parts]

    apart = [np.mean((a - b) ** 2) for a, b in zip(standardised(first), standardised(second), strict=True)]
    assert starc(first, second, counts) == pytest.approx(np.sqrt(np.mean(apart)))


def test_of_prompts_alike_in_size_starc_is_that_of_the_pooled_correlation_within_prompts() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 40, 5))
    rho = np.corrcoef(*((one - one.mean(axis=1, keepdims=True)).ravel() for one in (first, second)))[0, 1]
    found = starc(first.ravel(), second.ravel(), np.full(40, 5))
    assert found == pytest.approx(np.sqrt(2 * (1 - rho)))
    assert distance.epic(found) == pytest.approx(np.sqrt((1 - rho) / 2))


def test_a_reward_is_0_from_itself_and_2_from_its_opposite() -> None:
    (reward, *_), counts = sample(2)
    assert starc(reward, reward, counts) == 0
    assert starc(reward, -reward, counts) == 2
    assert distance.epic(starc(reward, -reward, counts)) == 1


@pytest.mark.parametrize("scale", [1e-6, 0.3, 1e6])
def test_what_is_added_to_a_prompt_and_a_positive_factor_change_nothing(scale: float) -> None:
    (first, second, shifts), counts = sample(3)
    shift = 100 * np.repeat(shifts[: len(counts)], counts)
    assert starc(scale * (first + shift), second, counts) == pytest.approx(starc(first, second, counts), abs=1e-9)
    assert starc(scale * (first + shift), first, counts) == 0


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_rewards_whose_squares_are_no_numbers_have_distances(scale: float) -> None:
    (first, second, _), counts = sample(3)
    assert starc(scale * first, second, counts) == pytest.approx(starc(first, second, counts))
    assert distance.starc_matrix(np.stack([scale * first, second]), counts)[0, 1] == pytest.approx(
        starc(first, second, counts)
    )
    assert distance.norm(scale * first, counts) == pytest.approx(scale * distance.norm(first, counts), rel=1e-9, abs=0)


def test_what_is_another_reward_for_each_prompt_is_another_reward() -> None:
    (reward, *_), counts = sample(4)
    assert starc(np.repeat(np.arange(1.0, 13), counts) * reward, reward, counts) > 0.1


def test_a_reward_that_is_the_same_for_all_responses_to_a_prompt_has_no_distance() -> None:
    (reward, *_), counts = sample(5)
    level = np.repeat(np.arange(12) / 10 + 1e5, counts)
    assert distance.norm(level, counts) == 0
    assert np.isnan(starc(level, reward, counts))
    assert np.isnan(distance.starc_matrix(np.stack([level, reward]), counts)[0]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8), st.sampled_from([0.0, 0.1, 3.0]))
def test_a_matrix_is_symmetric_and_keeps_the_triangle_inequality(seed: int, prompts: int, alike: float) -> None:
    rewards, counts = sample(seed, models=5, prompts=prompts, most=4)
    rewards = alike * rewards[0] + rewards
    matrix = distance.starc_matrix(rewards, counts)
    assert (matrix == matrix.T).all()
    assert (np.diag(matrix) == 0).all()
    assert ((matrix >= 0) & (matrix <= 2)).all()
    for i, j in combinations(range(5), 2):
        assert matrix[i, j] == pytest.approx(starc(rewards[i], rewards[j], counts), abs=1e-9)
        for k in range(5):
            assert matrix[i, j] <= matrix[i, k] + matrix[k, j] + 1e-9


def test_a_dendrogram_joins_by_mean_distance_as_scipy_does() -> None:
    from scipy.cluster.hierarchy import cophenet, linkage
    from scipy.spatial.distance import squareform

    rewards, counts = sample(6, models=7)
    matrix = distance.starc_matrix(rewards, counts)
    joins = distance.dendrogram(matrix)
    together = np.zeros((7, 7))
    for join in joins:
        for i in join.left:
            for j in join.right:
                together[i, j] = together[j, i] = join.height
    theirs = linkage(squareform(matrix, checks=False), method="average")
    assert [join.height for join in joins] == pytest.approx(theirs[:, 2])
    assert squareform(together) == pytest.approx(cophenet(theirs))
    assert sorted(joins[-1].left + joins[-1].right) == list(range(7))


def test_other_choice_is_the_share_of_prompts_where_the_highest_is_another() -> None:
    (first, second, _), counts = sample(7, prompts=40)
    ends = np.cumsum(counts)
    chosen = [[int(np.argmax(one[end - count : end])) for end, count in zip(ends, counts, strict=True)]
              for one in (first, second)]  # fmt: skip
    found = choice.other_choice("other", first, second, counts)
    assert value(found) == pytest.approx(np.mean(np.array(chosen[0]) != chosen[1]))
    assert found.kind == "proportion"
    assert value(choice.other_choice("other", first, first, counts)) == 0


def test_equal_highest_rewards_share_the_choice() -> None:
    tied, settled = np.array([1.0, 1, 0, 0]), np.array([1.0, 0, 0, 0])
    counts = np.array([4])
    assert choice.chances(tied, counts).tolist() == [0.5, 0.5, 0, 0]
    assert value(choice.other_choice("other", tied, tied, counts)) == 0
    assert value(choice.other_choice("other", tied, settled, counts)) == 0.5
    assert value(choice.other_choice("other", tied, settled[::-1], counts)) == 1


def test_conflict_counts_pairs_of_a_prompt_in_the_opposite_order_as_a_loop_does() -> None:
    rng = np.random.default_rng(8)
    counts = rng.integers(1, 6, 20)
    first, second = rng.integers(0, 4, (2, counts.sum())).astype(float)  # with ties
    opposite = ordered = at = 0
    for count in counts:
        for i, j in combinations(range(at, at + count), 2):
            signs = np.sign(first[i] - first[j]) * np.sign(second[i] - second[j])
            opposite, ordered = opposite + (signs < 0), ordered + (signs != 0)
        at += count
    assert value(choice.conflict("conflict", first, second, counts)) == pytest.approx(opposite / ordered)
    assert value(choice.conflict("conflict", first, -first, counts)) == 1


def test_a_response_without_a_reward_is_in_no_conflict() -> None:
    first, second = np.array([np.nan, 1, 2, np.inf, np.inf, 0]), np.array([0.0, 2, 1, 1, 2, 3])
    found = choice.conflict("conflict", first, second, np.array([3, 3]))
    assert found.columns is not None
    assert found.columns.tolist() == [[1, 1], [2, 2]]


@pytest.mark.prove
def test_intervals_of_starc_cover_the_distance_of_the_population() -> None:
    """Rewards that are one signal and noise of their own: rho is known. Prompts of 2 to 6 responses."""
    for prompts, noise in ((50, 1.0), (300, 1.0), (100, 0.2)):
        rho = 1 / (1 + noise**2)
        true, covered, repetitions = np.sqrt(2 * (1 - rho)), 0, 400
        for seed in range(repetitions):
            rng = np.random.default_rng(seed)
            counts = rng.integers(2, 7, prompts)
            signal, *own = rng.normal(size=(3, counts.sum()))
            first, second = (signal + noise * one for one in own)
            (found,) = estimate([distance.starc("starc", first, second, counts)], np.arange(prompts), seed=seed)
            covered += found.ci_low <= true <= found.ci_high
        print(f"STARC of {prompts} prompts, true {true:.2f}: {covered / repetitions:.1%} of intervals cover it")
        assert 0.92 <= covered / repetitions <= 0.98
