"""The reward scale against numpy on small examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from rmbench.metrics import scale
from rmbench.metrics.interval import estimate
from rmbench.types import Outcome, View


def outcomes(*rewards: Sequence[float]) -> list[Outcome]:
    return [
        Outcome(str(i), None, str(i), np.zeros(len(some)), {"default": View(np.array(some, float), None, ())})
        for i, some in enumerate(rewards)
    ]


def values(given: Sequence[Outcome]) -> dict[str, float]:
    found = estimate(scale.statistics(given, "default"), range(len(given)), draws=2)
    return {one.name: one.value for one in found}


def test_spread_within_and_between_prompts_is_that_of_numpy() -> None:
    rng = np.random.default_rng(0)
    rewards = 1e6 + rng.normal(size=(30, 4)) + 3 * rng.normal(size=(30, 1))
    found = values(outcomes(*rewards))
    assert found["reward_sd_within"] == pytest.approx(np.sqrt(rewards.var(axis=1, ddof=1).mean()))
    assert found["reward_sd_between"] == pytest.approx(rewards.mean(axis=1).std(ddof=1))


def test_the_ends_of_a_scale_and_its_repetitions_are_counted() -> None:
    found = scale.describe(outcomes([1, 10, 10], [10, 5, np.nan], [np.inf]), "default")
    assert found == scale.Scale(rewards=5, distinct=3, minimum=1, maximum=10, at_minimum=1, at_maximum=3)


def test_nothing_finite_is_no_scale_and_comparisons_have_none() -> None:
    assert scale.describe(outcomes([np.nan, np.nan]), "default") == scale.Scale(0, 0, None, None, 0, 0)
    assert np.isnan(values(outcomes([np.nan, np.nan]))["reward_sd_within"])
    compared = Outcome("x", None, "x", np.ones(2), {"default": View(None, np.full((2, 2), np.nan), ())})
    assert scale.describe([compared], "default") is None
    assert scale.statistics([compared], "default") == []


def test_an_example_with_a_missing_reward_counts_in_no_spread() -> None:
    assert values(outcomes([1, 2], [5, np.nan], [3, 4])) == values(outcomes([1, 2], [3, 4]))
