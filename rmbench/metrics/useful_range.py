"""Between which of its rewards a member of a composite helps: from what a random sample gets to where gold peaks.

Choosing the best of n by the member alone raises gold up to some n, and beyond that the member is proxied by what it
should not be. Its mean reward of what it chooses at that n is where a composite should hold it (the proxy points of
Moskovitz et al., Confronting Reward Model Overoptimization with Constrained RLHF, 2024): more of it is worth nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmbench.types import Array


@dataclass(frozen=True, slots=True)
class Ends:
    """`low` and `high` [...] in the member's own reward; `at` [...] is the index of the size where gold is highest,
    the first of equal ones, `gold` [...] what it is there, and `is_open` [...] whether that is the largest size, so
    that the range may go on. Where gold is highest at the first size, one sample, low is high: the member never helps.
    """

    low: Array
    high: Array
    at: NDArray[np.intp]
    gold: Array
    is_open: NDArray[np.bool_]


def useful_range(gold: Array, proxy: Array) -> Ends:
    """The ends of a member's useful range from curves [..., m] of best-of-n by it alone: means over prompts of gold and
    of the member's reward, over sizes that ascend from 1.

    Axes before the last are draws, so that an interval looks for the best n anew in each.

    >>> ends = useful_range(np.array([0.4, 0.6, 0.5]), np.array([0.0, 1.0, 2.0]))
    >>> float(ends.low), float(ends.high), int(ends.at), bool(ends.is_open)
    (0.0, 1.0, 1, False)
    """
    gold, proxy = np.asarray(gold, float), np.asarray(proxy, float)
    at = np.asarray(np.argmax(gold, axis=-1))
    high, best = (np.take_along_axis(curve, at[..., None], axis=-1)[..., 0] for curve in (proxy, gold))
    return Ends(proxy[..., 0], high, at, best, np.asarray(at == gold.shape[-1] - 1))
