"""Curves of best-of-n against every subset, closed forms and a simulation of what is drawn."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbench.metrics import best_of
from rmbench.metrics.pools import Pools, pools_of
from rmbench.metrics.selection import expected_choice, expected_majority

samples = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=7)


def answered(gold, answers) -> Pools:
    """Pools [p] with the answers of their samples, -1 for none."""
    pools = pools_of([np.array(one, float) for one in gold])
    return Pools(pools.gold, pools.counts, pools.clusters, np.concatenate(answers), pools.texts, pools.likelihood)


def over_subsets(proxy, values, n):
    found = []
    for subset in combinations(range(len(proxy)), n):
        best = max(proxy[i] for i in subset)
        found.append(np.mean([values[i] for i in subset if proxy[i] == best]))
    return float(np.mean(found))


def heaviest_over_subsets(answers, weights, gold, n):
    """The mean over all subsets; an answer is worth the mean of all of its samples, no answer that of those without."""
    worth = {answer: np.mean([g for a, g in zip(answers, gold, strict=True) if a == answer]) for answer in set(answers)}
    found = []
    for subset in combinations(range(len(answers)), n):
        votes = Counter()
        for i in subset:
            if answers[i] >= 0:
                votes[answers[i]] += weights[i]
        most = max(votes.values(), default=0)
        found.append(np.mean([worth[a] for a in ([a for a in votes if votes[a] == most] if votes else [-1])]))
    return float(np.mean(found))


@settings(deadline=None)
@given(st.lists(samples, min_size=1, max_size=4))
def test_best_of_n_is_the_mean_over_all_subsets_with_ties_averaged(prompts):
    pools = pools_of([np.array([gold for _, gold in one]) for one in prompts])
    proxy = np.concatenate([[float(reward) for reward, _ in one] for one in prompts])
    found = best_of.best_of(pools, proxy, pools.gold, range(1, 8))
    for row, one in zip(found, prompts, strict=True):
        rewards, gold = zip(*one, strict=True)
        assert row[: len(one)] == pytest.approx([over_subsets(rewards, gold, n) for n in range(1, len(one) + 1)])
        assert np.isnan(row[len(one) :]).all()


def test_many_prompts_at_once_are_each_as_alone():
    rng = np.random.default_rng(0)
    gold = [rng.normal(size=size) for size in (5, 9, 5, 40)]
    rewards = [np.round(rng.normal(size=len(one)), 1) for one in gold]
    found = best_of.best_of(pools_of(gold), np.concatenate(rewards), np.concatenate(gold), [1, 3, 5])
    for row, reward, values in zip(found, rewards, gold, strict=True):
        assert row == pytest.approx(expected_choice(reward, values, [1, 3, 5]))


def test_an_infinite_reward_is_taken_first_or_last_and_its_curve_is_infinite():
    pools = pools_of([np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0])])
    proxy = np.array([1, np.inf, -np.inf, 3, 2, 1.0])
    assert best_of.best_of(pools, proxy, pools.gold, [1, 3])[0] == pytest.approx([1 / 3, 1])
    assert best_of.best_of(pools, proxy, proxy, [3])[:, 0].tolist() == [np.inf, 3.0]


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_pass_at_n_is_its_closed_form(labels):
    wrong, total = labels.count(False), len(labels)
    found = best_of.pass_at(pools_of([np.array(labels, float)]), np.array(labels), range(1, total + 1))
    assert found[0] == pytest.approx([1 - math.comb(wrong, n) / math.comb(total, n) for n in range(1, total + 1)])


def test_the_kl_of_best_of_n_is_that_of_the_largest_of_n_uniform_numbers():
    u = (np.arange(200_000) + 0.5) / 200_000
    for n in (2, 7, 64):
        log_density = math.log(n) + (n - 1) * np.log(u)
        assert best_of.kl([n])[0] == pytest.approx(np.mean(np.exp(log_density) * log_density), abs=1e-3)


def test_a_majority_is_the_mean_over_all_subsets_within_what_its_draws_leave():
    rng = np.random.default_rng(1)
    answers = [rng.integers(-1, 3, size) for size in (5, 6, 6, 7)]
    gold = [(one == 1).astype(float) for one in answers]
    found = best_of.majority(answered(gold, answers), range(1, 6), seed=2)
    for row, names, labels in zip(found, answers, gold, strict=True):
        exact = [heaviest_over_subsets(names, np.ones(len(names)), labels, n) for n in range(1, 6)]
        assert row == pytest.approx(exact, abs=4 * 0.5 / math.sqrt(2048))
        texts = [None if name < 0 else str(name) for name in names]
        assert exact == pytest.approx(expected_majority(texts, labels, range(1, 6), rng))


def test_a_weighted_majority_is_the_mean_over_all_subsets_within_what_its_draws_leave():
    rng = np.random.default_rng(3)
    answers = [rng.integers(-1, 3, 7) for _ in range(30)]
    gold = [(one == 0).astype(float) for one in answers]
    weights = [rng.integers(1, 5, 7) / 10 for _ in answers]
    found = best_of.weighted_majority(answered(gold, answers), np.concatenate(weights), range(1, 8), seed=4)
    exact = [
        [heaviest_over_subsets(names, np.round(10 * weight), labels, n) for n in range(1, 8)]
        for names, weight, labels in zip(answers, weights, gold, strict=True)
    ]
    assert np.abs(found - exact).max() < 5 * 0.5 / math.sqrt(2048)
    assert np.abs((found - exact).mean(axis=0)).max() < 4 * 0.5 / math.sqrt(2048 * 30)
    assert found[:, -1] == pytest.approx(np.array(exact)[:, -1])  # all of them are one subset


def test_one_vote_of_large_weight_decides_and_who_has_no_answer_or_no_weight_does_not_vote():
    pools = answered([[1, 0, 0, 0]], [np.array([0, 1, 1, -1])])
    assert best_of.majority(pools, [4])[0, 0] == 0
    assert best_of.weighted_majority(pools, np.array([5, 1, 1, 9.0]), [4])[0, 0] == 1
    assert np.isnan(best_of.weighted_majority(pools, np.array([0, 0, 0, 1.0]), [1, 4])).all()
    with pytest.raises(ValueError, match="weights down to -1"):
        best_of.weighted_majority(pools, np.array([1, 1, 1, -1.0]), [1])


def test_a_vote_weighs_its_chance_or_its_rank_in_the_prompt():
    pools = pools_of([np.zeros(4), np.zeros(2)])
    chances = np.array([0.2, 0.4, 0.4, 1, 0, 0.5])
    assert best_of.vote_weights(pools, chances) is chances
    ranks = best_of.vote_weights(pools, np.array([-5, 70, 70, 900, 3, 1.0]))
    assert ranks.tolist() == [0.25, 0.625, 0.625, 1.0, 1.0, 0.5]


@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0])
def test_an_oracle_that_errs_is_the_mean_over_all_subsets_and_all_of_its_judgements(noise):
    gold = np.array([1, 0, 0, 1, 0.0])
    found = best_of.noisy_oracle(pools_of([gold]), noise, range(1, 6))[0]
    for n in range(1, 6):
        exact = 0.0
        for flips in product((0, 1), repeat=5):
            chance = math.prod(noise if flip else 1 - noise for flip in flips)
            exact += chance * over_subsets(np.abs(gold - flips), gold, n)
        assert found[n - 1] == pytest.approx(exact)


def test_an_oracle_whose_scores_are_noisy_takes_what_its_noise_leaves():
    rng = np.random.default_rng(5)
    pools = pools_of(list(rng.normal(size=(2000, 8))))
    largest = best_of.oracle(pools, [8]).mean()
    found = best_of.noisy_oracle(pools, 1.0, [1, 8]).mean(axis=0)
    assert found == pytest.approx([pools.gold.mean(), largest / math.sqrt(2)], abs=0.02)  # correlation of 1 / sqrt 2
    assert (best_of.noisy_oracle(pools, 0.0, [8]) == best_of.oracle(pools, [8])).all()


@pytest.mark.parametrize(("gold", "noise"), [([0, 1], 1.2), ([0, 1], -0.1), ([0, 3], -1), ([0, 3], math.nan)])
def test_noise_that_is_no_chance_is_refused(gold, noise):
    with pytest.raises(ValueError, match="label noise"):
        best_of.noisy_oracle(pools_of([np.array(gold, float)]), noise, [1])


def test_the_standard_deviation_within_prompts_is_pooled_and_knows_nothing_of_their_means():
    pools = pools_of([np.array([1.0, 3.0]), np.array([100.0, 102.0, 104.0]), np.array([7.0])])
    assert best_of.within_sd(pools, pools.gold) == pytest.approx(math.sqrt((2 + 8) / 3))
    assert best_of.within_sd(pools_of([np.ones(1)]), np.ones(1)) == 0
