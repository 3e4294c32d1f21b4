"""Which of several means is the highest, and by how much, where it was chosen by looking.

Means over the same rows are tested together: signs of whole clusters are flipped for all of them at once, so that the
flips keep how they go together, and the largest studentised difference is held against its own distribution (max-t;
Romano and Wolf, Econometrica 73, 2005). With d_cn what cluster c adds to difference n,

    T_n = sum_c d_cn / sqrt(sum_c d_cn^2)

The highest is at least every estimate less c standard errors, where c need only hold for those that may be the highest
(Chernozhukov, Lee and Rosen, Intersection bounds, Econometrica 81, 2013), and at most the largest pointwise upper end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics import draws
from rmbench.types import Array

TAIL = 0.025  # of either side
_DRAWS = 9_999
_DRAWS_OF_PAIRS = 1_999
MAYBE = 0.005  # what is below another by this p is no candidate for the highest
_OVER_NORMAL = 3.178  # times the normal tail, which then bounds that of every sum of signs (see sign_flip)
_ROUNDING = 1e-12

Candidates = NDArray[np.bool_]


@dataclass(frozen=True)
class Parts:
    """What each cluster adds to m means: `parts` [c, m], which sum to them. `flipped` [m, draws] are the same sums with
    random signs, and `shares` [c] the clusters' shares of all rows.
    """

    parts: Array
    flipped: Array
    shares: Array

    @property
    def means(self) -> Array:
        """The means [m]."""
        return np.asarray(self.parts.sum(axis=0))

    def over(self, place: int) -> Parts:
        """The means less that at `place`."""
        columns = slice(place, place + 1)
        return Parts(self.parts - self.parts[:, columns], self.flipped - self.flipped[columns], self.shares)

    def at(self, places: Sequence[int] | Candidates) -> Parts:
        """Some of the means."""
        return Parts(self.parts[:, places], self.flipped[places], self.shares)


def parts_of(sums: Array, rows: Array, unseen: Array, *, seed: int = 0) -> Parts:
    """Parts of means over rows, from sums by cluster [c, m] and how many rows each cluster has [c].

    `unseen` [m] is what a row could add and perhaps none did: a cluster more that is won by it and one that is lost
    (after Bonett and Price, J. Educ. Behav. Stat. 37, 2012). Without them, means of which a few rows decide would look
    certain where none of these was drawn.
    """
    parts = sums / rows.sum()
    parts = np.where(np.abs(parts) > _ROUNDING * np.abs(parts).max(initial=0.0), parts, 0.0)
    more = unseen / len(rows) if parts.any() else np.zeros(len(unseen))
    parts, rows = np.vstack([parts, more, -more]), np.r_[rows, 0.0, 0.0]
    flipped = [2 * (heads.astype(float) @ parts) - parts.sum(axis=0) for heads in draws.signs(len(parts), _DRAWS, seed)]
    return Parts(parts, np.ascontiguousarray(np.concatenate(flipped).T), rows / rows.sum())


def none_above(means: Parts) -> float:
    """One-sided p that none of the means is above 0, never 0: below what draws tell a bound that holds for each sum."""
    from scipy.special import ndtr

    observed, flips = _studentised(means)
    if not len(observed):
        return 1.0
    count = int(np.count_nonzero(flips >= observed.max() - 1e-9))
    p = (1 + count) / (1 + len(flips))
    return p if count else float(min(p, len(observed) * _OVER_NORMAL * ndtr(-observed.max())))


def p_highest(means: Parts) -> Array:
    """The one-sided p [m] that none of the means is above this one.

    Those of more than a p are a set that has the highest in it with chance 1 - p, whichever it is.
    """
    return np.array([none_above(means.over(place)) for place in range(means.parts.shape[1])])


def highest(means: Parts, candidates: Candidates) -> tuple[float, float]:
    """Both ends of the 95 % interval of the highest mean, which is one of `candidates` [m]."""
    from scipy.special import stdtrit

    clusters = int(np.count_nonzero(means.shares))
    if clusters < 2:
        return np.nan, np.nan
    values, errors = means.means[candidates], _errors(means)[candidates]
    low = float((values - _times(critical(means, candidates, clusters), errors)).max())
    return low, float((values + _times(float(stdtrit(clusters - 1, 1 - TAIL)), errors)).max())


def furthest(means: Parts) -> tuple[int, float]:
    """The place of the mean that is furthest from 0, and how far it may be off: half of its 95 % interval, which holds
    for all means together."""
    both = Parts(np.hstack([means.parts, -means.parts]), np.vstack([means.flipped, -means.flipped]), means.shares)
    clusters, place = int(np.count_nonzero(means.shares)), int(np.argmax(np.abs(means.means)))
    if clusters < 2:
        return place, np.nan
    every = np.ones(both.parts.shape[1], bool)
    return place, float(_times(critical(both, every, clusters, 2 * TAIL), _errors(means))[place])


def difference_of_highest(
    ours: Parts, theirs: Parts, candidates: tuple[Candidates, Candidates]
) -> tuple[float, float, float]:
    """Our highest mean less theirs: both ends of its 95 % interval and a two-sided p, over the same rows and signs.

    Ours is above theirs where one of ours is told to be above each of theirs that may be their highest; the ends are
    where that test turns. What too few clusters, or none that differ, leave open is nan.
    """
    low, p_above = _least_above(ours, theirs, candidates)
    high, p_below = _least_above(theirs, ours, candidates[::-1])
    near = _ROUNDING * float(np.abs(np.hstack([ours.parts, theirs.parts])).sum(axis=0).max(initial=0.0))
    low, high = (0.0 if abs(end) <= near else end if np.isfinite(end) else np.nan for end in (low, -high))
    return low, high, min(1.0, 2 * min(p_above, p_below))


def _least_above(ours: Parts, theirs: Parts, candidates: tuple[Candidates, Candidates]) -> tuple[float, float]:
    """By how much our highest mean is above theirs at least, and the one-sided p that it is not."""
    clusters = int(np.count_nonzero(ours.shares))
    if clusters < 2:
        return np.nan, 1.0
    lows, p_values, every, varies = [], [], np.ones(int(candidates[0].sum()), bool), False
    for place in np.flatnonzero(candidates[1]):
        apart = Parts(
            ours.parts[:, candidates[0]] - theirs.parts[:, place, None],
            ours.flipped[candidates[0], :_DRAWS_OF_PAIRS] - theirs.flipped[place, :_DRAWS_OF_PAIRS],
            ours.shares,
        )
        errors = _errors(apart)
        lows.append(float((apart.means - _times(critical(apart, every, clusters), errors)).max()))
        p_values.append(none_above(apart))
        varies |= bool(errors.any())
    return min(lows) if varies else np.nan, max(p_values)


def critical(means: Parts, candidates: Candidates, clusters: int, tail: float = TAIL) -> float:
    """How many standard errors the highest of `candidates` may be too high, but for a chance of `tail`: that of the
    flips, in Student's scale; inf where the signs of those that vary are too few to tell."""
    _, flips = _studentised(means.at(candidates))
    if not len(flips):
        return 0.0
    most = float(np.quantile(flips, 1 - tail, method="higher"))
    if np.count_nonzero(flips >= flips.max() - _ROUNDING * clusters) > tail * len(flips):
        return np.inf
    square = most**2
    left = clusters - square
    return float(np.sqrt(square * (clusters - 1) / left)) if left > 1e-9 * clusters else np.inf


def _times(many: float, errors: Array) -> Array:
    """So many standard errors, and 0 where there is none, however many these are."""
    return np.multiply(many, errors, out=np.zeros_like(errors), where=errors > 0)


def _studentised(means: Parts) -> tuple[Array, Array]:
    """T of the means that vary [v], and the largest T of each flip [draws]; both empty where none varies."""
    squares = np.square(means.parts).sum(axis=0)
    there = squares > (_ROUNDING * np.abs(means.parts).max(initial=0.0)) ** 2
    if not there.any():
        return np.empty(0), np.empty(0)
    scale = np.sqrt(squares[there])
    flipped = means.flipped if there.all() else means.flipped[there]
    return means.means[there] / scale, np.asarray((flipped / scale[:, None]).max(axis=0))


def _errors(means: Parts) -> Array:
    """Standard errors [m] of the means over clusters."""
    clusters = int(np.count_nonzero(means.shares))
    residuals = means.parts - means.shares[:, None] * means.means
    return np.asarray(np.sqrt(clusters / (clusters - 1) * np.square(residuals).sum(axis=0)))
