"""Tasks as the command line names them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def finder(given: Sequence[str]) -> tuple[list[str], Callable[[str], Any]]:
    """The names of the tasks that are `given`, and what finds a task by its name: those first, then what is installed.

    A task is given by its name, or as `python:module:TASK`, which its results do not know.
    """
    from rmbench.plugins import load_task

    loaded = {spec: load_task(spec) for spec in given if ":" in spec}
    own = {task.name: task for task in loaded.values()}
    names = [loaded[spec].name if spec in loaded else spec for spec in given]
    return names, lambda name: own[name] if name in own else load_task(name)
