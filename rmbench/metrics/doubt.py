"""Whether the spread that a model gives with its rewards says where it is wrong.

Over the `decided` pairs, or responses, whose spread is known, in three orders from the surest on:

    spread   the least spread first
    flip     the most margin in units of its spread first: by the chance that the true margin has the other sign
    margin   the most margin first, which needs no spread: what a spread has to beat

`abstention` says what an order is worth. All statistics are named after `PREFIX`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Unpack

import numpy as np

from rmbench.metrics import abstention, decided
from rmbench.metrics.abstention import Auc, Order, Worth
from rmbench.metrics.decided import Decided
from rmbench.metrics.interval import LEVEL, Better, Codes, Kind, Statistic, Words, corrected, kish, ratio, wilson
from rmbench.types import Array, Json, Outcome

PREFIX = "doubt_"
RISK, FLIP_RISK = "doubt_risk", "doubt_flip_risk"
COVERAGES = tuple(at / 10 for at in range(1, 11))
_KEPT = 0.8
_TWO_SIDED = 1.959963984540054  # standard deviations that a normal margin stays within in 95 %
_DIGITS = 2.0**40
_ROUNDING = 1e-24  # of a variance


@dataclass(frozen=True)
class Doubt:
    """What outcomes, in clusters `codes` [n], decide; of some of it the spread is known.

    `unit` is what a decision is. `alike` says that each weighs the same, else each outcome does.
    """

    decided: Decided
    codes: Codes
    unit: str
    alike: bool

    def of(self, places: Sequence[int], codes: Codes) -> Doubt:
        """The same of the outcomes `places`, in clusters `codes`."""
        return Doubt(self.decided.of(places, len(self.codes)), codes, self.unit, self.alike)

    @cached_property
    def known(self) -> Decided:
        """The decisions whose spread is known."""
        return self.decided.where(~np.isnan(self.decided.spread))

    @cached_property
    def weight(self) -> Array:
        """What each of them weighs."""
        rows = self.known.rows
        return np.ones(len(rows)) if self.alike else 1 / np.bincount(rows, minlength=1)[rows]

    @cached_property
    def sureness(self) -> Array:
        """The margin of each of them in units of its spread."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # without spread it is sure
            return np.where(self.known.margin == 0, 0.0, self.known.margin / self.known.spread)

    @cached_property
    def sure(self) -> Array:
        """1 where the stated 95 % interval of the margin leaves out 0, else 0; nan where there is no margin."""
        with np.errstate(over="ignore"):
            sure = self.known.margin > _TWO_SIDED * self.known.spread
        return np.asarray(np.where(np.isnan(self.known.margin), np.nan, sure))

    @cached_property
    def by_spread(self) -> Order | None:
        return self._ordered(self.known.spread)

    @cached_property
    def by_flip(self) -> Order | None:
        return self._ordered(-self.sureness)

    @cached_property
    def by_margin(self) -> Order | None:
        return self._ordered(-self.known.margin)

    @cached_property
    def told(self) -> Array:
        """How much the known decisions of each outcome weigh [n]; nan where it has none."""
        weighs = np.bincount(self.known.rows, self.weight, len(self.codes))
        return np.where(weighs > 0, weighs, np.nan)

    def summed(self, values: Array) -> Array:
        """The weighted sum [n] of `values` over the known decisions of each outcome; nan where it has none."""
        return np.bincount(self.known.rows, self.weight * values, len(self.codes)) + 0 * self.told

    def _ordered(self, doubt: Array) -> Order | None:
        """None where there is nothing to order, or to order it by."""
        if not len(doubt) or np.isnan(doubt).any():
            return None
        return abstention.ordered(_rounded(doubt), self.weight, self.known.error)


def of_view(measure: Any, outcomes: Sequence[Outcome], view: str, fitted: Json, codes: Codes) -> Doubt | None:
    """What one view of `outcomes` [n] decides, and in which doubt; None where no decision has a known spread.

    Decisions are those of the measure's `decided(outcomes, view, fitted)`, where it has such and gives any, else pairs.
    """
    if not decided.has_spread(outcomes, view):
        return None
    own: Decided | None = getattr(measure, "decided", lambda *given: None)(outcomes, view, fitted)
    taken = decided.pairs(outcomes, view) if own is None else own
    if np.isnan(taken.spread).all():
        return None
    return Doubt(taken, codes, "pairs" if own is None else "responses", own is not None)


def statistics(doubt: Doubt) -> list[Statistic]:
    """All but the curves, ready for `interval.estimate` with the clusters of the outcomes."""
    return [*_aucs(doubt), *_areas(doubt), *_accuracies(doubt), *_stated(doubt)]


def curves(doubt: Doubt) -> list[Statistic]:
    """The risk of what is kept, at each tenth of coverage, going by spread and by the chance of a flip."""
    return [
        _worth(name, doubt, _risk(order, at), _few(doubt, at), title=title, unit=f"share of {doubt.unit} kept",
               better="lower", at=at, caveat="the least sure are left out first; at 1 it is the risk of all")
        for name, order, title in (
            (RISK, doubt.by_spread, "Errors, of those with the least spread"),
            (FLIP_RISK, doubt.by_flip, "Errors, of those least likely to flip"),
        )
        for at in COVERAGES
    ]  # fmt: skip


