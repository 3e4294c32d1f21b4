"""Rewards on disk."""

from __future__ import annotations

import json
import math
import sqlite3
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest
from ask_models import score
from fake_models import Scripted
from hypothesis import given
from hypothesis import strategies as st

from rmbench.cache import cache_folder
from rmbench.cli import main
from rmbench.errors import ResultError
from rmbench.scoring import Store
from rmbench.scoring.answers import from_json, lasts, to_json
from rmbench.types import STATUSES, Message, Request, Response, Reward

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
    with Store(tmp_path / "s.sqlite") as store:
        with pytest.raises(ResultError, match="cannot keep rewards in .*damaged.*`rmbench cache clear` makes it anew"):
            store.get([b"1", b"400"])
        store.clear()
        store.put([(b"a", 1)])
        assert store.count() == 1


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
    with pytest.raises(ResultError, match="newer rmbench .store version 99 > 2"):
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


AT_ONCE = """
import os, sys
from pathlib import Path
from rmbench.scoring import Store

failed = 0
for turn in range(2):
    folder, (ready, go) = Path(sys.argv[1]) / str(turn), os.pipe()
    children = []
    for number in range(8):
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(ready, 1)  # until all are there
            with Store(folder / "s.sqlite") as store:
                store.put([(str(number).encode(), number)])
            os._exit(0)
        children.append(child)
    os.close(ready), os.close(go)
    failed += sum(os.waitpid(child, 0)[1] != 0 for child in children)
    with Store(folder / "s.sqlite") as store:
        assert failed or store.count() == 8
print(failed)
"""


def test_processes_that_open_a_new_store_at_once_wait_for_each_other(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", AT_ONCE, str(tmp_path)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


class Contended(sqlite3.Connection):
    """A connection that finds the file taken the first time that it asks for `statement`."""

    statement = ""

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if statement == Contended.statement:
            Contended.statement = ""
            taken = sqlite3.OperationalError("database is locked")
            taken.sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY
            raise taken
        return super().execute(statement, *values)


@pytest.mark.parametrize("statement", ["PRAGMA journal_mode=WAL", "BEGIN IMMEDIATE", "BEGIN"])
def test_where_sqlite_does_not_wait_by_itself_the_store_does(
    statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, **options, factory=Contended))
    monkeypatch.setattr(Contended, "statement", statement)
    with Store(tmp_path / "s.sqlite") as store:
        assert not Contended.statement
        assert store._connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_a_store_that_another_process_holds_for_a_while_is_waited_for(tmp_path: Path) -> None:
    holder = sqlite3.connect(tmp_path / "s.sqlite", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.3, lambda: holder.execute("ROLLBACK"))
    release.start()
    with Store(tmp_path / "s.sqlite") as store:
        store.put([(b"a", 1)])
    release.join()
    holder.close()


_NOT_JSON = "[1.5"
_FLIPPED = bytes([0x5B, 0xFF, 0x5D])  # no UTF-8


@pytest.mark.parametrize(
    ("change", "values"),
    [
        ("UPDATE answers SET value = replace(value, '2.0', '9.0') WHERE key = ?", ()),  # a wrong value, in good JSON
        ("UPDATE answers SET value = ? WHERE key = ?", (_NOT_JSON,)),
        ("UPDATE answers SET value = ? WHERE key = ?", (_FLIPPED,)),
        ("UPDATE answers SET value = CAST(? AS TEXT) WHERE key = ?", (_FLIPPED,)),
        ("UPDATE answers SET value = '', checksum = 0 WHERE key = ?", ()),
        ("UPDATE answers SET checksum = 'none' WHERE key = ?", ()),
        ("UPDATE answers SET value = 7, checksum = NULL WHERE key = ?", ()),  # JSON, and no reward
        ("UPDATE answers SET value = '{', checksum = NULL WHERE key = ?", ()),  # of before there were checksums
    ],
)
def test_a_row_that_is_not_as_it_was_written_is_asked_for_again_and_said(
    change: str, values: tuple[Any, ...], tmp_path: Path
) -> None:
    asked = [Request("reward", (Message("user", "Why?"),), (Response("x" * n),)) for n in (1, 2, 3)]
    model = Scripted(lambda request: len(request.responses[0].text))
    with Store(tmp_path / "s.sqlite") as store:
        rewards = score(model, asked, store=store)
        (key,) = (key for key, value in store._connection.execute("SELECT key, value FROM answers") if "2.0" in value)
        store._connection.execute(change, (*values, key))
        with pytest.warns(UserWarning, match="s.sqlite: 1 damaged rows are asked for again"):
            assert score(model, asked, store=store) == rewards
        assert len(model.seen) == 4
        assert score(model, asked, store=store) == rewards
        assert len(model.seen) == 4


