"""Rewards on disk: one SQLite file, safe to kill at any point, shared by runs and processes.

A row is a request's key and the JSON of its reward, so nothing is executed on reading. Rewards that may come out
otherwise next time (`error`, `missing`) are never kept.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from rmbench.errors import ResultError
from rmbench.types import Reward

_VERSION = 1
_BUSY_SECONDS = 60
_SELECT_AT_ONCE = 500  # SQLite allowed 999 variables in a statement until 3.32
_KEEP = frozenset({"ok", "nan", "inf", "refused"})


def cache_folder() -> Path:
    """Where the shared store lives: RMBENCH_CACHE, else the platform's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ["RMBENCH_CACHE"]) if os.environ.get("RMBENCH_CACHE") else user_cache_path("rmbench")


class Store:
    """Key -> reward. `put` is one transaction: after it returns the rewards survive kill -9."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the store. Raises ResultError where the folder cannot be written or the file is no store."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            self.notice = self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Reward]:
        """The rewards that are here for `keys`."""
        found: dict[bytes, Reward] = {}
        remaining = iter(keys)
        while some := tuple(islice(remaining, _SELECT_AT_ONCE)):
            marks = ",".join("?" * len(some))
            rows = self._connection.execute(f"SELECT key, reward FROM rewards WHERE key IN ({marks})", some)  # noqa: S608
            found.update((key, _decode(reward)) for key, reward in rows)
        return found

    def put(self, rewards: Iterable[tuple[bytes, Reward]]) -> None:
        """Keeps what will come out the same next time, in one transaction. Raises ResultError on a full disk."""
        rows = [(key, _encode(reward)) for key, reward in rewards if reward.status in _KEEP]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany("INSERT OR REPLACE INTO rewards VALUES (?, ?)", rows)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def count(self) -> int:
        """How many rewards are kept."""
        count: int = self._connection.execute("SELECT count(*) FROM rewards").fetchone()[0]
        return count

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def remove(self) -> None:
        """Closes the store and deletes its files."""
        self.close()
        for suffix in ("", "-wal", "-shm", "-journal"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _prepare(self) -> str | None:
        execute = self._connection.execute
        version = execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise ResultError(f"{self.path.name}: written by a newer rmbench (store version {version} > {_VERSION})")
        notice = None
        if execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal" or not self._writes():
            # Network file systems accept the pragma and fail on the first write
            execute("PRAGMA journal_mode=DELETE")
            notice = "the cache folder does not support SQLite's WAL mode; using its rollback journal (slower)"
            if not self._writes():
                raise sqlite3.OperationalError("a test write failed")
        execute("PRAGMA synchronous=NORMAL")
        return notice

    def _writes(self) -> bool:
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
            execute("CREATE TABLE IF NOT EXISTS rewards (key BLOB PRIMARY KEY, reward TEXT NOT NULL) WITHOUT ROWID")
            execute(f"PRAGMA user_version={_VERSION}")
            execute("COMMIT")
        except sqlite3.OperationalError:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            return False
        return True

    def _unusable(self, error: Exception) -> ResultError:
        return ResultError(
            f"cannot keep rewards in {self.path.parent} ({error}); what was scored before is kept; "
            "RMBENCH_CACHE names another folder"
        )


def _encode(reward: Reward) -> str:
    return json.dumps(
        [
            reward.values,
            dict(reward.heads),
            reward.steps,
            dict(reward.step_heads),
            reward.tokens,
            reward.spread,
            reward.status,
            reward.detail,
            reward.n_tokens,
            reward.truncated,
        ],
        separators=(",", ":"),
    )


def _decode(text: str) -> Reward:
    values, heads, steps, step_heads, tokens, *rest = json.loads(text)
    return Reward(tuple(values), _tuples(heads), tuple(steps), _tuples(step_heads), tuple(tokens), *rest)


def _tuples(heads: dict[str, list[float]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(values) for name, values in heads.items()}
