"""Whether a process reward tells wrong steps from right ones, and finds the first wrong step of a solution.

A step label is 1 (right), -1 (wrong) or 0 (neutral, or nobody knows). A step is said to be wrong where the model's own
head `verdict` is 0, else where its reward is below a threshold. A solution counts where all of its steps have one:

    first_error_accuracy  solutions with a wrong step: the first step said to be wrong is that one
    no_error_accuracy     solutions without: no step is said to be wrong
    first_error_f1        the harmonic mean of these two (ProcessBench, arXiv 2412.06559)
    step_auc              how often a right step is above a wrong one, of any two of all solutions, ties half; of the
                          steps that have a label, which are those up to the first wrong one where data know no more
    step_f1_right, step_f1_wrong    F1 of each of the two kinds of step (PRMBench's F1 and negative F1)
    solution_f1_macro     a solution is wrong, or said to be, where a step is: the mean of F1 of right and wrong ones
    solution_auc          how often the least step reward of a right solution is above that of a wrong one, ties half
                          (these two, and the AUC of steps, are MR-MATH's, GAIR-NLP/ReasonEval@6c91c7a)
    first_error_rank      solutions with a wrong step: the place of the first wrong one among all steps of its solution,
                          the lowest reward first, equal ones sharing their mean place. So many steps are read by who
                          looks for it by reward; those after it are among them, whatever is known of these
    first_error_percentile  how far that is up from the lowest step (0) to the highest (1), of solutions of two steps or
                          more: .5 by chance, however many steps there are (these two are rmbench's own)

Data may label steps that a model is shown, and rates, in several parts. Their tag `sub_steps` then holds how many parts
each labelled step has; its reward is the least of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rmbench.metrics import threshold
from rmbench.metrics.interval import Kind, Statistic, cluster_codes, ratio
from rmbench.metrics.pooled import Items, auc
from rmbench.types import Array, Json, Outcome

VERDICT = "verdict"
SUB_STEPS = "sub_steps"
_HELD = "a threshold is held fixed in its interval; a model's own verdicts need none"
_REASONS = ("no labels of steps", "no answer", "other steps than labelled", "no threshold")


@dataclass(frozen=True, slots=True)
class Solution:
    """One response: the outcome `row` that it is of, and of each step its label, reward and what is said of it.

    `wrong` is 1 where a step is said to be wrong and 0 where not; nan where nobody says.
    """

    row: int
    labels: Array
    scores: Array
    wrong: Array

    @property
    def first_error(self) -> int | None:
        """Where the first wrong step is; None where there is none."""
        return next(iter(np.flatnonzero(self.labels == -1).tolist()), None)

    @property
    def said(self) -> int | None:
        """The first step said to be wrong."""
        return next(iter(np.flatnonzero(self.wrong == 1).tolist()), None)


@dataclass(frozen=True)
class Errors:
    """The measure of steps. `on` is the facet of the outcomes that a threshold is chosen on, the one of the highest F1
    of first errors, as ProcessBench does on its GSM8K part ({}: on all of them); without it it is chosen out of fold.
    `at` fixes one. Where `verdicts` is false the threshold stands also for a model with verdicts of its own, as for a
    benchmark that prescribes one.
    """

    name: str = "steps"
    headline: str = "first_error_f1"
    on: Mapping[str, str] | None = None
    at: float | None = None
    verdicts: bool = True
    uncalibrated: str | None = None
    steps_alone: ClassVar[bool] = True

    def fit(self, outcomes: Sequence[Outcome], view: str) -> Json:
        """The threshold, None where the model's own verdicts stand instead, or nothing can be chosen."""
        if self.verdicts and verdicts_of(outcomes, view):
            return None
        if self.at is not None:
            return {"threshold": self.at}
        return threshold.chosen(outcomes, lambda part: choose(part, view), self.on)

    def statistics(self, outcomes: Sequence[Outcome], view: str, fitted: Json) -> list[Statistic]:
        """What one view of `outcomes` [n] gives."""
        return statistics(outcomes, view, fitted, verdicts=self.verdicts)

    def left_out(self, outcomes: Sequence[Outcome], view: str) -> dict[str, int]:
        """How many outcomes have a solution that does not count, by reason."""
        cuts = threshold.thresholds(outcomes, self.fit(outcomes, view))
        uncut = np.isnan(cuts) & (not (self.verdicts and verdicts_of(outcomes, view)))
        reasons = [
            _reason(outcome, view) or (_REASONS[3] if lacks else None)
            for outcome, lacks in zip(outcomes, uncut, strict=True)
        ]
        return {reason: reasons.count(reason) for reason in _REASONS if reason in reasons}

    def ties(self, outcomes: Sequence[Outcome], view: str) -> int:
        """0: a step at the threshold is not below it."""
        return 0


