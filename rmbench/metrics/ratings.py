"""Responses with ratings: whether a model orders those to one prompt so, and how far rewards and ratings go together.

An item is a response that has a rating and an answer:

    pair_accuracy    the share of pairs of one prompt, rated differently, of which the better is scored above; ties half
    pearson, spearman, kendall    of all items, whatever their prompt
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rmbench.metrics import grading
from rmbench.metrics.grading import Grades, graded
from rmbench.metrics.interval import Statistic
from rmbench.metrics.measure import Unfitted
from rmbench.types import Array, Outcome

_OF_ONE = "of the ratings of one prompt alone; what is rated alike asks nothing"


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """Every metric of one view, with the clusters of the outcomes."""
    won, pairs = _pairs(outcomes, view).T
    columns = np.where(pairs[:, None] > 0, np.column_stack([won, pairs]), np.nan)
    ordered = Statistic(
        "pair_accuracy",
        columns,
        lambda sums: sums[..., 0] / sums[..., 1],
        "fraction",
        title="Pairs ordered as they are rated",
        unit="share of pairs of one prompt, ties half",
        better="higher",
        caveat=_OF_ONE,
    )
    return [ordered, *Grades(positive=None).statistics(outcomes, view, None)]


def ties(outcomes: Sequence[Outcome], view: str) -> int:
    """How many outcomes have a pair, rated differently, of equal scores."""
    won, _ = _pairs(outcomes, view).T
    return int(np.count_nonzero(won % 1))


def _pairs(outcomes: Sequence[Outcome], view: str) -> Array:
    """Pairs won, a tie half, and pairs in all [n, 2]."""
    grades = graded(outcomes, view, None, None)
    counts = np.zeros((len(outcomes), 2))
    for row in np.unique(grades.rows):
        scores, labels = grades.scores[grades.rows == row], grades.labels[grades.rows == row]
        better = labels[:, None] > labels[None, :]
        above = (scores[:, None] > scores[None, :]) + 0.5 * (scores[:, None] == scores[None, :])
        counts[row] = above[better].sum(), better.sum()
    return counts


RATINGS = Unfitted("ratings", "pair_accuracy", statistics, Grades(positive=None).left_out, ties,
                   grading.Grades(positive=None).uncalibrated)  # fmt: skip
