"""kill -9 at every write of a report, a table and a result: each file is whole, as it was or as it shall be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.prove

# A child of one process that has imported everything is killed at its n-th opening for writing, renaming or removal
RUNS = """
import os, signal, sys
import rmbench.cli.leaderboard, rmbench.cli.run, rmbench.cli.score, rmbench.report.page
import pyarrow.parquet, pandas, scipy.stats, tabulate  # noqa: F401
from rmbench.cli import main

folder = os.path.realpath(sys.argv[1])

def writes(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        writing = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
    else:
        path, writing = arguments[0], event in ("os.rename", "os.remove")
    inside = isinstance(path, (str, bytes)) and os.path.realpath(os.fsdecode(path)).startswith(folder)
    return bool(writing) and inside

def run(command, n):
    child = os.fork()
    if child == 0:
        seen = 0
        def watch(event, arguments):
            nonlocal seen, n
            if event in ("open", "os.rename", "os.remove") and writes(event, arguments):
                seen += 1
                if seen == n:
                    if event == "open" and not os.path.isdir(arguments[0]):  # the moment after: an empty file is there
                        n = 0
                        os.close(os.open(arguments[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
                    os.kill(os.getpid(), signal.SIGKILL)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1), os.dup2(silence, 2)
        sys.addaudithook(watch)
        os._exit(main(command))
    return os.waitpid(child, 0)[1]

for line in sys.stdin:
    command, n = line.rstrip("\\n").split("\\t"), 0
    command, n = command[:-1], int(command[-1])
    print(run(command, n), flush=True)
"""

COMMANDS = {
    "run": ["run", "-m", "length", "-t", "best_of_n", "--limit", "8", "--out", "out"],
    "build": ["leaderboard", "build", "--folder", "boards"],
    "csv": ["score", "rows.jsonl", "-m", "length", "-o", "scored.csv"],
    "parquet": ["score", "rows.jsonl", "-m", "length", "-o", "scored.parquet"],
}


def check(folder: Path) -> None:
    """Every file that a reader would open is whole."""
    for path in folder.rglob("*"):
        if not path.is_file() or path.name.startswith("."):
            continue
        match path.suffix:
            case ".json":
                json.loads(path.read_text())
            case ".parquet":
                pq.read_table(path)
            case ".html":
                assert path.read_text().rstrip().endswith("</html>"), path
            case ".csv" | ".md":
                assert path.read_bytes().endswith(b"\n"), path


def test_every_file_is_whole_after_a_kill_at_any_write(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "responses": ["b", "cc"]}\n' * 3)
    environment = os.environ | {"RMBENCH_CACHE": str(tmp_path.with_name("kept"))}
    with subprocess.Popen(
        [sys.executable, "-c", RUNS, str(tmp_path)],
        cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def status(command: list[str], n: int) -> int:
            process.stdin.write("\t".join([*command, str(n)]) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return int(process.stdout.readline())  # type: ignore[union-attr]

        kills = {}
        for name, command in COMMANDS.items():
            n = 1
            while (ended := status(command, n)) == 9:
                check(tmp_path)
                n += 1
            assert ended == 0, (name, n, ended)
            kills[name] = n - 1
            check(tmp_path)
            if name == "run":
                added = [str(path) for path in tmp_path.glob("out/*/*/best_of_n*.json")]
                assert status(["leaderboard", "add", *added, "--folder", "boards"], 0) == 0
        process.stdin.close()
    print(f"kills by command: {kills}")
    assert min(kills.values()) > 0
