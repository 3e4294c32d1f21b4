"""From the records of a result back to what its metrics saw, so that figures can be checked and models compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rmbench.metrics import comparison
from rmbench.metrics.aggregate import VIEWS, aggregate
from rmbench.results.schema import TaskResult
from rmbench.types import Array, Outcome, View


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
    """What the metrics of a comparison task saw of one view, one outcome an example.

    Whether a verdict that could not be read is no answer or a loss is the task's to define; the result shows which: the
    examples with such verdicts count in its metrics, or they do not.
    """
    examples = examples_of(result)
    if result.comparisons is None:
        given = _scores(result, view)
        scores = [given[example.rows] for example in examples]
        return [_outcome(e, view, View(s, comparison.beats(s), ())) for e, s in zip(examples, scores, strict=True)]
    found = _compared(result, examples, view, refused_loses=False)
    if np.isfinite(comparison.wins(found, view)).sum() < result.metric("accuracy", view=view).n:
        found = _compared(result, examples, view, refused_loses=True)
    return found


def _outcome(example: Judged, view: str, seen: View) -> Outcome:
    labels = np.array([np.nan if label is None else label for label in example.labels])
    return Outcome(example.id, None, example.cluster or example.id, labels, {view: seen})


def _scores(result: TaskResult, view: str) -> Array:
    """One score [rows] per candidate."""
    if view in VIEWS and result.primary_view in VIEWS:
        return aggregate([steps or () for steps in result.records["steps"].to_pylist()])[view]
    if view == "default":
        given = result.records["reward"].to_pylist()
    else:
        given = [dict(heads or ()).get(view) for heads in result.records["heads"].to_pylist()]
    return np.array([np.nan if value is None else value for value in given], float)


def _compared(result: TaskResult, examples: Sequence[Judged], view: str, *, refused_loses: bool) -> list[Outcome]:
    """Sums each pair's win mass over the answers to it; the larger sum wins, equal sums tie, a failed one is nan."""
    labels = {example.id: example.labels for example in examples}
    leads = {name: np.zeros((len(some), len(some))) for name, some in labels.items()}
    asked = {name: np.zeros((len(some), len(some)), dtype=bool) for name, some in labels.items()}
    for row in result.comparisons.to_pylist() if result.comparisons is not None else ():
        name, a, b = row["example_id"], row["first"], row["second"]
        if row["status"] == "missing":
            continue
        edge = row["win_first"] - row["win_second"] if row["status"] == "ok" else np.nan
        if row["status"] == "refused" and refused_loses:
            edge = -1.0 if (labels[name][a] or 0.0) > (labels[name][b] or 0.0) else 1.0
        asked[name][a, b] = asked[name][b, a] = True
        leads[name][a, b] += edge
        leads[name][b, a] -= edge
    return [
        _outcome(
            example, view, View(None, np.where(asked[example.id], (np.sign(leads[example.id]) + 1) / 2, np.nan), ())
        )
        for example in examples
    ]
