"""Can published rows be right? Each average computed again from its parts, by the benchmark's own definition.

Every number stands for all that rounds to it, so two that are one by definition are at most the sum of their roundings
apart, and all of it is computed exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

from rmbench.audit import definitions, table
from rmbench.audit.definitions import Average, Definition
from rmbench.audit.findings import Finding
from rmbench.audit.separation import Column, Separation, separate
from rmbench.audit.table import Figure, Table
from rmbench.errors import UsageError

_MOST_ZEROS = 6  # of one row that are tried in all combinations


@dataclass(frozen=True)
class TableAudit:
    """What was found in one table by one definition.

    `checked` rows had an average that something could be held to; `unstated` are those that state no part.
    """

    file: str
    part: str
    definition: Definition
    rows: int
    checked: int
    unstated: Sequence[str]
    findings: Sequence[Finding]
    separation: Separation | None
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def contradicts(self) -> bool:
        """Whether a row cannot be right."""
        return any(finding.contradicts for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "file": self.file,
            "part": self.part,
            "benchmark": self.definition.name,
            "title": self.definition.title,
            "source": self.definition.source,
            "rows": self.rows,
            "checked": self.checked,
            "unstated": list(self.unstated),
            "findings": [finding.to_json() for finding in self.findings],
            "separation": None if self.separation is None else self.separation.to_json(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way to know an average: as it is stated, or from its parts."""

    name: str
    figure: Figure
    stated: bool


def audit_table(
    path: Path,
    *,
    own: Path | None = None,
    benchmark: str | None = None,
    n: Mapping[str, int] | None = None,
    pairs: Sequence[tuple[str, str]] = (),
) -> list[TableAudit]:
    """What is found in a CSV table, by each definition that fits its columns, or those of a group of its names.

    `own` is a TOML file of definitions beside those that come with rmbench, `benchmark` the name of the one to take.
    `n` are examples by column, that under "" the headline's. `pairs` of models are compared subset by subset.
    Raises DataError and UsageError.
    """
    defined = definitions.read(own)
    fitting: list[tuple[Table, Definition]] = []
    for one in table.read(path):
        fitting += [(one, definition) for definition in definitions.chosen(defined, one.heading, benchmark)]
    if not fitting:
        columns = ", ".join(table.read(path)[0].heading)
        raise UsageError(
            f"{path.name}: no definition of averages fits the columns {columns:.300}; expected those of "
            f"{benchmark or ', '.join(defined)}, or a file of your own with --definitions"
        )
    _check_n(n or {}, [definition for _, definition in fitting])
    return [_audited(one, definition, n or {}, pairs) for one, definition in fitting]


def _check_n(n: Mapping[str, int], fitting: Sequence[Definition]) -> None:
    columns = [column for definition in fitting for column in definition.columns]
    for name in n:
        if name and definitions.plain(name) not in map(definitions.plain, columns):
            raise UsageError(f"n of {name!r}: expected one of the columns {', '.join(dict.fromkeys(columns))}")


def _audited(one: Table, definition: Definition, n: Mapping[str, int], pairs: Sequence[tuple[str, str]]) -> TableAudit:
    places = definition.places(one.heading)
    names = {place: column for column, place in places.items()}
    rows = [
        {names[place]: figure for place, figure in figures.items()}
        for figures in table.figures(one, sorted(places.values()))
    ]
    findings: list[Finding] = []
    unstated, checked, over, clean = [], 0, dict[str, list[int]](), []
    for row, figures in zip(one.rows, rows, strict=True):
        audited = _Row(definition, set(places), figures, row.model, row.number)
        audited.audit()
        findings += audited.findings
        checked += audited.checked
        if not audited.checked and not audited.findings:
            unstated.append(row.model)
        for column, count in audited.counted.items():
            over.setdefault(column, []).append(count)
        clean.append({column: figure for column, figure in figures.items() if column not in audited.void})
    models = [row.model for row in one.rows]
    findings += [mixed for column, counts in over.items() if (mixed := _mixed(column, counts))]
    columns, notes = _columns(definition, places, n)
    separation = separate(models, clean, columns, _headline(definition, places), pairs)
    if pairs and separation is None:
        raise UsageError(f"{one.file}: models cannot be compared: {'; '.join(notes) or 'no figure of two rows'}")
    return TableAudit(one.file, one.part, definition, len(rows), checked, unstated, findings, separation, notes)


def _mixed(column: str, counts: Sequence[int]) -> Finding | None:
    if len(set(counts)) < 2:
        return None
    told = ", ".join(f"of {k} parts in {counts.count(k):,} rows" for k in sorted(set(counts)))
    return Finding("mixed", column, f"is the mean {told}: these rows do not compare")


