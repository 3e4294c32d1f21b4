"""Draws against Philox written out, a loop over its words, and the chances they promise."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from scipy.stats import chisquare

from rmbench.metrics import draws

WORD = (1 << 64) - 1


def philox(key: int) -> Iterator[int]:
    """The words of Philox 4x64-10 (Salmon et al., SC 2011) from counter 1 on, four a block."""
    for counter in range(1, 1 << 20):
        block, low, high = [counter, 0, 0, 0], key & WORD, key >> 64
        for _ in range(10):
            a, b = 0xD2E7470EE14C6C93 * block[0], 0xCA5A826395121157 * block[2]
            block = [(b >> 64) ^ block[1] ^ low, b & WORD, (a >> 64) ^ block[3] ^ high, a & WORD]
            low, high = (low + 0x9E3779B97F4A7C15) & WORD, (high + 0xBB67AE8584CAA73B) & WORD
        yield from block


def by_loop(clusters: int, count: int, seed: int, strata: list[int] | None = None) -> list[list[float]]:
    words, found = philox(seed), []
    members = [[i for i in range(clusters) if strata is None or strata[i] == s] for s in sorted({*(strata or [0])})]
    of_place = [some for some in members for _ in some]
    for _ in range(count):
        halves = [half for word in islice(words, (clusters + 1) // 2) for half in (word & 0xFFFFFFFF, word >> 32)]
        times = [0.0] * clusters
        for half, some in zip(halves, of_place, strict=False):
            times[some[half * len(some) >> 32]] += 1
        found.append(times)
    return found


def all_times(*given, **more) -> np.ndarray:
    return np.concatenate([block.copy() for block in draws.times(*given, **more)])


def test_the_words_are_those_of_philox() -> None:
    fixed = [0x02F4BA6408E4D89B, 0x3DD62B0B9CA8C5B2, 0x1C8667A55D902E79, 0x907D7A052FD5B4DC]
    assert list(islice(philox(0), 4)) == fixed
    for key in (0, 12345, 1 << 70):
        assert np.random.Philox(key=key).random_raw(9).tolist() == list(islice(philox(key), 9))


def test_the_draws_of_a_seed_are_these_for_ever() -> None:
    assert all_times(5, 3, 0).tolist() == [[2, 2, 0, 1, 0], [1, 0, 3, 0, 1], [0, 0, 1, 1, 3]]
    assert next(draws.signs(12, 1, 0))[0].tolist() == [1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 0, 1]


@pytest.mark.parametrize(("clusters", "seed"), [(1, 0), (2, 5), (7, 1), (40, 3)])
def test_times_are_a_loop_over_the_halves_of_words(clusters: int, seed: int) -> None:
    assert all_times(clusters, 25, seed).tolist() == by_loop(clusters, 25, seed)


def test_strata_keep_their_size_in_every_draw() -> None:
    strata = np.array([2, 0, 2, 1, 0, 2, 2])
    found = all_times(7, 30, 4, strata=strata)
    assert found.tolist() == by_loop(7, 30, 4, strata.tolist())
    assert (found[:, strata == 2].sum(axis=1) == 4).all()
    assert (found[:, 3] == 1).all()


def test_one_stratum_is_none() -> None:
    assert np.array_equal(all_times(9, 20, 1), all_times(9, 20, 1, strata=np.full(9, 3)))


def test_memory_does_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, heads = all_times(35, 60, 2), np.concatenate(list(draws.signs(70, 60, 2)))
    monkeypatch.setattr(draws, "_ENTRIES", 500)
    monkeypatch.setattr(draws, "_CACHED", 80)
    assert np.array_equal(all_times(35, 60, 2), whole)
    assert np.array_equal(np.concatenate(list(draws.signs(70, 60, 2))), heads)


def test_every_cluster_is_as_likely_as_another() -> None:
    found = all_times(50, 4000, 0)
    assert found.sum() == 50 * 4000
    assert chisquare(found.sum(axis=0)).pvalue > 0.01
    assert found.var(axis=0).mean() == pytest.approx(49 / 50, abs=0.02)


def test_signs_are_the_bits_of_words_and_fair() -> None:
    [heads] = draws.signs(130, 2000, 7)
    words = np.random.Philox(key=7).random_raw(6).tolist()
    bits = [[words[3 * draw + i // 64] >> i % 64 & 1 for i in range(130)] for draw in range(2)]
    assert heads[:2].tolist() == bits
    assert abs(heads.mean() - 0.5) < 0.004
    assert abs(heads.mean(axis=0) - 0.5).max() < 0.05