ERRORS = Errors()


def statistics(outcomes: Sequence[Outcome], view: str, fitted: Json, *, verdicts: bool = True) -> list[Statistic]:
    """Every metric of steps of one view of `outcomes` [n], ready for `interval.estimate`.

    Without `verdicts` a step is judged by the threshold, whatever the model says of it.
    """
    judged = list(solutions(outcomes, view, fitted, verdicts=verdicts))
    scored = list(solutions(outcomes, view, fitted, need_verdicts=False))
    sums = np.zeros((len(outcomes), 12))
    for solution in judged:
        sums[solution.row] += _counts(solution)
    return [
        _first_error_f1(sums[:, :4]),
        _share("first_error_accuracy", sums[:, :2], "First error found"),
        _share("no_error_accuracy", sums[:, 2:4], "Solution without error passed"),
        _step_auc(outcomes, scored),
        _f1("step_f1_right", sums[:, [4, 5, 6]], "F1 of right steps"),
        _f1("step_f1_wrong", sums[:, [7, 6, 5]], "F1 of wrong steps"),
        _f1("solution_f1_macro", sums[:, [8, 9, 10, 11, 10, 9]], "F1 of solutions, mean over right and wrong"),
        _solution_auc(outcomes, scored),
        *_first_error_places(len(outcomes), scored),
    ]


