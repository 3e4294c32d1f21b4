"""From the records of a result back to what its metrics saw, so that figures can be checked and models compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rmbench.metrics import comparison
from rmbench.metrics.aggregate import VIEWS, aggregate
from rmbench.results.schema import TaskResult
from rmbench.types import Array, Outcome, Status, View


@dataclass(frozen=True, slots=True)
class Judged:
    """One example of the records: the labels of its candidates, and the rows of the table that they are."""

    id: str
    cluster: str | None
    labels: list[float | None]
    rows: list[int]


def examples_of(result: TaskResult) -> list[Judged]:
    """The examples that a result's records are about, candidates in their order."""
    columns = (result.records[name].to_pylist() for name in ("example_id", "candidate", "cluster", "label"))
    found: dict[str, Judged] = {}
    for row, (example, _, cluster, label) in sorted(enumerate(zip(*columns, strict=True)), key=lambda at: at[1][1]):
        judged = found.setdefault(example, Judged(example, cluster, [], []))
        judged.labels.append(label)
        judged.rows.append(row)
    return list(found.values())


def outcomes_of(result: TaskResult, view: str) -> list[Outcome]:
    """What the metrics of a comparison task saw of one view, one outcome an example."""
    examples = examples_of(result)
    if result.comparisons is None:
        given = _scores(result, view)
        scores = [given[example.rows] for example in examples]
        return [_outcome(e, view, View(s, comparison.beats(s), ())) for e, s in zip(examples, scores, strict=True)]
    answers: dict[str, list[tuple[tuple[int, int], tuple[float, float], Status]]] = {}
    for row in result.comparisons.to_pylist():
        shown, masses = (row["first"], row["second"]), (row["win_first"], row["win_second"])
        answers.setdefault(row["example_id"], []).append((shown, masses, row["status"]))
    return [
        _outcome(example, view, View(None, _beats(result, example, answers.get(example.id, [])), ()))
        for example in examples
    ]


def _beats(
    result: TaskResult, example: Judged, answers: Sequence[tuple[tuple[int, int], tuple[float, float], Status]]
) -> Array:
    return comparison.beats_of_masses(_labels(example), answers, result.task.null_verdict)


def _labels(example: Judged) -> Array:
    return np.array([np.nan if label is None else label for label in example.labels], float)


def _outcome(example: Judged, view: str, seen: View) -> Outcome:
    return Outcome(example.id, None, example.cluster or example.id, _labels(example), {view: seen})


def _scores(result: TaskResult, view: str) -> Array:
    """One score [rows] per candidate."""
    if view in VIEWS and result.primary_view in VIEWS:
        return aggregate([steps or () for steps in result.records["steps"].to_pylist()])[view]
    if view == "default":
        given = result.records["reward"].to_pylist()
    else:
        given = [dict(heads or ()).get(view) for heads in result.records["heads"].to_pylist()]
    return np.array([np.nan if value is None else value for value in given], float)
