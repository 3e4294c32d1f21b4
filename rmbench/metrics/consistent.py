"""Consistent accuracy: how often a judge is right in both orders, and a reward model in the one that it has.

A verdict that could not be read is wrong, and so is a tie: of two equal rewards, or of a judge. With `tie_yields` a tie
in one order yields to the verdict of the other, as the code of ReasoningJudgeBench has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from rmbench.metrics import summary, verdicts
from rmbench.metrics.interval import Statistic, mean
from rmbench.metrics.measure import Unfitted
from rmbench.types import Outcome


def consistent_accuracy(judged: verdicts.Verdicts, *, tie_yields: bool = False) -> Statistic:
    """The share of examples whose verdicts are all the label, ties aside where these yield."""
    right, there = judged.said == judged.gold[:, None], ~np.isnan(judged.said)
    good = right | (judged.said == verdicts.TIE) if tie_yields else right
    won = right.any(axis=1) & (good | ~there).all(axis=1)
    return mean("consistent_accuracy", np.where(judged.counts, won, np.nan), "proportion",
                title="Right in both orders", unit="share of examples", better="higher",
                caveat="a fourth for a judge that guesses anew in each order, a half for rewards that are drawn: "
                "no reward model beside a judge")  # fmt: skip


def statistics(outcomes: Sequence[Outcome], view: str, *, tie_yields: bool = False) -> list[Statistic]:
    """Consistent accuracy, what is right of single verdicts, how many agree, then every metric of a comparison."""
    judged = verdicts.verdicts(outcomes, view, null_is_wrong=True)
    of_orders = [verdicts.single_accuracy(judged), verdicts.pair_agreement(judged)]
    return [consistent_accuracy(judged, tie_yields=tie_yields), *of_orders, *summary.statistics(outcomes, view)]


_LEFT_OUT = partial(verdicts.left_out, null_is_wrong=True)
CONSISTENT = Unfitted("both orders", "consistent_accuracy", statistics, _LEFT_OUT, verdicts.ties)
TIE_YIELDS = Unfitted(
    "both orders, a tie yields",
    "consistent_accuracy",
    partial(statistics, tie_yields=True),
    _LEFT_OUT,
    verdicts.ties,
)
