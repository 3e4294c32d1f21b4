"""What several rewards of the same responses choose and prefer: where they take other responses, and where they are at
odds.

Rewards alike in accuracy may differ in all that the benchmark does not ask: which response each would select
(underspecification; D'Amour et al., JMLR 23, 2022). Arrays over responses are [s], those of a prompt beside each other;
`counts` [p] is how many each prompt has.
"""

from __future__ import annotations

import numpy as np

from rmbench.metrics.interval import Statistic, mean, ratio
from rmbench.metrics.pools import Codes
from rmbench.types import Array

_AT_ONCE = 1 << 21  # comparisons held at once


def chances(rewards: Array, counts: Codes) -> Array:
    """The chance [..., s] that a reward [..., s] selects each response; those with the highest of a prompt share it."""
    starts = np.cumsum(counts) - counts
    highest = rewards == np.repeat(np.maximum.reduceat(rewards, starts, axis=-1), counts, axis=-1)
    shared = np.repeat(np.add.reduceat(highest.astype(float), starts, axis=-1), counts, axis=-1)
    return np.asarray(highest / shared)


def other_choice(name: str, first: Array, second: Array, counts: Codes) -> Statistic:
    """The share of prompts [p] for which two rewards [s] select different responses.

    Where one of them has equal highest rewards a prompt counts with the least chance of a difference that ties broken
    at random leave, half the sum of how far the two chances of each response are apart.
    """
    apart = np.abs(chances(first, counts) - chances(second, counts))
    shares = np.add.reduceat(apart, np.cumsum(counts) - counts) / 2
    return mean(
        name,
        shares,
        "proportion" if np.isin(shares, (0.0, 1.0)).all() else "fraction",
        title="Other response selected",
        unit="share of prompts",
        caveat="grows with the number of responses to a prompt, and where these are alike",
    )


def conflict(name: str, first: Array, second: Array, counts: Codes) -> Statistic:
    """Of the pairs of responses to one prompt that both rewards [s] put in order, the share that they order oppositely.

    Over prompts [p], pairs pooled; a response without a reward, nan, is in none. nan where they order none.
    """
    columns, starts = np.zeros((len(counts), 2)), np.cumsum(counts) - counts
    for size in np.unique(counts):
        places = np.flatnonzero(counts == size)
        upper = np.triu_indices(int(size), 1)
        step = max(1, _AT_ONCE // max(1, len(upper[0])))
        for at in range(0, len(places), step):
            rows = places[at : at + step]
            inside = starts[rows][:, None] + np.arange(size)
            with np.errstate(invalid="ignore"):  # two infinities of one sign are in no order
                signs = [np.sign(one[inside][:, upper[0]] - one[inside][:, upper[1]]) for one in (first, second)]
            products = signs[0] * signs[1]
            opposite = products < 0
            columns[rows] = np.stack([opposite.sum(axis=1), (opposite | (products > 0)).sum(axis=1)], axis=1)
    return Statistic(
        name,
        columns,
        ratio,
        "fraction",
        title="Pairs in the opposite order",
        unit="share of pairs that both order",
        caveat="says nothing of how far apart the rewards of a pair are, nor which is right",
    )
