"""What the rewards of one view look like as numbers: their spread within and between prompts, ends and repetitions.

`reward_sd_within` is the standard deviation of rewards about the mean of their example, pooled; `reward_sd_between`
that of the examples' means. Bradley-Terry training leaves the latter free, so a large one says nothing good or bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rmbench.metrics.interval import Statistic
from rmbench.types import Array, Outcome


@dataclass(frozen=True, slots=True)
class Scale:
    """How many finite rewards there are, how many of them differ, and how many stand at either end."""

    rewards: int
    distinct: int
    minimum: float | None
    maximum: float | None
    at_minimum: int
    at_maximum: int


def describe(outcomes: Sequence[Outcome], view: str) -> Scale | None:
    """The scale of one view; None where nothing but comparisons was asked."""
    given = _scores(outcomes, view)
    if all(scores is None for scores in given):
        return None
    rewards = np.concatenate([scores for scores in given if scores is not None])
    rewards = rewards[np.isfinite(rewards)]
    if not len(rewards):
        return Scale(0, 0, None, None, 0, 0)
    values, counts = np.unique(rewards, return_counts=True)
    return Scale(len(rewards), len(values), float(values[0]), float(values[-1]), int(counts[0]), int(counts[-1]))


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """Spread within and between examples; an example counts where all of its rewards are finite."""
    given = _scores(outcomes, view)
    if all(scores is None for scores in given):
        return []
    columns = np.full((len(given), 3), np.nan)
    for row, scores in enumerate(given):
        if scores is not None and len(scores) and np.isfinite(scores).all():
            columns[row] = _spread(scores)
    finite = np.flatnonzero(np.isfinite(columns[:, 0]))
    with np.errstate(over="ignore", invalid="ignore"):  # too large to square is left out as not finite
        means = columns[:, 0] - (columns[finite[0], 0] if len(finite) else 0.0)  # near 0, so that squares keep digits
        squares = np.square(means)
    return [
        Statistic(
            "reward_sd_within",
            columns[:, 1:],
            lambda sums: np.sqrt(sums[..., 0] / sums[..., 1]),
            title="SD of rewards within examples",
            unit="reward units",
            bounds=(0.0, None),
            caveat="a scale, neither good nor bad, and another for each model",
        ),
        Statistic(
            "reward_sd_between",
            np.column_stack([means, squares, np.ones(len(means))]),
            _sd,
            title="SD of mean rewards between examples",
            unit="reward units",
            bounds=(0.0, None),
            caveat="training on comparisons leaves it free, so that a large one says nothing good or bad",
        ),
    ]


def _spread(scores: Array) -> tuple[float, float, float]:
    """Mean, sum of squares about it, and degrees of freedom."""
    with np.errstate(over="ignore", invalid="ignore"):  # too large to square is left out as not finite
        centre = scores.mean()
        return float(centre), float(np.square(scores - centre).sum()), len(scores) - 1.0


def _sd(sums: Array) -> Array:
    total, squares, n = np.moveaxis(sums, -1, 0)
    return np.asarray(np.sqrt(np.maximum(squares - total * total / n, 0.0) / (n - 1)))


def _scores(outcomes: Sequence[Outcome], view: str) -> list[Array | None]:
    seen = [outcome.views.get(view) for outcome in outcomes]
    return [None if one is None else one.scores for one in seen]
