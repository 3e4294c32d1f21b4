"""A threshold on scores: chosen on one declared part of a task, or out of fold, so that nobody is judged by their own.

A score below it is wrong. What was chosen is JSON that stands in the result: `{"threshold": t}` for all outcomes, or
`{"thresholds": [...]}`, one for each fold of clusters, chosen on the others. Intervals hold it fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

import numpy as np

from rmbench.types import Array, Json, Outcome

FOLDS = 5

Choose = Callable[[Sequence[Outcome]], float | None]


def fold_of(cluster: str) -> int:
    """The fold of a cluster, by its hash."""
    return int.from_bytes(sha256(cluster.encode()).digest()[:8]) % FOLDS


def chosen(outcomes: Sequence[Outcome], choose: Choose, on: Mapping[str, str] | None = None) -> Json:
    """The threshold that `choose` takes from the outcomes whose facets are `on`; without these, from four folds of
    five for each fold. None where there is nothing to choose from."""
    if on is not None:
        threshold = choose([outcome for outcome in outcomes if on.items() <= outcome.facets.items()])
        return None if threshold is None else {"threshold": threshold}
    folds = [fold_of(outcome.cluster) for outcome in outcomes]
    thresholds = [choose([one for one, at in zip(outcomes, folds, strict=True) if at != fold]) for fold in range(FOLDS)]
    return None if all(one is None for one in thresholds) else {"thresholds": thresholds}


def thresholds(outcomes: Sequence[Outcome], fitted: Json) -> Array:
    """The threshold that holds for each of `outcomes` [n], nan where none was chosen."""
    fitted = fitted if isinstance(fitted, Mapping) else {}
    if "thresholds" not in fitted:
        return np.full(len(outcomes), fitted.get("threshold", np.nan), float)
    by_fold = np.array(fitted["thresholds"], float)  # None is nan
    return np.asarray(by_fold[[fold_of(outcome.cluster) for outcome in outcomes]], float).reshape(len(outcomes))


def candidates(scores: Array) -> Array:
    """Every threshold [t] that tells scores apart in another way: below all, between any two that differ, above all."""
    values = np.unique(scores[np.isfinite(scores)])
    if not len(values):
        return values
    between = values[:-1] + (values[1:] - values[:-1]) / 2
    # the middle of neighbouring floats is one of them, and has to be the upper one
    between = np.where(between > values[:-1], between, values[1:])
    return np.concatenate([values[:1], between, [np.nextafter(values[-1], np.inf)]])


def best(thresholds: Array, worth: Array) -> float | None:
    """The lowest of `thresholds` [t] that is worth most; None where none is worth anything known."""
    finite = np.isfinite(worth)
    return float(thresholds[finite][int(np.argmax(worth[finite]))]) if finite.any() else None
