"""What programs import."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import rmbench
from rmbench.results import files

HEAVY = ("torch", "transformers", "datasets", "pandas", "scipy", "sklearn")


def test_exported_members_are_locked() -> None:
    assert rmbench.__all__ == [
        "DataError",
        "ModelError",
        "ResultError",
        "Reward",
        "RmbenchError",
        "TaskResult",
        "UsageError",
        "evaluate",
        "load_model",
        "load_task",
        "open_model",
        "score",
    ]
    for name in rmbench.__all__:
        assert getattr(rmbench, name).__name__ == name
    assert set(rmbench.__all__) <= set(dir(rmbench))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'rmbench' has no attribute 'evalute'"):
        _ = rmbench.evalute


@pytest.mark.parametrize(
    "code",
    [
        "import rmbench",
        "from rmbench.cli import main; main(['--help'])",
        "from rmbench.cli import main; main(['run', '--help'])",
        "from rmbench.cli import main; main(['list', 'models'])",
        "from rmbench.cli import main; main(['list', 'tasks'])",
    ],
)
def test_light_things_load_nothing_heavy(code: str) -> None:
    check = f"{code}; import sys; print('LOADED', *[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED"


def test_threads_may_write_one_result_and_what_dead_processes_left_is_removed(tmp_path: Path) -> None:
    [result] = rmbench.evaluate("length", ["best_of_n"], limit=5, out=tmp_path)
    [path] = tmp_path.rglob("*.json")
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    left = [path.with_name(f".{name}.{done.pid}{thread}.tmp") for name in (path.name, f"{path.stem}.parquet")
            for thread in ("", "-140")]  # fmt: skip
    others = [path.with_name(f".{path.name}.{os.getppid()}-1.tmp"), path.with_name(f".other.json.{done.pid}.tmp")]
    for temporary in (*left, *others):
        temporary.touch()
    with ThreadPoolExecutor(8) as pool:
        assert {*pool.map(lambda _: files.write(result, tmp_path), range(24))} == {path}
    assert files.read(path, tables=True).records.equals(result.records)
    assert {*path.parent.iterdir()} == {path, path.with_suffix(".parquet"), *others}
