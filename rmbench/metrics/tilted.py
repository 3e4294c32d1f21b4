"""The policy that a reward makes at the least KL: each response as likely as before times exp(strength times reward).

It is the optimum of reward less KL / strength, which reinforcement learning with a KL penalty aims at (Korbak et al.,
RL with KL penalties is better viewed as Bayesian inference, 2022), and best-of-n comes close to it (Yang et al.,
Asymptotics of language model alignment, 2024). From N samples of the policy a mean under it is theirs with weights

    w_i = exp(strength reward_i) / sum_j exp(strength reward_j)

and its KL from the policy is log N + sum_i w_i log w_i. Both are only as good as many samples share the weight: the KL
of N samples cannot exceed log N.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rmbench.metrics import highest
from rmbench.metrics.best_of import best_of, within_sd
from rmbench.metrics.best_of import kl as kl_of_best
from rmbench.metrics.curve import Figure, by_cluster
from rmbench.metrics.pools import Codes, Pools
from rmbench.types import Array

_FEWEST = 4  # N / n: how many samples share the weight of best-of-n is 2 N / n
_STEPS = 100
_CLOSE = 1e-6  # of the KL that is asked for


def tilted(pools: Pools, proxy: Array, values: Array, strengths: Sequence[float] | Array) -> tuple[Array, Array]:
    """KL [p, m] in nats and expected value [p, m] of each prompt's tilted policy, at `strengths` [m] of 0 or more.

    `proxy` and `values` [s] are of the samples, all finite. A strength is one over a unit of the proxy; at an infinite
    one the samples of the largest reward are all that is left.
    """
    below, starts = _below_the_largest(pools, proxy), pools.starts
    divergence, value = (np.empty((len(pools.counts), len(strengths))) for _ in range(2))
    for column, strength in enumerate(strengths):
        weights, total = _weights(below, starts, strength)
        moment = np.add.reduceat(np.where(weights > 0, weights * below, 0.0), starts) / total
        lost = strength * moment if np.isfinite(strength) else 0.0
        divergence[:, column] = np.maximum(np.log(pools.counts / total) + lost, 0.0)
        value[:, column] = np.add.reduceat(weights * values, starts) / total
    return divergence, value


def strengths_for(pools: Pools, proxy: Array, kl: Sequence[float] | Array) -> Array:
    """The strengths [m] at which the mean KL over prompts is `kl` [m] in nats; inf where none gets that far.

    The root of the KL goes nearly straight with the strength and only rises: Newton's steps, halved where they leave
    the ends that are known.
    """
    below, starts = _below_the_largest(pools, proxy), pools.starts
    total = _weights(below, starts, np.inf)[1]
    most = float(np.log(pools.counts / total).mean())
    strengths, first = np.full(len(kl), np.inf), 1 / (within_sd(pools, proxy) or 1.0)
    for place, target in enumerate(kl):
        if target <= 0 or target < most * (1 - 1e-9):
            strengths[place] = _strength(pools, below, max(float(target), 0.0), first)
            first = strengths[place] or first
    return strengths


def sizes_that_tell(sizes: Sequence[int], samples: int) -> list[int]:
    """Those of `sizes` whose best-of-n is held against the tilted policy of the same KL: up to a quarter of the
    `samples` of a prompt, beyond which fewer than eight share the weight."""
    return [n for n in sizes if _FEWEST * n <= samples]


def gap(pools: Pools, proxy: Array, values: Array, sizes: Sequence[int]) -> tuple[Array, Array]:
    """The tilted policy beside best-of-n: its strengths [m] at the same KL, and tilted less best-of-n [p, m]."""
    strengths = strengths_for(pools, proxy, kl_of_best(sizes))
    return strengths, tilted(pools, proxy, values, strengths)[1] - best_of(pools, proxy, values, sizes)


def largest_gap(apart: Array, clusters: Codes, seed: int = 0) -> Figure:
    """The mean over prompts of tilted less best-of-n [p, m] at the point where it is furthest from 0.

    Its interval holds for all points together, since the point was chosen by looking.
    """
    sums, rows = by_cluster(apart, clusters)
    means = highest.parts_of(sums, rows, np.zeros(apart.shape[1]), seed=seed)
    place, half = highest.furthest(means)
    value = float(means.means[place])
    return Figure(value, value - half, value + half) if np.isfinite(half) else Figure(value)


def _strength(pools: Pools, below: Array, target: float, first: float) -> float:
    if target == 0:
        return 0.0
    least, most, strength = 0.0, np.inf, first
    for _ in range(_STEPS):
        weights, total = _weights(below, pools.starts, strength)
        moment = np.add.reduceat(weights * below, pools.starts) / total
        square = np.add.reduceat(weights * np.square(below), pools.starts) / total
        divergence = float((np.log(pools.counts / total) + strength * moment).mean())
        if abs(divergence - target) <= _CLOSE * target:
            break
        least, most = (strength, most) if divergence < target else (least, strength)
        slope = strength * float((square - np.square(moment)).mean())
        root = np.sqrt(max(divergence, 0.0))
        step = strength + 2 * root * (np.sqrt(target) - root) / slope if slope > 0 else np.nan
        between = (least + most) / 2 if np.isfinite(most) else 4 * strength
        strength = float(step) if least < step < min(most, 4 * strength) else between
    return strength


def _below_the_largest(pools: Pools, proxy: Array) -> Array:
    """How far each reward is from the largest of its prompt [s], 0 or less."""
    return np.asarray(proxy - np.maximum.reduceat(proxy, pools.starts)[pools.prompts])


def _weights(below: Array, starts: Codes, strength: float) -> tuple[Array, Array]:
    """The weights of the samples [s], 1 for the largest reward, and their sum by prompt [p]."""
    weights = np.exp(strength * below) if np.isfinite(strength) else (below == 0).astype(float)
    return weights, np.add.reduceat(weights, starts)
