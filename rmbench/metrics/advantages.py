"""What group-relative training makes of a reward: how much it varies within prompts, and which sign advantages have.

Such training (GRPO and its kin) draws n samples of a prompt and pushes each up or down by its advantage, its reward
less a baseline of the group, the mean or the median. A reward that does not vary within prompts teaches nothing, one
whose own noise turns the sign of an advantage teaches at random, and where the sign is not that of the gold's it
teaches what is wrong. How much two signs (-1, 0, 1) differ is half their distance: 1 for opposite ones, .5 for one
that is 0. Every reward is finite here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator

from rmbench.metrics.pools import Codes, Pools
from rmbench.types import Array

Baseline = Literal["mean", "median"]

_SAMPLES = 1 << 20  # how many samples in groups are enough for a share
_SHUFFLES = 2, 16  # the fewest and the most random orders


@dataclass(frozen=True, slots=True)
class Flips:
    """Shares of samples in random groups of n, rows [p, m] over prompts and sizes.

    `by_noise`: the sign of the advantage is turned when each reward is drawn anew from a normal around it with its
    spread; nan where a prompt has fewer samples than n or a spread that is no number. `against_gold`: the sign is not
    that of the gold's advantage over the same baseline, among samples for which that is not 0; nan also where none is.
    """

    by_noise: Array
    against_gold: Array


def sign_flips(
    pools: Pools,
    proxy: Array,
    spread: Array | None,
    sizes: Sequence[int],
    baseline: Baseline,
    *,
    seed: int = 0,
) -> Flips:
    """How often the sign of a group-relative advantage of the `proxy` [s] is turned, in groups of n, n in `sizes` [m].

    `spread` [s] is the SD of each reward's own noise, None where it is unknown. Groups are random orders of a prompt's
    samples, from 2 orders of many samples to 16 of few, cut into pieces of n (what is left over sits out); a `seed` has
    the same ones for every proxy. Given its group, the chance that noise turns an advantage over the mean is exact:
    Phi(-|advantage| / tau), where tau^2 = (1 - 1/n)^2 s_i^2 + sum of the others' s_j^2 / n^2; over the median it is one
    draw of the noise. Raises ValueError for groups of one.
    """
    if min(sizes, default=2) < 2:
        raise ValueError(f"groups of {min(sizes)}: an advantage needs 2 samples")
    noise_spread = np.full(len(proxy), np.nan) if spread is None else spread
    by_noise, against_gold = (np.full((len(pools.counts), len(sizes)), np.nan) for _ in range(2))
    groupings, noises = (np.random.default_rng([seed, stream]) for stream in range(2))
    shuffles = int(np.clip(_SAMPLES // max(1, len(proxy)), *_SHUFFLES))
    for prompts, places in pools.blocks():
        fit = np.flatnonzero(np.asarray(sizes) <= places.shape[1])
        counted = np.zeros((4, len(prompts), len(fit)))
        for shuffled in _shuffled(places, shuffles, groupings):
            for column, size in enumerate(sizes[at] for at in fit.tolist()):
                groups = _groups(shuffled, size)
                ours, golds = (_advantages(values[groups], baseline) for values in (proxy, pools.gold))
                turned = _turned(proxy[groups], noise_spread[groups], ours, baseline, noises)
                taught = golds != 0
                wrong = np.where(taught, _apart(ours, golds), 0.0)
                parts = (turned, np.ones_like(turned), wrong, taught.astype(float))
                for row, part in enumerate(parts):
                    counted[row, :, column] += part.sum(axis=(1, 2))
        for rows, shares, number in ((by_noise, *counted[:2]), (against_gold, *counted[2:])):
            rows[np.ix_(prompts, fit)] = np.divide(shares, number, out=np.full_like(shares, np.nan), where=number > 0)
    return Flips(by_noise, against_gold)


def variance_columns(pools: Pools, proxy: Array) -> Array:
    """Columns [p, 6] whose sums over prompts give `variance_within`.

    They are 1, N, N^2, the sum of rewards and of their squares, both about the mean of all, and the sum of squares
    about the prompt's own mean.
    """
    prompts, number = pools.prompts, len(pools.counts)
    apart = proxy - proxy.mean() if len(proxy) else proxy
    sums = np.bincount(prompts, apart, number)
    within = apart - (sums / np.maximum(pools.counts, 1))[prompts]
    squares, own_squares = (np.bincount(prompts, values**2, number) for values in (apart, within))
    counts = pools.counts.astype(float)
    return np.column_stack([counts > 0, counts, counts**2, sums, squares, own_squares])


def variance_within(sums: Array) -> Array:
    """The share [...] of a reward's variance that is within prompts, from sums [..., 6] of `variance_columns`.

    The analysis of variance with prompts drawn at random: within over within and between, of which each estimate is
    unbiased, between at least 0. nan for a constant reward, or where no prompt has two samples.
    """
    prompts, samples, squared, first, second, own = np.moveaxis(np.asarray(sums, float), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = own / (samples - prompts)
        each = (samples - squared / samples) / (prompts - 1)
        between = np.maximum(((second - first**2 / samples - own) / (prompts - 1) - inside) / each, 0.0)
        share = inside / (inside + np.where(prompts > 1, between, 0.0))
    return np.asarray(share)


def _shuffled(places: Codes, shuffles: int, rng: Generator) -> Iterator[Codes]:
    for _ in range(shuffles):
        yield np.take_along_axis(places, np.argsort(rng.random(places.shape), axis=1), axis=1)


def _groups(shuffled: Codes, size: int) -> Codes:
    rows, total = shuffled.shape
    return shuffled[:, : total - total % size].reshape(rows, -1, size)


def _advantages(rewards: Array, baseline: Baseline) -> Array:
    """Rewards [..., n] less their mean or median; exactly 0 in a group of equal ones."""
    if baseline == "median":
        return np.asarray(rewards - _median(rewards))
    apart = rewards - rewards[..., :1]  # what is equal stays equal in spite of rounding
    return np.asarray(apart - apart.mean(axis=-1, keepdims=True))


def _median(rewards: Array) -> Array:
    ranked, size = np.sort(rewards, axis=-1), rewards.shape[-1]
    return np.asarray((ranked[..., (size - 1) // 2] + ranked[..., size // 2])[..., None] / 2)


def _turned(rewards: Array, spread: Array, advantages: Array, baseline: Baseline, rng: Generator) -> Array:
    """How often noise of that spread turns the sign of each advantage [..., n]."""
    if np.isnan(spread).all():
        return np.full(rewards.shape, np.nan)
    if baseline == "median":
        noisy = rewards + spread * rng.standard_normal(rewards.shape)
        turned = _apart(advantages, _advantages(noisy, baseline))
        return np.where(np.isnan(spread).any(axis=-1, keepdims=True), np.nan, turned)
    from scipy.special import ndtr

    size, squares = rewards.shape[-1], spread**2
    tau = np.sqrt(squares * (1 - 2 / size) + squares.sum(axis=-1, keepdims=True) / size**2)
    chance = ndtr(-np.abs(advantages) / np.where(tau > 0, tau, 1.0))
    return np.where(tau == 0, 0.0, np.where(np.isnan(tau), np.nan, chance))


def _apart(one: Array, other: Array) -> Array:
    return np.asarray(np.abs(np.sign(one) - np.sign(other)) / 2)
