"""How the columns of a published table make its averages: `benchmarks.toml`, and files of users."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

from rmbench import bounded
from rmbench.errors import DataError, UsageError

_KEYS = {"title", "source", "equal", "columns", "averages", "n", "comparisons"}


@dataclass(frozen=True, slots=True)
class Average:
    """A column that is the weighted mean of others: of all `parts`, and of those of `optional` that a row has."""

    column: str
    parts: Mapping[str, Fraction]
    optional: Mapping[str, Fraction]


@dataclass(frozen=True, slots=True)
class Definition:
    """A benchmark's own definition of its averages; `equal` are those that are the same by definition.

    `n` are the independent examples of a column, `comparisons` how many comparisons one of them is the mean of.
    """

    name: str
    title: str
    source: str
    averages: Sequence[Average]
    equal: Sequence[Sequence[str]]
    names: Mapping[str, str]
    n: Mapping[str, int]
    comparisons: Mapping[str, int]

    @property
    def headline(self) -> str:
        """The average to look at first."""
        return self.equal[0][0] if self.equal else self.averages[0].column

    @property
    def columns(self) -> list[str]:
        """Every column that it speaks of, averages first."""
        averages = [column for group in self.equal for column in group] + [one.column for one in self.averages]
        parts = [part for one in self.averages for part in (*one.parts, *one.optional)]
        return list(dict.fromkeys([*averages, *parts]))

    def places(self, heading: Sequence[str]) -> dict[str, int]:
        """Which of its columns stand where in a heading: under its own name first, then under another."""
        taken = {plain(name): place for place, name in reversed(list(enumerate(heading)))}
        places = {column: taken[plain(column)] for column in self.columns if plain(column) in taken}
        for other, column in self.names.items():
            if column not in places and other in taken and taken[other] not in places.values():
                places[column] = taken[other]
        return places

    def fits(self, heading: Sequence[str]) -> bool:
        """Whether something can be computed again: an average and all its parts, or two that are to be equal."""
        places = self.places(heading)
        whole = {one.column for one in self.averages if all(part in places for part in one.parts)}
        stated = {column for column in places if column in whole}
        return bool(stated) or any(len({*places, *whole}.intersection(group)) > 1 for group in self.equal)


def plain(name: str) -> str:
    """A column's name without case, spaces and punctuation; a plus stays."""
    return re.sub(r"[^\w+]|_", "", name).casefold()


def read(path: Path | None = None) -> dict[str, Definition]:
    """The definitions of a file of the user's, where there is one, then those that come with rmbench.

    Raises DataError naming file and key.
    """
    shipped = resources.files("rmbench.audit").joinpath("benchmarks.toml").read_text("utf-8")
    own = {} if path is None else _parsed(_text(path), path.name)
    return own | {name: one for name, one in _parsed(shipped, "benchmarks.toml").items() if name not in own}


def chosen(definitions: Mapping[str, Definition], heading: Sequence[str], name: str | None = None) -> list[Definition]:
    """Those that fit a heading, none whose columns another holds too; or the one of that name. Raises UsageError."""
    if name is not None:
        if name not in definitions:
            raise UsageError(f"unknown benchmark {name!r}; expected one of {', '.join(definitions)}")
        return [definitions[name]] if definitions[name].fits(heading) else []
    fitting = [(one, set(one.places(heading).values())) for one in definitions.values() if one.fits(heading)]
    return [
        one
        for place, (one, columns) in enumerate(fitting)
        if not any(columns < other or (columns == other and i < place) for i, (_, other) in enumerate(fitting))
    ]


def _text(path: Path) -> str:
    try:
        return bounded.read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _parsed(text: str, file: str) -> dict[str, Definition]:
    try:
        tables = bounded.toml(text)
    except ValueError as error:
        raise DataError(f"{file}: invalid TOML: {error}") from error
    return {name: _definition(file, name, table) for name, table in tables.items()}


def _definition(file: str, name: str, table: Any) -> Definition:
    place = f"{file}, [{name}]"
    table = _table(table, place)
    for key in table:
        if key not in _KEYS:
            raise DataError(f"{place}: unknown key {key!r}; expected {', '.join(sorted(_KEYS))}")
    averages = [
        _average(f"{place}, averages.{column}", column, one)
        for column, one in _table(table.get("averages", {}), f"{place}, averages").items()
    ]
    equal = table.get("equal", [])
    if not isinstance(equal, list) or not all(isinstance(group, list) and len(group) > 1 for group in equal):
        raise DataError(f"{place}, equal = {equal!r}; expected lists of two columns or more")
    if not averages and not equal:
        raise DataError(f"{place}: expected a table averages.COLUMN, or equal, got neither")
    names = {
        plain(str(other)): column
        for column, others in _table(table.get("columns", {}), f"{place}, columns").items()
        for other in _list(others, f"{place}, columns.{column}")
    }
    return Definition(
        name, str(table.get("title", name)), str(table.get("source", "")), averages, equal, names,
        *(_counts(table.get(key, {}), f"{place}, {key}") for key in ("n", "comparisons")),
    )  # fmt: skip


def _average(place: str, column: str, table: Any) -> Average:
    table = _table(table, place)
    for key in table:
        if key not in ("parts", "optional"):
            raise DataError(f"{place}: unknown key {key!r}; expected parts or optional")
    parts = _weights(table.get("parts"), f"{place}, parts")
    if not parts:
        raise DataError(f"{place}: expected parts, the columns that it is the mean of")
    return Average(column, parts, _weights(table.get("optional", {}), f"{place}, optional"))


def _weights(given: Any, place: str) -> dict[str, Fraction]:
    if isinstance(given, list):
        given = dict.fromkeys(map(str, given), 1)
    weights = {}
    for part, weight in _table(given, place).items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise DataError(f"{place}.{part} = {weight!r}; expected a weight above 0")
        weights[part] = Fraction(str(weight))
    return weights


def _counts(given: Any, place: str) -> dict[str, int]:
    counts = _table(given, place)
    for column, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise DataError(f"{place}.{column} = {count!r}; expected a whole number from 1")
    return counts


def _table(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{place}: expected a table, got {value!r:.80}")
    return value


def _list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{place}: expected a list of names, got {value!r:.80}")
    return value
