"""Rows out of files: JSON, JSON lines, CSV and Parquet, each also gzipped, or a folder of them."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, BinaryIO, cast

from rmbench.errors import DataError

# an escaped half of a surrogate pair: legal in JSON, but no character, so no tokenizer and no hash takes it
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SPACE = re.compile(r"\s*")
_DECODER = json.JSONDecoder()
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Row:
    """One object of a file. `file` is a name, relative to the folder read; `number` counts from 1 in each file.

    `number` is the line in JSON lines, the element of a JSON list, the record of a CSV file or Parquet table.
    """

    value: dict[str, Any]
    file: str
    number: int

    def error(self, problem: str, field: str | None = None) -> DataError:
        """A DataError that names file, row and field."""
        place = f"{self.file}, row {self.number}" + (f", `{field}`" if field else "")
        return DataError(f"{place}: {problem}")

    def first(self, fields: tuple[str, ...]) -> str | None:
        """The first of `fields` that the row has."""
        for field in fields:
            if field in self.value:
                return field
        return None

    def need(self, fields: tuple[str, ...], expected: str) -> str:
        """The first of `fields` that the row has. Raises DataError that lists what is there and what was `expected`."""
        field = self.first(fields)
        if field is None:
            found = ", ".join(f"`{name}`" for name in list(self.value)[:12]) or "nothing"
            raise self.error(f"no `{fields[0]}`; found {found}; {expected}")
        return field

    def objects(self, field: str, expected: str) -> list[dict[str, Any]]:
        """The objects listed in `field`. Raises DataError where it is no such list."""
        self.need((field,), expected)
        value = self.value[field]
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise self.error(f"expected a list of objects, got {shown(value)}; {expected}", field)
        return value

    def filled(self, fields: tuple[str, ...]) -> str | None:
        """The first of `fields` that is neither null nor empty."""
        for field in fields:
            if self.value.get(field) not in (None, "", []):
                return field
        return None

    def name(self, fields: tuple[str, ...]) -> str | None:
        """The value of the first of `fields` that is neither null nor empty, as text."""
        field = self.filled(fields)
        return None if field is None else str(self.value[field])

    def text(self, field: str) -> str:
        """The text in `field`. Raises DataError where it is none."""
        value = self.value.get(field)
        if not isinstance(value, str):
            raise self.error(f"expected a text, got {shown(value)}", field)
        return value


def shown(value: object) -> str:
    """`value` as an error message quotes it: on one line, cut."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, or of every data file under a folder in the order of their names.

    The suffix says the format; a `.json` may hold a list of objects or one object a line. Raises DataError for a
    missing or unreadable file, another suffix, text that is not UTF-8, JSON or CSV that does not parse, a row that is
    no object, and a file without rows.
    """
    for file in _files(path):
        name, number = _name(file, path), 0
        try:
            with _open(file) as stream:
                for number, value in _READERS[_format(file)](stream, name):
                    if not isinstance(value, dict):
                        raise DataError(
                            f"{name}, row {number}: expected an object with named fields, got {shown(value)}"
                        )
                    yield Row(value, name, number)
        except (OSError, EOFError, zlib.error) as error:
            cause = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            raise DataError(f"{name}: cannot be read: {cause}") from error
        if not number:
            raise DataError(f"{name}: no rows in it")


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes; of a folder, over the names and hashes of the files that `read_rows` reads."""
    files = _files(path)
    if not path.is_dir():
        return _bytes_sha256(path)
    listing = "".join(f"{_name(file, path)}\0{_bytes_sha256(file)}\n" for file in files)
    return sha256(listing.encode()).hexdigest()


def stem(path: Path) -> str:
    """The name of a data file without `.json.gz` and the like."""
    suffix = _suffix(path)
    return path.name[: -len(suffix)] if suffix else path.name


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if not path.is_dir():
        _format(path)
        return [path]
    found = sorted(file for file in path.rglob("*") if file.is_file() and _suffix(file) and not _hidden(file, path))
    if not found:
        raise DataError(f"{path.name}: no data file in this folder; expected {_KNOWN}")
    return found


