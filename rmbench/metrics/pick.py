"""The label of the response that a reward picks out of a whole pool: what a best-of-N of these responses is worth.

A pool has N labelled responses (1 right, 0 wrong, or how good each is) and a reward of each; a pool whose responses are
all right or all wrong counts like any other. `selection` says what a choice among fewer than all is worth.

    picked          the label of the response with the largest reward, over those that share it their mean
    picked_first    the label of the first of those in the order of the data, which a plain argmax takes. It is the
                    Pass of StrictPRMBench (staged-benchmark-2026/StrictPRMBench@2ad65ed). Where right responses stand
                    first, it flatters a reward that ties
    picked_chance   the mean label, which a reward that is drawn gets
    picked_oracle   the best label, which no reward exceeds
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.interval import Statistic, Words, mean
from rmbench.metrics.measure import Unfitted
from rmbench.metrics.selection import reason_left_out
from rmbench.types import Array, Outcome

_OF_THE_DATA = "of the data, not of the model"


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """What one view of `outcomes` [n] gives, ready for `interval.estimate`."""
    columns = np.full((4, len(outcomes)), np.nan)
    for row, outcome in enumerate(outcomes):
        if not reason_left_out(outcome, view, 1):
            labels = outcome.labels
            largest = labels[_at_the_top(outcome, view)]
            columns[:, row] = largest.mean(), largest[0], labels.mean(), labels.max()
    picked, first, chance, oracle = columns
    return [
        _label("picked", picked, title="Label of the response picked", better="higher",
               caveat="best-of-n of a policy only where one wrote the whole pool; no training"),
        _label("picked_first", first, title="Label of the response picked, the first of equal ones", better="higher",
               caveat="the order of the data decides a tie"),
        _label("picked_chance", chance, title="Label of a random response", caveat=_OF_THE_DATA),
        _label("picked_oracle", oracle, title="Best label of the pool", caveat=_OF_THE_DATA),
    ]  # fmt: skip


def left_out(outcomes: Sequence[Outcome], view: str) -> dict[str, int]:
    """How many pools say nothing of a choice, by reason."""
    return dict(Counter(filter(None, (reason_left_out(outcome, view, 1) for outcome in outcomes))))


def ties(outcomes: Sequence[Outcome], view: str) -> int:
    """How many pools have responses of other labels at the top."""
    counted = (one for one in outcomes if not reason_left_out(one, view, 1))
    return sum(len(set(one.labels[_at_the_top(one, view)].tolist())) > 1 for one in counted)


PICK = Unfitted("pick", "picked", statistics, left_out, ties)
POOL = replace(PICK, uncalibrated="samples of one policy are there to be chosen among, not to be told right from wrong")


def _at_the_top(outcome: Outcome, view: str) -> NDArray[np.intp]:
    """The places of the responses with the largest reward, in the order of the data."""
    scores = np.asarray(outcome.views[view].scores)
    return np.flatnonzero(scores == scores.max())


def _label(name: str, values: Array, **words: Unpack[Words]) -> Statistic:
    finite, said = values[np.isfinite(values)], Words(unit="label", **words)
    if np.isin(finite, (0, 1)).all():
        return mean(name, values, "proportion", **said)
    return mean(name, values, "fraction" if ((finite >= 0) & (finite <= 1)).all() else "number", **said)
