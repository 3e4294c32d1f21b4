"""Responses held against labels of their own: right or wrong, a class, or a score. Labels may be missing.

With a right class declared, an item is a response that has a label and an answer:

    accuracy    the share of items that are said to be what they are
    f1          of the right class: the harmonic mean of precision and recall
    f1_macro    the mean of F1 over all classes, where the model has a head for each
    auc         how often a right item is scored above another, of any two of all outcomes, ties half

Where the labels are classes and the model has a head for each, it says the class of its highest head; equal ones are a
tie, and no class. Else it says right where its head `verdict` is 1, or its score is not below a threshold. With scores
for labels, `pearson`, `spearman` and `kendall` say how far the two go together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics import pooled, threshold
from rmbench.metrics.decided import Decided, known_spread
from rmbench.metrics.interval import Kind, Statistic, Words, cluster_codes
from rmbench.metrics.pooled import Items
from rmbench.types import Array, Json, Outcome

VERDICT = "verdict"
_REASONS = ("no label", "no answer", "no threshold")
_HELD = "a threshold is held fixed in its interval; a model's own verdicts need none"


@dataclass(frozen=True)
class Graded:
    """The labelled responses of outcomes in one view, one after the other.

    `scores` [m] are the view's, `labels` [m] numbers, or 1 where the class is the right one and else 0. `classes` [m]
    are what they are and `said` [m] what the model says they are: names, or "1" and "0"; None where it says nothing or
    two things at once, of which `tied` [m] are the latter. `lost` [m] are refused verdicts that count as wrong ones,
    whose scores are nan. `rows` [m] are the outcomes, `places` [m] the candidates of these, and `cuts` [m] the
    thresholds that decided, nan where none did.
    """

    scores: Array
    labels: Array
    classes: Sequence[str]
    said: Sequence[str | None]
    tied: NDArray[np.bool_]
    lost: NDArray[np.bool_]
    rows: NDArray[np.intp]
    places: NDArray[np.intp]
    cuts: Array


@dataclass(frozen=True)
class Grades:
    """The measure of graded responses. `positive` is what is right: True (labels are 1 or 0), the name of a class, or
    None where labels are scores. `on` is the facet that a threshold is chosen on, the one of the highest accuracy;
    ({}: on all outcomes); without it it is chosen out of fold; `at` fixes one. `null_verdict` is the task's: with
    "loss" a `refused` verdict is wrong, whatever the response is, and neither above nor below any other.
    """

    name: str = "grading"
    positive: bool | str | None = True
    on: Mapping[str, str] | None = None
    at: float | None = None
    null_verdict: str = "no answer"

    @property
    def headline(self) -> str:
        """What to look at first."""
        return "spearman" if self.positive is None else "accuracy"

    @property
    def uncalibrated(self) -> str | None:
        """Why there are no probabilities: nobody says which responses are right."""
        return "no class or score is declared right" if self.positive is None else None

    def fit(self, outcomes: Sequence[Outcome], view: str) -> Json:
        """The heads of the classes that all data have, or the threshold; None where nothing is needed."""
        if self.positive is None:
            return None
        if heads := heads_of(outcomes, self.positive):
            return {"heads": heads}
        if _has(outcomes, VERDICT):
            return None
        if self.at is not None:
            return {"threshold": self.at}
        return threshold.chosen(outcomes, lambda part: choose(part, view, self.positive), self.on)

    def statistics(self, outcomes: Sequence[Outcome], view: str, fitted: Json) -> list[Statistic]:
        """What one view of `outcomes` [n] gives."""
        grades = graded(outcomes, view, self.positive, fitted, refused_is_wrong=self._refused_is_wrong)
        codes = cluster_codes([outcome.cluster for outcome in outcomes])
        return _correlations(grades, codes) if self.positive is None else _decisions(grades, codes, self.positive)

    def decided(self, outcomes: Sequence[Outcome], view: str, fitted: Json) -> Decided | None:
        """Whether the model is wrong about each response, and its spread, for `doubt`; None where labels are scores.

        The margin is how far the score is from the threshold, nan where heads or the model's own verdict decide.
        """
        if self.positive is None:
            return None
        grades = graded(outcomes, view, self.positive, fitted, refused_is_wrong=self._refused_is_wrong)
        says = np.array([said is not None for said in grades.said], bool) | grades.tied | grades.lost
        wrong = np.array([a != b for a, b in zip(grades.classes, grades.said, strict=True)], float)
        spread = [_spread(outcomes[row], view)[at] for row, at in zip(grades.rows, grades.places, strict=True)]
        with np.errstate(over="ignore", invalid="ignore"):
            margin = np.abs(grades.scores - grades.cuts)
        given = known_spread(np.array(spread, float))
        return Decided(grades.rows, wrong, margin, given).where(says)

    def left_out(self, outcomes: Sequence[Outcome], view: str) -> dict[str, int]:
        """How many outcomes have no label at all, a labelled response without an answer, or no threshold."""
        fitted = self.fit(outcomes, view)
        own = self.positive is None or _has(outcomes, VERDICT) or bool(heads_of(outcomes, self.positive))
        uncut = np.isnan(threshold.thresholds(outcomes, fitted)) & (not own)
        reasons = [
            _reason(outcome, view, self.positive, self._refused_is_wrong) or (_REASONS[2] if lacks else None)
            for outcome, lacks in zip(outcomes, uncut, strict=True)
        ]
        return {reason: reasons.count(reason) for reason in _REASONS if reason in reasons}

    def ties(self, outcomes: Sequence[Outcome], view: str) -> int:
        """How many outcomes have a response whose highest heads are equal."""
        grades = graded(outcomes, view, self.positive, {"heads": heads_of(outcomes, self.positive)})
        return len(np.unique(grades.rows[grades.tied]))

    @property
    def _refused_is_wrong(self) -> bool:
        return self.null_verdict == "loss" and self.positive is not None


GRADES = Grades()


def graded(
    outcomes: Sequence[Outcome],
    view: str,
    positive: bool | str | None,
    fitted: Json,
    *,
    refused_is_wrong: bool = False,
) -> Graded:
    """Every response of `outcomes` that has a label and, in this view, an answer, or a refusal that counts."""
    heads: list[str] = fitted.get("heads", []) if isinstance(fitted, Mapping) else []
    own = _has(outcomes, VERDICT)
    cuts = threshold.thresholds(outcomes, fitted)
    scores, labels, classes, rows, said, tied, lost = [], [], [], [], list[str | None](), [], []
    places, decided_by = list[int](), list[float]()
    for row, outcome in enumerate(outcomes):
        own_labels, given = labels_of(outcome, positive), _scores(outcome, view)
        refused = _refused(outcome, view) & refused_is_wrong
        for index in np.flatnonzero(np.isfinite(own_labels) & (~np.isnan(given) | refused)).tolist():
            of_heads = np.array([_scores(outcome, head)[index] for head in heads])
            tie = bool(len(heads)) and np.count_nonzero(of_heads == of_heads.max()) > 1
            if refused[index]:
                verdict = None
            elif heads:
                verdict = None if tie or np.isnan(of_heads).any() else heads[int(of_heads.argmax())]
            else:
                passed = _scores(outcome, VERDICT)[index] if own else float(given[index] >= cuts[row])
                unknown = np.isnan(passed) or (not own and np.isnan(cuts[row]))
                verdict = None if unknown else f"{int(passed == 1)}"
            right = f"{int(own_labels[index])}"
            scores.append(given[index])
            labels.append(own_labels[index])
            classes.append(str(outcome.classes[index]) if heads else right)
            said.append(verdict)
            tied.append(tie)
            lost.append(bool(refused[index]))
            rows.append(row)
            places.append(index)
            decided_by.append(np.nan if heads or own else cuts[row])
    return Graded(np.array(scores, float), np.array(labels, float), classes, said, np.array(tied, bool),
                  np.array(lost, bool), np.array(rows, np.intp), np.array(places, np.intp),
                  np.array(decided_by, float))  # fmt: skip


def labels_of(outcome: Outcome, positive: bool | str | None) -> Array:
    """The labels of an outcome's candidates [k]: 1 where the class is `positive` and 0 where it is another, else as
    they are; nan where there is none."""
    if not isinstance(positive, str):
        return np.asarray(outcome.labels, float)
    classes = outcome.classes or [None] * len(outcome.labels)
    return np.array([np.nan if name is None else float(name == positive) for name in classes])


def heads_of(outcomes: Sequence[Outcome], positive: bool | str | None) -> list[str]:
    """The classes of the data, where the labels are classes and the model has a head for each; [] otherwise."""
    if not isinstance(positive, str):
        return []
    names = sorted({name for outcome in outcomes for name in outcome.classes if name is not None} | {positive})
    return names if len(names) > 1 and all(_has(outcomes, name) for name in names) else []


def choose(outcomes: Sequence[Outcome], view: str, positive: bool | str | None) -> float | None:
    """The lowest threshold with the highest accuracy; None without responses of both kinds."""
    grades = graded(outcomes, view, positive, None)
    right, wrong = (np.sort(grades.scores[grades.labels == label]) for label in (1, 0))
    if not len(right) or not len(wrong):
        return None
    cuts = threshold.candidates(grades.scores)
    hits = len(right) - np.searchsorted(right, cuts, side="left") + np.searchsorted(wrong, cuts, side="left")
    return threshold.best(cuts, hits / len(grades.scores))


def _decisions(grades: Graded, codes: NDArray[np.intp], positive: bool | str | None) -> list[Statistic]:
    n, names = len(codes), sorted(set(grades.classes) | {said for said in grades.said if said is not None})
    right = str(positive) if isinstance(positive, str) and positive in names else "1"
    hits = np.array([a == b for a, b in zip(grades.classes, grades.said, strict=True)], float)
    decided = np.array([said is not None for said in grades.said], bool) | grades.tied | grades.lost
    all_of = _by_outcome(grades, decided.astype(float), n)
    kind: Kind = "proportion" if all_of.max(initial=0) <= 1 else "fraction"
    columns = np.where(all_of[:, None] > 0, np.column_stack([_by_outcome(grades, hits, n), all_of]), np.nan)
    counts = {name: _f1_counts(grades, decided, name, n) for name in names or [right]}
    statistics = [
        Statistic("accuracy", columns, lambda s: s[..., 0] / s[..., 1], kind, title="Accuracy",
                  unit="share of responses", better="higher", caveat=_HELD),
        _f1("f1", [counts.get(right, np.full((n, 3), np.nan))], "F1 of the right class"),
    ]  # fmt: skip
    if isinstance(positive, str) and len(names) > 1 and right == positive:
        statistics.append(_f1("f1_macro", list(counts.values()), "F1, mean over classes"))
    scored = ~grades.lost
    items = Items(grades.scores[scored], grades.rows[scored], codes)
    return [*statistics, pooled.auc("auc", items, grades.labels[scored] == 1)]


def _f1_counts(grades: Graded, decided: NDArray[np.bool_], name: str, n: int) -> Array:
    """True positives, false positives and false negatives [n, 3] of one class."""
    is_it, says_it = (np.array([one == name for one in ones], bool) for ones in (grades.classes, grades.said))
    kinds = is_it & says_it, ~is_it & says_it, is_it & ~says_it & decided
    counts = np.stack([_by_outcome(grades, kind.astype(float), n) for kind in kinds], axis=1)
    return np.where((_by_outcome(grades, decided.astype(float), n) > 0)[:, None], counts, np.nan)


def _f1(name: str, counts: Sequence[Array], title: str) -> Statistic:
    """The mean of F1 over classes, from the counts [n, 3] of each."""

    def value(sums: Array) -> Array:
        hits, wrong, missed = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 3), -1, 0)
        return np.asarray((2 * hits / (2 * hits + wrong + missed)).mean(axis=-1))

    words: Words = {"title": title, "unit": "harmonic mean of precision and recall", "better": "higher",
                    "caveat": _HELD}  # fmt: skip
    return Statistic(name, np.concatenate(counts, axis=1), value, "fraction", **words)


def _correlations(grades: Graded, codes: NDArray[np.intp]) -> list[Statistic]:
    finite = np.isfinite(grades.scores)
    items = Items(grades.scores[finite], grades.rows[finite], codes)
    return [make(make.__name__, items, grades.labels[finite]) for make in
            (pooled.pearson, pooled.spearman, pooled.kendall)]  # fmt: skip


def _by_outcome(grades: Graded, values: Array, n: int) -> Array:
    return np.bincount(grades.rows, weights=values, minlength=n).astype(float)


def _has(outcomes: Sequence[Outcome], view: str) -> bool:
    return any(view in outcome.views for outcome in outcomes)


def _scores(outcome: Outcome, view: str) -> Array:
    seen = outcome.views.get(view)
    return np.full(len(outcome.labels), np.nan) if seen is None or seen.scores is None else np.asarray(seen.scores)


def _spread(outcome: Outcome, view: str) -> Array:
    seen = outcome.views.get(view)
    return np.full(len(outcome.labels), np.nan) if seen is None or seen.spread is None else np.asarray(seen.spread)


def _refused(outcome: Outcome, view: str) -> NDArray[np.bool_]:
    """Which candidates the model refused a verdict of [k]: in any view, since what is refused has no heads."""
    seen = outcome.views.get(view) or next(iter(outcome.views.values()), None)
    statuses = ["missing"] * len(outcome.labels) if seen is None else seen.status
    return np.array([status == "refused" for status in statuses], bool)


def _reason(outcome: Outcome, view: str, positive: bool | str | None, refused_is_wrong: bool) -> str | None:
    labelled = np.isfinite(labels_of(outcome, positive))
    if not labelled.any():
        return _REASONS[0]
    unknown = np.isnan(_scores(outcome, view)) & ~(_refused(outcome, view) & refused_is_wrong)
    return _REASONS[1] if unknown[labelled].any() else None
