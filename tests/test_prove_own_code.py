"""kill -9 of a run of own code, at twenty points over two models and two tasks: nothing answered is asked again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rmbench.results import files

pytestmark = pytest.mark.prove

KILLS = 20
PAIRS = 40
OWN = """
import os, time

LOG = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def write(event, name, prompt, response):
    os.write(LOG, f"{event} {name} {prompt} {response}\\n".encode())

def first(prompt, response):
    write("asked", "first", prompt, response)
    time.sleep(0.002)
    write("answered", "first", prompt, response)
    return len(response)

def second(prompts, responses):
    for each in zip(prompts, responses):
        write("asked", "second", *each)
    time.sleep(0.005)
    for each in zip(prompts, responses):
        write("answered", "second", *each)
    return [-len(response) for response in responses]
"""
# One process imports everything and forks each run, so that twenty starts cost seconds
RUNS = """
import os, random, signal, sqlite3, sys, time
import numpy, pyarrow.parquet, scipy.stats  # noqa: F401
import rmbench.cli.run, rmbench.report.page, rmbench.runs.evaluate  # noqa: F401
from rmbench.cli import main

kills, total, seed = map(int, sys.argv[1:])
drawn = random.Random(seed)
command = ["run", "-m", "python:own_code:first", "-m", "python:own_code:second?batch=4", "-t", "best_of_n",
           "-t", "preference", "--data", "best_of_n=groups.jsonl", "--data", "preference=pairs.jsonl", "--out", "out"]

def run():
    child = os.fork()
    if child == 0:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1), os.dup2(silence, 2)
        os._exit(main(command))
    return child

def answered():
    return open("log", "rb").read().count(b"answered") if os.path.exists("log") else 0

def stored():
    store = os.path.join(os.environ["RMBENCH_CACHE"], "rewards.sqlite")
    if not os.path.exists(store):
        return 0
    connection = sqlite3.connect(store, timeout=60)
    try:
        return connection.execute("SELECT count(*) FROM answers").fetchone()[0]
    except sqlite3.OperationalError:  # killed before there was a table
        return 0
    finally:
        connection.close()

for kill in range(kills):
    target, child = answered() + drawn.randint(0, 2 * total // kills), run()
    while answered() < min(target, total) and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.0005)
    # inside a call and, every third time, while results, tables and the page are made
    time.sleep(drawn.uniform(0, 1.0) if kill % 3 == 2 else drawn.uniform(0, 0.005))
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
    print(answered(), stored(), flush=True)
print(os.waitstatus_to_exitcode(os.waitpid(run(), 0)[1]), flush=True)
"""


def write_data(folder: Path) -> int:
    """How many answers each model owes to both tasks."""
    pairs = [{"prompt": f"pair {i}", "chosen": "y" * (i % 7 + 2), "rejected": "n"} for i in range(PAIRS)]
    groups = [
        {"prompt": f"group {i}", "candidates": ["a" * (i + 2), "b", "c" * 3], "labels": [True, False, False]}
        for i in range(PAIRS // 2)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    (folder / "groups.jsonl").write_text("".join(json.dumps(row) + "\n" for row in groups))
    (folder / "own_code.py").write_text(OWN)
    return 2 * PAIRS + 3 * (PAIRS // 2)


def test_own_code_that_is_killed_is_never_asked_again_for_what_it_answered(tmp_path: Path) -> None:
    owed, seed = write_data(tmp_path), int.from_bytes(os.urandom(2))
    environment = os.environ | {"RMBENCH_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", RUNS, str(KILLS), str(2 * owed), str(seed)], cwd=tmp_path,
                          env=environment, capture_output=True, text=True, check=True)  # fmt: skip
    *kills, exit_code = done.stdout.splitlines()
    assert (exit_code, len(kills)) == ("0", KILLS)
    lines = [line.split(" ", 1) for line in (tmp_path / "log").read_text().splitlines()]
    answered = Counter(line for event, line in lines if event == "answered")
    assert len(answered) == 2 * owed
    # A call whose answer was on its way to the store at the very moment of a kill is the most that can be lost
    counts = [[*map(int, line.split())] for line in kills]
    lost = [calls - kept for calls, kept in counts]
    once = [after - before for before, after in zip([0, *lost], lost, strict=False)]
    print(f"\nseed {seed}: {answered.total()} answers for {2 * owed}, lost at the moment of a kill {once}")
    assert all(0 <= one <= 4 for one in once)
    assert sum(one > 0 for one in once) <= 3
    assert answered.total() == 2 * owed + lost[-1]
    for path in (tmp_path / "out").rglob("*.json"):
        assert files.read(path, tables=True).statuses.keys() == {"ok"}
    assert len([*(tmp_path / "out").rglob("*.json")]) == 4
    assert all(pq.read_table(path).num_rows for path in (tmp_path / "out").rglob("*.parquet"))
    assert not [*(tmp_path / "out").rglob(".*.tmp")]
