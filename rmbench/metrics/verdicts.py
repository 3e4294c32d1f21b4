"""What a model says of two candidates, order by order: the first is better, the second is, or neither.

A model that rates candidates one by one has one verdict of an example, whatever the order. One that compares has one a
request, as it was answered; orders are not added up. With a gold label for each example, the first, the second or a
tie:

    single_accuracy   the share of verdicts that are the label, orders pooled
    pair_accuracy     the share of examples whose verdicts are all the label
    pair_agreement    the share of examples whose verdicts in both orders are the same, right or wrong

Precision, recall and F1 are the mean over the classes that the labels or verdicts have; a class that is never said has
precision 0, as in scikit-learn. `kappa` is Cohen's, of any two columns of verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics import comparison, summary
from rmbench.metrics.interval import Kind, Statistic, mean, ratio
from rmbench.metrics.measure import Unfitted
from rmbench.types import Answer, Array, Outcome

FIRST, TIE, SECOND = 1.0, 0.5, 0.0
NO_VERDICT = -1.0  # one that could not be read, where a task counts it as wrong
_CLASSES = (FIRST, TIE, SECOND)
_REASONS = ("no label", "no answer")


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The verdicts of n examples of two candidates in one view.

    `gold` [n] and `said` [n, orders] are FIRST, TIE or SECOND; `said` may be NO_VERDICT, and is nan where there is no
    such order. `counts` [n] are the examples with a label and an answer to everything that was asked.
    """

    gold: Array
    said: Array
    counts: NDArray[np.bool_]
    reasons: Sequence[str | None]

    @property
    def orders(self) -> Array:
        """How many verdicts an example has [n]; nan where it does not count."""
        return np.where(self.counts, np.count_nonzero(~np.isnan(self.said), axis=1), np.nan)

    @property
    def hits(self) -> Array:
        """How many of them are the label [n]; nan where it does not count."""
        return np.where(self.counts, (self.said == self.gold[:, None]).sum(axis=1), np.nan)

    @property
    def agree(self) -> Array:
        """Whether all verdicts of an example are the same and can be read [n]; nan with fewer than two."""
        low, high = np.fmin.reduce(self.said, axis=1), np.fmax.reduce(self.said, axis=1)
        return np.where(self.orders > 1, (low == high) & (low >= 0), np.nan)


def verdicts(outcomes: Sequence[Outcome], view: str, *, null_is_wrong: bool = False) -> Verdicts:
    """The verdicts of `outcomes` [n] in one view. With `null_is_wrong` one that could not be read (`refused`) is wrong,
    else its example does not count."""
    gold = np.array([_gold(outcome.labels) for outcome in outcomes])
    rows = [_said(outcome, view, null_is_wrong) for outcome in outcomes]
    said = np.full((len(outcomes), max(map(len, rows), default=0) or 1), np.nan)
    reasons: list[str | None] = []
    for at, row in enumerate(rows):
        said[at, : len(row)] = row
        answered = bool(row) and not np.isnan(row).any()
        reasons.append(_REASONS[0] if np.isnan(gold[at]) else None if answered else _REASONS[1])
    return Verdicts(gold, said, np.array([reason is None for reason in reasons], bool), reasons)


def single_accuracy(judged: Verdicts, name: str = "single_accuracy") -> Statistic:
    """The share of verdicts that are the label, orders pooled."""
    kind: Kind = "proportion" if np.nanmax(judged.orders, initial=0) <= 1 else "fraction"
    columns = np.column_stack([judged.hits, judged.orders])
    return Statistic(name, columns, ratio, kind, title="Verdicts that are right",
                     unit="share of verdicts", better="higher",
                     caveat="a model that takes whoever stands first has half of them")  # fmt: skip


def pair_accuracy(judged: Verdicts, name: str = "pair_accuracy") -> Statistic:
    """The share of examples that are right in every order."""
    return mean(name, np.where(judged.counts, judged.hits == judged.orders, np.nan), "proportion",
                title="Right in every order", unit="share of examples", better="higher",
                caveat="of a model that rates responses one by one there is one order")  # fmt: skip


def pair_agreement(judged: Verdicts, name: str = "pair_agreement") -> Statistic:
    """The share of examples whose verdicts agree in both orders."""
    return mean(name, judged.agree, "proportion", title="Same verdict in both orders", unit="share of examples",
                better="higher", caveat="says nothing of which verdict is right")  # fmt: skip


