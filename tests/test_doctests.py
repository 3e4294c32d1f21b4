"""The Python API's docstrings carry examples, and each of them runs, as do those of all other modules."""

from __future__ import annotations

import doctest
import inspect
from importlib import import_module
from pathlib import Path

import pytest

import rmbench

PUBLIC = [name for name in rmbench.__all__ if not name.endswith("Error")]
ROOT = Path(__file__).parents[1]
WITH_EXAMPLES = sorted(
    ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")
    for folder, package in ((ROOT / "rmbench", "rmbench"), (ROOT / "tasks", "rmbench.tasks"))
    for path in folder.rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_public_has_an_example(name: str) -> None:
    public = getattr(rmbench, name)
    methods = [value for value in vars(public).values() if inspect.isfunction(value)] if inspect.isclass(public) else []
    documented = [public, *methods]
    assert any(">>>" in (one.__doc__ or "") for one in documented), f"{name} has no example"


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(import_module(module), optionflags=doctest.ELLIPSIS).failed == 0
