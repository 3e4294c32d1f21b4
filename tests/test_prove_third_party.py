"""A package by somebody else, installed into an environment of its own: found, held to what ours are held to, and run;
one in which nothing works fails under its own names, and takes nothing else with it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.prove

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that sees this one's packages, with both packages in it."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    seen = [path for path in sys.path if path.endswith("site-packages")]
    (site / "base.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in seen))
    python = venv / "bin" / "python"
    sources = shutil.copytree(HERE / "third_party", venv / "third_party")  # building leaves files behind
    packages = [str(sources / name) for name in ("spelling", "broken")]
    install = [python, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", *packages]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return python


def run(python: Path, *words: str, cwd: Path = HERE.parent) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"RMBENCH_CACHE": str(python.parent / "cache"), "PYTHONPATH": "", "COLUMNS": "200"}
    return subprocess.run([python, "-m", *words], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_what_it_brings_is_found_and_what_is_broken_is_said_by_name(python: Path) -> None:
    for what, told in (
        ("models", ["A reward for capitals", "model family 'broken_family' .* the licence has expired", "value_head"]),
        ("policies", ["Answers with what it was asked", "local"]),
        ("tasks", ["Which of two spellings is right", "task 'broken_task' .* has no TASK", "best_of_n"]),
    ):
        done = run(python, "rmbench", "list", what)
        assert done.returncode == 0, done.stderr
        printed = " ".join(done.stdout.split())
        for one in told:
            assert re.search(one, printed), (one, printed)


def test_it_is_run_like_ours(python: Path, tmp_path: Path) -> None:
    done = run(python, "rmbench", "run", "-m", "capitals?weight=2", "-m", "length", "-t", "spelling", "--out",
               str(tmp_path / "out"), cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "out").glob("spelling__capitals/*/spelling.json")
    result = json.loads(file.read_text())
    accuracy = {one["name"]: one["value"] for one in result["metrics"] if one["subset"] == "all"}["accuracy"]
    assert accuracy == pytest.approx(2 / 3)
    (tmp_path / "asked.jsonl").write_text('{"prompt": "quiet"}\n')
    done = run(python, "rmbench", "generate", "-p", "shouting", "asked.jsonl", "-o", "said.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "said.jsonl").read_text())["response"] == "QUIET"


def test_it_is_held_to_what_ours_are_held_to_and_a_broken_one_fails_alone_under_its_name(python: Path) -> None:
    kept = "that_is_a_name or every_plugin or every_family or has_a_card"
    done = run(python, "pytest", "-q", "-rfEp", "tests/test_conformance.py", "tests/test_plugins.py", "-k", kept)
    said = re.findall(r"^(FAILED|ERROR|PASSED) \S+?::\w+\[([^]]*)\]", done.stdout, re.MULTILINE)
    failed = {name for word, name in said if word != "PASSED"}
    assert failed == {"broken_family", "broken_promise", "broken_task", "model family broken_family",
                      "task broken_task"}  # fmt: skip
    passed = {name for word, name in said if word == "PASSED"} - failed
    assert {"capitals", "shouting", "spelling", "model family capitals", "policy shouting", "task spelling"} <= passed
    assert {"length", "random", "best_of_n", "model family value_head"} <= passed
