"""kill -9 while a checkpoint writes: the same command completes, no sample is there twice, and none is lost."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import causal
import pytest

from rmbench.scoring import Store

pytestmark = pytest.mark.prove

KILLS, SAMPLES, ROUND = 5, 2, 36
# A child whose forwards are slowed down, so that there is time to kill it, and logged: one line a response
CHILD = """
import sys
import time

from rmbench.cli import main
from rmbench.policies import drawing, local

response, draw = local.Local._response, drawing.Draw.__call__


def logged(self, tokens, generation):
    with open("written", "a") as log:
        log.write(f"{generation.prompt[0].text!r}|{generation.sample}\\n")
    return response(self, tokens, generation)


def slowly(self, *some):
    time.sleep(0.005)
    return draw(self, *some)


local.Local._response, drawing.Draw.__call__ = logged, slowly
sys.exit(main(sys.argv[1:]))
"""


def start(folder: Path, out: str, cache: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "child.py", "generate", "overflow", "-p", "local:tiny", "-o", out, "--device", "cpu",
               "--limit", str(ROUND), "--samples", str(SAMPLES), "--max-new-tokens", "16",
               "--token-budget", "600"]  # fmt: skip
    environment = os.environ | {"RMBENCH_CACHE": str(folder / cache)}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def written(folder: Path) -> list[str]:
    log = folder / "written"
    return log.read_text().splitlines() if log.exists() else []


def test_killed_generations_complete_with_the_same_texts(tmp_path: Path) -> None:
    causal.make(tmp_path / "tiny")
    (tmp_path / "child.py").write_text(CHILD)
    assert start(tmp_path, "expected.jsonl", "cache-a").wait() == 0
    whole = written(tmp_path)
    assert len(whole) == len(set(whole)) == ROUND * SAMPLES
    (tmp_path / "written").unlink()

    seed = random.SystemRandom().randrange(10**6)
    drawn, again = random.Random(seed), []
    for kill in range(KILLS):
        process = start(tmp_path, "out.jsonl", "cache-b")
        enough = len(written(tmp_path)) + drawn.randint(1, len(whole) // (KILLS + 1))
        while process.poll() is None and len(written(tmp_path)) < enough:
            time.sleep(0.002)
        time.sleep(drawn.uniform(0, 0.05))
        assert process.poll() is None, f"seed {seed}: run {kill} was over before it was killed"
        process.kill()
        process.wait()
        with Store(tmp_path / "cache-b" / "rewards.sqlite") as store:
            stored = store.count()
        # Each is stored before the next is handed out, so at most one is read out and lost
        again.append(len(written(tmp_path)) - stored - sum(again))
    assert start(tmp_path, "out.jsonl", "cache-b").wait() == 0

    print(f"\nseed {seed}: {KILLS} kills, responses written again after each: {again}")
    assert all(0 <= lost <= 1 for lost in again)
    assert set(written(tmp_path)) == set(whole)
    assert len(written(tmp_path)) == len(whole) + sum(again)
    assert (tmp_path / "out.jsonl").read_text() == (tmp_path / "expected.jsonl").read_text()
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len({(row["prompt"], row["sample"]) for row in rows}) == len(rows) == ROUND * SAMPLES
