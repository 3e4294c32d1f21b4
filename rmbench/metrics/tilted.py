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

from rmbench.metrics.best_of import kl as kl_of_best
from rmbench.metrics.pools import Pools
from rmbench.types import Array

_FEWEST = 4  # N / n: how many samples share the weight of best-of-n is 2 N / n
_HALVINGS = 60
_ENTRIES = 1 << 22  # numbers held at once: 32 MiB


def tilted(pools: Pools, proxy: Array, values: Array, strengths: Sequence[float]) -> tuple[Array, Array]:
    """KL [p, m] in nats and expected value [p, m] of each prompt's tilted policy, at `strengths` [m] of 0 or more.

    `proxy` and `values` [s] are of the samples, all finite. A strength is one over a unit of the proxy.
    """
    divergence, value = (np.empty((len(pools.counts), len(strengths))) for _ in range(2))
    for prompts, places in pools.blocks():
        at_once = max(1, _ENTRIES // places.shape[1])
        for start in range(0, len(prompts), at_once):
            some, inside = prompts[start : start + at_once], places[start : start + at_once]
            below = proxy[inside] - proxy[inside].max(axis=1, keepdims=True)
            for column, strength in enumerate(strengths):
                weights = np.exp(strength * below)
                total = weights.sum(axis=1, keepdims=True)
                weights /= total
                divergence[some, column] = np.log(places.shape[1] / total[:, 0]) + strength * (weights * below).sum(1)
                value[some, column] = (weights * values[inside]).sum(axis=1)
    return np.maximum(divergence, 0.0), value


def strengths_for(pools: Pools, proxy: Array, kl: Sequence[float]) -> Array:
    """The strengths [m] at which the mean KL over prompts is `kl` [m] in nats; inf where no strength gets that far.

    Found by halving: the KL only rises with the strength.
    """
    raise NotImplementedError


def sizes_that_tell(sizes: Sequence[int], samples: int) -> list[int]:
    """Those of `sizes` whose best-of-n is held against the tilted policy of the same KL: up to a quarter of the
    `samples` of a prompt, beyond which fewer than eight share the weight."""
    return [n for n in sizes if _FEWEST * n <= samples]


def gap(pools: Pools, proxy: Array, values: Array, sizes: Sequence[int]) -> tuple[Array, Array]:
    """The tilted policy beside best-of-n: its strengths [m] at the same KL, and tilted less best-of-n [p, m]."""
    raise NotImplementedError(kl_of_best(sizes), pools, proxy, values)
