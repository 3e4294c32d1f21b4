"""Pairs of candidates that the data name: a tag of the better one lists the places of those that it is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmbench.metrics import comparison
from rmbench.types import Array, Outcome


def named_pairs(tags: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, int]]:
    """The pairs, the better one first, that the tag `name` of each candidate lists; one may stand more than once."""
    return [(better, worse) for better, own in enumerate(tags) for worse in own.get(name, ())]


def verdicts(outcome: Outcome, view: str, name: str) -> Array:
    """What a model says of each pair: 1 where the better one is preferred, .5 for a tie, 0, nan without an answer.

    Without any answer to the outcome it is one nan, whether or not there are pairs.
    """
    seen, pairs = outcome.views.get(view), named_pairs(outcome.tags, name)
    if seen is None or (seen.scores is None and seen.beats is None):
        return np.array([np.nan])
    beats = comparison.beats(np.asarray(seen.scores)) if seen.beats is None else seen.beats
    return np.array([beats[pair] for pair in pairs], float)
