"""CONTRIBUTING's examples, executed: each is copied out of the document into a copy of the package, and used."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```\w+\n(?:# |<!-- )(\S+)(?: -->)?\n(.*?)```", re.DOTALL)
EXAMPLES = dict(BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text()))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PLACES = PROJECT["tool"]["setuptools"]["package-dir"]
ROOMS = {f"{folder}/": package.replace(".", "/") + "/" for package, folder in PLACES.items() if folder != "rmbench"}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The package as the wheel lays it out, to be changed at will."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "rmbench", tmp_path / "rmbench", ignore=ignore)
    for folder, place in ROOMS.items():
        shutil.copytree(ROOT / folder, tmp_path / place, ignore=ignore)
    return tmp_path


def apply(package: Path, *names: str) -> None:
    """Puts the examples where the document says: a new file, or more lines in one that is there."""
    for name in names:
        room = next((room for room in ROOMS if name.startswith(room)), "")
        place = package / (ROOMS.get(room, "") + name.removeprefix(room))
        before = place.read_text() + "\n\n" if place.exists() else ""
        place.write_text(before + EXAMPLES[name])


def rmbench(package: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(package)}
    command = [sys.executable, "-m", "rmbench", *arguments]
    done = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_task_is_one_module_and_its_card(package: Path) -> None:
    apply(package, "tasks/spelling.py", "data_cards/spelling.md")
    rows = [{"right": "This is fine.", "wrong": "Thiss is not."}, {"right": "Good.", "wrong": "Baad."}]
    (package / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "Sentences with and without a mistake" in rmbench(package, "list", "tasks")
    assert "what a score does not say" in rmbench(package, "show", "spelling")
    (result,) = json.loads(
        rmbench(package, "run", "-m", "length", "-t", "spelling", "--data", "spelling=rows.jsonl", "--json")
    )
    assert result["dataset"]["examples"] == 2


def test_a_family_is_one_module(package: Path) -> None:
    apply(package, "rmbench/models/words.py")
    assert "number of different words" in " ".join(rmbench(package, "list", "models").split())
    (result,) = json.loads(rmbench(package, "run", "-m", "words", "-t", "best_of_n", "--json"))
    assert result["subject"]["id"] == "rmbench/words"
    assert set(result["statuses"]) == {"ok"}


def test_a_metric_is_one_function(package: Path) -> None:
    apply(package, "rmbench/metrics/comparison.py")
    (result,) = json.loads(rmbench(package, "run", "-m", "random", "-t", "best_of_n", "--json"))
    metric = next(metric for metric in result["metrics"] if metric["name"] == "in_first_two")
    assert metric["ci_low"] < metric["value"] < metric["ci_high"]


def test_every_example_is_executed_here() -> None:
    source = Path(__file__).read_text()
    assert len(EXAMPLES) >= 4
    assert all(f'"{name}"' in source for name in EXAMPLES)