def by_reward(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """The AUC of steps and where the first wrong one stands, which need no threshold and heed no verdict."""
    scored = list(solutions(outcomes, view, None, need_verdicts=False))
    return [_step_auc(outcomes, scored), *_first_error_places(len(outcomes), scored)]


def solutions(
    outcomes: Sequence[Outcome], view: str, fitted: Json, *, need_verdicts: bool = True, verdicts: bool = True
) -> Iterator[Solution]:
    """The solutions that count, each with what is said of its steps: by the model's own `verdicts`, if these count."""
    own, cuts = verdicts and verdicts_of(outcomes, view), threshold.thresholds(outcomes, fitted)
    for row, outcome in enumerate(outcomes):
        for index, labels in enumerate(outcome.step_labels):
            scores = _scores(outcome, view, index)
            if not len(labels) or len(scores) != len(labels):
                continue
            said = np.zeros(0)
            if own and VERDICT in outcome.step_heads:
                said = _of_labelled(outcome, index, outcome.step_heads[VERDICT][index])
            wrong = np.where(np.isnan(scores) | np.isnan(cuts[row]), np.nan, scores < cuts[row])
            if own:
                wrong = np.where(np.isnan(said), np.nan, said == 0) if len(said) == len(labels) else scores * np.nan
            if not np.isnan(wrong if need_verdicts else scores).any():
                yield Solution(row, labels, scores, wrong)


def verdicts_of(outcomes: Sequence[Outcome], view: str) -> bool:
    """Whether what a view says of steps is the model's own verdict: of its default rewards, where it gives any."""
    head = view.rpartition("/")[0]
    return head in ("", VERDICT) and any(VERDICT in outcome.step_heads for outcome in outcomes)


def choose(outcomes: Sequence[Outcome], view: str) -> float | None:
    """The lowest threshold with the highest F1 of first errors; None without solutions of both kinds."""
    judged = list(solutions(outcomes, view, None, need_verdicts=False))
    wrong = [(solution, at) for solution in judged if (at := solution.first_error) is not None]
    # a first error is found by the thresholds above its step and not above any step before it
    above = np.array([solution.scores[at] for solution, at in wrong])
    upto = np.array([solution.scores[:at].min(initial=np.inf) for solution, at in wrong])
    passed = np.array([solution.scores.min() for solution in judged if solution.first_error is None])
    if not wrong or not len(passed):
        return None
    cuts = threshold.candidates(np.concatenate([solution.scores for solution in judged]))
    findable = above < upto
    hits = _below(above[findable], cuts) - _below(upto[findable], cuts)
    kept = len(passed) - _below(passed, cuts)
    return threshold.best(cuts, _harmonic(hits / len(wrong), kept / len(passed)))


def _below(values: Array, cuts: Array) -> Array:
    """How many of `values` are below each of `cuts`."""
    return np.searchsorted(np.sort(values), cuts, side="left").astype(float)


def _counts(solution: Solution) -> Array:
    """Whether its error was found, and whether it has one; whether it was passed without one, and whether it has none;
    then how many steps are right and pass, wrong and pass, right and do not, wrong and do not; the same of itself."""
    at, said = solution.first_error, solution.said
    right, wrong, passes = solution.labels == 1, solution.labels == -1, solution.wrong == 0
    solved = [at is not None and at == said, at is not None, at is None and said is None, at is None]
    steps = [right & passes, wrong & passes, right & ~passes, wrong & ~passes]
    whole = [
        (at is None) == is_right and (said is None) == passed for passed in (True, False) for is_right in (True, False)
    ]
    return np.array([*solved, *(kind.sum() for kind in steps), *whole], float)


def _first_error_f1(sums: Array) -> Statistic:
    def value(total: Array) -> Array:
        return _harmonic(total[..., 0] / total[..., 1], total[..., 2] / total[..., 3])

    columns = _counted(sums, sums[:, 1] + sums[:, 3])
    return Statistic("first_error_f1", columns, value, "fraction", title="F1 of first errors",
                     unit="harmonic mean of two shares", better="higher", caveat=_HELD)  # fmt: skip


def _counted(sums: Array, how_often: Array) -> Array:
    """`sums` [n, s], nan in outcomes in which there is nothing to count."""
    return np.where(how_often[:, None] > 0, sums, np.nan)


def _harmonic(a: Array, b: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return np.where((a == 0) & (b == 0), 0.0, 2 * a * b / (a + b))


def _share(name: str, sums: Array, title: str) -> Statistic:
    """The share of hits in all, sums [n, 2] of each outcome; a proportion where an outcome has one at most."""
    counted = _counted(sums, sums[:, 1])
    kind: Kind = "proportion" if sums[:, 1].max(initial=0) <= 1 else "fraction"
    return Statistic(name, counted, lambda s: s[..., 0] / s[..., 1], kind, title=title, unit="share of solutions",
                     better="higher", caveat=_HELD)  # fmt: skip


def _f1(name: str, sums: Array, title: str) -> Statistic:
    """The mean of F1 over kinds, from true positives, false positives and false negatives [n, 3 a kind]."""

    def value(total: Array) -> Array:
        hits, wrong, missed = np.moveaxis(total.reshape(*total.shape[:-1], -1, 3), -1, 0)
        return np.asarray((2 * hits / (2 * hits + wrong + missed)).mean(axis=-1))

    return Statistic(name, _counted(sums, sums.sum(axis=1)), value, "fraction", title=title,
                     unit="harmonic mean of precision and recall", better="higher", caveat=_HELD)  # fmt: skip


def _step_auc(outcomes: Sequence[Outcome], rated: Sequence[Solution]) -> Statistic:
    labels = np.concatenate([np.zeros(0), *(solution.labels for solution in rated)])
    scores = np.concatenate([np.zeros(0), *(solution.scores for solution in rated)])
    rows = np.repeat([solution.row for solution in rated], [len(solution.labels) for solution in rated]).astype(np.intp)
    labelled = labels != 0
    codes = cluster_codes([outcome.cluster for outcome in outcomes])
    return auc("step_auc", Items(scores[labelled], rows[labelled], codes), labels[labelled] == 1, title="AUC of steps")


def _solution_auc(outcomes: Sequence[Outcome], judged: Sequence[Solution]) -> Statistic:
    least = np.array([solution.scores.min() for solution in judged])
    right = np.array([solution.first_error is None for solution in judged], bool)
    codes = cluster_codes([outcome.cluster for outcome in outcomes])
    rows = np.array([solution.row for solution in judged], np.intp)
    return auc("solution_auc", Items(least, rows, codes), right, title="AUC of solutions by their least step")


def _first_error_places(n: int, judged: Sequence[Solution]) -> list[Statistic]:
    """Where the first wrong step stands among the steps of its solution, by its place and by how far up that is."""
    sums = np.zeros((n, 4))
    for solution in judged:
        if (at := solution.first_error) is None:
            continue
        scores, others = solution.scores, len(solution.scores) - 1
        below = (scores < scores[at]).sum() + ((scores == scores[at]).sum() - 1) / 2
        sums[solution.row] += [below + 1, 1, below / max(1, others), others > 0]
    said = "steps after the first wrong one stand among the others, labelled or not"
    return [
        Statistic("first_error_rank", _counted(sums[:, :2], sums[:, 1]), ratio, title="Rank of the first wrong step",
                  unit="place from the lowest reward", better="lower", bounds=(1.0, None),
                  caveat=f"longer solutions have higher ranks; {said}"),
        Statistic("first_error_percentile", _counted(sums[:, 2:], sums[:, 3]), ratio, "fraction",
                  title="Percentile of the first wrong step", unit="share of the other steps below it", better="lower",
                  caveat=said),
    ]  # fmt: skip


def _scores(outcome: Outcome, view: str, index: int) -> Array:
    seen = outcome.views.get(view)
    return np.zeros(0) if seen is None or seen.steps is None else _of_labelled(outcome, index, seen.steps[index])


def _of_labelled(outcome: Outcome, index: int, rewards: Sequence[float] | Array) -> Array:
    """The rewards of a response's labelled steps, of each the least of its sub-steps."""
    given = np.asarray(rewards, float)
    parts = sub_steps_of(outcome.tags[index]) if outcome.tags else None
    if parts is None or sum(parts) != len(given):
        return given
    return np.asarray(np.minimum.reduceat(given, np.cumsum([0, *parts[:-1]])))


def sub_steps_of(tags: Mapping[str, Any]) -> Sequence[int] | None:
    """How many parts each labelled step of a response has, None where each is one. Raises ValueError."""
    parts = tags.get(SUB_STEPS)
    if parts is None:
        return None
    if not isinstance(parts, Sequence) or not parts or not all(isinstance(one, int) and one > 0 for one in parts):
        raise ValueError(
            f"tag {SUB_STEPS}: expected a list of whole numbers from 1, one a labelled step, got {parts!r}"
        )
    return parts


def _reason(outcome: Outcome, view: str) -> str | None:
    labelled = [index for index, labels in enumerate(outcome.step_labels) if len(labels)]
    if not labelled:
        return _REASONS[0]
    for index in labelled:
        scores = _scores(outcome, view, index)
        if not len(scores) or np.isnan(scores).any():
            return _REASONS[1]
        if len(scores) != len(outcome.step_labels[index]):
            return _REASONS[2]
    return None
