"""Answers on disk: one SQLite file, safe to kill at any point, shared by runs and processes.

A row is a request's key, the JSON of its answer, so nothing is executed on reading, and a checksum of both: a row that
does not have its own is as good as none. Rows of before there were checksums have none and are taken as they are.
"""

from __future__ import annotations

import json
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

from rmbench.errors import ResultError

_VERSION = 2
_MARK = 0x726D6265  # "rmbe", by which SQLite files say whose they are
_HEADER, _MARK_AT = 100, 68  # bytes of an SQLite file, and where in them the mark stands
_BUSY_SECONDS = 60
_AT_ONCE = 333  # rows a statement: SQLite allowed 999 variables until 3.32
_ENCODE = json.JSONEncoder(separators=(",", ":")).encode
_ERRORS = (sqlite3.Error, UnicodeDecodeError)  # of a damaged schema SQLite quotes bytes that are no text
_Done = TypeVar("_Done")


class Store:
    """Key -> JSON value. `put` is one transaction: after it returns the values survive kill -9.

    Threads may take turns with it.
    """

    def __init__(self, path: Path) -> None:
        """Opens or makes the store. Raises ResultError where the folder cannot be written or the file is no store."""
        self.path = path
        self._open()

    def get(self, keys: Iterable[bytes]) -> dict[bytes, Any]:
        """The values that are here for `keys`. Raises ResultError where the file is damaged."""
        return dict(self.find(keys))

    def find(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, Any]]:
        """What `get` returns, some hundred at a time. Neighbouring keys share a page: sorted ones are found faster.

        A damaged row is left out, so that it is asked for again, and one line says how many are.
        """
        remaining, damaged = iter(keys), 0
        while part := tuple(islice(remaining, _AT_ONCE)):
            marks = ",".join("?" * len(part))
            try:
                query = f"SELECT key, CAST(value AS BLOB), checksum FROM answers WHERE key IN ({marks})"  # noqa: S608
                rows = self._connection.execute(query, part).fetchall()
            except _ERRORS as error:
                raise self._unusable(error) from error
            whole = [(key, text) for key, text, checksum in rows if _is_whole(key, text, checksum)]
            damaged += len(rows) - len(whole)
            values = json.loads(b"[%b]" % b",".join(text for _, text in whole))
            yield from zip((key for key, _ in whole), values, strict=True)
        if damaged:
            self.tell_damaged(damaged)

    def tell_damaged(self, rows: int) -> None:
        """Says in one line that so many rows are asked for again."""
        warnings.warn(f"{self.path.name}: {rows:,} damaged rows are asked for again", stacklevel=3)

    def put(self, values: Iterable[tuple[bytes, Any]]) -> None:
        """Keeps JSON-able values, in one transaction. Raises ResultError on a full disk."""
        texts = sorted((key, _ENCODE(value)) for key, value in values)  # neighbours are on one page
        rows = [(key, text, _checksum(key, text.encode())) for key, text in texts]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for start in range(0, len(rows), _AT_ONCE):
                    # Many rows a statement: between two of them another thread may hold the interpreter for 5 ms
                    part = rows[start : start + _AT_ONCE]
                    marks = ",".join(["(?,?,?)"] * len(part))
                    statement = f"INSERT OR REPLACE INTO answers (key, value, checksum) VALUES {marks}"  # noqa: S608
                    self._connection.execute(statement, [*chain(*part)])
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except _ERRORS as error:
            raise self._unusable(error) from error

    def count(self) -> int:
        """How many values are kept. Raises ResultError where the file is damaged."""
        try:
            count: int = self._connection.execute("SELECT count(*) FROM answers").fetchone()[0]
        except _ERRORS as error:
            raise self._unusable(error) from error
        return count

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return _size(self.path)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def clear(self) -> None:
        """Forgets everything, and gives the space back. The file stays, because another process may be writing to it,
        unless it is damaged: then it is made anew.

        Raises ResultError where another process reads from it for long.
        """
        try:
            self._connection.execute("DELETE FROM answers")
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except _ERRORS as error:
            if not _is_damage(error):
                raise self._unusable(error) from error
            self.close()
            _remove(self.path)
            self._open()

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._prepare()
        except (OSError, *_ERRORS) as error:
            raise self._unusable(error) from error

    def _prepare(self) -> None:
        execute = self._connection.execute
        _in_turn(self._check_ours)
        # SQLite does not wait by itself where two processes change the mode at once
        if _in_turn(lambda: execute("PRAGMA journal_mode=WAL").fetchone()[0]) != "wal" or not self._writes():
            # Network file systems accept the pragma and fail on the first write
            execute("PRAGMA journal_mode=DELETE")
            if not self._writes():
                raise sqlite3.OperationalError("a test write failed")
            warnings.warn(
                "the cache folder does not support SQLite's WAL mode; using its rollback journal, which is slower",
                stacklevel=2,
            )
        execute("PRAGMA synchronous=NORMAL")

    def _check_ours(self) -> None:
        """Raises ResultError for the SQLite file of another program, before anything of it is changed."""
        execute = self._connection.execute
        execute("BEGIN")  # what is read is of one moment: another process may be making the store
        try:
            tables = {name for (name,) in execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")}
            columns = {row[1] for row in execute("PRAGMA table_info(answers)")}
            mark = execute("PRAGMA application_id").fetchone()[0]
            version = execute("PRAGMA user_version").fetchone()[0]
        finally:
            execute("ROLLBACK")
        is_old = tables == {"answers"} and columns >= {"key", "value"} and version == 1
        is_ours = mark == _MARK or (mark == 0 and (is_old or not tables))
        if not is_ours:
            raise ResultError(
                f"{self.path.name} is an SQLite file of another program, and is left alone; RMBENCH_CACHE names another"
                " folder"
            )
        if version > _VERSION:
            raise ResultError(f"{self.path.name}: written by a newer rmbench (store version {version} > {_VERSION})")

    def _writes(self) -> bool:
        execute = self._connection.execute
        try:
            _in_turn(lambda: execute("BEGIN IMMEDIATE"))
            execute(
                "CREATE TABLE IF NOT EXISTS answers "
                "(key BLOB PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER) WITHOUT ROWID"
            )
            if "checksum" not in {row[1] for row in execute("PRAGMA table_info(answers)")}:
                execute("ALTER TABLE answers ADD COLUMN checksum INTEGER")
            execute(f"PRAGMA application_id={_MARK}")
            execute(f"PRAGMA user_version={_VERSION}")
            execute("COMMIT")
        except sqlite3.OperationalError as error:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            if _is_busy(error):
                raise
            return False
        return True

    def _unusable(self, error: Exception) -> ResultError:
        if _is_damage(error):
            reason, rest = "the file is damaged", "`rmbench cache clear` makes it anew, and "
        else:
            reason, rest = str(error), "what was committed before is kept; "
        return ResultError(f"cannot keep rewards in {self.path} ({reason}); {rest}RMBENCH_CACHE names another folder")


def empty(path: Path) -> int:
    """Empties the store at `path`, which is made anew where it is too damaged to be opened: the bytes given back.

    Raises ResultError where the file is none of rmbench's.
    """
    before = _size(path)
    try:
        with Store(path) as store:
            before = store.size
            store.clear()
    except ResultError as error:
        if not isinstance(error.__cause__, _ERRORS) or not _is_damage(error.__cause__):
            raise
        if not _bears_our_mark(path):
            raise ResultError(
                f"{path} is damaged, and may be the file of another program: remove it if it is not needed;"
                " RMBENCH_CACHE names another folder"
            ) from error
        _remove(path)
        Store(path).close()
    return before - _size(path)


def _bears_our_mark(path: Path) -> bool:
    """Whether a damaged file was a store: SQLite keeps the mark in its header, and less than a header holds nothing."""
    with path.open("rb") as file:
        header = file.read(_HEADER)
    return len(header) < _HEADER or header[_MARK_AT : _MARK_AT + 4] == _MARK.to_bytes(4, "big")


def _files(path: Path) -> list[Path]:
    return [path, *(path.with_name(f"{path.name}-{part}") for part in ("wal", "shm"))]


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in _files(path) if file.exists())


def _remove(path: Path) -> None:
    for file in _files(path):
        file.unlink(missing_ok=True)


def _in_turn(change: Callable[[], _Done]) -> _Done:
    """What `change` gives, tried again as long as another process has the file for itself."""
    end = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            return change()
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > end:
                raise
        time.sleep(0.01)


def _is_busy(error: Exception) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _is_damage(error: Exception) -> bool:
    return isinstance(error, UnicodeDecodeError) or _code(error) == sqlite3.SQLITE_CORRUPT


def _code(error: Exception) -> int:
    """SQLite's code, whose details are in the upper bytes; 0 for an error that is not SQLite's."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _checksum(key: bytes, text: bytes) -> int:
    return crc32(text, crc32(key))


def _is_whole(key: bytes, text: bytes | None, checksum: object) -> bool:
    """Whether a row is as it was written; of one without a checksum, whether it is JSON."""
    if text is None:
        return False
    if checksum is not None:
        return checksum == _checksum(key, text)
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