def _columns(
    definition: Definition, places: Mapping[str, int], n: Mapping[str, int]
) -> tuple[dict[str, Column], list[str]]:
    """What n says of each column that is there, by its own examples or those of its parts; and what it does not."""
    given = {definitions.plain(name): count for name, count in n.items()}
    headline = _headline(definition, places)
    counts = {
        **definition.n,
        **{c: given[definitions.plain(c)] for c in definition.columns if definitions.plain(c) in given},
    }
    if "" in n:
        counts[headline] = n[""]
    averages = {one.column: one for one in definition.averages}
    columns = {}
    for column in definition.columns:
        sources = [column, *(other for group in definition.equal if column in group for other in group)]
        own = next(
            (averages[name] for name in sources if name in averages and _are_counted(averages[name], counts)), None
        )
        if column not in places:
            continue
        if column in counts:
            columns[column] = Column({column: (Fraction(1), counts[column], definition.comparisons.get(column, 1))}, {})
        elif own is not None:
            parts = {part: (w, counts[part], definition.comparisons.get(part, 1)) for part, w in own.parts.items()}
            columns[column] = Column(parts, dict(own.optional))
    lacking = [column for column in definition.columns if column in places and column not in columns]
    told = f"n is not known of {', '.join(lacking)}; --n COLUMN=N gives it, --n N that of {headline}"
    return columns, [told] if lacking and headline not in columns else []


def _headline(definition: Definition, places: Mapping[str, int]) -> str:
    """The average to look at first, of those that a table has."""
    averages = [definition.headline, *(one.column for one in definition.averages)]
    return next((column for column in averages if column in places), definition.headline)


def _are_counted(average: Average, counts: Mapping[str, int]) -> bool:
    return all(part in counts for part in average.parts)


