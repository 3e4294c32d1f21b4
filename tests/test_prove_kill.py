"""kill -9 at random points of a run in which prompts are shared: the same command completes, and nothing is lost."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from checkpoints import make

from rmbench.scoring import Store

pytestmark = pytest.mark.prove

KILLS = 10
MODEL = """
import time

from rmbench.models.spec import load_model
from rmbench.forwards import loop

model = load_model("tiny-llama", device="cpu", dtype="float32")
inner = loop.hidden_states


def hidden_states(model, encoded, planned):
    # One line a forward, before it runs: what a kill makes the next run do again is counted here
    with open("forwards", "a") as log:
        log.write(f"{planned.way} {len(encoded)}\\n")
    states = inner(model, encoded, planned)
    time.sleep(0.02)
    return states


loop.hidden_states = hidden_states
"""


def write_data(folder: Path, groups: int = 50) -> None:
    drawn = random.Random(0)
    words = [
        "train",
        "leaves",
        "noon",
        "two",
        "hours",
        "37",
        "58",
        "95",
        "because",
        "minutes",
        "area",
        "square",
        "sorry",
    ]
    rows = [
        {
            # long enough that the four share the forward of it
            "prompt": " ".join(drawn.choices(words, k=drawn.randint(60, 120))),
            "candidates": [" ".join(drawn.choices(words, k=drawn.randint(1, 60))) for _ in range(4)],
            "labels": [True, False, False, False],
        }
        for _ in range(groups)
    ]
    (folder / "groups.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def start(folder: Path, out: str, cache: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "rmbench", "run", "-m", "python:slow_model:model", "-t", "best_of_n",
               "--data", "best_of_n=groups.jsonl", "--token-budget", "512", "--out", out]  # fmt: skip
    environment = os.environ | {"RMBENCH_CACHE": str(folder / cache)}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def forwards(folder: Path) -> list[int]:
    """How many sequences each forward had that was started."""
    log = folder / "forwards"
    return [int(line.split()[1]) for line in whole_lines(log)]


def ways(folder: Path) -> Counter[str]:
    """How they were run, each that was started."""
    return Counter(line.split()[0] for line in whole_lines(folder / "forwards"))


def whole_lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def result(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    (path,) = folder.rglob("best_of_n-*.json")
    return json.loads(path.read_text()), pq.read_table(path.with_suffix(".parquet")).to_pylist()


def stored(folder: Path) -> int:
    """How many rewards the store holds, which are lists; the verdict of the check at the start, which it keeps as well,
    is an object. Reading it also proves that the kill left it whole.
    """
    path = folder / "cache-b" / "rewards.sqlite"
    with Store(path) as store, closing(sqlite3.connect(path)) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM answers")]
        return sum(isinstance(kept, list) for kept in store.get(keys).values())


def test_killed_runs_complete_with_the_same_result(tmp_path: Path) -> None:
    write_data(tmp_path)
    make(tmp_path / "tiny-llama", "llama")
    (tmp_path / "slow_model.py").write_text(MODEL)
    started = time.monotonic()
    assert start(tmp_path, "undisturbed", "cache-a").wait() == 0
    seconds = time.monotonic() - started
    expected, rows = result(tmp_path / "undisturbed")
    sizes = forwards(tmp_path)
    taken = ways(tmp_path)
    assert taken["shared"] > taken.total() / 2, taken
    (tmp_path / "forwards").unlink()

    seed = random.SystemRandom().randrange(10**6)
    drawn = random.Random(seed)
    print(f"\nseed {seed}: a run of {seconds:.1f} s, {len(sizes)} batches of at most {max(sizes)} sequences")
    lost: list[int] = []
    while len(lost) < KILLS:
        process = start(tmp_path, "killed", "cache-b")
        if len(lost) % 3 == 2:
            # At any time: while it starts, opens the store, loads the model, scores or writes its result
            time.sleep(drawn.uniform(0, seconds))
        else:
            # While it scores: after a few more forwards, and somewhere inside of the next
            stop_after = len(forwards(tmp_path)) + drawn.randint(1, max(len(sizes) // KILLS, 1))
            while process.poll() is None and len(forwards(tmp_path)) < stop_after:
                time.sleep(0.002)
            time.sleep(drawn.uniform(0, 0.03))
        process.kill()
        process.wait()
        # Started but not stored is what the next run does again; a forward logs its size before it runs
        done_again = sum(forwards(tmp_path)) - sum(lost) - stored(tmp_path)
        assert 0 <= done_again <= 2 * max(sizes), f"kill {len(lost)} loses {done_again} sequences"
        lost.append(done_again)
    assert start(tmp_path, "killed", "cache-b").wait() == 0

    again, rows_again = result(tmp_path / "killed")
    print(f"{KILLS} kills: sequences scored again after each {lost}, never above two batches ({2 * max(sizes)})")
    assert sum(forwards(tmp_path)) == sum(sizes) + sum(lost)
    for key in ("dataset", "statuses", "truncated", "ties", "left_out"):
        assert again[key] == expected[key]
    moved = ("reward", "probability")  # by the shape of a batch, in the last bits
    kept = [[{**row, **dict.fromkeys(moved)} for row in some] for some in (rows, rows_again)]
    assert kept[0] == kept[1]
    for name in moved:
        values, values_again = ([row[name] for row in some] for some in (rows, rows_again))
        assert values_again == pytest.approx(values, rel=0, abs=1e-5 * max(1e-6, *map(abs, values)))
