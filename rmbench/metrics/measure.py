"""What a task measures: the protocol of a measure, one declared from functions, and `macro`, the mean over parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Unpack

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.interval import (
    Codes,
    Kind,
    Statistic,
    Words,
    as_function,
    cluster_codes,
    cluster_strata,
)
from rmbench.types import Array, Json, Outcome

Make = Callable[[Sequence[Outcome], str, Json], Statistic]
Statistics = Callable[[Sequence[Outcome], str], list[Statistic]]
FittedStatistics = Callable[[Sequence[Outcome], str, Json], list[Statistic]]
Facets = Mapping[str, str | Collection[str]]
Part = tuple[float, Facets, Make]


class Measure(Protocol):
    """What a task brings to say what its outcomes are worth, view by view; `headline` is what to look at first.

    `fit` is called once with the outcomes of the whole task, and what it gives goes into every call of `statistics`, of
    the whole as of a part: a threshold chosen on one subset, say. It is JSON, stands in the result, and intervals hold
    it fixed. `uncalibrated` is why rewards are not made probabilities of these labels, None where they are.

    A measure with `steps_alone = True` reads of a view its steps and not what they come to together; views of the same
    steps are then measured once.
    """

    @property
    def name(self) -> str: ...

    @property
    def headline(self) -> str: ...

    @property
    def uncalibrated(self) -> str | None: ...

    def fit(self, outcomes: Sequence[Outcome], view: str) -> Json:
        """What statistics hold fixed, from the outcomes [n] of the whole; None where that is nothing."""
        ...

    def statistics(self, outcomes: Sequence[Outcome], view: str, fitted: Json) -> list[Statistic]:
        """What one view of `outcomes` [n] gives, ready for `interval.estimate` with the clusters of the outcomes."""
        ...

    def left_out(self, outcomes: Sequence[Outcome], view: str) -> dict[str, int]:
        """How many outcomes lack what a statistic needs, by reason; reasons that do not occur are absent."""
        ...

    def ties(self, outcomes: Sequence[Outcome], view: str) -> int:
        """How many outcomes a tie decides."""
        ...


@dataclass(frozen=True)
class Unfitted:
    """A measure that fits nothing, declared from the functions that a metrics module has."""

    name: str
    headline: str
    of: Statistics
    without: Callable[[Sequence[Outcome], str], dict[str, int]]
    tied: Callable[[Sequence[Outcome], str], int]
    uncalibrated: str | None = None

    def fit(self, outcomes: Sequence[Outcome], view: str) -> Json:
        """None: there is nothing to fit."""
        return None

    def statistics(self, outcomes: Sequence[Outcome], view: str, fitted: Json = None) -> list[Statistic]:
        """What `of` gives."""
        return self.of(outcomes, view)

    def left_out(self, outcomes: Sequence[Outcome], view: str) -> dict[str, int]:
        """What `without` gives."""
        return self.without(outcomes, view)

    def ties(self, outcomes: Sequence[Outcome], view: str) -> int:
        """What `tied` gives."""
        return self.tied(outcomes, view)


def named(statistics: FittedStatistics, name: str) -> Make:
    """How to make the statistic `name` of those that `statistics` gives, for a part of a `macro`.

    What the task's measure fitted to the whole is handed on to it.
    """

    def make(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
        by_name = {statistic.name: statistic for statistic in statistics(outcomes, view, fitted)}
        if name not in by_name:
            raise ValueError(f"no statistic {name!r}; expected one of {', '.join(by_name)}")
        return by_name[name]

    return make


def of_rows(statistic: Statistic, outcomes: Sequence[Outcome]) -> Make:
    """How to make a statistic that `outcomes` gave by sums for a part of them, from its rows, without measuring these
    again."""
    rows = {id(outcome): row for row, outcome in enumerate(outcomes)}

    def make(part: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
        if statistic.columns is None:
            raise ValueError(f"statistic {statistic.name!r}: expected `columns`, which are its rows")
        return replace(statistic, columns=statistic.columns[[rows[id(outcome)] for outcome in part]])

    return make


def macro(name: str, parts: Sequence[Part], **words: Unpack[Words]) -> Make:
    """How to make the mean of `parts`: a weight, the facets of the outcomes it takes (all of them must agree, each with
    the value given, or with one of several), and how to make its statistic, which may be a macro itself.

    nan unless every part is there. Whole clusters are drawn, in strata of clusters that touch the same parts, so that
    no draw lacks a part by chance; a cluster that is alone in its stratum joins the one that has most parts in common
    with it. A part of one cluster tells nothing of its chance, and then there is no interval. Where no draw differs, as
    where every part is perfect, the n of its interval is that of a weighted mean of parts of so many clusters,
    (sum w)^2 / sum(w^2 / n), and no large part makes up for a small one. The mean depends on sums
    where all of its parts do, else it is of the slow form. Title, unit, direction and bounds are those of the parts
    where these agree, unless `words` say otherwise.
    """
    if not parts or not all(weight > 0 for weight, _, _ in parts):
        raise ValueError(f"macro {name!r}: expected one part or more, each of a weight above 0")

    def make(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
        codes = cluster_codes([outcome.cluster for outcome in outcomes])
        taken = [_part(part, outcomes, codes, view, fitted) for part in parts]
        present = [part for part in taken if part is not None and part.counted.any()]
        return _mean(name, present, len(present) == len(parts), codes, _said(name, present, words))

    return make


@dataclass(frozen=True)
class _Part:
    """One part over n outcomes in c clusters: `rows` are the outcomes it takes, `counted` [n] those that count in it.

    `clusters` are those of `rows`, in the order of their first row, and `strata` [n] what they are drawn within.
    """

    weight: float
    statistic: Statistic
    rows: NDArray[np.intp]
    counted: NDArray[np.bool_]
    clusters: Codes
    strata: Codes
    function: Callable[[Array], Array]
    rows_of: Array

    @property
    def effective_n(self) -> float:
        """What its statistic says, else how many of its clusters count."""
        given = self.statistic.effective_n
        return float(np.count_nonzero(self.rows_of)) if given is None else given

    def columns(self) -> Array:
        """Its columns and how often it counts [n, s + 1]; zeros where an outcome is no part of it."""
        given = self.statistic.columns
        width = 0 if given is None else given.shape[1]
        columns = np.zeros((len(self.counted), width + 1))
        inside = self.counted[self.rows]
        if given is not None:
            columns[self.rows[inside], :-1] = given[inside]
        columns[self.counted, -1] = 1.0
        return columns

    def drawn(self, times: Array) -> Array:
        """Its value in each draw, nan in those that none of its rows is in."""
        mine = times[:, self.clusters]
        return np.where(mine @ self.rows_of > 0, self.function(mine), np.nan)


def _part(part: Part, outcomes: Sequence[Outcome], codes: Codes, view: str, fitted: Json) -> _Part | None:
    weight, facets, make = part
    rows = np.array([i for i, outcome in enumerate(outcomes) if _takes(facets, outcome)], np.intp)
    if not len(rows):
        return None
    statistic = make([outcomes[i] for i in rows], view, fitted)
    inside, clusters = cluster_codes(codes[rows]), np.array(list(dict.fromkeys(codes[rows].tolist())), np.intp)
    strata, within = np.full(len(outcomes), -1), cluster_strata(statistic, inside)
    counts = statistic.counts(len(rows))
    strata[rows[counts]] = 0 if within is None else within[inside[counts]]
    counted = np.zeros(len(outcomes), dtype=bool)
    counted[rows[counts]] = True
    rows_of = np.bincount(inside[counts], minlength=len(clusters)).astype(float)
    return _Part(weight, statistic, rows, counted, clusters, strata, as_function(statistic, inside), rows_of)


def _takes(facets: Facets, outcome: Outcome) -> bool:
    """Whether an outcome has each of the facets, with the value that is given or one of those."""
    return all(
        name in outcome.facets and outcome.facets[name] in ((values,) if isinstance(values, str) else values)
        for name, values in facets.items()
    )


def _mean(name: str, parts: Sequence[_Part], whole: bool, codes: Codes, words: Words) -> Statistic:
    kind: Kind = "fraction" if parts and all(part.statistic.kind != "number" for part in parts) else "number"
    counted = np.any([part.counted for part in parts], axis=0) if parts else np.zeros(len(codes), dtype=bool)
    strata = _strata(np.column_stack([part.strata for part in parts]), codes, counted) if parts else None
    weights = np.array([part.weight for part in parts])
    alone = any(np.count_nonzero(part.rows_of) < 2 or part.statistic.interval is _open for part in parts)
    interval = _open if alone or not whole else None
    effective = None if alone or not whole else _effective_n(weights, np.array([part.effective_n for part in parts]))
    if any(part.statistic.of is not None for part in parts):

        def of(times: Array) -> Array:
            values = np.stack([part.drawn(times) for part in parts], axis=-1)
            return np.asarray(values @ weights / weights.sum() if whole else np.full(len(times), np.nan))

        return Statistic(name, kind=kind, of=of, counted=counted, strata=strata, interval=interval,
                         effective_n=effective, **words)  # fmt: skip

    tables = [part.columns() for part in parts] or [np.full((len(codes), 1), np.nan)]
    columns = np.where(counted[:, None], np.concatenate(tables, axis=1), np.nan)
    ends = np.cumsum([table.shape[1] for table in tables])[:-1]

    def value(sums: Array) -> Array:
        if not whole:
            return np.full(sums.shape[:-1], np.nan)
        values = [
            np.where(own[..., -1] > 0, part.statistic.value(own[..., :-1]), np.nan)
            for part, own in zip(parts, np.split(sums, ends, axis=-1), strict=True)
            if part.statistic.value is not None
        ]
        return np.asarray(np.stack(values, axis=-1) @ weights / weights.sum())

    return Statistic(name, columns, value, kind, interval=interval, strata=strata, effective_n=effective, **words)


def _effective_n(weights: Array, sizes: Array) -> float:
    """How many clusters alike would tell as much as a weighted mean [p] of parts of `sizes` [p] clusters does."""
    return float(np.square(weights.sum()) / (np.square(weights) / sizes).sum())


def _open(sums: Array) -> tuple[float, float]:
    """No interval."""
    return np.nan, np.nan


def _said(name: str, parts: Sequence[_Part], words: Words) -> Words:
    """What the macro says of itself: `words`, and what its parts agree on."""
    statistics = [part.statistic for part in parts]
    units, directions = {one.unit for one in statistics}, {one.better for one in statistics}
    agreed: Words = {
        "title": f"{' / '.join(dict.fromkeys(one.title for one in statistics)) or name}, mean over parts",
        "unit": units.pop() if len(units) == 1 else "",
        "better": directions.pop() if len(directions) == 1 else None,
        "bounds": _bounds(parts),
        "caveat": "a mean over parts; it does not say which of them is good and which is not",
    }
    return agreed | words


def _bounds(parts: Sequence[_Part]) -> tuple[float | None, float | None]:
    total = sum(part.weight for part in parts)
    ends = []
    for end in (0, 1):
        given = [(part.weight, part.statistic.bounds[end]) for part in parts]
        stated = [weight * bound for weight, bound in given if bound is not None]
        ends.append(sum(stated) / total if parts and len(stated) == len(parts) else None)
    return ends[0], ends[1]


def _strata(touched: NDArray[np.integer], codes: Codes, counted: NDArray[np.bool_]) -> Codes | None:
    """The stratum [n] of each row, from what its rows touch [n, parts]: the stratum inside each part, -1 for none."""
    c, parts = int(codes.max(initial=-1)) + 1, touched.shape[1]
    by_cluster = np.full((c, parts), -1)
    np.maximum.at(by_cluster, codes, touched)
    patterns, stratum = np.unique(by_cluster, axis=0, return_inverse=True)
    stratum = stratum.reshape(-1)
    there = np.zeros(c, dtype=bool)
    there[codes[counted]] = True
    sizes = np.bincount(stratum[there], minlength=len(patterns))
    for lone in range(len(patterns)):
        others = np.flatnonzero((sizes > 0) & (np.arange(len(patterns)) != lone))
        if sizes[lone] != 1 or not len(others):
            continue
        alike = ((patterns[others] >= 0) == (patterns[lone] >= 0)).sum(axis=1)
        into = others[np.lexsort((-sizes[others], -alike))[0]]
        stratum[stratum == lone] = into
        sizes[into], sizes[lone] = sizes[into] + 1, 0
    return stratum[codes] if np.count_nonzero(sizes) > 1 else None