class _Row:
    """One row by its definition: `findings`, whether something was `checked`, and how many parts an average counts."""

    def __init__(
        self, definition: Definition, present: set[str], figures: Mapping[str, Figure], model: str, number: int
    ) -> None:
        self._definition, self._present, self._figures = definition, present, figures
        self._model, self._number = model, number
        self._unfit: set[str] = set()  # averages that are none by their definition
        self.void: set[str] = set()  # columns whose zero is no figure
        self._means: dict[str, Figure] = {}
        self.findings: list[Finding] = []
        self.checked = False
        self.counted: dict[str, int] = {}

    def audit(self) -> None:
        for average in self._definition.averages:
            if all(part in self._present for part in average.parts):
                self._average(average)
        grouped = {column for group in self._definition.equal for column in group}
        for group in self._definition.equal:
            self._hold(group)
        for average in self._definition.averages:
            if average.column not in grouped:
                self._hold([average.column])

    def _average(self, average: Average) -> None:
        weights = {**average.parts, **average.optional}
        there = {part: weight for part, weight in weights.items() if part in self._figures}
        lacking = [part for part in average.parts if part not in there]
        if not there or len(lacking) == len(average.parts):
            return
        stated = self._figures.get(average.column)
        if self._zeros(average, there, stated):
            return
        if lacking:
            self._incomplete(average, there, lacking, stated)
            return
        self._means[average.column] = _mean(self._figures, there)
        if stated is not None:
            self.counted[average.column] = len(there)

    def _zeros(self, average: Average, there: Mapping[str, Fraction], stated: Figure | None) -> bool:
        """Whether zeros of the row stand for what is missing, so that its average is none by definition."""
        if stated is not None and stated.value == 0 and not _agree(stated, _mean(self._figures, there)):
            mean = _mean(self._figures, there)
            self._add(
                "zero", f"{average.column} is 0 and its parts make {_told(mean.value)}", {"mean": float(mean.value)}
            )
            self._unfit.add(average.column)
            self.void.add(average.column)
            return True
        zeros = [part for part in there if self._figures[part].value == 0]
        if len(zeros) == len(there) > 1:
            self._add("zero", f"{', '.join(zeros)} are all 0", {})
            self._unfit.add(average.column)
            self.void.update([*zeros, average.column])
            return True
        if not zeros or len(zeros) == len(there):
            return False
        counted = _mean(self._figures, there)
        if stated is None or _agree(stated, counted):
            what = f"which {average.column} counts" if stated is not None else "and no average tells whether it counts"
            self._add("counted zero", f"{', '.join(zeros)} is 0, {what}", {})
            return False
        for left_out in _subsets(zeros[:_MOST_ZEROS]):
            rest = {part: weight for part, weight in there.items() if part not in left_out}
            mean = _mean(self._figures, rest)
            if _agree(stated, mean):
                self._add(
                    "zero",
                    f"{', '.join(left_out)} is 0 for missing: {average.column} {_printed(stated)} is the mean without "
                    f"it, with it {_told(counted.value)}",
                    {"stated": float(stated.value), "with": float(counted.value), "without": float(mean.value)},
                )
                self.checked = True
                self.void.update(left_out)
                lacking = [part for part in average.parts if part not in rest]
                if lacking:
                    self._unfit.add(average.column)
                    self._incomplete(average, rest, lacking, stated)
                else:
                    self._means[average.column] = mean
                    self.counted[average.column] = len(rest)
                return True
        return False

    def _incomplete(
        self, average: Average, there: Mapping[str, Fraction], lacking: Sequence[str], stated: Figure | None
    ) -> None:
        """Parts are missing: is there an average all the same, of what, and how far from what it is to equal?"""
        self._unfit.add(average.column)
        missing = f"{', '.join(lacking)} missing"
        if stated is None:
            self._add("incomplete", f"{missing}, and no {average.column}", {})
            return
        mean = _mean(self._figures, there)
        what = "is the mean of the rest" if _agree(stated, mean) else "is stated"
        told, values = f"{missing}: {average.column} {_printed(stated)} {what}", {"stated": float(stated.value)}
        others = [
            (other, self._figures[other])
            for group in self._definition.equal
            if average.column in group
            for other in self._by_parts(group)
            if other in self._figures and not _agree(stated, self._figures[other])
        ]
        if others:
            other, figure = max(others, key=lambda pair: abs(pair[1].value - stated.value))
            told += f", {_told(abs(figure.value - stated.value))} from {other} {_printed(figure)}"
            values[other] = float(figure.value)
        self._add("incomplete", told, values)

    def _hold(self, group: Sequence[str]) -> None:
        """All that is known of averages that are one, two by two; the pair that is furthest apart is told."""
        readings = [
            _Reading(column, self._figures[column], True)
            for column in self._by_parts(group)
            if column in self._figures and column not in self._unfit
        ]
        readings += [_Reading(column, self._means[column], False) for column in group if column in self._means]
        self.checked = self.checked or len(readings) > 1
        zeros = [one for one in readings if one.stated and one.figure.value == 0]
        others = [one for one in readings if not any(_agree(one.figure, zero.figure) for zero in zeros)]
        if zeros and others:
            names = ", ".join(zero.name for zero in zeros)
            self._add("zero", f"{names} is 0 for missing: {_named(others[0])}", {})
            self.void.update(zero.name for zero in zeros)
            readings = others
        apart = [
            (abs(one.figure.value - other.figure.value), one.stated + other.stated, one, other)
            for one, other in combinations(readings, 2)
            if not _agree(one.figure, other.figure)
        ]
        if not apart:
            return
        stated = [pair for pair in apart if pair[1] == 2]
        gap, _, one, other = max(stated or apart, key=lambda pair: pair[:2])
        self._add(
            "contradicts",
            f"{_named(one)} and {_named(other)} are {_told(gap)} apart; rounding explains "
            f"{_told(one.figure.slack + other.figure.slack)}",
            {
                **{(x.name if x.stated else f"mean of the parts of {x.name}"): float(x.figure.value) for x in readings},
                "apart": float(gap),
                "rounding": float(one.figure.slack + other.figure.slack),
            },
        )

    def _by_parts(self, group: Sequence[str]) -> list[str]:
        """Averages that have parts first: they are what another is made of."""
        own = {average.column for average in self._definition.averages}
        return sorted(group, key=lambda column: column not in own)

    def _add(self, kind: str, told: str, values: Mapping[str, float]) -> None:
        self.findings.append(Finding(kind, self._model, told, self._number, values))


def _named(reading: _Reading) -> str:
    if reading.stated:
        return f"{reading.name} {_printed(reading.figure)}"
    return f"the mean {_told(reading.figure.value)} of the parts of {reading.name}"


def _printed(figure: Figure) -> str:
    """A number at the decimals that its table has."""
    decimals = len(str(Fraction(1, 2) / figure.slack)) - 1
    return f"{float(figure.value):.{decimals}f}"


def _mean(figures: Mapping[str, Figure], weights: Mapping[str, Fraction]) -> Figure:
    whole = sum(weights.values(), Fraction(0))
    value = sum((weight * figures[part].value for part, weight in weights.items()), Fraction(0)) / whole
    slack = sum((weight * figures[part].slack for part, weight in weights.items()), Fraction(0)) / whole
    return Figure(value, slack)


def _agree(one: Figure, other: Figure) -> bool:
    return abs(one.value - other.value) <= one.slack + other.slack


def _subsets(zeros: Sequence[str]) -> list[tuple[str, ...]]:
    return [subset for count in range(len(zeros), 0, -1) for subset in combinations(zeros, count)]


def _told(value: Fraction) -> str:
    return f"{float(value):.5g}"
