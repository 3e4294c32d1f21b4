"""Best-of-n of one policy without drawing it: what a reward, an oracle and a vote take of a random n of the samples.

A prompt has N samples, each with a reward (the proxy) and a worth. Of a random n of them the one with the largest
reward is taken. With the samples sorted by reward, its expected worth is

    sum_{i=n..N} C(i-1, n-1) / C(N, n) worth_(i)

the mean over all subsets of size n (as for best-of-n in Nakano et al., WebGPT, 2021). Samples of one reward are in any
order alike, so each counts with the mean worth of its tie. `sizes` [m] are the n; a prompt that has fewer samples than
n has nan there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.pools import Codes, Pools
from rmbench.types import Array

_STEPS = 1 << 23  # samples that all votes of a pool may count
_ORDERS = 16, 2048  # the fewest and the most orders that the samples of a prompt vote in
_JUDGEMENTS = 64  # seeded draws of an oracle whose scores are noisy
_ENTRIES = 1 << 21  # numbers held at once: 16 MiB


def best_of(pools: Pools, proxy: Array, values: Array, sizes: Sequence[int]) -> Array:
    """The expected value [p, m] of the sample with the largest proxy among a random n of a prompt.

    `proxy` and `values` [s] are of the samples; no proxy may be nan. What is infinite is larger, or smaller, than every
    number.
    """
    worths = np.full((len(pools.counts), len(sizes)), np.nan)
    for prompts, places in pools.blocks():
        columns, there = _within(sizes, places.shape[1])
        if len(there):
            worths[prompts[:, None], columns] = _chosen(proxy[places], values[places], there)
    return worths


def oracle(pools: Pools, sizes: Sequence[int]) -> Array:
    """The expected gold [p, m] of the best among a random n: what no reward exceeds."""
    return best_of(pools, pools.gold, pools.gold, sizes)


def pass_at(pools: Pools, good: NDArray[np.bool_], sizes: Sequence[int]) -> Array:
    """The chance [p, m] that one of a random n samples is `good` [s]: 1 - C(poor, n) / C(N, n).

    It is the unbiased pass@k of Chen et al., Evaluating Large Language Models Trained on Code (2021).
    """
    worth = good.astype(float)
    return best_of(pools, worth, worth, sizes)


def kl(sizes: Sequence[int] | Array) -> Array:
    """An upper bound [m] of the KL divergence of best-of-n from its policy, in nats: log n - (n - 1) / n.

    It is the value where no two responses are alike (Beirami et al., Theoretical guarantees on the best-of-n alignment
    policy, 2024).
    """
    n = np.asarray(sizes, float)
    return np.asarray(np.log(n) - (n - 1) / n)


def majority(pools: Pools, sizes: Sequence[int], seed: int = 0) -> Array:
    """The expected gold [p, m] of a sample with the answer that most of a random n have, ties at random.

    It is `weighted_majority` where each sample weighs the same.
    """
    return weighted_majority(pools, np.ones(len(pools.gold)), sizes, seed)


def weighted_majority(pools: Pools, weights: Array, sizes: Sequence[int], seed: int = 0) -> Array:
    """The expected gold [p, m] of a sample with the answer whose samples weigh most among a random n, ties at random.

    `weights` [s] are at least 0, as `vote_weights` makes them of a reward. A sample without an answer does not vote,
    nor does one of weight 0; where none of the n votes, one of the prompt's samples that do not vote is taken at
    random. An answer is worth the mean gold of its samples; nan for a prompt without votes. A mean over seeded orders
    of a prompt's samples, of which the first n are a random n: from 16 orders of a large pool to 2,048 of a small one.
    """
    if not (weights >= 0).all():
        raise ValueError(f"weights down to {np.min(weights)}; the weight of a vote is 0 or more")
    worths = np.full((len(pools.counts), len(sizes)), np.nan)
    rng = np.random.default_rng(seed)
    drawn = int(np.clip(_STEPS // max(1, len(pools.gold)), *_ORDERS))
    answers = np.where(weights > 0, pools.answers, -1)
    for prompts, places in pools.blocks():
        total = places.shape[1]
        columns, there = _within(sizes, total)
        orders = rng.permuted(np.broadcast_to(np.arange(total), (drawn, total)), axis=1)
        at_once = max(1, _ENTRIES // (drawn * (int(answers[places].max(initial=-1)) + 2)))
        for start in range(0, len(prompts) if there else 0, at_once):
            some, inside = prompts[start : start + at_once], places[start : start + at_once]
            worth = _votes(answers[inside], weights[inside], pools.gold[inside], there, orders, rng)
            voted = np.asarray((answers[inside] >= 0).any(axis=1))
            worths[some[:, None], columns] = np.where(voted[:, None], worth, np.nan)
    return worths


def vote_weights(pools: Pools, proxy: Array) -> Array:
    """What a vote weighs [s] by its reward: the reward itself where all lie in [0, 1], as chances do.

    Otherwise its rank in the prompt, from 1 / N of the smallest to 1 of the largest, equal ones their mean rank: of
    rewards of any scale the sums would say nothing.
    """
    if ((proxy >= 0) & (proxy <= 1)).all():
        return proxy
    weights = np.empty(len(proxy))
    for _, places in pools.blocks():
        total = places.shape[1]
        rewards = proxy[places]
        ranks = np.broadcast_to(np.arange(1.0, total + 1), rewards.shape)
        order = np.argsort(rewards, axis=1, kind="stable")
        weights[np.take_along_axis(places, order, axis=1)] = _over_ties(_sorted(rewards, order), ranks) / total
    return weights


def noisy_oracle(pools: Pools, noise: float, sizes: Sequence[int], seed: int = 0) -> Array:
    """The expected gold [p, m] of what an oracle takes whose own judgements are noisy.

    Where gold is right or wrong each judgement is the other one with chance `noise`, from 0 to 1: of the samples that
    it takes for right one is taken at random, of all where it takes none for right. That is exact. Scores get normal
    noise of `noise` times the standard deviation of gold within prompts: the mean over 64 seeded draws of it.
    """
    if not noise >= 0 or (pools.is_binary and noise > 1):
        raise ValueError(f"label noise {noise}; expected {'a chance from 0 to 1' if pools.is_binary else '0 or more'}")
    if not noise:
        return oracle(pools, sizes)
    if not pools.is_binary:
        rng, scale = np.random.default_rng(seed), noise * within_sd(pools, pools.gold)
        draws = (pools.gold + scale * rng.standard_normal(len(pools.gold)) for _ in range(_JUDGEMENTS))
        return np.asarray(sum(best_of(pools, judged, pools.gold, sizes) for judged in draws) / _JUDGEMENTS)
    worths = np.full((len(pools.counts), len(sizes)), np.nan)
    for prompts, places in pools.blocks():
        columns, there = _within(sizes, places.shape[1])
        right = pools.gold[places].sum(axis=1).astype(int)
        for column, n in zip(columns, there, strict=True):
            worths[prompts, column] = _taken_of(places.shape[1], n, noise)[right]
    return worths


def within_sd(pools: Pools, values: Array) -> float:
    """The standard deviation of `values` [s] within prompts, pooled over them; 0 where no prompt has two samples."""
    sizes = np.maximum(pools.counts, 1)
    means = np.bincount(pools.prompts, values, len(sizes)) / sizes
    freedom = int((sizes - 1).sum())
    return float(np.sqrt(np.square(values - means[pools.prompts]).sum() / freedom)) if freedom else 0.0


def by_proxy(proxy: Array, values: Array) -> Array:
    """`values` [q, N] in the order of their proxy [q, N], smallest first, each as the mean of its tie."""
    order = np.argsort(proxy, axis=1, kind="stable")
    return _over_ties(_sorted(proxy, order), _sorted(values, order))


@lru_cache(maxsize=8)
def chances_of_ranks(total: int, sizes: tuple[int, ...]) -> Array:
    """Chance [total, m] that the i-th smallest of `total` is the largest of a random n: C(i-1, n-1) / C(total, n).

    By its recurrence from n / total at i = total downwards, which no binomial is large enough to overflow.
    """
    if not all(1 <= n <= total for n in sizes):
        raise ValueError(f"sizes {sizes}; each is a number of candidates from 1 to {total}")
    n = np.asarray(sizes, float)
    i = np.arange(total - 1, 0, -1.0)[:, None]
    steps = np.maximum((i + 1 - n) / i, 0.0)
    chances: Array = np.cumprod(np.vstack([n[None, :] / total, steps]), axis=0)[::-1]
    chances.flags.writeable = False
    return chances


def _within(sizes: Sequence[int], total: int) -> tuple[list[int], tuple[int, ...]]:
    """Which of `sizes` N samples have, and these."""
    columns = [column for column, n in enumerate(sizes) if n <= total]
    return columns, tuple(int(sizes[column]) for column in columns)


def _chosen(proxy: Array, values: Array, sizes: tuple[int, ...]) -> Array:
    """The expected value [q, m] of the largest proxy, all [q, N] having N samples."""
    averaged, chances = by_proxy(proxy, values), chances_of_ranks(proxy.shape[1], sizes)
    open_rows = np.logical_not(np.isfinite(averaged).all(axis=1))
    with np.errstate(invalid="ignore"):  # of both infinities the mean is nan
        worths = np.where(open_rows[:, None], 0.0, averaged) @ chances
        for row in np.flatnonzero(open_rows):  # 0 chances of an infinity are none of it
            worths[row] = [(averaged[row, c > 0] * c[c > 0]).sum() for c in chances.T]
    closed = np.flatnonzero(np.logical_not(open_rows))
    ends = averaged[closed].min(axis=1, keepdims=True), averaged[closed].max(axis=1, keepdims=True)
    worths[closed] = np.clip(worths[closed], *ends)
    return np.asarray(worths)


def _sorted(values: Array, order: Codes) -> Array:
    return np.take_along_axis(values, order, axis=1)


def _over_ties(ranked: Array, values: Array) -> Array:
    """`values` [q, N] as the mean of those whose `ranked` [q, N], which is in order, is the same."""
    first = np.ones(ranked.shape, bool)
    first[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    if first.all():
        return np.asarray(values, float)
    starts = np.flatnonzero(first)
    tied = np.diff(starts, append=ranked.size)
    means = np.add.reduceat(np.ascontiguousarray(values, float).ravel(), starts) / tied
    return np.asarray(np.repeat(means, tied).reshape(ranked.shape))


def _votes(
    answers: Codes, weights: Array, gold: Array, sizes: tuple[int, ...], orders: Codes, rng: np.random.Generator
) -> Array:
    """The mean worth [q, m] of the heaviest answer over `orders` [o, N]; `answers` [q, N] are -1 without a vote.

    Votes are counted one by one, with who leads and how many share the lead, so that one order gives every n. Prompts
    share the orders, but each is shuffled before, so that they are off independently of each other.
    """
    names = int(answers.max(initial=-1)) + 1
    cells = np.where(answers < 0, names, answers) + np.arange(len(answers))[:, None] * (names + 1)
    counts = np.bincount(cells.ravel(), minlength=len(answers) * (names + 1))
    worth = np.bincount(cells.ravel(), gold.ravel(), len(counts)) / np.maximum(counts, 1)
    shuffled = rng.permuted(np.broadcast_to(np.arange(answers.shape[1]), answers.shape), axis=1)
    cells, weights = np.take_along_axis(cells, shuffled, axis=1), _sorted(weights, shuffled)
    votes, equal = cells % (names + 1) < names, 1e-9 * float(weights.max(initial=0.0))
    tally, at_order = np.zeros((len(counts), len(orders))), np.arange(len(orders))
    lead, leaders, summed = (np.zeros((len(answers), len(orders))) for _ in range(3))
    found, nobody = np.empty((len(answers), len(sizes))), worth.reshape(len(answers), names + 1)[:, -1:]
    for n in range(1, max(sizes) + 1):
        place = orders[:, n - 1]
        cell, is_vote = cells[:, place], votes[:, place]
        heap = tally[cell, at_order] + weights[:, place]
        tally[cell, at_order] = heap
        above, beside = is_vote & (heap > lead + equal), is_vote & (np.abs(heap - lead) <= equal)
        leaders = np.where(above, 1.0, leaders + beside)
        summed = np.where(above, worth[cell], summed + beside * worth[cell])
        lead = np.where(above, heap, lead)
        if n in sizes:
            shares = np.where(leaders > 0, summed / np.maximum(leaders, 1.0), nobody)
            found[:, [column for column, size in enumerate(sizes) if size == n]] = shares.mean(axis=1, keepdims=True)
    return found


@lru_cache(maxsize=256)
def _taken_of(total: int, n: int, noise: float) -> Array:
    """The chance [N + 1] that a noisy oracle takes a right one of a random n, by how many of the N are right.

    With r of the n right, each judged so with chance 1 - noise, and of the wrong with chance noise, the share of right
    ones among x + 1 that are judged right is the integral of t^x from 0 to 1: a polynomial, which Gauss's rule sums
    exactly.
    """
    from scipy.special import gammaln

    right, sure = np.arange(n + 1), 1 - noise
    nodes, weights = np.polynomial.legendre.leggauss(n // 2 + 1)
    t = (nodes[:, None] + 1) / 2
    others = (noise + sure * t) ** np.maximum(right - 1, 0) * (sure + noise * t) ** (n - right)
    taken = right * (sure * (weights / 2 @ others) + noise**right * sure ** (n - right) / n)
    of_all = np.arange(total + 1)[:, None]
    possible = (right <= of_all) & (n - right <= total - of_all)
    ways = _log_ways(of_all, right, gammaln) + _log_ways(total - of_all, n - right, gammaln)
    chances = np.where(possible, np.exp(ways - _log_ways(np.array(total), np.array(n), gammaln)), 0.0)
    return np.asarray(chances @ taken)


def _log_ways(things: Codes, taken: Codes, gammaln: Callable[[Codes], Array]) -> Array:
    left = np.maximum(things - taken, 0)
    return np.asarray(gammaln(things + 1) - gammaln(taken + 1) - gammaln(left + 1))