def _name(file: Path, given: Path) -> str:
    return file.relative_to(given).as_posix() if given.is_dir() else file.name


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _suffix(path: Path) -> str:
    """`.jsonl` or `.jsonl.gz`, "" for a file of no known format."""
    name = path.name.lower()
    return next((s for plain in _READERS for s in (plain, plain + ".gz") if name.endswith(s)), "")


def _format(path: Path) -> str:
    suffix = _suffix(path)
    if not suffix:
        raise DataError(f"{path.name}: unsupported format {path.suffix or '(no suffix)'}; expected {_KNOWN}")
    return suffix.removesuffix(".gz")


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


def _bytes_sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path.name}: cannot be read: {error.strerror}") from error


def _json(stream: BinaryIO, name: str) -> Iterator[tuple[int, Any]]:
    data = stream.read().removeprefix(codecs.BOM_UTF8).lstrip()
    if data.startswith(b"["):
        return _json_list(_decoded(data, name), name)
    if data.partition(b"\n")[0].strip() == b"{":
        raise DataError(f"{name}: one JSON object over several lines; expected a list of objects, or one object a line")
    return _json_lines(io.BytesIO(data), name)


def _json_list(text: str, name: str) -> Iterator[tuple[int, Any]]:
    """Element by element, so that an error can name the row."""
    position, number, separator = _next(text, 1), 0, ","
    if text[position:] == "]":
        return
    while separator == ",":
        number += 1
        place = f"{name}, row {number}"
        value, end = _element(text, _next(text, position), place)
        yield number, value
        position = _next(text, end)
        separator, position = text[position : position + 1], position + 1
    if separator != "]":
        raise DataError(f"{place}: invalid JSON: expected `,` or `]` after it, got {separator!r}")
    if text[position:].strip():
        raise DataError(f"{place}: invalid JSON: more text after the end of the list")


def _json_lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(stream, 1):
        place = f"{name}, row {number}"
        text = _decoded(line, place).strip()
        if text:
            value, end = _element(text, 0, place)
            if end < len(text):
                raise DataError(f"{place}: invalid JSON: more text after the object")
            yield number, value


def _element(text: str, start: int, place: str) -> tuple[Any, int]:
    """The JSON value that starts there, and where it ends."""
    try:
        value, end = _DECODER.raw_decode(text, start)
        if _SURROGATE.search(text, start, end):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: invalid JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: JSON that holds no usable value: {error}") from error
    return value, end


def _next(text: str, position: int) -> int:
    """The position of the next character that is no white space."""
    return cast("re.Match[str]", _SPACE.match(text, position)).end()


def _decoded(data: bytes, place: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        where = f"offset {error.start}" if line == 1 else f"line {line}"
        raise DataError(f"{place}: not UTF-8: byte {data[error.start]:#04x} at {where}") from error


def _csv(stream: BinaryIO, name: str) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(2**31 - 1)  # the default, 128 KiB, is shorter than a long response
    number = 0
    records = csv.reader(io.StringIO(_decoded(stream.read(), name), newline=""), strict=True)
    try:
        header = next(records, [])
        if len(set(header)) < len(header):
            raise DataError(f"{name}: two columns of one name in the header: {shown(header)}")
        for record in filter(None, records):
            number += 1
            if len(record) != len(header):
                raise DataError(f"{name}, row {number}: {len(record)} fields; the header has {len(header)}")
            yield number, dict(zip(header, record, strict=True))
    except csv.Error as error:
        raise DataError(f"{name}, row {number + 1}: invalid CSV: {error}") from error


def _parquet(stream: BinaryIO, name: str) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        # A plain file is read a row group at a time; what is packed cannot be read from its end
        table = pq.ParquetFile(stream if isinstance(stream, io.BufferedReader) else io.BytesIO(stream.read()))
        for batch in table.iter_batches(batch_size=1024):
            for value in batch.to_pylist():
                number += 1
                yield number, value
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{name}: not a readable Parquet file: {str(error).splitlines()[0]}") from error


_READERS: dict[str, Callable[[BinaryIO, str], Iterator[tuple[int, Any]]]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".parquet": _parquet,
}
_KNOWN = f"{', '.join(_READERS)}, each also with .gz"
