"""Whether rewards of good samples go with their likelihood, against scipy in loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from rmbench.metrics.pools import Pools, pools_of
from rmbench.metrics.rank_bias import RankBias, rank_bias
from rmbench.metrics.winners import good_ones
from rmbench.types import Array


def pool(seed: int, prompts: int = 30) -> tuple[Pools, Array]:
    rng = np.random.default_rng(seed)
    pools = pools_of([rng.integers(0, 2, count).astype(float) for count in rng.integers(1, 12, prompts)])
    return pools, rng.integers(0, 6, len(pools.gold)).astype(float)


def figure(bias: RankBias | None) -> float:
    assert bias is not None
    return float(bias.value(bias.columns.sum(axis=0)))


@pytest.mark.parametrize("seed", range(4))
def test_with_log_probabilities_it_is_the_mean_correlation_among_good_samples(seed: int) -> None:
    pools, proxy = pool(seed)
    rng = np.random.default_rng(seed + 100)
    likelihood = np.where(rng.random(len(proxy)) < 0.1, np.nan, rng.integers(-9, 0, len(proxy)))
    pools = replace(pools, likelihood=likelihood)
    found = []
    for prompt in range(len(pools.counts)):
        asked = (pools.prompts == prompt) & (pools.gold == 1) & np.isfinite(likelihood)
        x, y = likelihood[asked], proxy[asked]
        if asked.sum() >= 3 and np.ptp(x) > 0 and np.ptp(y) > 0:
            found.append(spearmanr(x, y).statistic)
    bias = rank_bias(pools, proxy, good_ones(pools))
    assert bias is not None
    assert bias.likelihood == "log-probability"
    assert len(found) == bias.columns[:, 0].sum() > 3
    assert figure(bias) == pytest.approx(np.mean(found))


def test_a_reward_that_is_the_likelihood_is_all_bias_and_its_opposite_none() -> None:
    pools, proxy = pool(9)
    proxy = proxy + np.arange(len(proxy)) / 100
    pools = replace(pools, likelihood=proxy.copy())
    assert figure(rank_bias(pools, proxy, good_ones(pools))) == pytest.approx(1)
    assert figure(rank_bias(pools, -proxy, good_ones(pools))) == pytest.approx(-1)


@pytest.mark.parametrize("seed", range(4))
def test_with_answers_alone_it_is_the_correlation_over_prompts(seed: int) -> None:
    pools, proxy = pool(seed)
    rng = np.random.default_rng(seed + 200)
    wrong = rng.integers(-1, 4, len(proxy))
    pools = replace(pools, answers=np.where(pools.gold == 1, 0, np.where(wrong == 0, 1, wrong)))
    frequency, beaten = [], []
    for prompt in range(len(pools.counts)):
        mine = pools.prompts == prompt
        good, poor = (proxy[mine & (pools.gold == kind)] for kind in (1, 0))
        if len(good) and len(poor):
            frequency.append(len(good) / mine.sum())
            beaten.append(np.mean([[(g > p) + (g == p) / 2 for p in poor] for g in good]))
    bias = rank_bias(pools, proxy, good_ones(pools))
    assert bias is not None
    assert bias.likelihood == "answer frequency"
    assert figure(bias) == pytest.approx(spearmanr(frequency, beaten).statistic)


def test_frequencies_are_of_all_samples_of_a_prompt_with_the_answer_of_a_good_one() -> None:
    # two right answers, one of them also marked wrong once: it has 2 of 4 samples, the other 1 of 4
    gold = [np.array([1.0, 1.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.0, 0.0]), np.array([1.0, 1.0, 1.0, 0.0])]
    answers = np.array([0, 1, 0, 2, 0, 1, 1, 1, 0, 0, 0, 1])
    pools = replace(pools_of(gold), answers=answers)
    bias = rank_bias(pools, np.array([1.0, 1, 0, 2, 0, 1, 1, 1, 2, 2, 2, 0]), good_ones(pools))
    assert bias is not None
    # frequencies .375, .25, .75 and shares beaten .5, 0, 1 have the same order
    assert figure(bias) == pytest.approx(1)


def test_data_that_know_no_likelihood_say_nothing() -> None:
    pools, proxy = pool(0)
    assert rank_bias(pools, proxy, good_ones(pools)) is None


def test_an_even_reward_has_no_correlation() -> None:
    pools, _ = pool(0)
    answers = replace(pools, answers=np.where(pools.gold == 1, 0, 1))
    assert np.isnan(figure(rank_bias(answers, np.zeros(len(pools.gold)), good_ones(pools))))
