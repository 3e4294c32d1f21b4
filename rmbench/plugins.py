"""Names to plugins: tasks and reward model families, built in or installed through entry points.

A built-in task is a module in `tasks/` with a `TASK`; a built-in family is a module in `rmbench/models/` with a
`load`. Others register under the entry point groups `rmbench.tasks` and `rmbench.models`. A plugin that breaks on
import raises its own error when it is asked for, and is never skipped silently.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rmbench.errors import UsageError

if TYPE_CHECKING:
    from rmbench.kinds.base import Task


def task_names() -> list[str]:
    """Names of every task, built-in and installed."""
    return sorted({*_modules("rmbench.tasks"), *_entry_points("rmbench.tasks")})


def load_task(name: str) -> Task:
    """The task called `name`. Raises UsageError with the close names where there is none."""
    names = task_names()
    if name not in names:
        raise UsageError(f"unknown task {name!r}{did_you_mean(name, names)}; tasks: {', '.join(names)}")
    entry = _entry_points("rmbench.tasks").get(name)
    task: Task = entry.load() if entry else import_module(f"rmbench.tasks.{name}").TASK
    return task


@cache
def families() -> dict[str, Any]:
    """Name -> module with `load(source, options)`, and `SOURCELESS = True` where it needs no source.

    What an entry point names is loaded only when asked for, so that one that is broken breaks nothing else.
    """
    built_in = {name: import_module(f"rmbench.models.{name}") for name in _modules("rmbench.models")}
    found: dict[str, Any] = {name: module for name, module in built_in.items() if hasattr(module, "load")}
    return found | {name: _Installed(entry) for name, entry in _entry_points("rmbench.models").items()}


class _Installed:
    """A family behind an entry point."""

    def __init__(self, entry: EntryPoint) -> None:
        self.entry = entry
        self.__doc__ = f"Installed: {entry.value}"

    def load(self, source: str, options: Any) -> Any:
        return self.entry.load().load(source, options)


def summary(plugin: object) -> str:
    """The first line of a plugin's docstring."""
    return (plugin.__doc__ or "").strip().partition("\n")[0]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`: did you mean 'x'?`, or nothing where no name is close."""
    close = get_close_matches(name, list(names), n=2, cutoff=0.6)
    return f": did you mean {' or '.join(repr(match) for match in close)}?" if close else ""


def _modules(package: str) -> list[str]:
    home: ModuleType = import_module(package)
    return [module.name for module in iter_modules(home.__path__)]


@cache
def _entry_points(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}
