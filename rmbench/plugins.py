"""Names to plugins: tasks, families of reward models, kinds of policy and suites, built in or installed.

A built-in plugin is a module: in `tasks/` with a `TASK`, in `tasks/suites/` with a `SUITE`, in `rmbench/models/` and
`rmbench/policies/` with `OPTIONS` and `open`. Others register under the entry point groups `rmbench.tasks`,
`rmbench.suites`, `rmbench.models` and `rmbench.policies`; what such an entry point names is loaded when asked for.
A plugin that breaks on import raises its own error then, and is never skipped silently. A name that exists twice is
nobody's until one of the two is renamed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module, reload
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rmbench.errors import ModelError, UsageError

if TYPE_CHECKING:
    from rmbench.kinds.base import Task
    from rmbench.kinds.suite import Suite


@dataclass(frozen=True, slots=True)
class PluginGroup:
    """What plugins of one sort have in common.

    `name` is that of the entry point group and `package` that of the built-in modules. `attribute` is where a module
    keeps the plugin, empty where the module is the plugin itself; `needs` are the attributes that a plugin has.
    """

    name: str
    noun: str
    nouns: str
    package: str
    attribute: str
    needs: tuple[str, ...]

    @property
    def thing(self) -> str:
        """What a plugin makes: a family makes a model."""
        return self.noun.partition(" ")[0]


TASKS = PluginGroup(
    "rmbench.tasks", "task", "tasks", "rmbench.tasks", "TASK", ("name", "version", "summary", "card", "load")
)
SUITES = PluginGroup("rmbench.suites", "suite", "suites", "rmbench.tasks.suites", "SUITE", ("name", "summary", "tasks"))
MODELS = PluginGroup("rmbench.models", "model family", "families", "rmbench.models", "", ("OPTIONS", "open"))
POLICIES = PluginGroup("rmbench.policies", "policy", "policies", "rmbench.policies", "", ("OPTIONS", "open"))

_JUDGED = ("questions", "outcome", "measure")  # what a task has besides where a reward model is asked
_OWN: dict[str, bytes] = {}  # the files of users' modules, as they were imported
_SUITES = "suites"  # the package beside the tasks that is none


@dataclass(frozen=True, slots=True)
class PluginEntry:
    """Where a plugin is found: `attribute` of `module`, the module itself where that is empty."""

    group: PluginGroup
    name: str
    module: str
    attribute: str
    package: str | None = None

    @property
    def origin(self) -> str:
        """Where it comes from, for messages."""
        if self.package is None and self.module.startswith(f"{self.group.package}."):
            return "rmbench itself"
        place = f"{self.module}:{self.attribute}" if self.attribute else self.module
        return f"{place} of the package {self.package}" if self.package else place


def names(group: PluginGroup) -> list[str]:
    """The names of all plugins of a group, sorted."""
    return sorted(_entries(group))


def load(group: PluginGroup, name: str) -> Any:
    """The plugin of that name.

    Raises UsageError where there is none (with the close names), where there are two, and where an attribute that
    such a plugin has is missing. Raises what the plugin itself raises, with a note that names it.
    """
    return _loaded(entry(group, name))


def entry(group: PluginGroup, name: str) -> PluginEntry:
    """Where the plugin of that name is found. Raises UsageError where there is none and where there are two."""
    entries = _entries(group)
    if name not in entries:
        installed = ", ".join(sorted(entries)) or "none"
        own = ", or your own as python:MODULE:TASK" if group is TASKS else ""
        raise UsageError(f"unknown {group.noun} {name!r}{did_you_mean(name, entries)}; {group.nouns}: {installed}{own}")
    first, *others = entries[name]
    if others:
        raise UsageError(
            f"{group.noun} {name!r} exists twice: in {first.origin} and in {others[0].origin}; uninstall or rename one"
        )
    return first


@dataclass(frozen=True, slots=True)
class Listed:
    """A plugin by its name, with one line on what it is, or on why it cannot be loaded."""

    name: str
    summary: str | None
    error: str | None = None


def listed(group: PluginGroup) -> list[Listed]:
    """Every plugin of a group, also those that cannot be loaded. What one prints goes to standard error."""
    lines = []
    for name in names(group):
        try:
            with redirect_stdout(sys.stderr):
                plugin = load(group, name)
                lines.append(Listed(name, str(plugin.summary) if group.attribute else summary(plugin)))
        except Exception as error:  # a plugin may raise anything, and a list has to go on
            lines.append(Listed(name, None, " ".join(_reason(error).split())))
    return lines


def spec_starts(group: PluginGroup) -> list[str]:
    """How a MODEL or POLICY of each kind begins: its name, behind which a colon waits for a source where one is due."""
    starts = []
    for name in names(group):
        with suppress(Exception):  # who asks for a broken one is told
            starts.append(name if getattr(load(group, name), "SOURCE", "required") == "none" else f"{name}:")
    return starts


def task_names() -> list[str]:
    """Names of every task, built-in and installed."""
    return names(TASKS)


def load_task(name: str) -> Task:
    """The task called `name`, or what `python:module:TASK` names.

    Raises UsageError with the close names where there is none.

    >>> task = load_task("best_of_n")
    >>> task.version, task.measure.headline
    (2, 'accuracy')
    """
    if name.startswith("suite:"):
        raise UsageError(f"{name} is a suite of several tasks; expected the name of one task")
    task: Task = _own_task(name) if name.startswith("python:") else load(TASKS, name)
    return task


def load_tasks(name: str) -> list[Task]:
    """The tasks of `suite:NAME`, else the one called `name`. Raises UsageError."""
    if not name.startswith("suite:"):
        return [load_task(name)]
    return [load_task(task) for task in load_suite(name.removeprefix("suite:")).tasks]


def load_suite(name: str) -> Suite:
    """The suite called `name`. Raises UsageError with the close names where there is none."""
    suite: Suite = load(SUITES, name)
    return suite


def module_of(name: str) -> str:
    """The module that the task called `name` is declared in, beside which its card is found. Raises UsageError."""
    return name.split(":")[1] if name.startswith("python:") else entry(TASKS, name).module


def own_code(source: str) -> Any:
    """What `module:attribute` names, found in the working folder or among what is installed.

    A file that changed since it was imported here is imported again: what it gives is known by what stands in it. What
    it prints meanwhile is no result, and goes to standard error. Raises UsageError where there is no such thing,
    ModelError with the reason where its module cannot be imported.
    """
    module_name, colon, attribute = source.partition(":")
    if not colon or not module_name or not attribute:
        raise UsageError(f"python:{source} does not name anything in a module; write python:module:attribute")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        with redirect_stdout(sys.stderr):
            value: Any = _imported(module_name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise UsageError(f"python:{source}: no module {module_name!r} here or among what is installed") from error
        raise ModelError(f"python:{source} cannot be imported: {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise UsageError(f"python:{source}: module {module_name!r} has no {attribute!r}")
        value = getattr(value, part)
    return value


def _imported(name: str) -> ModuleType:
    module = import_module(name)
    file = getattr(module, "__file__", None)
    if file is not None and Path(file).is_file():
        content = Path(file).read_bytes()
        if _OWN.get(name, content) != content:
            module = reload(module)
        _OWN[name] = content
    return module


def summary(plugin: object) -> str:
    """The first line of a plugin's docstring."""
    return (plugin.__doc__ or "").strip().partition("\n")[0]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing where no name is close."""
    close = get_close_matches(name, list(names), n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(repr(match) for match in close)}?)" if close else ""


def _own_task(name: str) -> Any:
    task = own_code(name.removeprefix("python:"))
    _check(TASKS, task, f"task {name!r}")
    for registered in _entries(TASKS).get(task.name, ()):
        if _loaded(registered) is not task:
            raise UsageError(f"task {task.name!r} exists twice: in {name} and in {registered.origin}; rename one")
    return task


def _entries(group: PluginGroup) -> dict[str, list[PluginEntry]]:
    entries: dict[str, list[PluginEntry]] = {}
    for one in (*_built_in(group), *_installed(group, tuple(sys.path))):
        entries.setdefault(one.name, []).append(one)
    return entries


@cache
def _built_in(group: PluginGroup) -> list[PluginEntry]:
    modules = [module.name for module in iter_modules(import_module(group.package).__path__)]
    return [
        PluginEntry(group, name, f"{group.package}.{name}", group.attribute)
        for name in modules
        if not name.startswith("_") and name != _SUITES and (group.attribute or _declares(group, name))
    ]


def _declares(group: PluginGroup, name: str) -> bool:
    """Whether a module beside the plugins is one: it opens something, or cannot be asked. Options may be shared."""
    try:
        module = import_module(f"{group.package}.{name}")
    except (Exception, SystemExit):  # raised again where it is loaded
        return True
    return hasattr(module, group.needs[-1])


@cache
def _installed(group: PluginGroup, path: tuple[str, ...]) -> list[PluginEntry]:
    """What is registered by the packages on `path`, which is that of Python: another has others."""
    return [
        PluginEntry(group, one.name, one.module, one.attr or group.attribute, one.dist.name if one.dist else None)
        for one in entry_points(group=group.name)
    ]


@cache
def _loaded(entry: PluginEntry) -> Any:
    group, what = entry.group, f"{entry.group.noun} {entry.name!r} ({entry.origin})"
    try:
        with redirect_stdout(sys.stderr):  # what a plugin prints is no result
            plugin: Any = import_module(entry.module)
    except SystemExit as error:
        raise ModelError(f"{what} ends the program where it is imported: {error}") from error
    except Exception as error:
        error.add_note(what)
        raise
    for part in filter(None, entry.attribute.split(".")):
        if not hasattr(plugin, part):
            raise UsageError(f"{what}: {entry.module} has no {entry.attribute}")
        plugin = getattr(plugin, part)
    _check(group, plugin, what)
    if group.attribute and plugin.name != entry.name:
        raise UsageError(f"{what} calls itself {plugin.name!r}; expected the name that it is registered under")
    return plugin


def _check(group: PluginGroup, plugin: object, what: str) -> None:
    """Raises UsageError that names the first attribute that is missing."""
    asks_policy = getattr(plugin, "subject", None) == "policy"
    judged = group is TASKS and not asks_policy and (hasattr(plugin, "outcome") or hasattr(plugin, "measure"))
    needs = (*group.needs, *_JUDGED) if judged else group.needs
    for attribute in needs:
        if not hasattr(plugin, attribute):
            raise UsageError(f"{what} has no {attribute}; a {group.noun} has {', '.join(needs)}")


def _reason(error: Exception) -> str:
    lines = [*getattr(error, "__notes__", ()), str(error)]
    return ": ".join(lines) if isinstance(error, UsageError) else f"{lines[0]}: {type(error).__name__}: {error}"
