"""What the order in which two responses are shown does to a model that compares them.

Over the pairs that were shown both ways, each order with a verdict; a verdict is who has the larger win mass, or a tie.

- `consistency`: the share of pairs in which both orders name the same response, or both say that it is a tie.
- `position_bias`: how much more often the response that is shown first wins than the one that is shown second, over
  both orders; 0 for a model that does not look at the order, 1 for one that always names the first.
- `refused`: the share of comparisons, whatever their order, to which the model gave no verdict.

Each is the mean over examples. A model that rates responses one by one has none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from rmbench.metrics.interval import Statistic, mean
from rmbench.types import Answer, Array, Outcome


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """The figures above of a model that compares, [] of one that does not, ready for `interval.estimate`."""
    if view != "default" or not any(_is_compared(outcome) for outcome in outcomes):
        return []
    counts = np.array([_of_example(outcome.answers) for outcome in outcomes], float).reshape(len(outcomes), 3)
    return [
        mean(
            "consistency",
            counts[:, 0],
            "fraction",
            title="Pairs judged alike in both orders",
            unit="share of pairs shown in both orders",
            better="higher",
            caveat="1 for a model that is always wrong, too; says nothing where a task shows one order",
        ),
        mean(
            "position_bias",
            counts[:, 1],
            "number",
            title="Wins of the response shown first above those of the second",
            unit="share of verdicts, over both orders",
            bounds=(-1.0, 1.0),
            caveat="0 also where a model prefers the first as often as the second without looking at either",
        ),
        mean(
            "refused",
            counts[:, 2],
            "fraction",
            title="Comparisons without a verdict",
            unit="share of comparisons",
            better="lower",
            caveat="what a verdict that cannot be read counts as is the task's to say",
        ),
    ]


def _is_compared(outcome: Outcome) -> bool:
    seen = outcome.views.get("default")
    return seen is not None and seen.beats is not None


def _of_example(answers: Sequence[Answer]) -> tuple[float, float, float]:
    """Consistency, position bias and refusals of one example, nan where nothing tells."""
    asked = [answer for answer in answers if len(answer.candidates) > 1 and answer.status != "missing"]
    if not asked:
        return np.nan, np.nan, np.nan
    refused = float(np.mean([answer.status == "refused" for answer in asked]))
    verdicts: dict[tuple[int, int], float] = {}
    for answer in asked:
        if answer.status == "ok" and (answer.pick is None or len(answer.candidates) == 2):
            for i, j in combinations(range(len(answer.candidates)), 2):
                pair = answer.candidates[i], answer.candidates[j]
                verdicts[pair] = verdicts.get(pair, 0.0) + answer.values[i] - answer.values[j]
    both: Array = np.sign([(lead, verdicts[pair[::-1]]) for pair, lead in verdicts.items()
                           if pair[0] < pair[1] and pair[::-1] in verdicts])  # fmt: skip
    if not len(both):
        return np.nan, np.nan, refused
    return float(np.mean(both[:, 0] == -both[:, 1])), float(both.mean()), refused
