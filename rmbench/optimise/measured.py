"""What was measured of policies that were trained on a reward, beside what best-of-n predicts: a CSV table."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from rmbench import bounded
from rmbench.errors import DataError
from rmbench.metrics.curve import Figure
from rmbench.optimise.report import Measured

COLUMNS = ("reward", "method", "kl", "gold", "low", "high", "source")
_MAY_BE_EMPTY = ("low", "high", "source")


def read_measured(path: Path) -> list[Measured]:
    """The rows of a table with the columns `reward`, `method`, `kl` in nats from the policy and `gold`; `low` and
    `high`, the ends of a 95 % interval of gold, and `source` may be empty or absent.

    Raises DataError naming file, row and field; row 1 is below the heading.
    """
    try:
        text = bounded.read_text(path, "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        heading = rows.fieldnames or []
        if lacking := [name for name in COLUMNS if name not in heading and name not in _MAY_BE_EMPTY]:
            there = ", ".join(heading) or "nothing"
            raise DataError(f"{path.name}: no column {lacking[0]!r}; expected {', '.join(COLUMNS)}, got {there}")
        if twice := [name for name in COLUMNS if heading.count(name) > 1]:
            raise DataError(f"{path.name}: two columns {twice[0]!r}; expected one")
        measured = [_row(path.name, number, row) for number, row in enumerate(rows, 1)]
    except csv.Error as error:
        raise DataError(f"{path.name}, line {rows.line_num}: invalid CSV ({error})") from error
    if not measured:
        raise DataError(f"{path.name}: no rows in it")
    return measured


def _row(file: str, number: int, row: dict[str, str | None]) -> Measured:
    place = f"{file}, row {number}"
    if more := row.get(None):  # type: ignore[call-overload]
        raise DataError(f"{place}: {len(more)} more than the columns of the heading; the first is {more[0]!r:.40}")
    for name in ("reward", "method"):
        if not row.get(name):
            raise DataError(f"{place}, `{name}`: expected a name, got nothing")
    kl, gold = _number(place, row, "kl"), _number(place, row, "gold")
    ends = [_number(place, row, name) if row.get(name) else math.nan for name in ("low", "high")]
    if kl < 0:
        raise DataError(f"{place}, `kl`: expected nats from 0, got {kl:g}")
    if ends[0] > gold or ends[1] < gold:
        told = " to ".join("nothing" if math.isnan(end) else f"{end:g}" for end in ends)
        raise DataError(f"{place}, `low`: expected an interval around {gold:g}, got {told}")
    return Measured(row["reward"] or "", row["method"] or "", kl, Figure(gold, *ends), row.get("source") or "")


def _number(place: str, row: dict[str, str | None], name: str) -> float:
    text = row.get(name) or ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{place}, `{name}`: expected a number, got {text!r:.40}")
    return value
