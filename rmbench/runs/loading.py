"""From names of tasks to their examples; a task that cannot be read loses nothing of the others."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from rmbench import plugins
from rmbench.data.dataset import Dataset
from rmbench.data.files import Rows, rows_of
from rmbench.data.hub import HubSet
from rmbench.data.part import Part
from rmbench.errors import RmbenchError, UsageError
from rmbench.kinds.base import Task
from rmbench.runs.recognise import with_likeness

_NAME = re.compile(r"[A-Za-z0-9]\w*([.-]\w+)*", re.ASCII)

Data = str | Path | Iterable[Any]  # a path, a list of mappings, or a `datasets.Dataset`


@dataclass(frozen=True)
class TaskData:
    """A task with the examples it will be run on: how they were chosen, and what of it is not the task's own."""

    task: Task
    data: Dataset
    choice: Mapping[str, Any]
    own: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What its results are called: the name of its data where a run has several of the task, else the task's."""
        return str(self.own.get("name", self.task.name))


@dataclass(frozen=True)
class Failed:
    """A task that gave no result, and why."""

    task: str
    error: Exception

    @classmethod
    def of(cls, task: Task, error: Exception, name: str | None = None) -> Failed:
        """With a note of whose task raised it, where that is not one of rmbench's own."""
        if not isinstance(error, RmbenchError) and type(task).__module__.partition(".")[0] != "rmbench":
            error.add_note(f"the task {task.name}")
        return cls(name or task.name, error)


@contextmanager
def seldom_collected() -> Iterator[None]:
    """The garbage collector looks at all objects over and over as millions are made, and they are in no cycle."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, 50, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@seldom_collected()
def load_tasks(tasks: Sequence[str | Task | TaskData], **choice: Any) -> list[TaskData]:
    """Reads the examples of each task; `choice` is that of `read_tasks`. Raises UsageError, DataError."""
    loaded = []
    for item in read_tasks(tasks, **choice):
        if isinstance(item, Failed):
            raise item.error
        loaded.append(item)
    return loaded


def read_tasks(
    tasks: Sequence[str | Task | TaskData],
    *,
    data: Mapping[str, Data | Mapping[str, Data]] | None = None,
    columns: Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    limit: int | None = None,
    subset: Mapping[str, str | Sequence[str]] | None = None,
    seed: int = 0,
    deduplicate: bool = False,
    revision: str | Mapping[str, str] | None = None,
    orders: str | None = None,
) -> list[TaskData | Failed]:
    """The examples of each task, also where one cannot be read; what is read already stays as it is.

    `data` maps the name of a task to what it is run on: a path, a list of mappings, a `datasets.Dataset`, or a mapping
    of names to several of these, as a `DatasetDict` is, each of which has results under its own name. `"task:path"` of
    another name is one of several too. `columns` maps what readers know to the data's own columns, as in
    `{"prompt": "question"}`; with `skip_bad_rows` rows that cannot be read are left out and counted. `subset` gives
    facets the values that examples have to have, as in `{"domain": "math"}`, and `limit` is how many of them are drawn,
    by `seed` and within facets and files (see `rmbench.data.part`). `revision` is the commit at which the hub set of
    the one task is read, or that of each by the name of its task or the set's id. `orders` are shown to a model that
    compares instead of each task's own: official, both, round_robin or permutations:N; a task that shows responses one
    by one has none. Raises UsageError.
    """
    if isinstance(tasks, str):
        raise UsageError(f"tasks={tasks!r}: expected a list of tasks, as in [{tasks!r}]")
    if data is not None and not isinstance(data, Mapping):
        raise UsageError(f"data={data!r:.80}: expected a mapping of a task's name to a path, rows or a Dataset")
    part = Part(limit, seed, _subset(subset or {}), deduplicate)
    if (columns or skip_bad_rows) and not data:
        raise UsageError(f"{'columns' if columns else 'skip_bad_rows'} is for data of your own; give --data TASK=FILE")
    wanted = _named(tasks)
    if orders is not None:
        _check_orders(wanted, orders)
    given = _by_task(data or {}, [item.task.name if isinstance(item, TaskData) else item.name for item in wanted])
    revisions = _revisions([item for item in wanted if not isinstance(item, TaskData)], revision, given)
    reading: dict[str, Any] = {"columns": columns, "skip_bad_rows": skip_bad_rows}
    read: list[TaskData | Failed] = []
    for item in wanted:
        if isinstance(item, TaskData):
            read.append(item)
            continue
        several = {name: rows_of(source, **reading) for name, source in given.get(item.name, {}).items()}
        for name, rows in several.items() or [(None, None)]:
            read.append(_read(item, name, rows, part, orders, revisions))
    return read


def _revisions(
    tasks: Sequence[Task], given: str | Mapping[str, str] | None, data: Mapping[str, object]
) -> dict[str, str]:
    """The commit of each hub set, by its id. Raises UsageError for what has none, or several that one is not for."""
    if given is None:
        return {}
    if isinstance(given, str):
        if len(tasks) != 1:
            raise UsageError(f"--revision {given}: there are {len(tasks)} tasks; expected TASK={given} for one of them")
        given = {tasks[0].name: given}
    sets = {task.name: list(dict.fromkeys(hub.id for hub in _sets(task))) for task in tasks}
    ids = {one for task in tasks if task.name not in data for one in sets[task.name]}
    revisions: dict[str, str] = {}
    for name, commit in given.items():
        told = f"--revision {name}={commit}"
        if not commit:
            raise UsageError(f"{told}: expected a commit, a branch or a tag")
        if name not in sets and name not in ids:
            there = [*sets, *sorted(ids)]
            meant = plugins.did_you_mean(name, there)
            raise UsageError(f"{told}: no task of this run and no hub set{meant}; there is {', '.join(there)}")
        if name in data or (name not in ids and not sets[name]):
            why = "read from --data" if name in data else "of no hub set"
            raise UsageError(f"{told}: {name} is {why}, which has no revisions")
        if name not in ids and len(sets[name]) > 1:
            raise UsageError(f"{told}: {name} reads {' and '.join(sets[name])}; expected {sets[name][0]}={commit}")
        revisions[name if name in ids else sets[name][0]] = commit
    return revisions


def _sets(task: Task) -> Sequence[HubSet]:
    """The hub sets that a task reads; none where its rows are bundled."""
    return task.sources if getattr(task, "bundled", None) is None else ()


def _at(task: Task, revisions: Mapping[str, str]) -> tuple[Task, dict[str, Any]]:
    """The task with its sets at these revisions, and those of them that it has, as a result states them."""
    own = {hub.id: revisions[hub.id] for hub in _sets(task) if hub.id in revisions}
    if not own:
        return task, {}
    sources = tuple(replace(hub, revision=own.get(hub.id, hub.revision)) for hub in task.sources)
    return cast(Task, replace(cast(Any, task), sources=sources)), {"revision": own}


def _subset(subset: Mapping[str, str | Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The values of each facet, sorted, so that a result says the same however they were given. Raises UsageError."""
    if not isinstance(subset, Mapping):
        raise UsageError(f"subset={subset!r:.80}: expected facets and their values, as in {{'domain': 'math'}}")
    values = {facet: [given] if isinstance(given, str) else [*given] for facet, given in sorted(subset.items())}
    for facet, several in values.items():
        if not several or not all(isinstance(value, str) for value in several):
            raise UsageError(f"subset {facet}: expected a value or several, got {several!r:.80}")
    return {facet: tuple(sorted(set(several))) for facet, several in values.items()}


