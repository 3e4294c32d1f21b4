"""Which models would an ensemble gain from? The mean of all rewards, each over its SD, with and without each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rmbench.compare.measured import Measured, common, label
from rmbench.compare.shared_rewards import SharedRewards, scores_of
from rmbench.metrics import distance
from rmbench.metrics.interval import Statistic, whole_value
from rmbench.metrics.paired import Difference, difference_of, holm
from rmbench.types import Array, Outcome, View

_VIEW = "default"


@dataclass(frozen=True)
class Member:
    """A model: its metric alone, that of an ensemble of all `without` it, and what it adds to that, `added`.

    `to_best` is what the best model gains from it, as an ensemble of two, None for the best itself. Each p is after
    Holm over the members, nan where there is none.
    """

    model: str
    alone: float
    without: float
    added: Difference
    added_p_holm: float
    to_best: Difference | None
    to_best_p_holm: float


@dataclass(frozen=True)
class Membership:
    """The metric of an ensemble of all models, over `examples` that count for all, and what each of them adds to it.

    A reward is divided by its SD within prompts, and the mean is taken. `best` is the model whose metric is best on
    these same examples, so that what it is said to gain is a little low. `above_best` is the ensemble less the best.
    """

    examples: int
    value: float
    best: str
    above_best: Difference
    members: Sequence[Member]


def members(measured: Sequence[Measured], shared: SharedRewards, seed: int) -> Membership | str:
    """What each of several models adds to an ensemble by their metric; or why nothing can be said of one."""
    first = measured[0]
    if getattr(first.measure, "steps_alone", False):
        return f"{first.metric} is of steps, and an ensemble of rewards has none"
    whole = common(measured, np.ones(len(first.judged.clusters), bool))
    statistic = first.whole[0]
    if whole is None or statistic.better is None:
        return (
            f"{first.metric} has no number for all models" if whole is None else f"no {first.metric} is the better one"
        )
    rows = np.flatnonzero(whole.rows).tolist()
    scales = [float(distance.norm(rewards, shared.counts)) for rewards in shared.rewards]
    scaled = [
        [scores_of(model.outcomes[row], model.view) / scale for row in rows]
        for model, scale in zip(shared.models, scales, strict=True)
    ]
    alone = [runs[0] for runs in whole.models]
    makes = _Makes(first, [first.judged.runs[0][row] for row in rows], scaled)
    together = makes.ensemble(range(len(measured)))
    if together is None:
        return f"{first.metric} is of more than rewards"
    sign = -1.0 if statistic.better == "lower" else 1.0
    best = int(np.argmax([sign * value for value in whole.value]))
    codes, adding = whole.codes, list[Member]()
    for place, model in enumerate(measured):
        rest = [other for other in range(len(measured)) if other != place]
        left, pair = makes.ensemble(rest), makes.ensemble([best, place])
        if left is None or pair is None:
            return f"{first.metric} is of more than rewards"
        added = difference_of(together, left, codes, seed=seed)
        to_best = None if place == best else difference_of(pair, alone[best], codes, seed=seed)
        adding.append(
            Member(model.name, whole.value[place], whole_value(left, codes), added, math.nan, to_best, math.nan)
        )
    above = difference_of(together, alone[best], codes, seed=seed)
    return Membership(whole.n, whole_value(together, codes), measured[best].name, above, _adjusted(adding))


class _Makes:
    """Makes the metric of ensembles over some examples, of their members' rewards `scaled` [m][n], one [k] each."""

    def __init__(self, like: Measured, outcomes: Sequence[Outcome], scaled: Sequence[Sequence[Array]]) -> None:
        self._like, self._outcomes, self._scaled = like, outcomes, scaled

    def ensemble(self, places: Sequence[int]) -> Statistic | None:
        """The metric of the mean of the members at these places; None where the measure has none of rewards alone."""
        outcomes = []
        for row, outcome in enumerate(self._outcomes):
            scores = np.mean([self._scaled[place][row] for place in places], axis=0)
            status = outcome.views[next(iter(outcome.views))].status
            outcomes.append(replace(outcome, views={_VIEW: View(scores, None, status)}, answers=(), step_heads={}))
        measure = self._like.measure
        made = measure.statistics(outcomes, _VIEW, measure.fit(outcomes, _VIEW))
        return next((one for one in made if label(one) == self._like.metric), None)


def _adjusted(members: Sequence[Member]) -> list[Member]:
    """The same with Holm's adjustment of both columns of p."""
    added = holm([one.added.p for one in members])
    to_best = holm([math.nan if one.to_best is None else one.to_best.p for one in members])
    return [
        replace(one, added_p_holm=of_added, to_best_p_holm=of_best)
        for one, of_added, of_best in zip(members, added, to_best, strict=True)
    ]
