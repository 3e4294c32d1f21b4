"""A published table as it is printed: exact numbers, and how far rounding may have moved each."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path

from rmbench import bounded
from rmbench.errors import DataError

_MISSING = {"", "-", "--", "---", "–", "—", "n/a", "na", "nan", "none", "null", "not available", "tbd", "?", "/"}  # noqa: RUF001
_NAMES = ("model", "modelname", "rm", "rewardmodel", "name", "method", "judge", "subject")
_DECORATION = re.compile(r"\s*(±|\+/-|\()[^)]*\)?\s*$")
_MOST_DECIMALS = 30


@dataclass(frozen=True, slots=True)
class Row:
    """One row: `number` counts from 1 below the heading; a cell is None where it says that nothing is there."""

    number: int
    model: str
    cells: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts under a heading, the columns of which are the figures of each row; `turned` where these stood as
    rows. `part` is the group that names share, as `RMB` of `RMB/Overall`."""

    file: str
    heading: Sequence[str]
    rows: Sequence[Row]
    turned: bool = False
    part: str = ""

    def error(self, row: Row, place: int, problem: str) -> DataError:
        """What is wrong with a cell."""
        field = f"{self.part}/{self.heading[place]}" if self.part else self.heading[place]
        where = f"column {row.number + 1}" if self.turned else f"row {row.number}"
        return DataError(f"{self.file}, {where} ({row.model}), `{field}`: {problem}")


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and how far it may be from what was rounded to it."""

    value: Fraction
    slack: Fraction


def read(path: Path) -> list[Table]:
    """A CSV or TSV file as it stands, then, where its names have groups, each group; then all that turned round.

    Raises DataError naming file and row.
    """
    try:
        text = bounded.read_text(path, "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    heading = text.partition("\n")[0]
    delimiter = max("\t,;", key=heading.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [[cell.strip() for cell in line] for line in reader if any(cell.strip() for cell in line)]
    except csv.Error as error:
        raise DataError(f"{path.name}, line {reader.line_num}: invalid CSV ({error})") from error
    if len(lines) < 2:
        raise DataError(f"{path.name}: expected a heading and a row or more, got {len(lines)} lines")
    for number, line in enumerate(lines[1:], 1):
        if len(line) != len(lines[0]):
            raise DataError(f"{path.name}, row {number}: expected {len(lines[0])} cells, one a column, got {len(line)}")
    turned = [list(line) for line in zip(*lines, strict=True)]
    return [*_tables(path.name, lines, False), *_tables(path.name, turned, True)]


def _tables(file: str, lines: Sequence[Sequence[str]], turned: bool) -> list[Table]:
    heading = list(lines[0])
    column = _model_column(lines)
    rows = [Row(number, line[column], line) for number, line in enumerate(lines[1:], 1)]
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(heading):
        if "/" in name:
            groups.setdefault(name.partition("/")[0].strip(), []).append(place)
    return [
        Table(file, heading, rows, turned),
        *(
            Table(
                file,
                [heading[place].partition("/")[2].strip() for place in places],
                [Row(row.number, row.model, [row.cells[place] for place in places]) for row in rows],
                turned,
                group,
            )
            for group, places in groups.items()
            if len(places) > 1
        ),
    ]


def _model_column(lines: Sequence[Sequence[str]]) -> int:
    """Where the names of rows stand: under such a name, else the first column that is no numbers, else the first."""
    names = [re.sub(r"\W|_", "", name).casefold() for name in lines[0]]
    named = [names.index(name) for name in _NAMES if name in names]
    texts = [place for place in range(len(names)) if any(number(line[place]) is None for line in lines[1:])]
    filled = [place for place in texts if all(line[place].casefold() not in _MISSING for line in lines[1:])]
    return [*named, *filled, 0][0]


def number(text: str) -> Decimal | None:
    """What a cell says, without what is printed around it (`**`, a dagger, `%`, `± 0.4`); None for what is no number.

    >>> number("**81.20** %")
    Decimal('81.20')
    """
    inner = _DECORATION.sub("", text.replace("−", "-")).strip(" *†‡%_~$\\^<>")  # noqa: RUF001
    inner = inner[:-1] + "." if inner.endswith(".") else inner
    try:
        value = Decimal(inner) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", inner) else None
    except InvalidOperation:
        return None
    return value


def figures(table: Table, places: Sequence[int]) -> list[dict[int, Figure]]:
    """The figures of each row by their column, of these columns; what is missing is not there.

    A number stands for all that rounds to it, at as many decimals as it is printed with. Where programs drop zeros at
    the end (84 among 84.1) these are as many as both its column and its row have elsewhere, so that a row that was
    copied from where fewer are printed is held to its own. Raises DataError for a text that is no number.
    """
    values: list[dict[int, Decimal]] = []
    for row in table.rows:
        stated = {}
        for place in places:
            text = row.cells[place]
            value = number(text)
            if value is not None and _decimals(value) <= _MOST_DECIMALS:
                stated[place] = value
            elif text.casefold() not in _MISSING:
                raise table.error(row, place, f"expected a number or nothing, got {text!r:.80}")
        values.append(stated)
    of_columns = {place: max((_decimals(one[place]) for one in values if place in one), default=0) for place in places}
    rows = []
    for one in values:
        of_row = max(map(_decimals, one.values()), default=0)
        rows.append(
            {
                place: Figure(
                    Fraction(value),
                    Fraction(1, 2 * 10 ** max(_decimals(value), min(of_columns[place], of_row))),
                )
                for place, value in one.items()
            }
        )
    return rows


def _decimals(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
