"""Bootstrap draws and random signs from the raw words of a seeded Philox 4x64-10, by rules of our own.

numpy promises the stream of a bit generator and none of what `Generator` makes of it, so that only such draws give the
same interval and the same p wherever and whenever a result is checked. The seed is the generator's key.

- A bootstrap draw of c clusters takes the next ceil(c / 2) words. Their halves, the lower of each word first, are h_0,
  h_1, ..., and pick floor(h_j m / 2^32) of the m clusters of j's stratum, the clusters being in the order of their
  strata, and in a stratum in their own. Of m clusters none is more often picked than another by more than m / 2^32.
- A draw of c signs takes the next ceil(c / 64) words; bit i of word w, the lowest first, is that of cluster 64 w + i.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rmbench.types import Array

_ENTRIES = 1 << 21  # numbers held at once: 16 MiB
_CACHED = 1 << 17  # picks made at once: what stays in a core's cache takes half the time

Words = NDArray[np.uint64]


def times(clusters: int, draws: int, seed: int, strata: NDArray[np.integer] | None = None) -> Iterator[Array]:
    """How often each cluster is in each bootstrap draw, in blocks [some draws, clusters] that are used again.

    As many clusters are drawn, with replacement, as there are; of each of the `strata` [clusters] as many as it has.
    """
    stream, each = np.random.Philox(key=seed), -(-clusters // 2)
    order, sizes, starts = _layout(clusters, strata)
    most, at_once = max(1, min(draws, _ENTRIES // clusters)), max(1, _CACHED // clusters)
    block, firsts = np.empty((most, clusters)), np.arange(at_once, dtype=np.uint64)[:, None] * np.uint64(clusters)
    starts = starts + firsts
    for first in range(0, draws, most):
        filled = min(most, draws - first)
        for at in range(0, filled, at_once):
            count = min(at_once, filled - at)
            halves = _halves(stream.random_raw(count * each)).reshape(count, 2 * each)[:, :clusters]
            picks = np.multiply(halves, sizes, dtype=np.uint64)
            picks >>= np.uint64(32)
            picks += starts[:count]
            counted = np.bincount(picks.ravel().view(np.int64), minlength=count * clusters)
            block[at : at + count, order] = counted.reshape(count, clusters)
        yield block[:filled]


def signs(clusters: int, draws: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """A 0 or a 1 for each cluster and draw, in blocks [some draws, clusters]."""
    stream, each = np.random.Philox(key=seed), -(-clusters // 64)
    most = max(1, 2 * _ENTRIES // clusters)
    for first in range(0, draws, most):
        count = min(most, draws - first)
        octets = _little(stream.random_raw(count * each)).view(np.uint8).reshape(count, 8 * each)
        yield np.unpackbits(octets, axis=1, bitorder="little")[:, :clusters]


def _layout(
    clusters: int, strata: NDArray[np.integer] | None
) -> tuple[NDArray[np.intp] | slice, Words | np.uint64, Words]:
    """The clusters in the order of their strata, and for each place the size of its stratum and where that begins."""
    if strata is None:
        return slice(None), np.uint64(clusters), np.zeros(1, np.uint64)
    order = np.argsort(strata, kind="stable")
    _, first, size = np.unique(strata[order], return_index=True, return_counts=True)
    return order, np.repeat(size, size).astype(np.uint64), np.repeat(first, size).astype(np.uint64)


def _halves(words: Words) -> NDArray[np.uint32]:
    return _little(words).view("<u4")


def _little(words: Words) -> Words:
    """The same numbers with their lowest byte first, whatever the machine."""
    return words.astype("<u8", copy=False)
