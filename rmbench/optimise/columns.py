"""The columns of a result's records as flat arrays, sample by sample: what outcomes hold, without an object each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.aggregate import VIEWS, aggregated
from rmbench.metrics.pools import Codes
from rmbench.results.records import JSON, TAG
from rmbench.results.replay import grouped
from rmbench.results.schema import TaskResult
from rmbench.types import Array

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Columns:
    """The records of a result, samples of an example beside each other in the order of its candidates.

    `examples` [p] are the ids of the examples and `counts` [p] how many samples each has. `rows` [s] says which row of
    the records each sample is.
    """

    result: TaskResult
    examples: list[str]
    counts: Codes
    rows: Codes

    def number(self, name: str) -> Array:
        """A column of numbers [s], nan where it has none."""
        return _numbers(self.result.records[name])[self.rows]

    def of_examples(self, name: str) -> list[Any]:
        """A column that is the same for all samples of an example [p]."""
        firsts = np.cumsum(self.counts) - self.counts
        values: list[Any] = self.result.records[name].take(self.rows[firsts]).to_pylist()
        return values

    def codes(self, name: str) -> Codes:
        """Numbers that tell the values of a column apart [s], -1 where it has none, or the records have not it."""
        if name not in self.result.records.column_names:
            return np.full(len(self.rows), -1)
        indices = _whole(self.result.records[name].cast("string")).dictionary_encode().indices
        return np.asarray(indices.fill_null(-1).to_numpy(zero_copy_only=False), np.intp)[self.rows]

    def has(self, name: str) -> bool:
        """Whether some row has a value in a column."""
        column = self.result.records[name]
        return bool(column.null_count < len(column))

    def values(self, name: str) -> list[str | None]:
        """A column as texts [s], or the one value that all rows have, None where they have none, [1]."""
        if name not in self.result.records.column_names:
            return [None]
        column = self.result.records[name].cast("string")
        different: list[str | None] = column.unique().to_pylist()
        if len(different) == 1:
            return different
        return [column[row].as_py() for row in self.rows.tolist()]

    def hashes(self, name: str) -> NDArray[np.uint64]:
        """A column of hashes in hex digits as numbers [s], by the first 16 digits of each; 0 where it has none."""
        codes = self.codes(name)
        different = self.result.records[name].unique().drop_null().to_pylist()
        numbers = np.array([int(digits[:16], 16) for digits in different] + [0], np.uint64)
        return numbers[codes]

    def tags(self) -> list[str]:
        """The names of what is known of the samples besides labels and texts."""
        return [name.removeprefix(TAG) for name in self.result.records.column_names if name.startswith(TAG)]

    def ordered(self, examples: list[str]) -> Columns:
        """The same with the examples in another order."""
        if examples == self.examples:
            return self
        places = {example: at for at, example in enumerate(self.examples)}
        order = np.array([places[example] for example in examples])
        counts, starts = self.counts[order], (np.cumsum(self.counts) - self.counts)[order]
        ends = np.cumsum(counts)
        inside = np.arange(len(self.rows)) - np.repeat(ends - counts, counts)
        return Columns(self.result, list(examples), counts, self.rows[np.repeat(starts, counts) + inside])

    def tag_number(self, name: str) -> Array:
        """A tag that is a number [s]; nan where it is none."""
        records = self.result.records
        if f"{TAG}{name}" not in records.column_names:
            return np.full(len(self.rows), np.nan)
        field, column = records.schema.field(f"{TAG}{name}"), records[f"{TAG}{name}"]
        if dict(field.metadata or {}).items() >= JSON.items() or not _is_number(column.type):
            return np.array([_number(value) for value in column.to_pylist()])[self.rows]
        return _numbers(column)[self.rows]

    def view(self, name: str) -> Array:
        """The rewards [s] of a view of the result, nan where there is none; `name` is one of `result.views`."""
        return self._reader(name)(name)[self.rows]

    def heads(self) -> list[str]:
        """The names of the views that are heads of a reward, so that they may be members of it; none of steps."""
        return [] if self._rates_steps() else [view for view in self.result.views if view != "default"]

    def _rates_steps(self) -> bool:
        return "steps" in self.result.records["ask"].unique().to_pylist()

    def _reader(self, view: str) -> Callable[[str], Array]:
        if view == "default":
            return lambda _: _numbers(self.result.records["reward"])
        return self._of_steps if self._rates_steps() else self._of_heads

    def _of_heads(self, view: str) -> Array:
        """One number a row of the map of heads."""
        heads = _whole(self.result.records["heads"])
        wanted = "default" if view == "default head" else view
        return _last_of_rows(heads, _matching(heads, wanted), _numbers(heads.items))

    def _of_steps(self, view: str) -> Array:
        """What an aggregator makes of the steps, or of a head of the steps, as in `head/min`."""
        head, _, how = view.rpartition("/")
        if how not in VIEWS:
            raise ValueError(f"view {view!r}; expected one of {', '.join(self.result.views)}")
        if not head:
            steps = _whole(self.result.records["steps"])
            return aggregated(how, _numbers(steps.flatten()), _lengths(steps))
        heads = _whole(self.result.records["step_heads"])
        own = np.flatnonzero(_matching(heads, head))
        steps = heads.items.take(own)
        lengths = np.zeros(len(heads), np.intp)
        lengths[_row_of_entries(heads)[own]] = _lengths(steps)
        return aggregated(how, _numbers(steps.flatten()), lengths)


def columns_of(result: TaskResult) -> Columns:
    """The columns of a result that was read with its tables. Raises ValueError where these are no records."""
    rows, ends = grouped(result.records)
    counts = np.diff(ends, prepend=0).astype(np.intp)
    firsts = rows[np.cumsum(counts) - counts]
    return Columns(result, result.records["example_id"].take(firsts).to_pylist(), counts, rows)


def _whole(column: Any) -> Any:
    """A column as one array, whose offsets begin at 0."""
    import pyarrow as pa

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array


def _numbers(column: pa.Array | pa.ChunkedArray) -> Array:
    """Numbers as floats, null as nan."""
    import pyarrow as pa

    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), float)


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _number(value: Any) -> float:
    try:
        return np.nan if value is None else float(value)
    except (TypeError, ValueError):
        return np.nan


def _lengths(lists: Any) -> NDArray[np.intp]:
    """How long each list is, 0 where there is none."""
    import pyarrow.compute as pc

    return np.asarray(pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False), np.intp)


def _matching(maps: Any, key: str) -> NDArray[np.bool_]:
    """Which entries of the maps have a key."""
    import pyarrow.compute as pc

    return np.asarray(pc.equal(maps.keys, key).to_numpy(zero_copy_only=False), bool)


def _row_of_entries(maps: Any) -> Codes:
    """The row of each entry of the maps."""
    return np.repeat(np.arange(len(maps)), np.diff(np.asarray(maps.offsets)))


def _last_of_rows(maps: Any, wanted: NDArray[np.bool_], values: Array) -> Array:
    """The value of the wanted entry of each row, nan where a row has none."""
    last: Array = np.full(len(maps), np.nan)
    last[_row_of_entries(maps)[wanted]] = values[wanted]
    return last
