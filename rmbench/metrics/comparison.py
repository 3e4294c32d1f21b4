"""How often, and by how much, correct candidates are preferred to wrong ones.

An example counts where it has a correct and a wrong candidate and every such pair has an answer. The correct
candidates are those with the highest label, all others are wrong. What happens to an example is settled by its best
correct candidate: the one with the fewest losses, then the fewest ties, against the wrong ones. With L and T its losses
(`beats` below .5) and ties (.5), and m the number of correct candidates level with it (the same L and T):

    accuracy            L = 0 and T = 0                  RewardMATH, RewardBench: strictly above all wrong ones
    accuracy_ties       L = 0                            RewardMATH "with ties"
    accuracy_expected   m / (m + T) if L = 0, else 0     ties broken at random
    accuracy_chance     share of correct candidates      what a reward that is drawn gets, whatever the model
    mrr                 1 / (1 + L + T)                  RewardMATH: ties rank against the correct one
    mrr_expected        E[1 / (1 + L + X)]               X of the T come before the first of the m in a random order
    mean_rank           1 + L + T / (m + 1)              the expected rank, E[1 + L + X]

`auc` is the mean over (correct, wrong) pairs within an example, then over examples; `margin_sd` an effect size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.interval import Kind, Statistic, Words, mean
from rmbench.types import Answer, Array, Json, Outcome

_ENTRIES = 1 << 21  # entries of `beats` held at once: 16 MiB
_ROUNDING = 1e-9  # shares of samples that are added up in another order are the same sum
_REASONS = (
    "",
    "unlabelled candidate",
    "no wrong candidate",
    "no correct candidate",
    "candidates rated alike",
    "no answer",
)


@dataclass(frozen=True, slots=True)
class Standings:
    """Where the best correct candidate of each of n examples stands; arrays are [n], nan in examples left out.

    `losses`, `ties` and `level` are L, T and m above. `auc` is the share of (correct, wrong) pairs won, `drawn` that of
    candidates that are correct. `gap` is mean
    correct minus mean wrong score, `scatter` the sum of squares about the example's mean, `freedom` k - 1; these three
    are nan also where a score is missing or not finite. `reason` indexes why an example is left out, 0 where it counts.
    `picked` is whether the answers only named the best; L and T are then over what is known.
    """

    reason: NDArray[np.intp]
    picked: NDArray[np.bool_]
    losses: Array
    ties: Array
    level: Array
    auc: Array
    drawn: Array
    gap: Array
    scatter: Array
    freedom: Array

    def mean(self, name: str, values: NDArray[np.generic], kind: Kind, **words: Unpack[Words]) -> Statistic:
        """The mean of `values` [n] over the examples that count; `words` are what it says of itself."""
        return mean(name, np.where(self.reason == 0, values, np.nan), kind, **words)

    def mean_of_ranks(self, name: str, values: NDArray[np.generic], kind: Kind, **words: Unpack[Words]) -> Statistic:
        """The same for what needs more than the best: nan where the answers only picked it."""
        return self.mean(name, np.where(self.picked, np.nan, values), kind, **words)


@dataclass(frozen=True, slots=True)
class Group:
    """Outcomes `rows` [g] of k candidates each in one view: `labels` and `scores` [g, k], `beats` [g, k, k]; nan where
    there is none. `picked` [g] is whether the answers only named the best.
    """

    rows: NDArray[np.intp]
    labels: Array
    scores: Array
    beats: Array
    picked: NDArray[np.bool_]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which candidates have the highest label of their example [g, k]."""
        return np.asarray(self.labels == self.labels.max(axis=1, initial=-np.inf)[:, None])

    @property
    def pairs(self) -> NDArray[np.bool_]:
        """Which pairs are of a correct and a wrong candidate [g, k, k]."""
        return self.correct[:, :, None] & ~self.correct[:, None, :]


Metric = Callable[[Standings], Statistic]
METRICS: list[Metric] = []


def metric(function: Metric) -> Metric:
    """Adds a metric to what `statistics` returns, in the order of this file."""
    METRICS.append(function)
    return function


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """Every metric of one view of `outcomes` [n], ready for `interval.estimate` with the clusters of the outcomes."""
    placed = standings(outcomes, view)
    return [function(placed) for function in METRICS]


