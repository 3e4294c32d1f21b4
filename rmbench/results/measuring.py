"""The measure that a result was made with, of the task that is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rmbench.errors import ResultError, UsageError
from rmbench.metrics.measure import Measure
from rmbench.results.schema import TaskResult

Find = Callable[[str], Any]  # the task of a name


def measure_of(result: TaskResult, find: Find) -> Measure:
    """The measure of the task that a result is of. Raises ResultError where that task is not the one installed."""
    info = result.task
    try:
        task = find(info.name)
    except UsageError as error:
        raise ResultError(f"task {info.name!r} is not installed, and only its measure gives its figures") from error
    measure: Measure = task.measure
    if (task.version, measure.name) != (info.version, info.measure):
        raise ResultError(
            f"these are of version {info.version}, measured by {info.measure}; version {task.version}, by "
            f"{measure.name}, is installed"
        )
    return measure