def _rounded(doubt: Array) -> Array:
    """To 12 digits: margins of .7 - .4 and of .6 - .3 are the same, and so are spreads, whatever made their root."""
    digits, power = np.frexp(doubt)
    return np.asarray(np.ldexp(np.round(digits * _DIGITS) / _DIGITS, power))


def _aucs(doubt: Doubt) -> list[Statistic]:
    nothing = Auc(np.nan, *np.zeros((2, len(doubt.weight))))
    of_spread, of_flip, of_margin = (
        nothing if order is None else abstention.auc(order)
        for order in (doubt.by_spread, doubt.by_flip, doubt.by_margin)
    )
    named = (
        ("doubt_auc", of_spread, "AUC of the spread for errors", "0.5 where it says nothing of them"),
        ("doubt_flip_auc", of_flip, "AUC of spread over margin for errors", "much of it may be the margin's"),
        ("doubt_margin_auc", of_margin, "AUC of a small margin for errors", "needs no spread: what one has to beat"),
    )
    unit = f"share of {doubt.unit}"
    added = _auc("doubt_added", doubt, of_flip - of_margin, "number", title="What spread adds to the AUC of the margin",
                 unit="difference of AUC", better="higher", bounds=(-1.0, 1.0),
                 caveat="0 for a spread that is always the same")  # fmt: skip
    return [
        *(
            _auc(name, doubt, auc, "fraction", title=title, unit=unit, better="higher", caveat=caveat)
            for name, auc, title, caveat in named
        ),
        added,
    ]


def _auc(name: str, doubt: Doubt, auc: Auc, kind: Kind, **words: Unpack[Words]) -> Statistic:
    error = doubt.known.error
    columns = [doubt.summed(values) for values in (auc.wrong, auc.right, error, 1 - error)]

    def value(sums: Array) -> Array:
        return np.asarray(auc.value + sums[..., :2].sum(axis=-1) / sums[..., 2:].sum(axis=-1))

    return Statistic(name, np.column_stack(columns), value, kind,
                     interval=lambda sums: _auc_interval(auc, kind, sums), **words)  # fmt: skip


def _auc_interval(auc: Auc, kind: Kind, sums: Array) -> tuple[float, float]:
    """Both ends of an AUC, or of a difference of two, from sums [c, 4]: parts of wrong and right, then their weights.

    What is wrong and what is right are two samples, each with clusters of its own: of few errors little is known,
    however many are right. So degrees of freedom are those of the rarer kind, and one cluster more of errors may stand
    as far off as its `reach`: an error that is sure is rare, and mostly unseen. Of an AUC it is Wilson's interval.

    In simulation, with clusters of one to five examples, those of an AUC hold the truth in 95 to 100 %; that of
    `doubt_added` in 92 to 93 % from 60 errors on and in 89 to 90 % of 5 or 16, mostly lying too low where it misses.
    """
    from scipy.special import ndtri, stdtrit

    value, moved, sizes = auc.value, sums[:, :2].T, sums[:, 2:].T
    clusters = np.count_nonzero(sizes, axis=1)
    if not np.isfinite(value) or clusters.min() < 2:
        return np.nan, np.nan
    parts = corrected(moved, sizes) / sizes.sum()
    variance = float(np.square(parts.sum(axis=0)).sum())
    varies = variance > _ROUNDING
    quantile = ndtri(0.5 + LEVEL / 2)
    if varies:
        quantile = stdtrit(clusters.min() - 1, 0.5 + LEVEL / 2)
        variance += (auc.reach / float(clusters[0])) ** 2
    if kind == "number":
        half = float(quantile) * variance**0.5 if varies else np.nan
        return max(-1.0, value - half), min(1.0, value + half)
    n = value * (1 - value) / variance if varies and 0 < value < 1 else clusters.min()
    low, high = wilson(np.asarray(value), np.asarray(n), quantile)
    return float(low), float(high)


