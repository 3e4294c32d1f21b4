"""What nobody writes by accident: bombs, pipes, absurd sizes and edited results end in one line, in bounds."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rmbench import bounded

ROW: Mapping[str, Any] = {"id": "i", "prompt": "a", "chosen": "b", "rejected": "c"}
Make = Callable[[Path], Path]


@pytest.fixture(scope="module")
def server() -> Iterator[hostile.Server]:
    with hostile.served() as server:
        yield server


@pytest.fixture(scope="module")
def plain(server: hostile.Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with results of two models, and a file of pairs."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "pairs.jsonl").write_text("".join(f"{json.dumps({**ROW, 'id': f'p{n}'})}\n" for n in range(6)))
    models = ("-m", "length", "-m", "random")
    ended = server.call(folder, "run", *models, "-t", "best_of_n", "--limit", 12, "--out", "results")
    assert ended.code == 0, ended.err
    return folder


@pytest.fixture
def copied(plain: Path, tmp_path: Path) -> Path:
    """The same in a folder of the test's own."""
    return Path(shutil.copytree(plain, tmp_path / "copied"))


def result_in(folder: Path) -> Path:
    return min((folder / "results").rglob("*.json"))


def refused(ended: hostile.Ended, *words: str) -> None:
    """One line, in bounds, that says so."""
    assert not ended.faults, (ended.faults, ended.err[-2000:])
    assert ended.code in (1, 2)
    assert all(word in ended.err for word in words), ended.err


def lines(path: Path, *rows: Mapping[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def gz(path: Path, head: bytes, part: bytes, times: int) -> Path:
    with gzip.open(path, "wb") as file:
        file.write(head)
        for _ in range(times):
            file.write(part)
    return path


def table(path: Path, **columns: Any) -> Path:
    given = {name: [value] for name, value in ROW.items()} | columns
    pq.write_table(pa.table(given), path, compression="zstd")
    return path


def repeated(text: str, times: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, np.int32)), pa.array([text]))


def many_rows(path: Path) -> Path:
    return table(path / "b.parquet", **{name: repeated("x" * 30, 2_000_000) for name in ROW})


def sparse(path: Path) -> Path:
    with (path / "b.jsonl").open("wb") as file:
        file.truncate(6 << 30)
    return path / "b.jsonl"


def numbers_in_a_row(path: Path) -> Path:
    offsets = pa.array([0, 30_000_000], pa.int32())
    return table(path / "b.parquet", x=pa.ListArray.from_arrays(offsets, pa.array(np.zeros(30_000_000, np.float32))))


BOMBS: Mapping[str, Make] = {
    "one line": lambda path: gz(path / "b.jsonl.gz", b'{"prompt":"', b"a" * (1 << 20), 200),
    "a list": lambda path: gz(path / "b.json.gz", b"[", b"{}," * (1 << 18), 200),
    "rows": lambda path: gz(path / "b.jsonl.gz", b"", b'{"prompt":"a","chosen":"b","rejected":"c"}\n' * 10_000, 40),
    "a sheet": lambda path: gz(path / "b.csv.gz", b"prompt,chosen,rejected\n", b"a" * (1 << 20), 200),
    "rows of a table": many_rows,
    "one cell": lambda path: table(path / "b.parquet", prompt=["x" * (100 << 20)]),
    "a text that repeats": lambda path: table(
        path / "b.parquet", **{name: repeated("y" * (1 << 20), 2000) for name in ROW}
    ),
    "a list in a cell": numbers_in_a_row,
    "a packed table": lambda path: gz(path / "b.parquet.gz", b"PAR1", bytes(1 << 20), 200),
    "holes": sparse,
}


@pytest.mark.parametrize("kind", [
    pytest.param(kind, marks=[pytest.mark.prove] * (kind == "rows")) for kind in BOMBS
])  # fmt: skip
def test_what_unpacks_out_of_all_proportion_is_refused_before_it_is(
    kind: str, server: hostile.Server, tmp_path: Path
) -> None:
    path = BOMBS[kind](tmp_path)
    ended = server.call(tmp_path, "score", path, "-m", "length", "-o", "o.jsonl")
    refused(ended, path.name)
    assert ended.peak < 500 << 20


def test_prompts_that_repeat_are_no_bomb(tmp_path: Path) -> None:
    from rmbench.data.files import read_rows

    prompt = " ".join(str(n * 7919 % 10_007) for n in range(2000))
    rows = [{"prompt": prompt, "response": sha256(str(n).encode()).hexdigest()} for n in range(4000)]
    path = gz(tmp_path / "r.jsonl.gz", b"", "".join(f"{json.dumps(row)}\n" for row in rows).encode(), 1)
    assert len(list(read_rows(path))) == 4000
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "r.parquet", compression="zstd")
    assert len(list(read_rows(tmp_path / "r.parquet"))) == 4000


