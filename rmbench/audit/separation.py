"""Which differences between published rows can their n support? Nobody publishes which examples each model won.

What is known of two proportions over the same n examples bounds their difference. With errors that have nothing to do
with one another its variance is p (1 - p) / n of each, together. It is smallest where one model wins all that the other
wins: of examples that are the mean of c comparisons f (1 - f) / (c^2 n), f being what c times the difference is above a
whole number. A difference that even this leaves open at 5 %, no pairing supports (`none`); one that is told with
unrelated errors is `told`; all others are `open`, and need the examples.

Of an average the variances of its parts are added by the squares of their weights. The scores of one example that is
the mean of several comparisons vary less than p (1 - p), so `told` errs towards `open`; optional parts are taken as
exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import NormalDist, median
from typing import Any, Literal

from rmbench.audit.table import Figure
from rmbench.errors import UsageError
from rmbench.metrics.paired import holm

Verdict = Literal["told", "open", "none"]

_LEVEL = 0.05
_NORMAL = NormalDist()
_QUANTILE = _NORMAL.inv_cdf(1 - _LEVEL / 2)
_POWER = _NORMAL.inv_cdf(0.8)


@dataclass(frozen=True, slots=True)
class Column:
    """A column with n: the weight, examples and comparisons of each part; one without parts is its own.

    `optional` are the weights of parts that count where a row has them.
    """

    parts: Mapping[str, tuple[Fraction, int, int]]
    optional: Mapping[str, Fraction]


@dataclass(frozen=True, slots=True)
class Apart:
    """Two rows, the higher first: `p` with unrelated errors, `p_least` the least that any pairing gives."""

    model: str
    other: str
    column: str
    difference: float
    p: float
    p_least: float
    p_holm: float | None = None

    @property
    def verdict(self) -> Verdict:
        """What n says of the difference."""
        if self.p_least >= _LEVEL:
            return "none"
        return "told" if (self.p if self.p_holm is None else self.p_holm) < _LEVEL else "open"

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "verdict": self.verdict}


@dataclass(frozen=True)
class Separation:
    """Neighbours by the headline, and pairs subset by subset, where p is adjusted after Holm over the subsets.

    `detectable` is the smallest difference of two rows at the median that a test at 5 % finds in 80 % of such samples
    where errors are unrelated. `first` is how many rows below the first are not told from it.
    """

    column: str
    detectable: float
    percent: bool
    first: int
    neighbours: Sequence[Apart]
    subsets: Sequence[Apart]

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "column": self.column,
            "detectable": self.detectable,
            "not_told_from_first": self.first,
            "neighbours": [pair.to_json() for pair in self.neighbours],
            "subsets": [pair.to_json() for pair in self.subsets],
        }


def separate(
    models: Sequence[str],
    rows: Sequence[Mapping[str, Figure]],
    columns: Mapping[str, Column],
    headline: str,
    pairs: Sequence[tuple[str, str]] = (),
) -> Separation | None:
    """What n says of rows next to one another by the headline, or the first column with n that two rows have.

    The subsets compared are those of `pairs`, of the first two rows where none are given. Raises UsageError for a model
    that is not there, or there twice.
    """
    scale = 100 if any(figure.value > Fraction(3, 2) for row in rows for figure in row.values()) else 1
    values = [{name: float(figure.value) / scale for name, figure in row.items()} for row in rows]
    counts = {name: [i for i, row in enumerate(values) if _is_whole(name, row, columns[name])] for name in columns}
    able = [name for name in [headline, *columns] if len(counts.get(name, [])) > 1]
    if not able:
        return None
    column = able[0]
    order = sorted(counts[column], key=lambda i: -values[i][column])
    named = [(_place(models, one), _place(models, other)) for one, other in pairs] or [(order[0], order[1])]
    middle = median(math.sqrt(2 * _variance(values[i], columns[column])) for i in order)
    subsets = [pair for i, j in named for pair in _by_subset(models, values, columns, i, j)]
    return Separation(
        column,
        scale * (_QUANTILE + _POWER) * middle,
        scale == 100,
        sum(_apart(models, values, columns, column, order[0], i).verdict != "told" for i in order[1:]),
        [_scaled(_apart(models, values, columns, column, i, j), scale) for i, j in pairwise(order)],
        [_scaled(pair, scale) for pair in subsets],
    )


def _place(models: Sequence[str], name: str) -> int:
    if models.count(name) != 1:
        raise UsageError(f"model {name!r} stands in {models.count(name)} rows of the table; expected one")
    return models.index(name)


def _scaled(pair: Apart, scale: int) -> Apart:
    return Apart(pair.model, pair.other, pair.column, scale * pair.difference, pair.p, pair.p_least, pair.p_holm)


def _is_whole(name: str, row: Mapping[str, float], column: Column) -> bool:
    return name in row and all(part in row for part in column.parts)


def _by_subset(
    models: Sequence[str], values: Sequence[Mapping[str, float]], columns: Mapping[str, Column], i: int, j: int
) -> list[Apart]:
    """Two rows in every column that is its own part and that both have, after Holm."""
    shared = [name for name, one in columns.items() if name in one.parts and name in values[i] and name in values[j]]
    pairs = [_apart(models, values, columns, name, i, j) for name in shared]
    adjusted = holm([pair.p for pair in pairs])
    return [
        Apart(pair.model, pair.other, pair.column, pair.difference, pair.p, pair.p_least, p)
        for pair, p in zip(pairs, adjusted, strict=True)
    ]


def _apart(
    models: Sequence[str],
    values: Sequence[Mapping[str, float]],
    columns: Mapping[str, Column],
    name: str,
    i: int,
    j: int,
) -> Apart:
    difference = values[i][name] - values[j][name]
    variance = _variance(values[i], columns[name]) + _variance(values[j], columns[name])
    least = _least_variance(values[i], values[j], columns[name])
    return Apart(models[i], models[j], name, difference, _p(difference, variance), _p(difference, least))


def _p(difference: float, variance: float) -> float:
    if math.isclose(difference, 0.0, abs_tol=1e-12):
        return 1.0
    return 2 * _NORMAL.cdf(-abs(difference) / math.sqrt(variance)) if variance > 0 else 0.0


def _weights(row: Mapping[str, float], column: Column) -> dict[str, float]:
    weights = [weight for weight, _, _ in column.parts.values()]
    whole = sum([*weights, *(weight for part, weight in column.optional.items() if part in row)], Fraction(0))
    return {part: float(weight / whole) for part, (weight, _, _) in column.parts.items()}


def _variance(row: Mapping[str, float], column: Column) -> float:
    total = 0.0
    for part, weight in _weights(row, column).items():
        p = min(max(row[part], 0.0), 1.0)
        total += weight**2 * p * (1 - p) / column.parts[part][1]
    return total


def _least_variance(one: Mapping[str, float], other: Mapping[str, float], column: Column) -> float:
    total = 0.0
    for part, weight in _weights(one, column).items():
        _, n, comparisons = column.parts[part]
        above = comparisons * abs(one[part] - other[part]) % 1
        total += weight**2 * above * (1 - above) / comparisons**2 / n
    return total
