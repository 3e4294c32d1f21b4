"""The two sides of the winner's curse: poor samples that win (type I), and good ones that lose (type II).

A reward that is a noisy guess overrates some of what is poor, and choosing the best of n looks for exactly those; it
underrates some of what is good, and these are lost. What is good is said by `good` [s] (`good_ones` where nothing else
is known). Only prompts that have both kinds can say anything; the others are nan in every row.

- `poor_wins`: the chance that the one chosen among a random n of a prompt's samples is poor. At n = 1 it is the share
  of poor ones, for an oracle the chance that all n are poor.
- `good_loses`: the chance that a random good sample, shown with a random n - 1 others of its prompt, has a poor one of
  them rated above it. 0 at n = 1, and it rises with n, since rivals do; at n = 2 it is the share of wrongly ordered
  pairs times the chance that the rival is poor.

Samples of one reward are in a random order, so that a constant reward (zeros) gives what chance would get. Which side
weighs more depends on `coverage`, the share of a prompt's samples that are good: few good ones are more easily lost,
few poor ones more rarely win (type I and II reward hacking after Rashidinejad and Tian, Sail into the Headwind, 2024,
where low coverage by the data makes either).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.best_of import best_of
from rmbench.metrics.pools import Codes, Pools
from rmbench.types import Array

Marks = NDArray[np.bool_]

COVERAGE_EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)


def good_ones(pools: Pools) -> Marks:
    """Which samples [s] are good: the right ones, or, of scores, those worth more than the mean of their prompt."""
    if pools.is_binary:
        right: Marks = pools.gold == 1
        return right
    means = np.bincount(pools.prompts, pools.gold, len(pools.counts)) / np.maximum(pools.counts, 1)
    above: Marks = pools.gold > means[pools.prompts]
    return above


def coverage(pools: Pools, good: Marks) -> Array:
    """The share [p] of each prompt's samples that are good; nan where all of them are, or none."""
    shares = np.bincount(pools.prompts, good, len(pools.counts)) / np.maximum(pools.counts, 1)
    return np.where((shares > 0) & (shares < 1), shares, np.nan)


def coverage_bins(covered: Array, edges: Sequence[float] = COVERAGE_EDGES) -> Codes:
    """The bin [p] of each coverage [p], from one edge up to, not including, the next; -1 where it is nan.

    >>> coverage_bins(np.array([0.05, 0.1, 0.8, np.nan])).tolist()
    [0, 1, 4, -1]
    """
    bins = np.searchsorted(np.asarray(edges), covered, side="right") - 1
    return np.where(np.isnan(covered), -1, bins).astype(np.intp)


def poor_wins(pools: Pools, proxy: Array, good: Marks, sizes: Sequence[int]) -> Array:
    """How often [p, m] what the `proxy` [s] chooses among n is poor, n in `sizes` [m]; nan where a prompt has fewer
    samples than n, or one kind alone.
    """
    mixed = np.isfinite(coverage(pools, good))
    rows: Array = np.where(mixed[:, None], best_of(pools, proxy, (~good).astype(float), sizes), np.nan)
    return rows


def good_loses(pools: Pools, proxy: Array, good: Marks, sizes: Sequence[int]) -> Array:
    """How often [p, m] a good sample has a poor one above it by the `proxy` [s] among n, n in `sizes` [m]; nan where a
    prompt has fewer samples than n, or one kind alone.
    """
    wanted = np.asarray(sizes, np.intp)
    rows = np.full((len(pools.counts), len(wanted)), np.nan)
    above, equal = _poor_rivals(pools, proxy, good)
    mixed = np.isfinite(coverage(pools, good))
    for prompts, places in pools.blocks():
        total, kept = places.shape[1], mixed[prompts]
        fit = np.flatnonzero(wanted <= total)
        if not len(fit) or not kept.any():
            continue
        asked = places[kept]
        none = _none_drawn(total, wanted[fit])  # [total + 1, m], summed from the first
        first, last = above[asked], above[asked] + equal[asked] + 1
        each = good[asked] / good[asked].sum(axis=1, keepdims=True) / (last - first)  # over its places among equal ones
        weights, row = np.zeros((len(asked), total + 1)), np.arange(len(asked))[:, None]
        np.add.at(weights, (row, last), each)
        np.subtract.at(weights, (row, first), each)
        rows[np.ix_(prompts[kept], fit)] = np.clip(1 - weights @ none, 0.0, 1.0)
    return rows


def _poor_rivals(pools: Pools, proxy: Array, good: Marks) -> tuple[Codes, Codes]:
    """How many poor samples of its prompt stand above each sample [s], and how many have its reward."""
    order = np.lexsort((-proxy, pools.prompts))  # the highest reward of each prompt first
    prompts, ranked = pools.prompts[order], proxy[order]
    new = np.ones(len(order), bool)
    new[1:] = (prompts[1:] != prompts[:-1]) | (ranked[1:] != ranked[:-1])
    runs = np.empty(len(order), np.intp)  # of equal rewards
    runs[order] = np.cumsum(new) - 1
    equal = np.bincount(runs, ~good).astype(np.intp)
    before = np.cumsum(equal) - equal
    poor = np.bincount(pools.prompts, ~good, len(pools.counts)).astype(np.intp)
    earlier = np.cumsum(poor) - poor  # of the prompts before
    return before[runs] - earlier[pools.prompts], equal[runs]


def _none_drawn(total: int, sizes: Codes) -> Array:
    """Sums [total + 1, m], over 0 to k - 1 given ones of total - 1, of the chance that none is among a random n - 1."""
    given = np.arange(total - 1.0)[:, None]
    steps = np.maximum(total - sizes - given, 0.0) / (total - 1 - given)
    chances = np.cumprod(np.vstack([np.ones((1, len(sizes))), steps]), axis=0)
    return np.vstack([np.zeros((1, len(sizes))), np.cumsum(chances, axis=0)])
