"""One reward out of several, and out of one another: the pure functions behind `ensemble` and `transform`.

Rewards of an ensemble are [m, n], one row a member. A transform gives its values and its slope at each, by which the
doubt about a reward is passed on to first order.

- `mean`, `median`; `worst_case` (WCO, the least) and `uncertainty_weighted` (UWO, mean - lambda times the variance over
  members, ddof 0): Coste, Anwar, Kirk and Krueger, Reward Model Ensembles Help Mitigate Overoptimization (2023).
- `lower_bound`, mean - k SDs over members: Zhai et al., Uncertainty-Penalized RLHF with Diverse Reward LoRA Ensembles
  (2024).
- `all_of`, the sum of log sigmoid(r): good only where every member finds it good, a logical AND; `log_sigmoid`, of the
  reward minus that of a reference, is what such sums are made of: Wang et al., Transforming and Combining Rewards for
  Aligning Large Language Models (2024), who take for it a high quantile of the rewards of a policy's own samples.
- `constrained`: each member held to the range in which it is of use, after Moskovitz et al., Confronting Reward Model
  Overoptimization with Constrained RLHF (2023), who stop each at its proxy point.
- `gated`: rewards added up in the order of their priority, as far as thresholds are met: Sun et al., Stabilizing
  Long-term Multi-turn Reinforcement Learning with Gated Rewards (2025).
- `as_preference` (PAR), the mean over references of sigmoid(r - r of the reference): Fu et al., Reward Shaping to
  Mitigate Reward Hacking in RLHF (2025).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rmbench.types import Array

Moved = tuple[Array, Array]  # values and slopes


def mean(rewards: Array) -> Array:
    """[n] of rewards [m, n]."""
    return np.asarray(rewards.mean(axis=0))


def median(rewards: Array) -> Array:
    """[n] of rewards [m, n]: of an even number of members the mean of the two in the middle."""
    return np.asarray(np.median(rewards, axis=0))


def worst_case(rewards: Array) -> Array:
    """[n] of rewards [m, n]: the least."""
    return np.asarray(rewards.min(axis=0))


def uncertainty_weighted(rewards: Array, penalty: float) -> Array:
    """[n] of rewards [m, n]: mean - penalty * variance over members (ddof 0)."""
    return np.asarray(rewards.mean(axis=0) - penalty * rewards.var(axis=0))


def lower_bound(rewards: Array, sds: float) -> Array:
    """[n] of rewards [m, n]: mean - so many SDs over members (ddof 0)."""
    return np.asarray(rewards.mean(axis=0) - sds * rewards.std(axis=0))


def all_of(rewards: Array) -> Array:
    """[n] of rewards [m, n]: the sum of log sigmoid(r), never above 0."""
    return np.asarray(-np.logaddexp(0.0, -rewards).sum(axis=0))


def weighted_sum(rewards: Array, weights: Sequence[float]) -> Array:
    """[n] of rewards [m, n] with a weight each."""
    return np.asarray(np.asarray(weights, float) @ rewards)


def constrained(rewards: Array, low: Sequence[float], high: Sequence[float]) -> Array:
    """[n] of rewards [m, n]: their sum, each no less than its `low` and no more than its `high`, which adds nothing."""
    return np.asarray(np.clip(rewards, np.asarray(low)[:, None], np.asarray(high)[:, None]).sum(axis=0))


def gated(rewards: Array, thresholds: Sequence[float]) -> Array:
    """[n] of rewards [m, n]: the first, and each further one as long as all before it reach their `thresholds` [m - 1].

    A reward that equals its threshold reaches it.
    """
    reached = np.logical_and.accumulate(rewards[:-1] >= np.asarray(thresholds, float)[:, None], axis=0)
    return np.asarray(rewards[0] + (rewards[1:] * reached).sum(axis=0))


def disagreement(rewards: Array) -> Array:
    """[n] of rewards [m, n]: the SD over members (ddof 0)."""
    return np.asarray(rewards.std(axis=0))


def scale_of(rewards: Array) -> tuple[float, float]:
    """Mean and SD (ddof 0) of rewards [n], the same to the bit in whatever order they stand."""
    centre = math.fsum(rewards.tolist()) / len(rewards)
    return centre, math.sqrt(math.fsum(((rewards - centre) ** 2).tolist()) / len(rewards))


# transforms of one reward


def z_score(rewards: Array, centre: float, sd: float) -> Moved:
    """(r - centre) / sd."""
    return (rewards - centre) / sd, np.full(rewards.shape, 1.0 / sd)


def clip(rewards: Array, low: float, high: float) -> Moved:
    """No less than `low` and no more than `high`; the slope is 1 between them and 0 beyond."""
    return np.clip(rewards, low, high), ((rewards > low) & (rewards < high)).astype(float)


def sigmoid(rewards: Array) -> Moved:
    """1 / (1 + exp(-r))."""
    values = 0.5 * (1.0 + np.tanh(0.5 * rewards))  # which overflows nowhere
    return values, values * (1.0 - values)


def log_sigmoid(rewards: Array) -> Moved:
    """-log(1 + exp(-r))."""
    return -np.logaddexp(0.0, -rewards), sigmoid(-rewards)[0]


def as_preference(rewards: Array, references: Array) -> Moved:
    """The mean over references [r] of sigmoid(r - reference), for rewards [n]."""
    values, slopes = sigmoid(rewards[:, None] - references[None])
    return values.mean(axis=1), slopes.mean(axis=1)