def _check_orders(tasks: Sequence[Task | TaskData], orders: str) -> None:
    """Raises UsageError for orders that are none, and where no task has any or one is read already in others."""
    for item in tasks:
        if isinstance(item, TaskData) and item.task.orders not in (None, orders):
            raise UsageError(f"orders={orders!r}: {item.name} is read already, in the orders {item.task.orders}")
        _in_orders(_task_of(item), orders)
    if all(_task_of(item).orders is None for item in tasks):
        names = ", ".join(item.name for item in tasks)
        raise UsageError(f"orders={orders!r}: {names} shows every response by itself, in no order")


def _task_of(item: Task | TaskData) -> Task:
    return item.task if isinstance(item, TaskData) else item


def _in_orders(task: Task, orders: str | None) -> Task:
    """The task with these orders, where it has others. Raises UsageError for orders that are none."""
    if orders is None or task.orders in (None, orders):
        return task
    return cast(Task, replace(cast(Any, task), orders=orders))


def _by_task(data: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, dict[str | None, Any]]:
    """What each task is run on, by the name that this has where it has one."""
    given: dict[str, dict[str | None, Any]] = {}
    for name, source in data.items():
        task, colon, path = source.partition(":") if isinstance(source, str) else ("", "", "")
        named: Mapping[Any, Any] = source if isinstance(source, Mapping) else {None: source}
        if name in tasks:
            task = name
        elif colon and task in tasks:
            named = {name: path}
        else:
            raise UsageError(f"--data {name}={source!s:.80}: {name} is not among the tasks of this run; expected "
                             "TASK=PATH, or NAME=TASK:PATH")  # fmt: skip
        for one in named:
            if one is not None and (one in tasks or not _NAME.fullmatch(str(one))):
                raise UsageError(f"data of {task} is called {one!r}; expected letters, digits, _ and -, and no task's "
                                 "name")  # fmt: skip
        given.setdefault(task, {}).update(named)
    return given


def _read(
    task: Task, name: str | None, rows: Rows | None, part: Part, orders: str | None, revisions: Mapping[str, str]
) -> TaskData | Failed:
    try:
        shown = _in_orders(task, orders)
        there, at = (task, {}) if rows is not None else _at(task, revisions)
        examples = there.load(rows) if part == Part(seed=part.seed) else there.load(rows, part)
        own = at if rows is None else _own(name, rows, examples)
        own |= {} if shown is task else {"orders": orders}
    except Exception as error:  # a task that cannot be read loses nothing of the others
        return Failed.of(task, error if rows is None else with_likeness(error, rows, task), name)
    return TaskData(shown, examples, part.choice, own)


def _own(name: str | None, rows: Rows, examples: Dataset) -> dict[str, Any]:
    """What of a run is not the task's own."""
    own: dict[str, Any] = {} if name is None else {"name": name}
    own["data"] = {"name": rows.name, "sha256": examples.sources[0].sha256}
    if rows.tally.columns:
        own["columns"] = rows.tally.columns
    return own | ({"skip_bad_rows": True} if rows.tally.skip_bad_rows else {})


def _named(tasks: Sequence[str | Task | TaskData]) -> list[Task | TaskData]:
    """The tasks of names, suites and tasks, each once. Raises UsageError for two tasks of one name."""
    named: dict[str, Task | TaskData] = {}
    for place, given in enumerate(tasks):
        if isinstance(given, TaskData):
            named[f"{place}:{given.name}"] = given
            continue
        for task in plugins.load_tasks(given) if isinstance(given, str) else [given]:
            if named.setdefault(task.name, task) is not task:
                raise UsageError(f"two tasks are called {task.name}; a run takes one of them")
    return list(named.values())
