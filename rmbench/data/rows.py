"""A row of data, what it says where something is wrong with it, and which of its columns somebody read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from rmbench import bounded
from rmbench.errors import DataError, NoExampleError, WrongFileError

_T = TypeVar("_T")
NO_PROMPT = "no prompt"  # why a row is left out
_SHOWN = 40
_LISTED = 12
COLUMN, FIELD, TEMPLATE = "column not read: ", "message field not read: ", "message field that only a template sees: "


class Tally:
    """What the rows of one data set have, and what of it somebody read.

    `columns` maps the names that readers know to those that the data use. With `skip_bad_rows` a row that cannot be
    read is counted and left out, instead of being an error.
    """

    def __init__(self, columns: Mapping[str, str] | None = None, *, skip_bad_rows: bool = False) -> None:
        self.columns, self.skip_bad_rows = dict(columns or {}), skip_bad_rows
        self.asked: set[str] = set()
        self.wanted: set[tuple[str, ...]] = set()  # names of which a row was asked for the first that it has
        self.bits: dict[str, int] = {}  # of each name that is asked for, in what a row remembers
        self._there: Counter[str] = Counter()
        self._read: Counter[str] = Counter()
        self._odd: Counter[str] = Counter()

    def fields(self, given: Mapping[str, Any]) -> Fields:
        """A row's columns by the names that readers know. One that another column stands for is nobody's to read."""
        there = self._there
        for name, value in given.items():
            there[name] += value is not None and value not in ("", [], {})
        taken = {ours: given[theirs] for ours, theirs in self.columns.items() if theirs in given}
        hidden = {*self.columns, *self.columns.values()} if self.columns else set()
        return Fields({name: value for name, value in given.items() if name not in hidden} | taken, given, self)

    def known(self) -> set[str]:
        """The columns that some reader asks for."""
        return self.asked.union(*self.wanted)

    def count_read(self, name: str) -> None:
        """Counts that the column of a row is read that readers know by `name`."""
        self._read[self.columns.get(name, name)] += 1

    def note(self, what: str) -> None:
        """Counts something odd, such as a field of a message that is not read."""
        self._odd[what] += 1

    def noted(self) -> dict[str, int]:
        """What was noted, and what was not read, as `column not read: NAME`; each with how many rows have it."""
        columns = {name: count - self._read[name] for name, count in self._there.items()}
        return {COLUMN + name: count for name, count in columns.items() if count > 0} | dict(self._odd)

    def names(self) -> list[str]:
        """The columns that some row has."""
        return list(self._there)


class Fields(dict[str, Any]):
    """A row's columns. They remember which of them were read; `given` is the row as it stands in the data."""

    __slots__ = ("_seen", "_tally", "given")

    def __init__(self, values: Mapping[str, Any], given: Mapping[str, Any], tally: Tally) -> None:
        super().__init__(values)
        self.given, self._tally, self._seen = given, tally, 0

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        self._look(name, value)
        return value

    def __contains__(self, name: object) -> bool:
        self._tally.asked.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a column, which counts as read."""
        value = super().get(name, default)
        self._look(name, value)
        return value

    def leave_out(self) -> None:
        """Counts nothing of this row as not read: it makes no example, which is counted by itself."""
        for name, value in self.items():
            self._look(name, value)

    def _look(self, name: str, value: Any) -> None:
        tally = self._tally
        try:
            bit = tally.bits[name]
        except KeyError:  # the first time that anybody asks for it
            tally.asked.add(name)
            bit = tally.bits[name] = 1 << len(tally.bits)
        if not self._seen & bit and value is not None and value not in ("", [], {}):
            self._seen |= bit
            tally.count_read(name)


@dataclass(frozen=True, slots=True)
class Row:
    """One object of a file. `file` is a name, relative to the folder read; `number` counts from 1 in each file.

    `number` is the line in JSON lines, the element of a JSON list, the record of a CSV file or Parquet table. `tally`
    is that of the data it is of, None where it stands alone.
    """

    value: dict[str, Any]
    file: str
    number: int
    tally: Tally | None = field(default=None, compare=False, repr=False)

    @property
    def given(self) -> Mapping[str, Any]:
        """The row as it stands in the data, whatever its columns are read as."""
        return self.value.given if isinstance(self.value, Fields) else self.value

    def error(
        self, problem: str, field: str | None = None, *, reason: str | None = None, kind: type[DataError] = DataError
    ) -> DataError:
        """A DataError that names file, row and field. `reason` is what it is counted under, where rows are left out."""
        named = self.tally.columns.get(field, field) if self.tally and field else field
        place = f"{self.file}, row {self.number}" + (f", `{named}`" if named else "")
        if reason is None:
            reason = problem.partition(", got ")[0].partition("; found ")[0]
            reason = f"`{named}`: {reason}" if named else reason
        return kind(f"{place}: {problem}", reason=reason)

    def no_example(self, reason: str, field: str | None = None) -> DataError:
        """What a row is left out and counted for, by itself."""
        return self.error(reason, field, reason=reason, kind=NoExampleError)

    def leave_out(self) -> None:
        """Takes the row out of what is counted as not read."""
        if isinstance(self.value, Fields):
            self.value.leave_out()

    def note(self, what: str) -> None:
        """Counts something odd about the data that this row is of."""
        if self.tally is not None:
            self.tally.note(what)

    def peek(self, field: str) -> Any:
        """The value of a column, which does not count as read."""
        return dict.get(self.value, field)

    def of(self, value: dict[str, Any]) -> Row:
        """An object within this row, as a row of the same place."""
        return replace(self, value=value, tally=None)

    def first(self, fields: tuple[str, ...]) -> str | None:
        """The first of `fields` that the row has."""
        self._want(fields)
        return next((name for name in fields if dict.__contains__(self.value, name)), None)

    def need(self, fields: tuple[str, ...], expected: str) -> str:
        """The first of `fields` that the row has. Raises DataError that lists what is there and what was `expected`."""
        field = self.first(fields)
        if field is None:
            raise self.lacks(fields[0], expected)
        return field

    def lacks(self, field: str, expected: str) -> DataError:
        """The error of a row without `field`: what it has instead, what was `expected`, and how to name another."""
        read = {field, *(self.tally.known() if self.tally else ())}
        near = [f"{name.lower()}={name}" for name in self.given if name.lower() in read - {name}]
        option = f"; --columns {','.join(near) or f'{field}=COLUMN'} would read it" if self.tally else ""
        kind = WrongFileError if self.tally and self.number == 1 else DataError
        columns = self.tally.columns.items() if self.tally else ()
        taken = "".join(f", which is read as `{ours}`" for ours, theirs in columns if theirs == field != ours)
        return self.error(f"no `{field}`{taken}; found {listed(self.given)}; {expected}{option}", kind=kind)

    def objects(self, field: str, expected: str) -> list[dict[str, Any]]:
        """The objects listed in `field`. Raises DataError where it is no such list."""
        self.need((field,), expected)
        value = self.value[field]
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise self.error(f"expected a list of objects, got {shown(value)}; {expected}", field)
        return value

    def filled(self, fields: tuple[str, ...]) -> str | None:
        """The first of `fields` that is neither null nor empty; it counts as read when its value is."""
        self._want(fields)
        for name in fields:
            value = dict.get(self.value, name)
            if value is not None and value not in ("", []):
                return name
        return None

    def name(self, fields: tuple[str, ...]) -> str | None:
        """The value of the first of `fields` that is neither null nor empty, as text. Raises DataError for one that is
        too long for a name."""
        name = self.words(fields)
        if name is not None and len(name) > bounded.MOST_NAME:
            raise self.error(
                f"expected a name of at most {bounded.MOST_NAME:,} characters, got {len(name):,}", self.filled(fields)
            )
        return name

    def words(self, fields: tuple[str, ...]) -> str | None:
        """The value of the first of `fields` that is neither null nor empty, as text of any length."""
        field = self.filled(fields)
        return None if field is None else str(self.value[field])

    def _want(self, fields: tuple[str, ...]) -> None:
        if self.tally is not None:
            self.tally.wanted.add(fields)

    def text(self, field: str) -> str:
        """The text in `field`. Raises DataError where it is none."""
        value = self.value.get(field)
        if not isinstance(value, str):
            raise self.error(f"expected a text, got {shown(value)}", field)
        return value

    def one_of(self, field: str, meanings: Mapping[Any, _T]) -> _T:
        """What the value of `field` means, among numbers and texts that mean something.

        A whole number may stand there as a text, as in CSV, or with a point, as in a Parquet column that has gaps.
        Raises DataError for any other value.
        """
        value = self.value.get(field)
        written = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        for name, meaning in meanings.items():
            if str(name) == written:
                return meaning
        *names, last = map(repr, meanings)
        raise self.error(f"expected {', '.join(names)} or {last}, got {shown(value)}", field)

    def texts(self, field: str) -> list[str]:
        """The texts listed in `field`, one at least. Raises DataError where it is no such list."""
        value = self.value.get(field)
        if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
            raise self.error(f"expected a list of texts, got {shown(value)}", field)
        return value


def shown(value: object) -> str:
    """`value` as an error message quotes it: on one line, cut."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def listed(names: Collection[str]) -> str:
    """Names as an error message lists them: the first twelve."""
    return ", ".join(f"`{name}`" for name in [*names][:_LISTED]) or "nothing"


def told(noted: Mapping[str, int]) -> list[str]:
    """Notes on data as lines: of all columns, or fields, that were not read one."""
    lines = [f"{what}: {count:,}" for what, count in noted.items() if not what.startswith((COLUMN, FIELD, TEMPLATE))]
    for kind, title in ((COLUMN, "columns not read"), (FIELD, "message fields not read"),
                        (TEMPLATE, "message fields that only a template sees")):  # fmt: skip
        named = [f"{what.removeprefix(kind)} ({count:,})" for what, count in noted.items() if what.startswith(kind)]
        if named:
            lines.append(f"{title}: {', '.join(named)}")
    return lines
