"""From names of tasks to their examples; a task that cannot be read loses nothing of the others."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rmbench import plugins
from rmbench.data.dataset import Dataset
from rmbench.errors import RmbenchError, UsageError
from rmbench.kinds.base import Task


@dataclass(frozen=True)
class TaskData:
    """A task with the examples it will be run on: how they were chosen, and what of it is not the task's own."""

    task: Task
    data: Dataset
    choice: Mapping[str, Any]
    own: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """A task that gave no result, and why."""

    task: str
    error: Exception

    @classmethod
    def of(cls, task: Task, error: Exception) -> Failed:
        """With a note of whose task raised it, where that is not one of rmbench's own."""
        if not isinstance(error, RmbenchError) and type(task).__module__.partition(".")[0] != "rmbench":
            error.add_note(f"the task {task.name}")
        return cls(task.name, error)


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
def load_tasks(
    tasks: Sequence[str | Task],
    *,
    data: Mapping[str, str | Path] | None = None,
    limit: int | None = None,
    deduplicate: bool = False,
) -> list[TaskData]:
    """Reads the examples of each task, from `data[name]` where given. Raises UsageError, DataError."""
    loaded = []
    for item in read_tasks(tasks, data=data, limit=limit, deduplicate=deduplicate):
        if isinstance(item, Failed):
            raise item.error
        loaded.append(item)
    return loaded


def read_tasks(
    tasks: Sequence[str | Task],
    *,
    data: Mapping[str, str | Path] | None = None,
    limit: int | None = None,
    deduplicate: bool = False,
) -> list[TaskData | Failed]:
    """What `load_tasks` reads, one entry a task, also where one cannot be read. Raises UsageError."""
    if isinstance(tasks, str):
        raise UsageError(f"tasks={tasks!r}: expected a list of tasks, as in [{tasks!r}]")
    if data is not None and not isinstance(data, Mapping):
        raise UsageError(f"data={data!r}: expected a mapping of a task's name to a file or folder")
    if limit is not None and limit < 1:
        raise UsageError(f"limit={limit}: expected at least 1 example")
    wanted = _named(tasks)
    data = dict(data or {})
    for name in data:
        if name not in {task.name for task in wanted}:
            raise UsageError(f"--data {name}={data[name]}: {name} is not among the tasks of this run")
    return [_read(task, data.get(task.name), limit, deduplicate) for task in wanted]


def _read(task: Task, path: str | Path | None, limit: int | None, deduplicate: bool) -> TaskData | Failed:
    try:
        examples = task.load(None if path is None else Path(path))
        own = {} if path is None else {"data": {"name": Path(path).resolve().name, "sha256": examples.sha256}}
        if deduplicate:
            examples = examples.deduplicated()
        if limit is not None:
            examples = examples.limited(limit)
    except Exception as error:  # a task that cannot be read loses nothing of the others
        return Failed.of(task, error)
    return TaskData(task, examples, {"limit": limit, "deduplicate": deduplicate}, own)


def _named(tasks: Sequence[str | Task]) -> list[Task]:
    """The tasks of names, suites and tasks, each once. Raises UsageError for two tasks of one name."""
    named: dict[str, Task] = {}
    for given in tasks:
        for task in plugins.load_tasks(given) if isinstance(given, str) else [given]:
            if named.setdefault(task.name, task) is not task:
                raise UsageError(f"two tasks are called {task.name}; a run takes one of them")
    return list(named.values())
