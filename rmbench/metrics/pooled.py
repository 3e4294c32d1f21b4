"""What items of all outcomes, pooled, say together: one AUC, one correlation. No sums over outcomes give these.

Items are given as `scores` [m] beside what they are held against, `rows` [m], the outcome that each is of, and `codes`
[n], the cluster of each outcome. A draw counts an item as often as its cluster. Items that are to be left out have to
be so before; an outcome counts where an item is left of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.interval import Codes, Statistic, Words
from rmbench.types import Array

_ENTRIES = 1 << 21  # numbers held at once: 16 MiB
_MOST = 2_000  # items up to which Kendall's tau is drawn anew: it takes time with their square

_Groups = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]


@dataclass(frozen=True, slots=True)
class Items:
    """What is pooled, as the module says."""

    scores: Array
    rows: NDArray[np.intp]
    codes: Codes

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Which outcomes have an item [n]."""
        counted = np.zeros(len(self.codes), dtype=bool)
        counted[self.rows] = True
        return counted

    def weights(self, times: Array) -> Iterator[Array]:
        """How often each item is in each draw, some draws [d, m] at a time."""
        of_item, part = self.codes[self.rows], max(1, _ENTRIES // max(1, len(self.rows)))
        for start in range(0, len(times), part):
            yield times[start : start + part, of_item]


def auc(name: str, items: Items, right: NDArray[np.bool_], **words: Unpack[Words]) -> Statistic:
    """How often a right item [m] is above a wrong one, of any two of them, a tie counting half; nan without both."""
    of_item = items.codes[items.rows]
    wrong = np.flatnonzero(~right)[np.argsort(items.scores[~right], kind="stable")]
    # of each right item, how many wrong ones are below it, and how many are not above it
    below, upto = (np.searchsorted(items.scores[wrong], items.scores[right], side=side) for side in ("left", "right"))
    tied = bool((below < upto).any())

    def of(times: Array) -> Array:
        values, part = [], max(1, _ENTRIES // max(1, len(of_item)))
        for start in range(0, len(times), part):
            drawn = times[start : start + part]
            ahead, behind = drawn[:, of_item[right]], drawn[:, of_item[wrong]]
            summed = np.concatenate([np.zeros((len(drawn), 1)), behind.cumsum(axis=1)], axis=1)
            beaten = summed[:, below] if not tied else (summed[:, below] + summed[:, upto]) / 2
            pairs = ahead.sum(axis=1) * summed[:, -1]
            values.append(np.where(pairs > 0, np.einsum("ij,ij->i", ahead, beaten) / pairs, np.nan))
        return np.concatenate(values)

    said: Words = {"title": "AUC, pooled", "unit": "share of pairs", "better": "higher"}
    return _statistic(name, items, of, "fraction", said | words)


def pearson(name: str, items: Items, labels: Array, **words: Unpack[Words]) -> Statistic:
    """Pearson's r of scores and labels [m]; nan where one is constant. It depends on sums."""
    x, y = (_standardised(values) for values in (items.scores, labels))
    products = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    sums = [np.bincount(items.rows, weights=column, minlength=len(items.codes)) for column in products.T]
    columns = np.where(items.counted[:, None], np.stack(sums, axis=1), np.nan)
    said: Words = {"title": "Pearson's r", "unit": "correlation", "better": "higher", "bounds": (-1.0, 1.0)}
    return Statistic(name, columns, _correlation, **(said | words))


def spearman(name: str, items: Items, labels: Array, **words: Unpack[Words]) -> Statistic:
    """Spearman's rho: Pearson's r of the ranks of scores and labels [m], ties sharing their mean rank."""
    of_score, of_label = _groups(items.scores), _groups(labels)

    def of(times: Array) -> Array:
        values = []
        for weights in items.weights(times):
            x, y = _ranks(weights, of_score), _ranks(weights, of_label)
            sums = np.stack([(weights * part).sum(axis=1) for part in (1.0, x, y, x * x, y * y, x * y)], axis=1)
            values.append(_correlation(sums))
        return np.concatenate(values)

    said: Words = {"title": "Spearman's rho", "unit": "correlation", "better": "higher", "bounds": (-1.0, 1.0)}
    return _statistic(name, items, of, "number", said | words)


def kendall(name: str, items: Items, labels: Array, **words: Unpack[Words]) -> Statistic:
    """Kendall's tau-b of scores and labels [m]. Beyond 2,000 items it has no interval."""
    said: Words = {"title": "Kendall's tau-b", "unit": "correlation", "better": "higher", "bounds": (-1.0, 1.0)}
    if len(items.scores) > _MOST:
        from scipy.stats import kendalltau

        value = float(kendalltau(items.scores, labels).statistic)
        said["caveat"] = f"no interval: it has more than {_MOST:,} items"
        return Statistic(name, of=lambda times: np.full(len(times), value), counted=items.counted,
                          interval=lambda sums: (np.nan, np.nan), **(said | words))  # fmt: skip
    agreeing, apart_x, apart_y = _pair_sums(items, labels)

    def of(times: Array) -> Array:
        # each pair stands twice above and below, which cancels
        both, x, y = (((times @ matrix) * times).sum(axis=1) for matrix in (agreeing, apart_x, apart_y))
        return np.where((x > 0) & (y > 0), both / np.sqrt(x * y), np.nan)

    return _statistic(name, items, of, "number", said | words)


def _statistic(name: str, items: Items, of: Callable[[Array], Array], kind: str, words: Words) -> Statistic:
    def quiet(times: Array) -> Array:
        if not len(items.rows):
            return np.full(len(times), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):  # nan where there is nothing to divide by
            return of(times)

    if kind == "fraction":
        return Statistic(name, of=quiet, kind="fraction", counted=items.counted, **words)
    return Statistic(name, of=quiet, counted=items.counted, **words)


def _groups(values: Array) -> _Groups:
    """Items in the order of their values, where each group of equal ones starts in that, and the group of each item."""
    order = np.argsort(values, kind="stable")
    new = np.ones(len(values), dtype=bool)
    new[1:] = values[order][1:] != values[order][:-1]
    group = np.empty(len(values), np.intp)
    group[order] = np.cumsum(new) - 1
    return order, np.flatnonzero(new), group


def _ranks(weights: Array, groups: _Groups) -> Array:
    """The mean rank [d, m] of each item among those drawn, as half the items below less half those above."""
    order, starts, group = groups
    size = np.add.reduceat(weights[:, order], starts, axis=1)
    total = size.sum(axis=1, keepdims=True)
    rank: Array = (size.cumsum(axis=1) - size / 2 - total / 2)[:, group]
    return rank


def _correlation(sums: Array) -> Array:
    """Pearson's r of sums [..., 6] of 1, x, y, xx, yy and xy."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    both, of_x, of_y = xy - x * y / n, xx - x * x / n, yy - y * y / n
    varied = (of_x > 1e-12 * xx) & (of_y > 1e-12 * yy)  # below that a difference of sums is their rounding
    return np.asarray(np.where(varied, both / np.sqrt(np.where(varied, of_x * of_y, 1.0)), np.nan))


def _standardised(values: Array) -> Array:
    """Centred and scaled, which changes no correlation and keeps digits."""
    if not len(values):
        return values
    centred = values - values.mean()
    spread = float(np.abs(centred).max())
    return np.asarray(centred / spread) if spread > 0 else centred


def _pair_sums(items: Items, labels: Array) -> tuple[Array, Array, Array]:
    """Over the pairs of items of two clusters [c, c]: agreeing less disagreeing, told apart by score, and by label."""
    c = int(items.codes.max(initial=-1)) + 1
    of_item = items.codes[items.rows]
    order = np.argsort(of_item, kind="stable")
    x, y, sorted_codes = items.scores[order], labels[order], of_item[order]
    there, starts = np.unique(sorted_codes, return_index=True)
    sums = np.zeros((3, c, c))
    part = max(1, _ENTRIES // max(1, len(x)))
    for start in range(0, len(x), part):
        block = slice(start, start + part)
        a, b = (np.sign(values[block, None] - values) for values in (x, y))
        for matrix, signs in zip(sums, (a * b, np.abs(a), np.abs(b)), strict=True):
            by_cluster = np.zeros((len(signs), c))
            by_cluster[:, there] = np.add.reduceat(signs, starts, axis=1)
            np.add.at(matrix, sorted_codes[block], by_cluster)
    return sums[0], sums[1], sums[2]
