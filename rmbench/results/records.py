"""The table beside a result: one row a candidate, and one row a comparison where pairs were asked. No texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from rmbench.types import Array, Example, Question, Reward

if TYPE_CHECKING:
    import pyarrow as pa

_AT_ONCE = 1 << 16  # rows held as Python objects


class Records:
    """The tables of a run on one task, grown an example at a time; no texts are kept."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Any]] = {name: [] for name in _candidate_types()}
        self._done: list[pa.Table] = []
        self._tags: dict[str, list[Any]] = {}
        self._pairs: dict[str, list[Any]] = {name: [] for name in _comparison_types()}
        self._count = 0

    def add(self, example: Example, questions: Sequence[Question], rewards: Sequence[Reward]) -> None:
        """Adds an example's candidates, and the comparisons of them, in the order of the data."""
        placed = [
            (question.place.candidates, reward)
            for question, reward in zip(questions, rewards, strict=True)
            if question.place is not None
        ]
        alone = {shown[0]: reward for shown, reward in placed if len(shown) == 1}
        self._add_candidates(example, [alone.get(index) for index in range(len(example.candidates))])
        for shown, reward in placed:
            for i, j in combinations(range(len(shown)), 2):
                row = (example.id, shown[i], shown[j], reward.values[i], reward.values[j], reward.status)
                for column, value in zip(self._pairs.values(), row, strict=True):
                    column.append(value)

    def candidates(self, probabilities: Sequence[Array] | None) -> pa.Table:
        """One row a candidate, in the order of the data: what is known of it and what it was given.

        `probabilities` has one number per candidate of each example, nan where there is none; None without calibration.
        """
        import numpy as np
        import pyarrow as pa

        self._pack()
        table = pa.concat_tables(self._done)
        if probabilities is not None:
            column = pa.array(np.concatenate([np.zeros(0), *probabilities]), pa.float64(), from_pandas=True)
            table = table.set_column(table.column_names.index("probability"), "probability", column)
        for name, values in self._tags.items():
            values.extend([None] * (self._count - len(values)))
            table = table.append_column(f"tag_{name}", _tag_array(values))
        return table

    def comparisons(self) -> pa.Table | None:
        """One row a pair of candidates in the order shown, the win mass of each; None where nothing was compared."""
        import pyarrow as pa

        if not self._pairs["example_id"]:
            return None
        return pa.table({name: pa.array(self._pairs[name], kind) for name, kind in _comparison_types().items()})

    def _add_candidates(self, example: Example, rewards: Sequence[Reward | None]) -> None:
        k, rows = len(rewards), self._rows
        rows["example_id"] += [example.id] * k
        rows["candidate"] += range(k)
        rows["subset"] += [example.facets.get("subset")] * k
        rows["cluster"] += [example.cluster] * k
        rows["label"] += [candidate.number for candidate in example.candidates]
        rows["reward"] += [reward and reward.value for reward in rewards]
        rows["heads"] += [reward and [(name, head[0]) for name, head in reward.heads.items()] for reward in rewards]
        rows["steps"] += [(reward and list(reward.steps)) or None for reward in rewards]
        rows["probability"] += [None] * k
        rows["status"] += [reward and reward.status for reward in rewards]
        rows["n_tokens"] += [reward and reward.n_tokens for reward in rewards]
        rows["truncated"] += [reward and reward.truncated for reward in rewards]
        rows["characters"] += [None if c.text is None else len(c.text) for c in example.candidates]
        for index, candidate in enumerate(example.candidates, self._count):
            for tag, value in candidate.tags.items():
                column = self._tags.setdefault(tag, [])
                column.extend([None] * (index - len(column)))
                column.append(value)
        self._count += k
        if len(rows["candidate"]) >= _AT_ONCE:
            self._pack()

    def _pack(self) -> None:
        """Python objects take several times what their columns do."""
        import pyarrow as pa

        types = _candidate_types()
        self._done.append(pa.table({name: pa.array(self._rows[name], kind) for name, kind in types.items()}))
        self._rows = {name: [] for name in types}


def generation_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """One row a sample of a policy: what is known of it and how long it is, its tags last. No texts.

    `candidate` counts the samples of a prompt, `tokens` and `cap` are in the result's unit.
    """
    import pyarrow as pa

    tags = dict.fromkeys(tag for row in rows for tag in row["tags"])
    arrays = {name: pa.array([row[name] for row in rows], kind) for name, kind in _generation_types().items()}
    return pa.table(arrays | {f"tag_{tag}": _tag_array([row["tags"].get(tag) for row in rows]) for tag in tags})


def _candidate_types() -> Mapping[str, pa.DataType]:
    import pyarrow as pa

    return {
        "example_id": pa.string(),
        "candidate": pa.int32(),
        "subset": pa.string(),
        "cluster": pa.string(),
        "label": pa.float64(),
        "reward": pa.float64(),
        "heads": pa.map_(pa.string(), pa.float64()),
        "steps": pa.list_(pa.float64()),
        "probability": pa.float64(),
        "status": pa.string(),
        "n_tokens": pa.int32(),
        "truncated": pa.int32(),
        "characters": pa.int32(),
    }


def _comparison_types() -> Mapping[str, pa.DataType]:
    import pyarrow as pa

    return {
        "example_id": pa.string(),
        "first": pa.int32(),
        "second": pa.int32(),
        "win_first": pa.float64(),
        "win_second": pa.float64(),
        "status": pa.string(),
    }


def _generation_types() -> Mapping[str, pa.DataType]:
    import pyarrow as pa

    return {
        "example_id": pa.string(),
        "candidate": pa.int32(),
        "subset": pa.string(),
        "cluster": pa.string(),
        "condition": pa.string(),
        "status": pa.string(),
        "refused": pa.bool_(),
        "empty": pa.bool_(),
        "tokens": pa.int32(),
        "characters": pa.int32(),
        "finish": pa.string(),
        "cap": pa.int32(),
    }


def _tag_array(values: Sequence[Any]) -> pa.Array:
    """A tag column; values of mixed types become their text."""
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())
