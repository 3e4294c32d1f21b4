"""The wheel, installed into an empty environment outside the repository, does what the repository does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import make

from rmbench.data.cards import read_card
from rmbench.plugins import task_names

pytestmark = pytest.mark.prove

ROOT = Path(__file__).parents[1]


def run(*command: object, **more: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def test_the_wheel_runs_the_demo_and_finds_tasks_and_cards(tmp_path: Path) -> None:
    source = tmp_path / "source"
    tracked = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    for name in filter(None, tracked):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, source)
    (wheel,) = tmp_path.glob("rmbench-*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    pip = (tmp_path / "venv/bin/pip", "install", "-q", "-c", ROOT / "constraints.txt")
    run(*pip, "torch==2.13.0")
    run(*pip, wheel)
    make(tmp_path / "tiny-llama", "llama")

    rmbench = tmp_path / "venv/bin/rmbench"
    outside = {"cwd": tmp_path, "env": os.environ | {"RMBENCH_CACHE": str(tmp_path / "cache"), "PYTHONPATH": ""}}
    listed = run(rmbench, "list", "tasks", **outside)
    assert all(name in listed for name in task_names())
    for name in task_names():
        assert read_card(name).body.splitlines()[0].strip("# ") in run(rmbench, "show", name, **outside)
    table = run(
        rmbench, "run", "-m", "length", "-m", "random", "-m", "tiny-llama", "-t", "best_of_n", "--out", "out", **outside
    )
    print(table)
    assert "local/tiny-llama" in table
    assert len(list((tmp_path / "out").rglob("best_of_n.parquet"))) == 3
