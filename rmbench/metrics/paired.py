"""Can two models be told apart on the same examples? Paired tests over clusters, and tiers made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.interval import LEVEL
from rmbench.types import Array


def sign_flip_p(differences: NDArray[np.integer]) -> float:
    """Two-sided p of the cluster sign-flip test: how often random signs move the sum at least as far from 0.

    `differences` [c] are whole numbers, what one model won more than the other in each cluster (a cluster's rows flip
    together). Exact: the sum is one of independent binomials, one for each size that occurs, so nothing is drawn. With
    one row a cluster it is McNemar's exact test.
    """
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    total = int((sizes * counts).sum())
    chances = np.ones(1)  # [i] of the sum being i - total so far
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        steps = np.zeros(2 * size * count + 1)
        steps[:: 2 * size] = _binomial(count)
        chances = _convolved(chances, steps)
    distance = np.abs(np.arange(len(chances)) - total)
    return float(min(1.0, chances[distance >= abs(int(differences.sum()))].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down adjustment of [m] p values, in their order: an error rate of the whole family."""
    adjusted, floor = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = floor
    return adjusted


def tiers(wins: Sequence[Array], clusters: NDArray[np.integer]) -> list[tuple[int, float | None]]:
    """Tier (from 1) of each of m models, and the adjusted p that put it there, None for the best of its tier.

    `wins` holds one array [n] a model: 1 where it won an example, 0 where not, nan where the example does not count for
    it; `clusters` [n] numbers the examples' clusters. The best model leads the first tier, with all that the sign-flip
    test (Holm over everything it is compared with) cannot tell from it at 5 %; the best of the rest leads the next.
    Two members of a tier may still differ: what they share is the leader. A pair is compared on the examples that
    count for both. A model that won nothing comparable (all nan) is not told from anything; leave it out.
    """
    found: list[tuple[int, float | None]] = [(0, None)] * len(wins)
    waiting = sorted(range(len(wins)), key=lambda i: -float(np.nanmean(wins[i])))
    tier = 0
    while waiting:
        tier += 1
        leader, *others = waiting
        found[leader] = tier, None
        adjusted = holm([_paired_p(wins[leader], wins[other], clusters) for other in others])
        waiting = []
        for other, p in zip(others, adjusted, strict=True):
            if p >= 1 - LEVEL:
                found[other] = tier, p
            else:
                waiting.append(other)
    return found


def _paired_p(ours: Array, theirs: Array, clusters: NDArray[np.integer]) -> float:
    difference = ours - theirs
    both = np.isfinite(difference)
    sums = np.bincount(clusters[both], weights=difference[both], minlength=1)
    return sign_flip_p(np.rint(sums).astype(np.int64))


def _binomial(count: int) -> Array:
    """Chances of 0 to `count` heads of fair coins; those too small for a float are 0."""
    from scipy.special import gammaln

    heads = np.arange(count + 1)
    logs = gammaln(count + 1) - gammaln(heads + 1) - gammaln(count - heads + 1) - count * np.log(2)
    result: Array = np.exp(logs)
    return result


def _convolved(a: Array, b: Array) -> Array:
    from scipy.signal import fftconvolve

    short = min(len(a), len(b)) < 512  # direct sums keep tiny chances exact; long ones would take minutes
    result: Array = np.convolve(a, b) if short else np.maximum(fftconvolve(a, b), 0.0)
    return result
