"""A job that is stopped again and again, after seconds of forwards, ends: each is short, and what it gave is kept."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkpoints import make
from test_prove_kill import result, whole_lines, write_data

from rmbench.scoring import Store

pytestmark = pytest.mark.prove

STOPPED_AFTER, SECONDS_A_TOKEN, LIVES = 2.5, 0.002, 12
MODEL = f"""
import time

from rmbench.models.spec import load_model
from rmbench.forwards import loop

model = load_model("tiny-llama", device="cpu", dtype="float32")
inner = loop.hidden_states


def hidden_states(model, encoded, planned):
    with open("forwards", "a") as log:
        log.write(f"{{planned.tokens}}\\n")
    time.sleep({SECONDS_A_TOKEN} * planned.tokens)  # as slow as a large model on a few cores
    return inner(model, encoded, planned)


loop.hidden_states = hidden_states
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "rmbench", "run", "-m", "python:slow_model:model", "-t", "best_of_n",
               "--data", "best_of_n=groups.jsonl", "--out", "out"]  # fmt: skip
    environment = os.environ | {"RMBENCH_CACHE": str(folder / "cache")}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kept(folder: Path) -> int:
    with Store(folder / "cache" / "rewards.sqlite") as store:
        return store.count()


def test_a_job_that_is_stopped_every_few_seconds_ends(tmp_path: Path) -> None:
    write_data(tmp_path, groups=8)
    make(tmp_path / "tiny-llama", "llama", max_position_embeddings=2048)
    (tmp_path / "slow_model.py").write_text(MODEL)
    held: list[int] = []
    for _ in range(LIVES):
        before = len(whole_lines(tmp_path / "forwards"))
        process = start(tmp_path)
        while process.poll() is None and len(whole_lines(tmp_path / "forwards")) == before:
            time.sleep(0.01)
        try:
            code = process.wait(STOPPED_AFTER)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            held.append(kept(tmp_path))
            assert held == sorted(set(held)), f"nothing was kept in one of the lives: {held}"
        else:
            assert code == 0
            break
    tokens = [int(line) for line in whole_lines(tmp_path / "forwards")]
    print(f"\n{len(held)} times stopped, rewards kept after each {held}; forwards of {tokens} tokens")
    assert held
    assert result(tmp_path)[0]["statuses"] == {"ok": 32}
    assert max(tokens) * SECONDS_A_TOKEN <= 5.0
