"""Answers on disk: one SQLite file, safe to kill at any point, shared by runs and processes.

A row is a request's key and the JSON of its answer, so nothing is executed on reading.
"""

from __future__ import annotations

import json
import sqlite3
import warnings
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from rmbench.errors import ResultError

_VERSION = 1
_BUSY_SECONDS = 60
_AT_ONCE = 499  # rows a statement: SQLite allowed 999 variables until 3.32
_ENCODE = json.JSONEncoder(separators=(",", ":")).encode


class Store:
    """Key -> JSON value. `put` is one transaction: after it returns the values survive kill -9.

    Threads may take turns with it.
    """

    def __init__(self, path: Path) -> None:
        """Opens or makes the store. Raises ResultError where the folder cannot be written or the file is no store."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error

    def get(self, keys: Iterable[bytes]) -> dict[bytes, Any]:
        """The values that are here for `keys`. Raises ResultError where the file is damaged."""
        return dict(self.find(keys))

    def find(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, Any]]:
        """What `get` returns, some hundred at a time. Neighbouring keys share a page: sorted ones are found faster."""
        remaining = iter(keys)
        while some := tuple(islice(remaining, _AT_ONCE)):
            marks = ",".join("?" * len(some))
            try:
                query = f"SELECT key, value FROM answers WHERE key IN ({marks})"  # noqa: S608
                rows = self._connection.execute(query, some).fetchall()
                values = json.loads(f"[{','.join(value for _, value in rows)}]")
            except (sqlite3.Error, ValueError) as error:
                raise self._unusable(error) from error
            yield from zip((key for key, _ in rows), values, strict=True)

    def put(self, values: Iterable[tuple[bytes, Any]]) -> None:
        """Keeps JSON-able values, in one transaction. Raises ResultError on a full disk."""
        rows = sorted((key, _ENCODE(value)) for key, value in values)  # neighbours are on one page
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for start in range(0, len(rows), _AT_ONCE):
                    # Many rows a statement: between two of them another thread may hold the interpreter for 5 ms
                    some = rows[start : start + _AT_ONCE]
                    marks = ",".join(["(?,?)"] * len(some))
                    self._connection.execute(f"INSERT OR REPLACE INTO answers VALUES {marks}", [*chain(*some)])  # noqa: S608
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def count(self) -> int:
        """How many values are kept."""
        count: int = self._connection.execute("SELECT count(*) FROM answers").fetchone()[0]
        return count

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def clear(self) -> None:
        """Forgets everything. The file stays, because another process may be writing to it."""
        self._connection.execute("DELETE FROM answers")

    def _prepare(self) -> None:
        execute = self._connection.execute
        version = execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise ResultError(f"{self.path.name}: written by a newer rmbench (store version {version} > {_VERSION})")
        if execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal" or not self._writes():
            # Network file systems accept the pragma and fail on the first write
            execute("PRAGMA journal_mode=DELETE")
            if not self._writes():
                raise sqlite3.OperationalError("a test write failed")
            warnings.warn(
                "the cache folder does not support SQLite's WAL mode; using its rollback journal, which is slower",
                stacklevel=2,
            )
        execute("PRAGMA synchronous=NORMAL")

    def _writes(self) -> bool:
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
            execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
            execute(f"PRAGMA user_version={_VERSION}")
            execute("COMMIT")
        except sqlite3.OperationalError:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            return False
        return True

    def _unusable(self, error: Exception) -> ResultError:
        return ResultError(
            f"cannot keep rewards in {self.path} ({error}); what was committed before is kept; "
            "RMBENCH_CACHE names another folder"
        )