@pytest.mark.parametrize("command", [
    ["leaderboard", "add", "RESULT", "--folder", "board"], ["compare", "results"], ["select", "--result", "RESULT"],
    ["view", "results", "--all", "--no-browser"],
])  # fmt: skip
def test_records_that_unpack_out_of_all_proportion_are_refused(
    command: list[str], server: hostile.Server, copied: Path
) -> None:
    result = result_in(copied)
    records = pq.read_table(result.with_suffix(".parquet"))
    column = records.column_names.index("example_id")
    big = records.set_column(column, "example_id", repeated("y" * (1 << 20), records.num_rows))
    pq.write_table(pa.concat_tables([big] * 150), result.with_suffix(".parquet"), compression="zstd")
    assert result.with_suffix(".parquet").stat().st_size < 30_000
    refused(server.call(copied, *(result if word == "RESULT" else word for word in command)), "of memory")


def test_what_a_table_takes_is_counted_inside_lists_maps_and_structs(tmp_path: Path) -> None:
    text, ends = repeated("y" * 1000, 50), pa.array([0, 20, 50], pa.int32())
    nested = {
        "list": pa.ListArray.from_arrays(ends, text),
        "map": pa.MapArray.from_arrays(ends, pa.array(["k"] * 50), text),
        "struct": pa.StructArray.from_arrays([text], ["a"]),
    }
    sizes = {name: bounded._text_bytes(array) for name, array in nested.items()}
    assert {name: size // 50_000 for name, size in sizes.items()} == {"list": 1, "map": 1, "struct": 1}


@pytest.mark.parametrize("place", ["data", "scores", "result", "records", "spec", "figures", "aliases"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_device_is_no_file(kind: str, place: str, server: hostile.Server, copied: Path) -> None:
    result = result_in(copied)
    path, *command = {
        "data": (copied / "d.jsonl", "select", "d.jsonl", "-m", "length", "-o", "o.jsonl"),
        "scores": (copied / "s.jsonl", "run", "-m", "scores:s.jsonl", "-t", "best_of_n", "--out", "made"),
        "result": (result, "compare", "results"),
        "records": (result.with_suffix(".parquet"), "leaderboard", "add", result, "--folder", "board"),
        "spec": (copied / "m.toml", "run", "-m", "m.toml", "-t", "best_of_n", "--out", "made"),
        "figures": (copied / "f.csv", "correlate", "--metrics", "f.csv"),
        "aliases": (copied / "a.toml", "correlate", "--aliases", "a.toml"),
    }[place]  # fmt: skip
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    refused(server.call(copied, *command), "pipe or device")


@pytest.mark.parametrize(("row", "said"), [
    ({"id": "i" * 10_000_000}, "got 10,000,000"),
    ({"cluster": "c" * 20_000}, "got 20,000"),
    ({"rejected": [f"c{n}" for n in range(200_000)]}, "got 200,001"),
])  # fmt: skip
@pytest.mark.parametrize("command", [
    ["score", "d.jsonl", "-m", "length", "-o", "o.jsonl"],
    ["run", "-m", "random", "-t", "preference", "--data", "preference=d.jsonl", "--out", "made"],
])  # fmt: skip
def test_absurd_names_and_numbers_of_responses_are_one_line(
    command: list[str], row: Mapping[str, Any], said: str, server: hostile.Server, tmp_path: Path
) -> None:
    if "cluster" in row and command[0] == "score":
        pytest.skip("score reads no clusters")
    lines(tmp_path / "d.jsonl", {**ROW, **row})
    refused(server.call(tmp_path, *command), "row 1", said)


@pytest.mark.prove
def test_as_many_responses_as_are_judged_are_judged_in_bounds(server: hostile.Server, tmp_path: Path) -> None:
    most = bounded.MOST_JUDGED
    lines(tmp_path / "d.jsonl", {**ROW, "rejected": [f"c{n}" for n in range(most - 1)]})
    command = ("run", "-m", "length", "-t", "preference", "--data", "preference=d.jsonl", "--out", "made")
    ended = server.call(tmp_path, *command)
    assert (ended.code, ended.faults) == (0, [])
    lines(tmp_path / "d.jsonl", {**ROW, "rejected": [f"c{n}" for n in range(most)]})
    refused(server.call(tmp_path, *command), f"at most {most:,} responses, got {most + 1:,}")


EDITED: Mapping[tuple[Any, ...], Any] = {
    ("task", "version"): 2**70, ("metrics", 0, "n"): 10**400, ("metrics", 0, "clusters"): -1, ("truncated",): 2**63,
    ("dataset", "examples"): 2**64, ("statuses", "ok"): 10**30, ("metrics", 0, "name"): "no_such_metric",
    ("timing", "tokens"): 2**90, ("subject", "id"): "i" * 10_000_000, ("config", "data", "limit"): float("inf"),
    ("metrics", 0, "value"): float("nan"),
}  # fmt: skip


@pytest.mark.parametrize("place", EDITED)
def test_an_edited_result_is_one_line_wherever_it_is_read(
    place: tuple[Any, ...], server: hostile.Server, copied: Path
) -> None:
    path = result_in(copied)
    value = json.loads(path.read_text())
    inside = value
    for part in place[:-1]:
        inside = inside[part]
    inside[place[-1]] = EDITED[place]
    path.write_text(json.dumps(value))
    for command in (
        ("show", path),
        ("view", "results", "--all", "--no-browser"),
        ("correlate", "--results", "results"),
    ):
        ended = server.call(copied, *command)
        assert not ended.faults, (command, ended.faults, ended.err[-2000:])
    refused(server.call(copied, "leaderboard", "add", path, "--folder", "board"))


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 2000, "{a=" * 900 + "1" + "}" * 900, '"\\ud800"', "1e400"])
def test_toml_beyond_reading_is_one_line(value: str, server: hostile.Server, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(f'family = "random"\noptions = {{seed = {value}}}\n')
    refused(server.call(tmp_path, "run", "-m", "m.toml", "-t", "best_of_n", "--limit", 2, "--out", "made"))
    refused(server.call(tmp_path, "correlate", "--aliases", "m.toml"))


@pytest.mark.parametrize("array", [
    pa.array([2**31 - 1], pa.int32()).cast(pa.date32()), pa.array([2**62]).cast(pa.timestamp("ms")),
    pa.array([-(2**62)]).cast(pa.timestamp("us", "UTC")), pa.array([2**62]).cast(pa.duration("s")),
], ids=lambda array: str(array.type))  # fmt: skip
@pytest.mark.parametrize("column", ["id", "made_at"])
def test_dates_that_python_has_not_are_one_line(
    column: str, array: pa.Array, server: hostile.Server, tmp_path: Path
) -> None:
    path = table(tmp_path / "d.parquet", **{column: array})
    ended = server.call(tmp_path, "score", path, "-m", "length", "-o", "o.jsonl")
    assert not ended.faults, ended.err
    assert ended.code == 0 or "d.parquet" in ended.err


def test_clear_makes_a_store_anew_that_does_not_even_open(server: hostile.Server, plain: Path, tmp_path: Path) -> None:
    score = ("score", plain / "pairs.jsonl", "-m", "length", "-o", "o.jsonl")
    assert server.call(tmp_path, *score).code == 0
    store = tmp_path / ".cache" / "rewards.sqlite"
    with sqlite3.connect(store) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = store.read_bytes()
    store.write_bytes(content.replace(b"CREATE TABLE answers", b"CREATE TAB\x98\xff answers"))
    refused(server.call(tmp_path, *score), "damaged", "cache clear")
    assert server.call(tmp_path, "cache", "clear").code == 0
    assert server.call(tmp_path, *score).code == 0


def test_clear_leaves_a_damaged_file_of_another_program(server: hostile.Server, tmp_path: Path) -> None:
    store = tmp_path / ".cache" / "rewards.sqlite"
    store.parent.mkdir()
    with sqlite3.connect(store) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    store.write_bytes(content := store.read_bytes().replace(b"CREATE TABLE theirs", b"CREATE TAB\x98\xff theirs"))
    refused(server.call(tmp_path, "cache", "clear"))
    assert store.read_bytes() == content


ENDS = {"largest": (sys.float_info.max, -sys.float_info.max), "equal": (1e308, 1e308)}


@pytest.mark.parametrize("kind", ENDS)
def test_the_largest_rewards_end_in_a_result(kind: str, server: hostile.Server, tmp_path: Path) -> None:
    good, bad = ENDS[kind]
    pairs = [{**ROW, "id": f"p{n}", "chosen": "a" * (1 + n % 5)} for n in range(30)]
    lines(tmp_path / "d.jsonl", *pairs)
    scores = [(good, bad) if n % 4 else (bad, good) for n in range(30)]
    rewards = [{"example_id": f"p{n}", "candidate": c, "reward": scores[n][c]} for n in range(30) for c in range(2)]
    lines(tmp_path / "s.jsonl", *rewards)
    command = ("run", "-m", "scores:s.jsonl", "-t", "preference", "--data", "preference=d.jsonl", "--out", "results")
    ended = server.call(tmp_path, *command)
    assert (ended.code, ended.faults) == (0, [])
    result = result_in(tmp_path)
    values = {metric["name"]: metric["value"] for metric in json.loads(result.read_text())["metrics"]}
    assert values["accuracy"] == (0 if good == bad else 22 / 30)
    assert server.call(tmp_path, "leaderboard", "add", result, "--folder", "board").code == 0
    assert server.call(tmp_path, "leaderboard", "check", "--folder", "board").faults == []


@pytest.mark.parametrize("arguments", [["show", "RESULT"], ["list", "tasks"]])
def test_a_closed_standard_output_is_no_error_of_ours(arguments: list[str], copied: Path) -> None:
    words = [str(result_in(copied)) if word == "RESULT" else word for word in arguments]
    line = ["sh", "-c", '"$@" >&-', "sh", sys.executable, "-m", "rmbench", *words]
    ended = subprocess.run(line, cwd=copied, capture_output=True, text=True, check=False)
    assert "unexpected" not in ended.stderr
    assert "Traceback" not in ended.stderr
