"""How many different responses a reward chooses, in effect: does choosing by it collapse what a policy says?

Two people each draw n samples of their own and let the reward choose. The chance that both get the same is

    sum_{i != j} C(i-1, n-1) C(j-1-n, n-1) / (C(N, n) C(N-n, n)) [i and j are the same], i the lower of the two ranks,

twice, exact over all pairs of sets of n that share no sample, so that it is unbiased for a policy from which one could
draw for ever; the same sample never counts as two. (Two choices from all N would be the same one sample at n = N
whatever the reward.) It needs N >= 2 n. Rewards of one value are in a random order. 1 over its mean is how many equally
common responses would be chosen as diversely (Simpson's index, inverted; Hill, Ecology 54, 1973), infinite where no two
chosen are ever the same; at n = 1 it is the policy's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from rmbench.metrics.best_of import chances_of_ranks
from rmbench.metrics.pools import Codes, Pools
from rmbench.types import Array

_AT_ONCE = 1 << 22  # entries of matrices held at once: 32 MiB


def same_chosen(pools: Pools, proxy: Array, codes: Codes, sizes: Sequence[int]) -> Array:
    """The chance [p, m] that two choices of the `proxy` [s] among n each have the same code, n in `sizes` [m].

    `codes` [s] are the pools' `answers` or `texts`; a sample of -1 is like no other. nan where a prompt has fewer than
    2 n samples, or no code. The effective number is 1 / the mean of the rows: `effective`.
    """
    wanted = np.asarray(sizes, np.intp)
    rows = np.full((len(pools.counts), len(wanted)), np.nan)
    for prompts, places in pools.blocks():
        total = places.shape[1]
        fit = np.flatnonzero(2 * wanted <= total)
        if not len(fit):
            continue
        chances = _pair_chances(total, tuple(wanted[fit].tolist())).reshape(-1, len(fit))
        step = max(1, _AT_ONCE // total**2)
        for first in range(0, len(prompts), step):
            some, asked = prompts[first : first + step], places[first : first + step]
            same = _same_by_rank(proxy[asked], codes[asked]).reshape(len(some), -1) @ chances
            answered = (codes[asked] >= 0).any(axis=1, keepdims=True)
            rows[np.ix_(some, fit)] = np.where(answered, np.clip(same, 0.0, 1.0), np.nan)
    return rows


def effective(same: Array) -> Array:
    """The effective number [...] of different responses from the mean chance [...] that two are the same.

    >>> effective(np.array([1.0, 0.25, 0.0])).tolist()
    [1.0, 4.0, inf]
    """
    with np.errstate(divide="ignore"):
        return np.asarray(1 / np.asarray(same, float))


def _same_by_rank(proxy: Array, codes: Codes) -> Array:
    """The chance [q, N, N] that those of two ranks, the lowest first, have the same code; 0 for a rank and itself."""
    order = np.argsort(proxy, axis=1, kind="stable")
    ranked, coded = (np.take_along_axis(values, order, axis=1) for values in (proxy, codes))
    same: Array = ((coded[:, :, None] == coded[:, None, :]) & (coded >= 0)[:, :, None]).astype(float)
    same[:, np.arange(proxy.shape[1]), np.arange(proxy.shape[1])] = 0.0
    tied = np.flatnonzero((ranked[:, 1:] == ranked[:, :-1]).any(axis=1))
    if len(tied):
        alike = (ranked[tied][:, :, None] == ranked[tied][:, None, :]).astype(float)
        number = alike.sum(axis=2)
        anywhere = alike / number[:, :, None]  # each of those alike may be at any of their ranks,
        pairs = np.where(number > 1, number / np.maximum(number - 1, 1), 1.0)[:, :, None]
        apart = same[tied] * np.where(alike > 0, pairs, 1.0)  # but two of them never at the same
        shuffled = anywhere @ apart @ anywhere
        shuffled[:, np.arange(proxy.shape[1]), np.arange(proxy.shape[1])] = 0.0
        same[tied] = shuffled
    return same


@lru_cache(maxsize=8)
def _pair_chances(total: int, sizes: tuple[int, ...]) -> Array:
    """Chance [total, total, m] that two sets of n without a common sample have their largest at these two ranks."""
    chances = np.zeros((total, total, len(sizes)))
    for at, n in enumerate(sizes):
        lower = chances_of_ranks(total, (n,))[:, 0]
        upper = np.zeros(total)
        upper[n:] = chances_of_ranks(total - n, (n,))[:, 0]
        one = np.triu(lower[:, None] * upper[None, :], 1)
        chances[:, :, at] = one + one.T
    chances.flags.writeable = False
    return chances
