"""What a model decides with its rewards, where it is wrong, and the spread that stands beside that.

Of candidates with different labels a decision is which of two is better. A reward that has it the wrong way round is an
error, a tie half of one. Every example weighs the same; of one with more than 100 such pairs 100 count, taken evenly. A
measure of responses one by one brings its own decisions, each of the same weight.

The spread of a decision is the standard deviation of its margin: of two rewards the root of the sum of both squares; of
a comparison, in which one response gains the win mass that the other loses, the sum of both, and over several the root
of the sum of squares. A spread that is not finite, or below 0, is not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics import comparison
from rmbench.types import Array, Outcome

MOST_PAIRS = 100  # of an example

Pairs = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]


@dataclass(frozen=True, slots=True)
class Decided:
    """m decisions of outcomes `rows` [m].

    `error` [m] is 0, 1 or between. `margin` [m] is how far the reward is from deciding otherwise, not negative, nan
    where nothing says; `spread` [m] is its standard deviation, nan where that is not known.
    """

    rows: NDArray[np.intp]
    error: Array
    margin: Array
    spread: Array

    def where(self, kept: NDArray[np.bool_]) -> Decided:
        """Those that are `kept` [m]."""
        return Decided(self.rows[kept], self.error[kept], self.margin[kept], self.spread[kept])

    def of(self, places: Sequence[int], n: int) -> Decided:
        """Those of the outcomes `places` of n, as if there were no others."""
        moved = np.full(n, -1)
        moved[np.asarray(places, np.intp)] = np.arange(len(places))
        some = self.where(moved[self.rows] >= 0)
        return Decided(moved[some.rows], some.error, some.margin, some.spread)


def pairs(outcomes: Sequence[Outcome], view: str) -> Decided:
    """Each pair of candidates of `outcomes` [n] with different labels, of which one is preferred, or neither."""
    parts = [(np.zeros(0, np.intp), *np.zeros((3, 0)))]
    for group in comparison.groups(outcomes, view):
        asked = (group.labels[:, :, None] > group.labels[:, None, :]) & ~np.isnan(group.beats)
        at, better, worse = np.nonzero(asked)
        kept = _thinned(at, len(group.rows))
        of_group = at[kept], better[kept], worse[kept]
        parts.append((group.rows[at[kept]], 1 - group.beats[of_group], *_margins(outcomes, view, group, of_group)))
    rows, error, margin, spread = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Decided(rows, error, margin, spread)


def has_spread(outcomes: Sequence[Outcome], view: str) -> bool:
    """Whether some spread is known that stands beside this view: of its scores, or of what they were compared with."""
    return any(np.isfinite(known_spread(spread)).any() for spread in _spreads(outcomes, view))


def known_spread(spread: Sequence[float] | Array) -> Array:
    """A spread of any shape, nan where it is none: not finite, or below 0."""
    given = np.asarray(spread, float)
    return np.where(np.isfinite(given) & (given >= 0), given, np.nan)


def _spreads(outcomes: Sequence[Outcome], view: str) -> Iterator[Sequence[float] | Array]:
    for outcome in outcomes:
        seen = outcome.views.get(view)
        if seen is not None and seen.spread is not None:
            yield seen.spread
        elif seen is not None and seen.scores is None and view == "default":
            yield from (answer.spread for answer in outcome.answers if answer.spread is not None)


def _thinned(at: NDArray[np.intp], groups: int) -> NDArray[np.bool_]:
    """Which pairs are kept of those of each example, `at` [p] being theirs in rising order."""
    count = np.bincount(at, minlength=groups)
    place = np.arange(len(at)) - (np.cumsum(count) - count)[at]
    of = np.maximum(count[at], MOST_PAIRS)
    return np.asarray((place + 1) * MOST_PAIRS // of > place * MOST_PAIRS // of)


def _margins(outcomes: Sequence[Outcome], view: str, group: comparison.Group, of_group: Pairs) -> tuple[Array, Array]:
    """How far apart the candidates of each pair are, and the standard deviation of that."""
    at, better, worse = of_group
    seen = [outcomes[row].views.get(view) for row in group.rows]
    if any(one is not None and one.scores is None for one in seen):
        lead, variance = _compared([outcomes[row] for row in group.rows], view, group.labels.shape[1])
        return np.abs(lead[of_group]), known_spread(np.sqrt(variance[of_group]))
    unknown = np.full(group.labels.shape[1], np.nan)
    given = np.array([unknown if one is None or one.spread is None else one.spread for one in seen], float)
    spread = known_spread(given)
    scores = group.scores
    with np.errstate(over="ignore", invalid="ignore"):  # infinitely far apart, or equal at infinity
        apart = np.abs(scores[at, better] - scores[at, worse])
        both = known_spread(np.hypot(spread[at, better], spread[at, worse]))
    return np.where(scores[at, better] == scores[at, worse], 0.0, apart), both


def _compared(outcomes: Sequence[Outcome], view: str, k: int) -> tuple[Array, Array]:
    """By how much win mass each candidate leads each other over all requests, and the variance of that [g, k, k].

    Both are nan where a comparison was not answered, the variance also where a spread is not known.
    """
    lead, variance = np.zeros((2, len(outcomes), k, k))
    for at, outcome in enumerate(outcomes):
        for answer in outcome.answers if view == "default" else ():
            if answer.status == "missing":
                continue
            unknown = np.full(len(answer.candidates), np.nan)
            spread = unknown if answer.spread is None else known_spread(answer.spread)
            values = answer.values if answer.status == "ok" else unknown
            for i, j in combinations(range(len(answer.candidates)), 2):
                a, b = answer.candidates[i], answer.candidates[j]
                edge = values[i] - values[j]
                lead[at, a, b] += edge
                lead[at, b, a] -= edge
                variance[at, a, b] += np.square(spread[i] + spread[j]) + 0 * edge
                variance[at, b, a] = variance[at, a, b]
    return lead, variance
