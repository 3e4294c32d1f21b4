"""The Python API's docstrings carry examples, and each of them runs."""

from __future__ import annotations

import doctest
import inspect
from importlib import import_module
from pathlib import Path

import pytest

import rmbench

PUBLIC = [name for name in rmbench.__all__ if not name.endswith("Error")]
HOMES = sorted({rmbench._HOMES[name] for name in rmbench.__all__} | {"rmbench.runs.loading", "rmbench.metrics.measure"})


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_public_has_an_example(name: str) -> None:
    public = getattr(rmbench, name)
    methods = [value for value in vars(public).values() if inspect.isfunction(value)] if inspect.isclass(public) else []
    documented = [public, *methods]
    assert any(">>>" in (one.__doc__ or "") for one in documented), f"{name} has no example"


@pytest.mark.parametrize("module", HOMES)
def test_examples_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(import_module(module), optionflags=doctest.ELLIPSIS).failed == 0
