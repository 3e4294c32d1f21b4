"""Rewards on disk."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench.errors import ResultError
from rmbench.scoring import Store
from rmbench.scoring.store import _decode, _encode
from rmbench.types import Reward

NUMBERS = st.lists(st.floats(), max_size=4).map(tuple)
HEADS = st.dictionaries(st.text(max_size=5), NUMBERS, max_size=3)
REWARDS = st.builds(
    Reward,
    values=NUMBERS,
    heads=HEADS,
    steps=NUMBERS,
    step_heads=HEADS,
    tokens=NUMBERS,
    spread=st.none() | st.floats(allow_nan=False),
    status=st.sampled_from(["ok", "nan", "inf", "refused"]),
    detail=st.none() | st.text(),
    n_tokens=st.integers(0, 10**6),
    truncated=st.integers(0, 10**6),
)


@given(REWARDS)
def test_a_reward_comes_back_as_it_went(reward: Reward) -> None:
    assert repr(_decode(_encode(reward))) == repr(reward)  # repr, because nan is not equal to itself


def test_what_is_put_survives_another_process_and_connection(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        store.put([(b"a", Reward((1.5,))), (b"b", Reward((math.nan,), status="nan"))])
        with Store(tmp_path / "s.sqlite") as other:
            found = other.get([b"a", b"b", b"c"])
    assert found[b"a"] == Reward((1.5,))
    assert found[b"b"].status == "nan"
    assert b"c" not in found


def test_more_keys_than_one_statement_takes(tmp_path: Path) -> None:
    keys = [str(i).encode() for i in range(2345)]
    with Store(tmp_path / "s.sqlite") as store:
        store.put((key, Reward((float(key),))) for key in keys)
        assert {key: reward.value for key, reward in store.get(keys).items()} == {key: float(key) for key in keys}


@pytest.mark.parametrize("status", ["error", "missing"])
def test_what_may_come_out_otherwise_next_time_is_not_kept(tmp_path: Path, status: Any) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        store.put([(b"a", Reward((math.nan,), status=status))])
        assert store.count() == 0


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
        store.put([(b"a", Reward((1.0,)))])
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(ResultError, match="full.*what was scored before is kept"):
            store.put((str(i).encode(), Reward((float(i),), detail="x" * 1000)) for i in range(1000))
        assert list(store.get([b"a", b"0"])) == [b"a"]


def test_without_wal_it_says_so_and_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = Store._writes
    calls: list[int] = []

    def fails_at_first(store: Store) -> bool:
        calls.append(1)
        return len(calls) > 1 and writes(store)

    monkeypatch.setattr(Store, "_writes", fails_at_first)
    with Store(tmp_path / "s.sqlite") as store:
        assert store.notice is not None
        assert "WAL" in store.notice
        store.put([(b"a", Reward((1.0,)))])
        assert store._connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
        assert store.get([b"a"]) == {b"a": Reward((1.0,))}
