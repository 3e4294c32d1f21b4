"""Which task a file looks like, for who gave it to another one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from rmbench.data.dataset import LeftOut
from rmbench.data.files import Rows
from rmbench.data.rows import Row, Tally
from rmbench.errors import RmbenchError
from rmbench.kinds.base import Reading, Task
from rmbench.plugins import load_task, task_names

_ROWS = 8  # that every reader gets to see


@dataclass(frozen=True, slots=True)
class _Fit:
    """A task whose reader makes examples of rows, and the share of the columns it asks for that they have."""

    task: str
    share: float


def with_likeness(error: Exception, rows: Rows, task: Task) -> Exception:
    """The error of data that `task` cannot read; where their first rows are not for it but for another one, with that
    task's name.
    """
    with suppress(RmbenchError, OSError):
        head = list(islice(rows, _ROWS))
        if head and isinstance(error, RmbenchError) and _fit(task, head) is None and (names := _alike(task, head)):
            named = " or ".join(f"{name} (--data {name}={rows.name})" for name in names)
            error.args = (f"{error}; it looks like a file of {named}", *error.args[1:])
    return error


def _alike(task: Task, head: Sequence[Row]) -> list[str]:
    """The registered tasks whose readers find the largest share of what they ask for: one that asks for much, and so
    takes many shapes, has a smaller one than the one whose shape it is.
    """
    fits = []
    for name in task_names():
        with suppress(Exception):  # a broken plugin is none of this file's business
            other = load_task(name)
            if name != task.name and other.subject == task.subject and (fit := _fit(other, head)):
                fits.append(fit)
    most = max((fit.share for fit in fits), default=0.0)
    return [fit.task for fit in fits if fit.share == most]


def _fit(task: Any, head: Sequence[Row]) -> _Fit | None:
    """None where the reader of a task cannot read the rows, or leaves out more of them than it makes examples of."""
    if not isinstance(task, Reading):
        return None
    tally = Tally()
    try:
        items = list(task.read(Row(tally.fields(row.given), row.file, row.number, tally) for row in head))
        examples = [item for item in items if not isinstance(item, LeftOut)]
        usable = any(map(task.is_usable, examples)) and 2 * len(examples) > len(items)
    except Exception:  # whatever a reader makes of rows that are not for it
        return None
    asked = tally.known()
    return _Fit(task.name, len(asked.intersection(tally.names())) / len(asked)) if usable and asked else None
