"""Whether a result on a task's own rows says of them what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from rmbench.errors import ResultError
from rmbench.results.records import Records
from rmbench.results.replay import RESPONSE, STATED, tags_of
from rmbench.results.schema import TaskResult

if TYPE_CHECKING:
    import pyarrow as pa

_BUNDLED = "bundled"
_KEPT = 4

Rows = Mapping[tuple[str, int], Mapping[str, Any]]


class _Own(NamedTuple):
    task: Any
    rows: Rows
    sizes: Mapping[str, int]


_known: dict[int, _Own] = {}  # by the identity of a task, which stays as long as its rows do


def check_bundled(result: TaskResult, task: Any) -> None:
    """Raises ResultError where rows that are said to be bundled with a task are none of its own, or say else there."""
    if not any(source.id == _BUNDLED and source.revision is None for source in result.dataset.sources):
        return
    if getattr(task, "bundled", None) is None:
        raise ResultError(f"dataset.sources: the rows are bundled, and {task.name} has none of its own")
    own, counts = _own(task), dict[str, int]()
    for (name, candidate), stated in _rows(result.records).items():
        due = own.rows.get((name, candidate))
        if due is None:
            raise ResultError(f"example {name}, candidate {candidate}, is none of the rows bundled with {task.name}")
        for column in dict.fromkeys([*stated, *due]):
            if stated.get(column) != due.get(column):
                raise ResultError(
                    f"{column} of example {name}, candidate {candidate}, is {stated.get(column)!r:.100}, the rows "
                    f"bundled with {task.name} give {due.get(column)!r:.100}"
                )
        counts[name] = counts.get(name, 0) + 1
    if cut := next((name for name, count in counts.items() if count != own.sizes[name]), None):
        raise ResultError(
            f"example {cut} has {counts[cut]} candidates, the rows bundled with {task.name} {own.sizes[cut]}"
        )


def _own(task: Any) -> _Own:
    if id(task) not in _known:
        records, sizes = Records(), {}
        for example in task.load().examples:
            records.add(example, ())
            sizes[example.id] = len(example.candidates)
        while len(_known) >= _KEPT:
            _known.pop(next(iter(_known)))
        _known[id(task)] = _Own(task, _rows(records.candidates()), sizes)
    return _known[id(task)]


def _rows(table: pa.Table) -> Rows:
    """What a table of candidates holds of the data: by example and candidate the columns that are not null."""
    names = [*STATED, "candidate", *RESPONSE]
    columns = [table[name].to_pylist() for name in names]
    tags = tags_of(table) or [{}] * table.num_rows
    rows = {}
    for cells, own_tags in zip(zip(*columns, strict=True), tags, strict=True):
        row = dict(zip(names, cells, strict=True))
        row["facets"] = dict(row["facets"] or ())
        row["annotations"] = None if row["annotations"] is None else str(row["annotations"])  # nan is not itself
        rows[row["example_id"], row["candidate"]] = {**row, **{f"tag {tag}": value for tag, value in own_tags.items()}}
    return rows