def standings(outcomes: Sequence[Outcome], view: str) -> Standings:
    """Where the best correct candidate of each of `outcomes` [n] stands."""
    columns = np.full((8, len(outcomes)), np.nan)
    reason, picked = np.zeros(len(outcomes), np.intp), np.zeros(len(outcomes), dtype=bool)
    for group in groups(outcomes, view):
        columns[:, group.rows], reason[group.rows] = _stand(group)
        picked[group.rows] = group.picked
    return Standings(reason, picked, *columns)


def groups(outcomes: Sequence[Outcome], view: str) -> Iterator[Group]:
    """The outcomes, those with the same number of candidates together, in chunks of bounded memory."""
    rows_of: dict[int, list[int]] = {}
    picked = False
    for i, outcome in enumerate(outcomes):
        rows_of.setdefault(len(outcome.labels), []).append(i)
        picked = picked or (_is_compared(outcome, view) and are_picks(outcome.answers))
    for k, rows in rows_of.items():
        chunk = max(1, _ENTRIES // max(1, k * k))
        for start in range(0, len(rows), chunk):
            yield _group(outcomes, view, rows[start : start + chunk], k, picked)


def wins(outcomes: Sequence[Outcome], view: str) -> Array:
    """Strict accuracy of each outcome [n]: 1 where it is won, 0 where not, nan where it does not count."""
    s = standings(outcomes, view)
    return np.where(s.reason == 0, (s.losses == 0) & (s.ties == 0), np.nan)


def beats(scores: Array) -> Array:
    """Who is preferred to whom [..., k, k] going by scores [..., k]: 1, .5 for a tie, 0, nan against nan and itself."""
    ahead, behind = scores[..., :, None], scores[..., None, :]
    result: Array = np.where(ahead > behind, 1.0, np.where(ahead == behind, 0.5, 0.0))
    unknown = np.isnan(ahead) | np.isnan(behind) | np.eye(scores.shape[-1], dtype=bool)
    result[unknown] = np.nan
    return result


def beats_of_masses(labels: Array, answers: Iterable[Answer], null_verdict: str | None) -> Array:
    """Who is preferred to whom [k, k] going by comparisons: each pair's win mass summed over the answers to it.

    The larger sum wins, equal sums tie; a pair that was not asked or has a failed answer is nan, one that is missing
    counts as not asked, because a score file may know one of two orders. With `null_verdict` "loss" a `refused` answer
    is a loss of the one with the higher label, with "nought" it adds nothing, so that a pair without any verdict ties.

    Where answers `are_picks`, the shares of picks are added up: those with the most are preferred to all others and tie
    among themselves, and what the others are to one another is nan. A failed answer then leaves all open, or with
    "loss" counts for every candidate but the best, with "nought" for none.
    """
    given = [answer for answer in answers if answer.status != "missing"]
    if are_picks(given):
        return _beats_of_picks(labels, given, null_verdict)
    k = len(labels)
    lead, asked = np.zeros((k, k)), np.zeros((k, k), dtype=bool)
    for answer in given:
        shown, masses = answer.candidates, answer.values
        for i, j in combinations(range(len(shown)), 2):
            a, b = shown[i], shown[j]
            asked[a, b] = asked[b, a] = True
            edge = masses[i] - masses[j] if answer.status == "ok" else np.nan
            if answer.status == "refused" and null_verdict == "loss":
                edge = -1.0 if labels[a] > labels[b] else 1.0
            elif answer.status == "refused" and null_verdict == "nought":
                edge = 0.0
            lead[a, b] += edge
            lead[b, a] -= edge
    result: Array = np.where(asked & ~np.isnan(lead), (np.sign(lead) + 1) / 2, np.nan)
    return result


def are_picks(answers: Iterable[Answer]) -> bool:
    """Whether one of the answers named the best of more than two, and said nothing of the others.

    Such an example is won or lost by the pick alone: a wrong pick is a loss, never a missing answer, and what needs
    more than the best is nan. Of two responses a pick is all there is to say.
    """
    return any(one.pick is not None and one.status == "ok" and len(one.candidates) > 2 for one in answers)


def _beats_of_picks(labels: Array, answers: Sequence[Answer], null_verdict: str | None) -> Array:
    k = len(labels)
    counts = np.zeros(k)
    for answer in answers:
        shown = np.array(answer.candidates)
        if answer.status == "ok":
            counts[shown] += answer.values
        elif answer.status == "refused" and null_verdict == "loss":
            counts[shown] += labels[shown] < labels[shown].max()
        elif answer.status != "refused" or null_verdict != "nought":
            return np.full((k, k), np.nan)
    first = counts >= counts.max() - _ROUNDING
    result = np.full((k, k), np.nan)
    result[np.ix_(first, ~first)], result[np.ix_(~first, first)], result[np.ix_(first, first)] = 1.0, 0.0, 0.5
    np.fill_diagonal(result, np.nan)
    return result


def ties(outcomes: Sequence[Outcome], view: str) -> int:
    """In how many of the examples that count the best correct candidate ties with a wrong one (T > 0)."""
    return int(np.count_nonzero(standings(outcomes, view).ties > 0))


def left_out(outcomes: Sequence[Outcome], view: str) -> dict[str, int]:
    """How many examples do not count, by reason; reasons that do not occur are absent.

    `no answer`: a (correct, wrong) pair whose `beats` is nan, or an outcome without that view.
    """
    counts = np.bincount(standings(outcomes, view).reason, minlength=len(_REASONS))
    return {reason: int(count) for reason, count in zip(_REASONS[1:], counts[1:], strict=True) if count}


@metric
def accuracy(s: Standings) -> Statistic:
    return s.mean(
        "accuracy",
        (s.losses == 0) & (s.ties == 0),
        "proportion",
        title="Accuracy, ties lost",
        unit="share of examples",
        better="higher",
        caveat="chance is 1 / k for k candidates; says nothing of how far apart rewards are",
    )


@metric
def accuracy_ties(s: Standings) -> Statistic:
    return s.mean(
        "accuracy_ties",
        s.losses == 0,
        "proportion",
        title="Accuracy, ties won",
        unit="share of examples",
        better="higher",
        caveat="1 for a reward that is the same for everything",
    )


@metric
def accuracy_expected(s: Standings) -> Statistic:
    return s.mean(
        "accuracy_expected",
        np.where(s.losses == 0, s.level / (s.level + s.ties), 0.0),
        "proportion",
        title="Accuracy, ties broken at random",
        unit="share of examples",
        better="higher",
        caveat="chance is 1 / k for k candidates; does not say how many ties there are",
    )


@metric
def accuracy_chance(s: Standings) -> Statistic:
    chance = s.mean(
        "accuracy_chance",
        s.drawn,
        "fraction",
        title="Accuracy of a reward that is drawn",
        unit="share of examples",
        caveat="says nothing of the model but which examples count; it is known, so its ends are itself",
    )
    return replace(chance, interval=_known)


def _known(sums: Array) -> tuple[float, float]:
    """Both ends of a mean that nothing is uncertain about."""
    value = float(sums[:, 0].sum() / sums[:, 1].sum())
    return value, value


@metric
def mrr(s: Standings) -> Statistic:
    return s.mean_of_ranks(
        "mrr",
        1 / (1 + s.losses + s.ties),
        "fraction",
        title="Mean reciprocal rank, ties lost",
        unit="1 / rank of the best correct candidate",
        better="higher",
        caveat="most of it is the first rank; does not say how deep the correct candidate falls",
    )


@metric
def mrr_expected(s: Standings) -> Statistic:
    # P(X = 0) = m / (T + m), and P(X = x + 1) / P(X = x) = (T - x) / (T + m - 1 - x).
    total, chance = np.zeros_like(s.ties), s.level / (s.ties + s.level)
    for x in range(int(np.nanmax(s.ties, initial=0)) + 1):
        total += chance / (1 + s.losses + x)
        chance = chance * np.maximum(s.ties - x, 0) / np.maximum(s.ties + s.level - 1 - x, 1)
    return s.mean_of_ranks(
        "mrr_expected",
        total,
        "fraction",
        title="Mean reciprocal rank, ties broken at random",
        unit="1 / rank of the best correct candidate",
        better="higher",
        caveat="most of it is the first rank; does not say how many ties there are",
    )


@metric
def mean_rank(s: Standings) -> Statistic:
    return s.mean_of_ranks(
        "mean_rank",
        1 + s.losses + s.ties / (s.level + 1),
        "number",
        title="Mean rank of the best correct candidate",
        unit="rank, from 1",
        better="lower",
        bounds=(1.0, None),
        caveat="grows with the number of candidates; a few bad examples decide it",
    )


@metric
def margin_sd(s: Standings) -> Statistic:
    """Mean gap between correct and wrong scores, over the pooled standard deviation within examples."""

    def value(sums: Array) -> Array:
        gap, examples, scatter, freedom = np.moveaxis(sums, -1, 0)
        spread = np.sqrt(scatter / freedom)
        return np.where(spread > 0, gap / examples / spread, np.nan)

    columns = np.column_stack([s.gap, np.ones_like(s.gap), s.scatter, s.freedom])
    return Statistic(
        "margin_sd",
        columns,
        value,
        title="Margin of correct over wrong",
        unit="SDs of the reward within examples",
        better="higher",
        caveat="a few large gaps may make it; its SD holds the gap, so that it has a most that depends on k",
    )


@metric
def auc(s: Standings) -> Statistic:
    return s.mean_of_ranks(
        "auc",
        s.auc,
        "fraction",
        title="AUC within examples",
        unit="share of (correct, wrong) pairs won",
        better="higher",
        caveat="says nothing of rewards of different prompts; a tie is half a win",
    )


def alone(function: Metric) -> Callable[[Sequence[Outcome], str, Json], Statistic]:
    """How to make one of the metrics above by itself, for a part of a `measure.macro`."""
    return lambda outcomes, view, fitted: function(standings(outcomes, view))


def _is_compared(outcome: Outcome, view: str) -> bool:
    """Whether a view is of the answers themselves, and these are comparisons."""
    seen = outcome.views.get(view)
    return view == "default" and seen is not None and seen.beats is not None


def _group(outcomes: Sequence[Outcome], view: str, rows: list[int], k: int, of_picks: bool) -> Group:
    """`of_picks` says that the model picks: samples that disagree leave no pick, and say as little of the others."""
    seen = [outcomes[i].views.get(view) for i in rows]
    labels = np.concatenate([outcomes[i].labels for i in rows]).astype(float).reshape(len(rows), k)
    unknown = np.full(k, np.nan)
    scores = np.array([unknown if v is None or v.scores is None else v.scores for v in seen])
    preferred = beats(scores)
    picked = np.zeros(len(rows), dtype=bool)
    for at, v in enumerate(seen):
        if v is not None and v.beats is not None:
            preferred[at] = v.beats
            picked[at] = of_picks and any(len(one.candidates) > 2 for one in outcomes[rows[at]].answers)
    return Group(np.array(rows), labels, scores, preferred, picked)


def _stand(group: Group) -> tuple[Array, NDArray[np.intp]]:
    """Columns of `Standings` [8, g] and reasons [g]."""
    labels, beats, correct, pairs = group.labels, group.beats, group.correct, group.pairs
    k = labels.shape[1]
    top, bottom, unknown = labels.max(axis=1, initial=-np.inf), labels.min(axis=1, initial=np.inf), np.isnan(beats)
    reason = np.select(
        [np.isnan(top), (top == 1) & (bottom == 1), (top == 0) & (bottom == 0) | (k == 0), top == bottom],
        [1, 2, 3, 4],
        np.where(np.where(group.picked, (unknown | ~pairs).all(axis=(1, 2)), (unknown & pairs).any(axis=(1, 2))), 5, 0),
    )

    losses, ties = ((beats < 0.5) & pairs).sum(axis=2), ((beats == 0.5) & pairs).sum(axis=2)
    order = np.where(correct, losses * (k + 1) + ties, (k + 1) ** 2)
    best = order.min(axis=1, initial=(k + 1) ** 2)
    level = (order == best[:, None]).sum(axis=1)
    won = np.where(pairs, beats, 0.0).sum(axis=(1, 2)) / np.maximum(pairs.sum(axis=(1, 2)), 1)
    ranks = np.stack([best // (k + 1), best % (k + 1), level, won, correct.mean(axis=1) if k else level])

    with np.errstate(over="ignore", invalid="ignore"):  # too large to square is left out as not finite
        sizes = _sizes(correct, group.scores)
    columns = np.concatenate([ranks, sizes])
    return np.where(reason == 0, columns, np.nan), reason


def _sizes(correct: NDArray[np.bool_], scores: Array) -> Array:
    """Gap, scatter and freedom [3, g] of scores [g, k], nan where a score is missing or not finite."""
    k = scores.shape[1]
    finite = np.all(np.isfinite(scores), axis=1)
    scores = np.where(finite[:, None], scores, 0.0)
    scores = scores - scores[:, :1]  # candidates that all tie are then exactly 0 apart, not a rounding error
    right = np.where(correct, scores, 0.0).sum(axis=1) / np.maximum(correct.sum(axis=1), 1)
    wrong = np.where(correct, 0.0, scores).sum(axis=1) / np.maximum((~correct).sum(axis=1), 1)
    centred = scores - scores.sum(axis=1, keepdims=True) / max(k, 1)
    sizes = np.stack([right - wrong, np.square(centred).sum(axis=1), np.full(len(scores), k - 1.0)])
    return np.where(finite, sizes, np.nan)
