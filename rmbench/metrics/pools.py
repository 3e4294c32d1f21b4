"""Samples of one policy, prompt by prompt, and what each is worth: figures of optimising a reward are made of these.

Arrays over samples are flat, [s], those of a prompt beside each other; arrays over prompts are [p]. A reward of the
samples (the proxy) is an array [s] beside them, not part of them, since several rewards are looked at on one pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmbench.types import Array

Codes = NDArray[np.intp]
LARGEST = 1e100  # a number up to which squares can be summed


@dataclass(frozen=True)
class Pools:
    """`gold` [s] is what each sample is worth: 1 right, 0 wrong, or a score, higher is better; all finite.

    `counts` [p] is how many samples each prompt has, and `clusters` [p] numbers the clusters of the prompts. `answers`
    and `texts` [s] number the different answers and texts of a prompt, -1 where a sample has none or nobody knows it.
    `likelihood` [s] is the log-probability of each sample under the policy, nan where unknown.
    """

    gold: Array
    counts: Codes
    clusters: Codes
    answers: Codes
    texts: Codes
    likelihood: Array

    @property
    def starts(self) -> Codes:
        """Where the samples of each prompt begin [p]."""
        return np.asarray(np.cumsum(self.counts) - self.counts)

    @property
    def prompts(self) -> Codes:
        """Which prompt each sample answers [s]."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @property
    def is_binary(self) -> bool:
        """Whether every sample is right or wrong."""
        return bool(np.isin(self.gold, (0.0, 1.0)).all())

    def blocks(self) -> Iterator[tuple[Codes, Codes]]:
        """Prompts that have equally many samples: which they are [q], and the places [q, N] of their samples."""
        starts = self.starts
        for size in np.unique(self.counts):
            rows = np.flatnonzero(self.counts == size)
            yield rows, starts[rows][:, None] + np.arange(size)


def pools_of(gold: Sequence[Array], clusters: Sequence[str] | None = None) -> Pools:
    """Pools of which only what each sample is worth is known, one array a prompt; each prompt is its own cluster unless
    `clusters` [p] names them.

    >>> pools_of([np.array([1.0, 0.0]), np.array([1.0, 1.0, 0.0])]).counts.tolist()
    [2, 3]
    """
    counts = np.array([len(one) for one in gold], np.intp)
    flat = np.concatenate([np.asarray(one, float) for one in gold]) if len(gold) else np.empty(0)
    named = {name: code for code, name in enumerate(dict.fromkeys(clusters or ()))}
    codes = np.arange(len(counts)) if clusters is None else np.array([named[name] for name in clusters], np.intp)
    unknown = np.full(len(flat), -1)
    return Pools(flat, counts, codes, unknown, unknown, np.full(len(flat), np.nan))
