"""Rows out of files: JSON, JSON lines, CSV and Parquet, each also gzipped, or a folder of them."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, BinaryIO, cast

from rmbench import bounded
from rmbench.data.rows import Row, Tally, listed, shown
from rmbench.data.saved import SPLITS, is_saved, read_saved, with_images_as_bytes
from rmbench.errors import DataError, UsageError, WrongFileError

__all__ = ["Row", "Rows", "file_sha256", "read_rows", "rows_of", "rows_sha256", "shown", "stem"]

_HEADER = 1 << 20  # characters that the first line of a table may have

# an escaped half of a surrogate pair: legal in JSON, but no character, so no tokenizer and no hash takes it
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SPACE = re.compile(r"\s*")
_DECODER = json.JSONDecoder()


class Rows:
    """The rows of a file, of every data file under a folder, or given as objects; read anew at each turn.

    `columns` and `skip_bad_rows` are those of a `Tally`. `count` are the rows of the last turn, `skipped` those that
    could not be read by reason, and `file` is the name of the one that the last row is of.
    """

    def __init__(
        self,
        source: Path | Iterable[Any],
        *,
        columns: Mapping[str, str] | None = None,
        skip_bad_rows: bool = False,
    ) -> None:
        self.path = source if isinstance(source, Path) else None
        self.name = "rows" if self.path is None else self.path.resolve().name
        self._given: Iterable[Any] = () if isinstance(source, Path) else source
        self._choice = columns, skip_bad_rows
        self._start()

    def _start(self) -> None:
        columns, skip_bad_rows = self._choice
        self.tally = Tally(columns, skip_bad_rows=skip_bad_rows)
        self.count, self.skipped, self.file = 0, Counter[str](), self.name

    def __iter__(self) -> Iterator[Row]:
        self._start()
        places: Iterator[tuple[int, Any, str]]
        if self.path is None:
            places = ((number, _plain(value), self.name) for number, value in enumerate(self._given, 1))
        else:
            places = (place for file in _files(self.path) for place in _rows_of(file, self.path))
        for number, value, file in places:
            self.count, self.file = self.count + 1, file
            if isinstance(value, dict):
                yield Row(self.tally.fields(value), file, number, self.tally)
                continue
            error = value if isinstance(value, DataError) else _no_object(value, file, number)
            if not self.tally.skip_bad_rows:
                raise error
            self.skipped[f"bad row: {error.reason}"] += 1
        if self.path is None and not self.count:
            raise DataError(f"{self.name}: no rows in it")

    def sha256(self) -> str:
        """What stands for these rows, in this order and read by these columns."""
        digest = rows_sha256(map(_plain, self._given)) if self.path is None else file_sha256(self.path)
        columns, _ = self._choice
        if not columns:
            return digest
        return sha256(f"{digest}|{json.dumps(dict(columns), sort_keys=True)}|".encode()).hexdigest()

    def noted(self) -> dict[str, int]:
        """What of the rows nobody read (`Tally.noted`). Raises UsageError for a column that no row has, and for one
        that is named as what no reader asks for."""
        columns, _ = self._choice
        names = self.tally.names()
        for ours, theirs in (columns or {}).items():
            if theirs not in names:
                raise UsageError(f"--columns {ours}={theirs}: {self.name} has no column `{theirs}`; "
                                 f"found {listed(names)}")  # fmt: skip
            if ours not in self.tally.known():
                read = ", ".join(sorted(self.tally.known()))
                raise UsageError(f"--columns {ours}={theirs}: nothing here reads `{ours}`; expected one of {read}")
        return self.tally.noted()


def rows_of(source: object, *, columns: Mapping[str, str] | None = None, skip_bad_rows: bool = False) -> Rows:
    """The rows of a path, of a list of mappings, or of a `datasets.Dataset`. Raises UsageError for anything else."""
    if isinstance(source, str | Path):
        given: Path | Iterable[Any] = Path(source)
    elif type(source).__module__.partition(".")[0] == "datasets" and hasattr(source, "column_names"):
        given = with_images_as_bytes(source)
    elif isinstance(source, Iterable) and not isinstance(source, Mapping | bytes) and not hasattr(source, "columns"):
        given = [*source]
        if not all(isinstance(one, Mapping) for one in given):
            source = next(one for one in given if not isinstance(one, Mapping))
            raise UsageError(f"data: expected a path, a list of mappings or a datasets.Dataset, got a list with "
                             f"{shown(source)}")  # fmt: skip
    else:
        kind = type(source).__qualname__
        raise UsageError(f"data: expected a path, a list of mappings or a datasets.Dataset, got {kind}")
    return Rows(given, columns=columns, skip_bad_rows=skip_bad_rows)


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, or of every data file under a folder in the order of their names.

    The suffix says the format; a `.json` may hold a list of objects, one object a line, or one object over several
    lines that has lists of objects, and a folder may be one of `datasets`' `save_to_disk`. Raises DataError for a
    missing or unreadable file, another suffix, text that is not UTF-8, JSON or CSV that does not parse, a row that is
    no object, and a file without rows.
    """
    yield from Rows(path)


