"""What programs import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rmbench

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
