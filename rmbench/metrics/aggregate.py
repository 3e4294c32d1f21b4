"""Step rewards of a process reward model to one score per candidate: every aggregator is a view.

The first six are RewardMATH's. `mean_logit` and `mean_odds` are of steps that are probabilities, nan of any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rmbench.types import Array

_Starts = NDArray[np.intp]

# Beyond e^-700 and e^700 a product leaves the range of a float.
_LIMIT = 700.0


def aggregate(steps: Sequence[Sequence[float] | Array]) -> dict[str, Array]:
    """One score [n] per view of VIEWS from the step rewards of n candidates; nan for a candidate without steps.

    A step that is nan makes every score of its candidate nan, except `last` where it is not the last.
    """
    lengths = np.array([len(rewards) for rewards in steps], np.intp)
    flat = np.concatenate([np.asarray(rewards, float) for rewards in steps]) if len(steps) else np.empty(0)
    return {name: aggregated(name, flat, lengths) for name in VIEWS}


def aggregated(view: str, flat: Array, lengths: NDArray[np.integer]) -> Array:
    """The score [n] of one view of VIEWS, from the steps of n candidates one behind the other, so many of each."""
    has_steps = lengths > 0
    scores: Array = np.full(len(lengths), np.nan)
    if has_steps.any():
        starts = (np.cumsum(lengths) - lengths)[has_steps]
        with np.errstate(all="ignore"):  # log 0 and 0 * inf are meant
            scores[has_steps] = VIEWS[view](flat, starts)
    return scores


def _prod(flat: Array, starts: _Starts) -> Array:
    """The product. Below e^-700 and above e^700 only the order is kept: plain products would all be 0, or inf."""
    plain = np.multiply.reduceat(flat, starts)
    size = np.add.reduceat(np.log(np.abs(flat)), starts)
    far = np.where(size < 0, np.exp(-_LIMIT) * _LIMIT / -size, np.exp(_LIMIT) * size / _LIMIT)
    beyond = np.isfinite(size) & (np.abs(size) > _LIMIT)
    result: Array = np.where(beyond, np.multiply.reduceat(np.sign(flat), starts) * far, plain)
    return result


def _geometric_mean(flat: Array, starts: _Starts) -> Array:
    """The n-th root of the product of n steps: 0 with a step of 0, nan (undefined) with a negative one."""
    result: Array = np.exp(np.add.reduceat(np.log(flat), starts) / _lengths(flat, starts))
    return result


def _mean(flat: Array, starts: _Starts) -> Array:
    result: Array = np.add.reduceat(flat, starts) / _lengths(flat, starts)
    return result


def _min(flat: Array, starts: _Starts) -> Array:
    result: Array = np.minimum.reduceat(flat, starts)
    return result


def _max(flat: Array, starts: _Starts) -> Array:
    result: Array = np.maximum.reduceat(flat, starts)
    return result


def _last(flat: Array, starts: _Starts) -> Array:
    result: Array = flat[starts + _lengths(flat, starts) - 1]
    return result


def _mean_logit(flat: Array, starts: _Starts) -> Array:
    """The mean of log p / (1 - p): infinite with a step of 0 or 1, nan with both."""
    return _mean(np.log(_odds(flat)), starts)


def _mean_odds(flat: Array, starts: _Starts) -> Array:
    """The mean of p / (1 - p): infinite with a step of 1."""
    return _mean(_odds(flat), starts)


def _odds(flat: Array) -> Array:
    return np.where((flat >= 0) & (flat <= 1), flat / (1 - flat), np.nan)


def _lengths(flat: Array, starts: _Starts) -> _Starts:
    return np.diff(starts, append=len(flat))


VIEWS: Mapping[str, Callable[[Array, _Starts], Array]] = {
    "prod": _prod,
    "geometric_mean": _geometric_mean,
    "mean": _mean,
    "min": _min,
    "max": _max,
    "last": _last,
    "mean_logit": _mean_logit,
    "mean_odds": _mean_odds,
}
