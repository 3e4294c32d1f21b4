"""Rewards on disk."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench.errors import ResultError
from rmbench.scoring import Store
from rmbench.scoring.answers import from_json, lasts, to_json
from rmbench.types import STATUSES, Reward

NUMBERS = st.lists(st.floats(), max_size=4).map(tuple)
HEADS = st.dictionaries(st.text(max_size=5), NUMBERS, max_size=3)
REWARDS = st.builds(
    Reward,
    values=NUMBERS,
    heads=HEADS,
    steps=NUMBERS,
    step_heads=HEADS,
    tokens=NUMBERS,
    spread=st.none() | st.lists(st.floats(allow_nan=False), min_size=1, max_size=3).map(tuple),
    pick=st.none() | st.integers(0, 2),
    vectors=st.lists(st.lists(st.floats(allow_nan=False), max_size=2).map(tuple), max_size=2).map(tuple),
    status=st.sampled_from(["ok", "nan", "inf", "refused"]),
    detail=st.none() | st.text(),
    n_tokens=st.integers(0, 10**6),
    truncated=st.integers(0, 10**6),
    read=st.text(max_size=16),
)


@given(REWARDS)
def test_a_reward_comes_back_as_it_went(reward: Reward) -> None:
    through = from_json(json.loads(json.dumps(to_json(reward))))
    assert repr(through) == repr(reward)  # repr, because nan is not equal to itself


def test_what_is_put_survives_another_process_and_connection(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        store.put([(b"a", [1.5]), (b"b", [math.nan])])
        with Store(tmp_path / "s.sqlite") as other:
            found = other.get([b"a", b"b", b"c"])
    assert found[b"a"] == [1.5]
    assert math.isnan(found[b"b"][0])
    assert b"c" not in found


def test_more_keys_than_one_statement_takes(tmp_path: Path) -> None:
    values = {str(i).encode(): i for i in range(2345)}
    with Store(tmp_path / "s.sqlite") as store:
        store.put(values.items())
        assert store.get(list(values)) == values


def test_what_may_come_out_otherwise_next_time_is_not_kept() -> None:
    lasting = {status for status in STATUSES if lasts(Reward((0.0,), status=status))}
    assert lasting == {"ok", "nan", "inf", "refused"}


def test_a_cleared_store_is_empty_and_still_works(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store, Store(tmp_path / "s.sqlite") as other:
        store.put([(b"a", 1)])
        store.clear()
        other.put([(b"b", 2)])
        assert store.get([b"a", b"b"]) == {b"b": 2}


def test_a_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        store.put((str(i).encode(), "x" * 500) for i in range(500))
        store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray((tmp_path / "s.sqlite").read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    (tmp_path / "s.sqlite").write_bytes(content)
    with pytest.raises(ResultError, match="cannot keep rewards in .*malformed"):
        Store(tmp_path / "s.sqlite").get([b"1", b"400"])


def test_a_file_that_is_no_store_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "s.sqlite").write_text("not a database, but long enough to be read as one" * 50)
    with pytest.raises(ResultError, match="cannot keep rewards in .*not a database.*RMBENCH_CACHE"):
        Store(tmp_path / "s.sqlite")


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResultError, match="RMBENCH_CACHE names another folder"):
        Store(tmp_path / "file" / "s.sqlite")


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "s.sqlite")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(ResultError, match="newer rmbench .store version 99 > 1"):
        Store(tmp_path / "s.sqlite")


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        store.put([(b"a", 1)])
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(ResultError, match="full.*what was committed before is kept"):
            store.put((str(i).encode(), "x" * 1000) for i in range(1000))
        assert list(store.get([b"a", b"0"])) == [b"a"]


def test_without_wal_it_says_so_and_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = Store._writes
    calls: list[int] = []

    def fails_at_first(store: Store) -> bool:
        calls.append(1)
        return len(calls) > 1 and writes(store)

    monkeypatch.setattr(Store, "_writes", fails_at_first)
    with pytest.warns(UserWarning, match="does not support SQLite's WAL mode"):
        store = Store(tmp_path / "s.sqlite")
    with store:
        store.put([(b"a", 1)])
        assert store._connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
        assert store.get([b"a"]) == {b"a": 1}
