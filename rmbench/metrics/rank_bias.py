"""Does a reward prefer what is likely among what is right? Training on it then never finds the rare right answers.

Where samples have a log-probability under the policy, the figure is Spearman's correlation of reward and
log-probability among the good samples of a prompt (at least three, with different values of both), and its mean over
prompts: above 0 likely good samples are rated above unlikely good ones (the rank bias of He et al., Rewarding the
Unlikely, 2025, asked of the reward). Where only answers are known, the good samples of a prompt mostly share one, so
that prompts are compared instead: Spearman's correlation, over prompts that have good and poor samples, of how frequent
the answer of its good samples is, and of the share of poor samples that a good one is rated above (ties half). Above 0
rare right answers are told apart worse than common ones; plain difficulty looks the same, and this cannot tell the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rmbench.metrics.pools import Codes, Pools
from rmbench.metrics.winners import Marks
from rmbench.types import Array

Likelihood = Literal["log-probability", "answer frequency"]

_LEAST = 3  # good samples of a prompt; of two the correlation is 1 or -1


@dataclass(frozen=True, slots=True)
class RankBias:
    """What `likelihood` was; `columns` [p, k] whose sums over prompts [..., k] `value` makes the correlation of."""

    likelihood: Likelihood
    columns: Array

    def value(self, sums: Array) -> Array:
        """The figure [...] from sums [..., k] of the columns; nan where nothing varies."""
        with np.errstate(invalid="ignore", divide="ignore"):
            if self.likelihood == "log-probability":
                return np.asarray(sums[..., 1] / sums[..., 0])
            n, x, y, xx, yy, xy = np.moveaxis(np.asarray(sums, float), -1, 0)
            spread = np.maximum(n * xx - x * x, 0.0) * np.maximum(n * yy - y * y, 0.0)
            return np.asarray(np.where(spread > 1e-9 * n**4, (n * xy - x * y) / np.sqrt(spread), np.nan))


def rank_bias(pools: Pools, proxy: Array, good: Marks) -> RankBias | None:
    """How far the `proxy` [s] of `good` samples goes with their likelihood; None where the data know neither
    log-probabilities nor answers, or no prompt says anything.

    Of a finite log-probability alone a sample counts in the first form. In the second, ranks of prompts are those of
    the whole, also in draws.
    """
    rho = _within_prompts(pools, proxy, good & np.isfinite(pools.likelihood))
    if np.isfinite(rho).any():
        return RankBias("log-probability", np.column_stack([np.isfinite(rho), np.nan_to_num(rho)]))
    frequency, beaten = _frequencies(pools, good), _beaten(pools, proxy, good)
    known = np.isfinite(frequency) & np.isfinite(beaten)
    if known.sum() < _LEAST:
        return None
    x, y = (np.zeros(len(known)) for _ in range(2))
    x[known], y[known] = (_ranks(values[known], np.zeros(known.sum(), np.intp)) for values in (frequency, beaten))
    scale = known.sum()
    x, y = (np.where(known, (ranks - (scale + 1) / 2) / scale, 0.0) for ranks in (x, y))
    return RankBias("answer frequency", np.column_stack([known, x, y, x * x, y * y, x * y]))


def _within_prompts(pools: Pools, proxy: Array, asked: Marks) -> Array:
    """Spearman's correlation [p] of proxy and log-probability among the samples asked; nan where it is none."""
    prompts, number = pools.prompts[asked], len(pools.counts)
    counts = np.bincount(prompts, minlength=number)
    x, y = (_ranks(values[asked], prompts) - (counts[prompts] + 1) / 2 for values in (pools.likelihood, proxy))
    xx, yy, xy = (np.bincount(prompts, values, number) for values in (x * x, y * y, x * y))
    told = (counts >= _LEAST) & (xx > 0) & (yy > 0)
    rho: Array = np.divide(xy, np.sqrt(xx * yy), out=np.full(number, np.nan), where=told)
    return rho


def _frequencies(pools: Pools, good: Marks) -> Array:
    """The mean share [p] of a prompt's samples that have the answer of a good one; nan where no good one has any."""
    known = pools.answers >= 0
    each = pools.prompts * (int(pools.answers.max(initial=0)) + 1) + np.maximum(pools.answers, 0)
    _, codes = np.unique(each, return_inverse=True)
    shares = np.bincount(codes, known)[codes] / np.maximum(pools.counts, 1)[pools.prompts]
    asked = good & known
    number = np.bincount(pools.prompts, asked, len(pools.counts))
    sums = np.bincount(pools.prompts, np.where(asked, shares, 0.0), len(pools.counts))
    shared: Array = np.divide(sums, number, out=np.full(len(number), np.nan), where=number > 0)
    return shared


def _beaten(pools: Pools, proxy: Array, good: Marks) -> Array:
    """The share [p] of pairs of a good and a poor sample that the proxy puts in order, ties half; nan without both."""
    prompts, number = pools.prompts, len(pools.counts)
    sums = np.bincount(prompts[good], _ranks(proxy, prompts)[good], number)
    goods = np.bincount(prompts[good], minlength=number).astype(float)
    pairs = goods * (pools.counts - goods)
    won = sums - goods * (goods + 1) / 2
    share: Array = np.divide(won, pairs, out=np.full(number, np.nan), where=pairs > 0)
    return share


def _ranks(values: Array, groups: Codes) -> Array:
    """The rank [s] of each value among those of its group, from 1; equal ones share their mean rank."""
    order = np.lexsort((values, groups))
    grouped, ranked = groups[order], values[order]
    starts = np.flatnonzero(np.r_[True, (grouped[1:] != grouped[:-1]) | (ranked[1:] != ranked[:-1])][: len(order)])
    ends = np.append(starts[1:], len(order))
    runs = np.repeat((starts + ends + 1) / 2, ends - starts)  # places of a run, from 1 over all groups
    before = np.zeros(int(groups.max(initial=-1)) + 2)
    np.add.at(before, groups + 1, 1.0)
    ranks = np.empty(len(order))
    ranks[order] = runs - np.cumsum(before)[grouped]
    return ranks