def test_a_store_of_before_there_were_checksums_is_read_and_written_on(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "s.sqlite", isolation_level=None)
    connection.execute("CREATE TABLE answers (key BLOB PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    connection.execute("INSERT INTO answers VALUES (?, '[1.5]')", (b"a",))
    connection.execute("PRAGMA user_version=1")
    connection.close()
    with Store(tmp_path / "s.sqlite") as store:
        store.put([(b"b", 2)])
        assert store.get([b"a", b"b"]) == {b"a": [1.5], b"b": 2}
        assert [*store._connection.execute("SELECT checksum FROM answers ORDER BY key")] == [
            (None,),
            (zlib.crc32(b"2", zlib.crc32(b"b")),),
        ]


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE moz_places (id INTEGER PRIMARY KEY)"],
        ["CREATE TABLE answers (id INTEGER)", "CREATE TABLE users (id INTEGER)", "PRAGMA user_version=1"],
        ["CREATE TABLE answers (question TEXT, answer TEXT)"],
        ["CREATE TABLE answers (question TEXT, answer TEXT)", "PRAGMA user_version=1"],
        ["PRAGMA application_id=252006674"],
        ["CREATE TABLE notes (text TEXT)", "PRAGMA user_version=99", "PRAGMA application_id=7"],
    ],
)
def test_the_sqlite_file_of_another_program_is_refused_and_left_as_it_is(statements: list[str], tmp_path: Path) -> None:
    file = tmp_path / "s.sqlite"
    connection = sqlite3.connect(file, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()
    before = file.read_bytes()
    with pytest.raises(ResultError, match="SQLite file of another program, and is left alone; RMBENCH_CACHE names"):
        Store(file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["s.sqlite"]


def test_clear_gives_the_space_back_and_the_command_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with Store(cache_folder() / "rewards.sqlite") as store:
        store.put((str(i).encode(), "x" * 1000) for i in range(5000))
    assert main(["cache"]) == 0
    assert capsys.readouterr().out.startswith("5,000 answers, ")
    assert main(["cache", "clear"]) == 0
    assert "MiB given back in " in capsys.readouterr().out
    files = [*cache_folder().glob("rewards.sqlite*")]
    assert sum(file.stat().st_size for file in files) < 100_000
    assert main(["cache"]) == 0
    assert capsys.readouterr().out.startswith("0 answers, 0.0 MiB, in ")


@pytest.mark.parametrize("left", [0.5, 0.9, 4096, 2000, 60])
def test_a_store_that_lost_its_end_is_made_anew_by_the_command(left: float, capsys: pytest.CaptureFixture[str]) -> None:
    """The file cannot even be opened, and what the error says to do has to work."""
    file = cache_folder() / "rewards.sqlite"
    with Store(file) as store:
        store.put((str(i).encode(), "x" * 500) for i in range(200))
    whole = file.read_bytes()
    file.write_bytes(whole[: int(left if left > 1 else left * len(whole))])
    with pytest.raises(ResultError, match="damaged.*`rmbench cache clear` makes it anew"):
        Store(file).get([b"1", b"150"])
    assert main(["cache", "clear"]) == 0
    assert main(["cache"]) == 0
    assert "0 answers, 0.0 MiB, in " in capsys.readouterr().out


def test_a_damaged_file_of_another_program_is_left_alone_by_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    file = cache_folder() / "rewards.sqlite"
    file.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE notes (text)")
        connection.executemany("INSERT INTO notes VALUES (?)", [("x" * 500,)] * 100)
    connection.close()
    file.write_bytes(file.read_bytes()[:6000])
    before = file.read_bytes()
    assert main(["cache", "clear"]) == 1
    assert "is damaged, and may be the file of another program: remove it if" in capsys.readouterr().err
    assert file.read_bytes() == before
