"""From the records of a result back to what its metrics saw, so that figures can be checked and models compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmbench.metrics import comparison
from rmbench.metrics.aggregate import VIEWS, aggregate
from rmbench.results.schema import TaskResult
from rmbench.types import Answer, Array, Outcome, View


@dataclass(frozen=True, slots=True)
class Judged:
    """One example of the records: the labels of its candidates, and the rows of the table that they are."""

    id: str
    subset: str | None
    cluster: str | None
    labels: list[float | None]
    rows: list[int]


def examples_of(result: TaskResult) -> list[Judged]:
    """The examples that a result's records are about, candidates in their order."""
    records = result.records
    order = np.argsort(records["candidate"].to_numpy(), kind="stable")
    ids = records["example_id"].take(order).combine_chunks().dictionary_encode()
    codes = ids.indices.to_numpy()
    rows = order[np.argsort(codes, kind="stable")]
    ends = np.cumsum(np.bincount(codes)).tolist()
    starts = [0, *ends[:-1]]
    subsets, clusters = (records[name].take(rows[starts]).to_pylist() for name in ("subset", "cluster"))
    labels, places = records["label"].take(rows).to_pylist(), rows.tolist()
    return [
        Judged(name, subset, cluster, labels[start:end], places[start:end])
        for name, subset, cluster, start, end in zip(
            ids.dictionary.to_pylist(), subsets, clusters, starts, ends, strict=True
        )
    ]


def outcomes_of(result: TaskResult, view: str) -> list[Outcome]:
    """What metrics saw of one view, one outcome an example: labels, scores or comparisons, characters and tags."""
    examples = examples_of(result)
    characters = _numbers(result.records["characters"].to_pylist())
    tags = _tags(result)
    return [
        Outcome(
            example.id,
            {} if example.subset is None else {"subset": example.subset},
            example.cluster or example.id,
            _numbers(example.labels),
            {view: seen},
            columns={"characters": characters[example.rows]},
            tags=[tags[row] for row in example.rows] if tags else (),
        )
        for example, seen in zip(examples, _views(result, examples, view), strict=True)
    ]


def _views(result: TaskResult, examples: Sequence[Judged], view: str) -> list[View]:
    if result.comparisons is None:
        scores = _scores(result, view)
        return [View(scores[example.rows], None, ()) for example in examples]
    answers: dict[str, list[Answer]] = {}
    for row in result.comparisons.to_pylist():
        shown, masses = (row["first"], row["second"]), (row["win_first"], row["win_second"])
        answers.setdefault(row["example_id"], []).append(Answer(shown, masses, row["status"]))
    verdict = result.task.null_verdict
    return [
        View(None, comparison.beats_of_masses(_numbers(e.labels), answers.get(e.id, []), verdict), ()) for e in examples
    ]


def _tags(result: TaskResult) -> list[dict[str, Any]]:
    """The tags of each row, [] where no row has any."""
    names = [name for name in result.records.column_names if name.startswith("tag_")]
    columns = [result.records[name].to_pylist() for name in names]
    tags = [name.removeprefix("tag_") for name in names]
    return [
        {tag: value for tag, value in zip(tags, row, strict=True) if value is not None}
        for row in zip(*columns, strict=True)
    ]


def _scores(result: TaskResult, view: str) -> Array:
    """One score [rows] per candidate."""
    if view in VIEWS and result.primary_view in VIEWS:
        return aggregate([steps or () for steps in result.records["steps"].to_pylist()])[view]
    if view == "default":
        given = result.records["reward"].to_pylist()
    else:
        head = "default" if view == "default head" else view
        given = [dict(heads or ()).get(head) for heads in result.records["heads"].to_pylist()]
    return _numbers(given)


def _numbers(given: Sequence[float | None]) -> Array:
    return np.array(given, float)  # None is nan