def _areas(doubt: Doubt) -> list[Statistic]:
    of_spread, of_flip = (
        None if order is None else abstention.area(order) for order in (doubt.by_spread, doubt.by_flip)
    )
    unit, errors = f"risk, mean over the share of {doubt.unit} kept", doubt.summed(doubt.known.error)
    value, parts = (np.nan, np.zeros_like(doubt.weight)) if of_spread is None else (of_spread.value, of_spread.parts)

    def gain(sums: Array) -> Array:
        moved, wrong, weight = np.moveaxis(sums, -1, 0)
        most = wrong / weight - abstention.oracle_area(wrong / weight)
        gained = wrong / weight - value - moved / weight
        return np.asarray(np.where(most > 0, gained / np.where(most > 0, most, 1.0), np.nan))

    return [
        _worth("doubt_area", doubt, of_spread, title="Area under risk by coverage, by spread", unit=unit,
               better="lower", caveat="of an oracle's and of chance's, between which it lies, errors decide"),
        _worth("doubt_flip_area", doubt, of_flip, title="Area under risk by coverage, by chance of a flip",
               unit=unit, better="lower", caveat="a margin alone brings it below that of chance"),
        _share("doubt_area_random", errors, doubt.told, title="Area of abstention at random", unit=unit,
               caveat="the share of errors"),
        Statistic("doubt_area_oracle", np.column_stack([errors, doubt.told]),
                  lambda sums: abstention.oracle_area(ratio(sums)), "fraction", title="Area of abstention by an oracle",
                  unit=unit, caveat="who knows the errors keeps them for last"),
        Statistic("doubt_gain", np.column_stack([doubt.summed(parts), errors, doubt.told]), gain,
                  title="Gain of abstention by spread", unit="share of what an oracle gains over chance",
                  better="higher", bounds=(None, 1.0),
                  caveat="0 where it says nothing of errors, below 0 where it misleads"),
    ]  # fmt: skip


def _accuracies(doubt: Doubt) -> list[Statistic]:
    return [
        _worth(name, doubt, _right(_risk(order, coverage)), _few(doubt, coverage), title=title,
               unit=f"share of {doubt.unit}", better="higher", caveat=caveat)
        for name, order, coverage, title, caveat in (
            ("doubt_accuracy", doubt.by_spread, 1.0, "Right, of all whose spread is known", "a tie is half"),
            ("doubt_accuracy_80", doubt.by_spread, _KEPT, "Right, of the 80 % with the least spread",
             "to be read beside doubt_accuracy"),
            ("doubt_flip_accuracy_80", doubt.by_flip, _KEPT, "Right, of the 80 % least likely to flip",
             "to be read beside doubt_accuracy, above which a margin alone brings it"),
        )
    ]  # fmt: skip


def _stated(doubt: Doubt) -> list[Statistic]:
    """What the spread, taken as that of a normal margin, states, and what holds of it."""
    from scipy.special import ndtr

    known, sure, unit = doubt.known, doubt.summed(doubt.sure), f"share of {doubt.unit}"
    wrong, told = doubt.summed(doubt.sure * known.error), doubt.told
    spread, asked = (np.bincount(some.rows, minlength=len(told)).astype(float) for some in (known, doubt.decided))
    asked = np.where(asked > 0, asked, np.nan)
    weight = 1.0 if doubt.alike else asked
    return [
        _share("doubt_sure", sure, told, title="Sure: the stated 95 % interval of the margin leaves out 0", unit=unit,
               caveat="says nothing of whether that is right"),
        _share("doubt_sure_right", sure - wrong, np.where(sure > 0, sure, np.nan), unit=unit, better="higher",
               title="Right, of those it is sure of", caveat="0.975 or more of a spread that is what it says"),
        _share("doubt_covered", told - wrong, told, unit=unit, better="higher",
               title="Stated 95 % intervals of the margin that reach the right side",
               caveat="0.975 or more of a spread that is what it says, or too large"),
        _share("doubt_expected", doubt.summed(ndtr(-doubt.sureness)), told, title="Errors that the spread states",
               unit=unit, caveat="the mean chance of a flip; too sure below doubt_area_random, the share of errors"),
        _share("doubt_known", spread / weight, asked / weight, unit=unit, better="higher",
               title="Whose spread is known", caveat="all else that is said of doubt is of these alone"),
    ]  # fmt: skip


def _risk(order: Order | None, coverage: float) -> Worth | None:
    return None if order is None else abstention.risk(order, coverage)


def _right(risk: Worth | None) -> Worth | None:
    return None if risk is None else Worth(1 - risk.value, -risk.parts)


def _few(doubt: Doubt, coverage: float) -> float:
    """As many clusters as tell the risk of what is kept where no draw of them differs."""
    weighs = np.bincount(doubt.codes, np.nan_to_num(doubt.told), 1).astype(float)
    return max(1.0, coverage * float(kish(weighs))) if weighs.any() else 1.0


def _worth(
    name: str, doubt: Doubt, worth: Worth | None, told: float | None = None, **words: Unpack[Words]
) -> Statistic:
    """A value that moves by the parts of decisions; `told` are as many clusters as tell it where no draw differs."""
    value, parts = (np.nan, np.zeros_like(doubt.weight)) if worth is None else (worth.value, worth.parts)
    return Statistic(name, np.column_stack([doubt.summed(parts), doubt.told]), lambda sums: value + ratio(sums),
                     "fraction", effective_n=told, **words)  # fmt: skip


def _share(
    name: str, some: Array, of: Array, *, title: str, unit: str, caveat: str, better: Better | None = None
) -> Statistic:
    return Statistic(name, np.column_stack([some, of]), ratio, "fraction", title=title, unit=unit, better=better,
                     caveat=caveat)  # fmt: skip