def _rows_of(file: Path, given: Path) -> Iterator[tuple[int, Any, str]]:
    """Number, value and file name of each row; a value that cannot be read, where the next one can, is its error."""
    name, number = _name(file, given), 0
    try:
        if file.is_dir():
            for number, value in read_saved(file):
                yield number, value, name
        else:
            with _open(file) as stream:
                for number, value in _READERS[_format(file)](_as_utf8(stream, name), name):
                    yield number, value, name
    except (OSError, EOFError, zlib.error) as error:
        cause = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise DataError(f"{name}: cannot be read: {cause}") from error
    if not number:
        raise DataError(f"{name}: no rows in it")


def _no_object(value: Any, file: str, number: int) -> DataError:
    expected = "expected an object with named fields"
    return DataError(f"{file}, row {number}: {expected}, got {shown(value)}", reason=expected)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes; of a folder, over the names and hashes of the files that `read_rows` reads."""
    files = _files(path)
    if not path.is_dir():
        return _bytes_sha256(path)
    files = [inner for file in files for inner in ([*file.glob("*.arrow")] if file.is_dir() else [file])]
    listing = "".join(f"{_name(file, path)}\0{_bytes_sha256(file)}\n" for file in files)
    return sha256(listing.encode()).hexdigest()


def rows_sha256(values: Iterable[Any]) -> str:
    """Hex sha256 of rows that are in no file."""
    digest = sha256()
    for value in values:
        digest.update(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode() + b"\n")
    return digest.hexdigest()


def stem(path: Path) -> str:
    """The name of a data file without `.json.gz` and the like."""
    suffix = _suffix(path)
    return path.name[: -len(suffix)] if suffix else path.name


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise WrongFileError(f"{path}: no such file or folder")
    if not path.is_dir():
        _format(path)
        return [path]
    if is_saved(path):
        return [path]
    if (path / SPLITS).is_file():
        splits = [inner for inner in sorted(path.iterdir()) if is_saved(inner)]
        if len(splits) == 1:
            return splits
        names = ", ".join(inner.name for inner in splits) or "none"
        raise WrongFileError(
            f"{path.name}: a saved DatasetDict with the splits {names}; give one, as {path.name}/SPLIT"
        )
    files = sorted(file for file in path.rglob("*") if file.is_file() and _suffix(file) and not _hidden(file, path))
    if not files:
        raise WrongFileError(f"{path.name}: no data file in this folder; expected {_KNOWN}")
    return files


def _name(file: Path, given: Path) -> str:
    return file.relative_to(given).as_posix() if given.is_dir() and file != given else file.resolve().name


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _suffix(path: Path) -> str:
    """`.jsonl` or `.jsonl.gz`, "" for a file of no known format."""
    name = path.name.lower()
    return next((s for plain in _READERS for s in (plain, plain + ".gz") if name.endswith(s)), "")


def _format(path: Path) -> str:
    suffix = _suffix(path)
    if not suffix:
        raise WrongFileError(f"{path.name}: unsupported format {path.suffix or '(no suffix)'}; expected {_KNOWN}")
    return suffix.removesuffix(".gz")


def _open(path: Path) -> io.BufferedReader:
    return bounded.unpacked(path) if path.name.lower().endswith(".gz") else bounded.opened(path)


def _bytes_sha256(path: Path) -> str:
    try:
        with bounded.opened(path) as stream:
            return file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path.name}: cannot be read: {error.strerror}") from error


def _json(stream: BinaryIO, name: str) -> Iterator[tuple[int, Any]]:
    data = stream.read().removeprefix(codecs.BOM_UTF8).lstrip()
    if data.startswith(b"["):
        return _json_list(_decoded(data, name), name)
    if data.partition(b"\n")[0].strip() == b"{":
        return _json_groups(_decoded(data, name), name)
    return _json_lines(io.BytesIO(data), name)


def _json_groups(text: str, name: str) -> Iterator[tuple[int, Any]]:
    """The rows of an object over several lines whose every field is a list of objects, one list after the other."""
    groups, end = _element(text, 0, name)
    lists = groups.values() if isinstance(groups, dict) else ()
    if text[end:].strip() or not lists or not all(_are_objects(one) for one in lists):
        expected = "expected a list of objects, one object a line, or an object of lists of objects"
        raise DataError(f"{name}: one JSON object over several lines; {expected}")
    yield from enumerate((row for rows in lists for row in rows), 1)


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


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
    for number, line in enumerate(iter(lambda: stream.readline(bounded.MOST_ROW + 1), b""), 1):
        if len(line) > bounded.MOST_ROW:
            raise DataError(f"{name}, row {number}: a line of more than {bounded.MOST_ROW >> 20} MiB")
        try:
            text = _decoded(line, f"{name}, row {number}").strip()
            if text:
                yield number, _line(text, f"{name}, row {number}")
        except DataError as error:
            yield number, error


def _line(text: str, place: str) -> Any:
    value, end = _element(text, 0, place)
    if end < len(text):
        raise DataError(f"{place}: invalid JSON: more text after the object", reason="invalid JSON")
    return value


def _element(text: str, start: int, place: str) -> tuple[Any, int]:
    """The JSON value that starts there, and where it ends."""
    try:
        value, end = _DECODER.raw_decode(text, start)
        if _SURROGATE.search(text, start, end):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{place}: invalid JSON: {error.msg} at {where}", reason="invalid JSON") from error
    except (ValueError, RecursionError) as error:
        problem = "JSON that holds no usable value"
        raise DataError(f"{place}: {problem}: {error}", reason=problem) from error
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
        raise DataError(f"{place}: not UTF-8: byte {data[error.start]:#04x} at {where}", reason="not UTF-8") from error


def _csv(stream: BinaryIO, name: str) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(2**31 - 1)  # the default, 128 KiB, is shorter than a long response
    number, text = 0, _decoded(stream.read(), name)
    records = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, name), strict=True)
    try:
        header = next(records, [])
        if len(set(header)) < len(header):
            raise DataError(f"{name}: two columns of one name in the header: {shown(header)}")
        for record in filter(None, records):
            number += 1
            if len(record) != len(header):
                problem = f"{name}, row {number}: {len(record)} fields; the header has {len(header)}"
                yield number, DataError(problem, reason="another number of fields than the header")
            else:
                yield number, dict(zip(header, record, strict=True))
    except csv.Error as error:
        raise DataError(f"{name}, row {number + 1}: invalid CSV: {error}") from error


def _delimiter(text: str, name: str) -> str:
    """The one of comma, semicolon and tab that takes the first line apart into the most; where they tie, the usual."""
    header = text[:_HEADER].splitlines()[:1]
    usual = "\t,;" if ".tsv" in name.lower() else ",;\t"
    counts = {delimiter: len(next(csv.reader(header, delimiter=delimiter), [])) for delimiter in usual}
    return max(counts, key=lambda delimiter: counts[delimiter])


def _as_utf8(stream: io.BufferedReader, name: str) -> BinaryIO:
    """The same text in UTF-8, where a mark at its beginning says that it is UTF-16."""
    if stream.peek(2)[:2] not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return stream
    try:
        return io.BytesIO(stream.read().decode("utf-16").encode())
    except UnicodeError as error:
        raise DataError(
            f"{name}: not UTF-16, as the mark at its beginning says: {error}", reason="not UTF-16"
        ) from error


def _parquet(stream: BinaryIO, name: str) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa

    number = 0
    try:
        # A plain file is read a row group at a time; what is packed cannot be read from its end
        plain = stream if stream.seekable() else io.BytesIO(stream.read())
        table = bounded.table(plain, plain.seek(0, io.SEEK_END))
        for batch in table.iter_batches(batch_size=1024):
            for value in batch.to_pylist():
                number += 1
                yield number, value
    except (
        pa.ArrowException,
        ArithmeticError,
        ValueError,
    ) as error:  # a date beyond what Python has, a text that is none
        raise DataError(f"{name}: not a readable Parquet file: {str(error).splitlines()[0]}") from error


_READERS: dict[str, Callable[[BinaryIO, str], Iterator[tuple[int, Any]]]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
}
_KNOWN = f"{', '.join(_READERS)}, each also with .gz"
