"""The cluster sign-flip test: under no effect, a cluster's sum was as likely to have the other sign."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics import draws
from rmbench.types import Array

_EXACT_CLUSTERS = 20  # a million ways to sign them
_EXACT_TOTAL = 1_000_000  # whole numbers that sum up to this
_DRAWS = 9_999
_ROUNDING = 1e-9
_OVER_NORMAL = 3.178  # 1 / (4 P(Z >= sqrt 2)): the least that holds for every sum of signs


def sign_flip_p(differences: NDArray[np.number], *, seed: int = 0) -> float:
    """Two-sided p: how often random signs of `differences` [c] move the sum at least as far from 0 as it is.

    A cluster's rows flip together, so there is one difference a cluster. Exact for whole numbers, where the sum is one
    of independent binomials (with one row of 0 or 1 a cluster it is McNemar's exact test), and for up to 20 clusters
    that differ; else from 9,999 seeded draws, the data counting as one more, so that p is never 0 (Phipson and Smyth,
    Stat. Appl. Genet. Mol. Biol. 9, 2010). Without a difference it is 1.
    """
    return _p_values([differences], seed, bound_below=0.0)[0]


def sign_flip_ps(several: Sequence[NDArray[np.number]], *, seed: int = 0) -> list[float]:
    """The p of each of several tests that are adjusted for each other, which share draws where these would be the same.

    Below what draws can tell, 1 in 10,000, it is a bound that holds for every sum of signs, 3.178 times the normal tail
    (Bentkus and Dzindzalieta, Bernoulli 21, 2015): else no two of forty models could be told apart after Holm.
    """
    return _p_values(several, seed, bound_below=1 / (_DRAWS + 1))


def _p_values(several: Sequence[NDArray[np.number]], seed: int, *, bound_below: float) -> list[float]:
    p_values, drawn = [1.0] * len(several), dict[int, list[int]]()
    for place, differences in enumerate(several):
        sizes = np.abs(differences[differences != 0]).astype(float)
        observed = abs(float(np.sum(differences)))
        if not len(sizes):
            continue
        if sizes.sum() <= _EXACT_TOTAL and bool((sizes == np.rint(sizes)).all()):
            steps = zip(*map(np.ndarray.tolist, np.unique(np.rint(sizes).astype(int), return_counts=True)), strict=True)
            p_values[place] = _whole(tuple(steps), round(observed))
        elif len(sizes) <= _EXACT_CLUSTERS:
            p_values[place] = _every_way(sizes, observed)
        else:
            drawn.setdefault(-(-len(sizes) // 64), []).append(place)  # a draw takes so many words; see `draws`
    for places in drawn.values():
        told = [np.abs(several[place][several[place] != 0]).astype(float) for place in places]
        sizes = np.stack([np.pad(one, (0, max(map(len, told)) - len(one))) for one in told])
        sums = np.abs([float(np.sum(several[place])) for place in places])
        for place, p, most in zip(places, *_by_draws(sizes, sums, seed), strict=True):
            p_values[place] = float(most if most < bound_below else p)
    return p_values


def _every_way(sizes: Array, observed: float) -> float:
    sums = np.zeros(1)
    for size in sizes[1:]:  # the first sign only mirrors the rest
        sums = np.concatenate([sums + size, sums - size])
    return float(np.mean(np.abs(sums + sizes[0]) >= observed - _ROUNDING * float(sizes.sum())))


def _by_draws(sizes: Array, observed: Array, seed: int) -> tuple[Array, Array]:
    """The p [tests] of sums [tests] of signs of `sizes` [tests, c], and the most that it is."""
    from scipy.special import ndtr

    totals = sizes.sum(axis=1)
    bounds, beyond = observed - _ROUNDING * totals, np.zeros(len(sizes))
    for heads in draws.signs(sizes.shape[1], _DRAWS, seed):
        sums = 2 * (heads.astype(float) @ sizes.T) - totals
        beyond += np.count_nonzero(np.abs(sums) >= bounds, axis=0)
    most = 2 * _OVER_NORMAL * ndtr(-bounds / np.sqrt(np.square(sizes).sum(axis=1)))
    return (beyond + 1) / (_DRAWS + 1), most


@lru_cache(maxsize=4096)  # a table of many models asks the same again and again
def _whole(counts: tuple[tuple[int, int], ...], observed: int) -> float:
    """Of whole numbers, each with how often it is there."""
    total, clusters = sum(size * count for size, count in counts), sum(count for _, count in counts)
    chances = np.ones(1)  # [i] of the sum being i - total so far
    for size, count in counts:
        steps = np.zeros(2 * size * count + 1)
        steps[:: 2 * size] = _binomial(count)
        chances = _convolved(chances, steps)
    distance = np.abs(np.arange(len(chances)) - total)
    least = 2.0 ** max(1 - clusters, -1000)  # the signs as they are and all of them turned; rounding may lose them
    return float(np.clip(chances[distance >= observed].sum(), least, 1.0))


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
