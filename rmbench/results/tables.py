"""Tables for users: JSON lines, CSV, TSV or Parquet, in a file or on standard output, and never over what was read."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmbench.errors import ResultError, UsageError
from rmbench.results.files import check_writable, put

if TYPE_CHECKING:
    import pyarrow as pa

STDOUT = "-"
FORMATS = ("jsonl", "csv", "tsv", "parquet")
Columns = Mapping[str, "Sequence[Any] | pa.Array"]  # of one length; an Arrow array has a type that is kept


@dataclass(frozen=True)
class Target:
    """Where a table goes: a file, or standard output where `path` is None, in one of `FORMATS`."""

    path: Path | None
    format: str

    def __str__(self) -> str:
        return "standard output" if self.path is None else str(self.path)

    def write(self, columns: Columns) -> list[str]:
        """Writes the table, of a file beside it and moved into place; gives a line about each column that became text.

        Raises ResultError where it cannot be written.
        """
        content, notes = _WRITERS[self.format](columns)
        if self.path is None:
            sys.stdout.flush()
            out = getattr(sys.stdout, "buffer", None)
            out.write(content) if out is not None else sys.stdout.write(content.decode(errors="replace"))
            sys.stdout.flush()
            return notes
        place = Path(os.path.realpath(self.path))
        try:
            if place.exists() and not place.is_file():  # a device or a pipe is written to, never replaced
                place.write_bytes(content)
            else:
                put(place, content)
        except OSError as error:
            raise ResultError(f"{self.path}: cannot be written ({error.strerror or error})") from error
        return notes


def target(out: str | Path, inputs: Sequence[Path] = (), *, form: str | None = None) -> Target:
    """Where `out` says that a table goes, `-` being standard output; `form` is its format where the suffix is not.

    Raises UsageError for a suffix that says no format and where one of `inputs`, files or folders, would be replaced or
    have one file more, and ResultError where nothing can be written there: better before scoring than after.
    """
    if str(out) == STDOUT:
        return Target(None, form or "jsonl")
    path = Path(out)
    chosen = form or path.suffix.lower().removeprefix(".")
    if chosen not in FORMATS:
        raise UsageError(f"{path}: cannot tell what to write; .{', .'.join(FORMATS[:-1])} or .{FORMATS[-1]} would do")
    if path.is_dir():
        raise UsageError(f"-o {path}: a folder; expected a file")
    for given in inputs:
        if _is_of(path, given):
            raise UsageError(f"-o {path} would write over {given}, which is read; name another file")
    check_writable(Path(os.path.realpath(path)).parent)
    return Target(path, chosen)


def _is_of(path: Path, given: Path) -> bool:
    """Whether `path` is the file `given`, or one that is in that folder, under whatever name or link."""
    try:
        if not given.exists():
            return False
        place, source = (Path(os.path.realpath(one)) for one in (path, given))
        if source == place or source in place.parents:
            return True
        if not path.exists():
            return False
        within = (file for file in given.rglob("*") if file.is_file()) if given.is_dir() else [given]
        return any(os.path.samefile(path, file) for file in within)
    except (OSError, ValueError):  # no path at all; whoever reads it says so
        return False


def _rows(columns: Columns) -> Iterator[tuple[Any, ...]]:
    lists = [values if isinstance(values, list | tuple) else _listed(values) for values in columns.values()]
    return zip(*lists, strict=True)


def _listed(values: Any) -> list[Any]:
    """An Arrow array as a list, its maps as dictionaries."""
    import pyarrow as pa

    plain: list[Any] = values.to_pylist()
    if pa.types.is_map(values.type):
        return [None if one is None else dict(one) for one in plain]
    return plain


def _json_lines(columns: Columns) -> tuple[bytes, list[str]]:
    lines = (json.dumps(dict(zip(columns, map(_plain, row), strict=True)), allow_nan=False) for row in _rows(columns))
    return "".join(f"{line}\n" for line in lines).encode(), []


def _csv(columns: Columns, delimiter: str = ",") -> tuple[bytes, list[str]]:
    written = io.StringIO(newline="")
    sheet = csv.writer(written, delimiter=delimiter, lineterminator="\n")
    sheet.writerow(columns)
    sheet.writerows([_cell(value) for value in row] for row in _rows(columns))
    return written.getvalue().encode(errors="backslashreplace"), []


def _tsv(columns: Columns) -> tuple[bytes, list[str]]:
    return _csv(columns, "\t")


def _parquet(columns: Columns) -> tuple[bytes, list[str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays, notes = {}, []
    for name, values in columns.items():
        array = values if isinstance(values, pa.Array) else _array(values)
        if array is None:
            notes.append(f"`{name}` holds values of different types, which are texts in a Parquet file")
            array = pa.array([None if value is None else _cell(value) for value in values], pa.string())
        arrays[name] = array
    sink = io.BytesIO()
    pq.write_table(pa.table(arrays), sink, compression="zstd")
    return sink.getvalue(), notes


def _array(values: Sequence[Any]) -> pa.Array | None:
    """Of one type, None where there is no such type, or Parquet cannot hold it."""
    import pyarrow as pa

    try:
        array = pa.array(values)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
    return array if _is_kept(array.type) else None


def _is_kept(kind: Any) -> bool:
    """Whether Parquet holds a type: not an object without fields, wherever in it."""
    import pyarrow as pa

    if pa.types.is_struct(kind) and not kind.num_fields:
        return False
    return all(_is_kept(kind.field(place).type) for place in range(kind.num_fields))


def _cell(value: Any) -> str:
    """A value as a text: itself, "" of None, what is nested as JSON."""
    value = _plain(value)
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """A value as JSON has it: an infinity is a text, as `float` reads it, nan is null, bytes are base64."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


_WRITERS: Mapping[str, Callable[[Columns], tuple[bytes, list[str]]]] = {
    "jsonl": _json_lines,
    "csv": _csv,
    "tsv": _tsv,
    "parquet": _parquet,
}