def by_class(judged: Verdicts) -> list[Statistic]:
    """Precision, recall and F1 of first, second and tie, each the mean over classes."""
    tables = [_counts(judged, one) for one in _CLASSES]
    columns = np.where(judged.counts[:, None], np.concatenate(tables, axis=1), np.nan)

    def parts(sums: Array) -> tuple[Array, Array, Array]:
        hits, wrong, missed = np.moveaxis(sums.reshape(*sums.shape[:-1], len(_CLASSES), 3), -1, 0)
        return hits, wrong, missed

    def average(values: Array, hits: Array, wrong: Array, missed: Array) -> Array:
        there = hits + wrong + missed > 0
        return np.asarray(np.where(there, values, 0.0).sum(axis=-1) / there.sum(axis=-1))

    def precision(sums: Array) -> Array:
        hits, wrong, missed = parts(sums)
        return average(hits / np.maximum(hits + wrong, 1), hits, wrong, missed)

    def recall(sums: Array) -> Array:
        hits, wrong, missed = parts(sums)
        return average(hits / np.maximum(hits + missed, 1), hits, wrong, missed)

    def f1(sums: Array) -> Array:
        hits, wrong, missed = parts(sums)
        return average(2 * hits / np.maximum(2 * hits + wrong + missed, 1), hits, wrong, missed)

    of = {"precision": precision, "recall": recall, "f1": f1}
    return [
        Statistic(f"{name}_macro", columns, value, "fraction", title=f"{name.capitalize()}, mean over classes",
                  unit="mean over first, second, tie", better="higher",
                  caveat="a model that never ties has 0 of the class of ties")
        for name, value in of.items()
    ]  # fmt: skip


def kappa(name: str, tables: Sequence[Array], title: str, caveat: str) -> Statistic:
    """The mean of one kappa a table [n, 2 + 2c]: whether a row counts, whether both agree, and of each of c classes
    whether the one, and whether the other, is of it. Cohen's kappa is nan where chance alone agrees always."""
    ends = np.cumsum([table.shape[1] for table in tables])[:-1]

    def value(sums: Array) -> Array:
        kappas = []
        for part in np.split(sums, ends, axis=-1):
            n, agree, *shares = np.moveaxis(part, -1, 0)
            pairs = [one * other for one, other in zip(shares[::2], shares[1::2], strict=True)]
            by_chance, observed = np.sum(pairs, axis=0) / n**2, agree / n
            open_ = by_chance < 1
            kappas.append(np.where(open_, (observed - by_chance) / np.where(open_, 1 - by_chance, 1.0), np.nan))
        return np.asarray(np.mean(kappas, axis=0))

    return Statistic(name, np.concatenate(tables, axis=1), value, title=title, unit="kappa", better="higher",
                     bounds=(-1.0, 1.0), caveat=caveat)  # fmt: skip


def left_out(outcomes: Sequence[Outcome], view: str, *, null_is_wrong: bool = False) -> dict[str, int]:
    """How many examples do not count, by reason; reasons that do not occur are absent."""
    reasons = verdicts(outcomes, view, null_is_wrong=null_is_wrong).reasons
    return {reason: count for reason in _REASONS if (count := [*reasons].count(reason))}


def ties(outcomes: Sequence[Outcome], view: str) -> int:
    """In how many of the examples that count a verdict is a tie."""
    judged = verdicts(outcomes, view, null_is_wrong=True)
    return int(np.count_nonzero(judged.counts & (judged.said == TIE).any(axis=1)))


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """The three figures above, an unreadable verdict being wrong, and every metric of a comparison."""
    judged = verdicts(outcomes, view, null_is_wrong=True)
    of_orders = [single_accuracy(judged), pair_accuracy(judged), pair_agreement(judged)]
    return [*of_orders, *summary.statistics(outcomes, view)]


ORDERS = Unfitted("orders", "single_accuracy", statistics, partial(left_out, null_is_wrong=True), ties)


def _gold(labels: Array) -> float:
    """Which of two candidates has the higher label; nan without both labels."""
    if len(labels) != 2 or np.isnan(labels).any():
        return np.nan
    return float((np.sign(labels[0] - labels[1]) + 1) / 2)


def _said(outcome: Outcome, view: str, null_is_wrong: bool) -> list[float]:
    seen = outcome.views.get(view)
    if seen is None or len(outcome.labels) != 2:
        return []
    if seen.beats is not None and view == "default" and outcome.answers:
        given = [answer for answer in outcome.answers if answer.status != "missing"]
        return [_verdict(answer, null_is_wrong) for answer in given]
    if null_is_wrong and "refused" in seen.status:
        return [NO_VERDICT]
    beats = seen.beats if seen.scores is None else comparison.beats(np.asarray(seen.scores))
    return [] if beats is None else [float(beats[0, 1])]


def _verdict(answer: Answer, null_is_wrong: bool) -> float:
    if answer.status == "refused" and null_is_wrong:
        return NO_VERDICT
    if answer.status != "ok":
        return np.nan
    masses = dict(zip(answer.candidates, answer.values, strict=True))
    return float((np.sign(masses[0] - masses[1]) + 1) / 2)


def _counts(judged: Verdicts, one: float) -> Array:
    """True positives, false positives and false negatives [n, 3] of a class, over verdicts."""
    is_it, says_it = (judged.gold == one)[:, None], judged.said == one
    there = ~np.isnan(judged.said)
    kinds = is_it & says_it, ~is_it & says_it, is_it & ~says_it & there
    return np.stack([kind.sum(axis=1).astype(float) for kind in kinds], axis=1)
