"""What a leaderboard is made of: results that agree with their records, gathered where examples agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rmbench.errors import ResultError, UsageError
from rmbench.leaderboard.predicted import predict
from rmbench.leaderboard.ranking import Ranked, Standing, standings
from rmbench.metrics.aggregate import VIEWS
from rmbench.metrics.measure import Measure
from rmbench.results import collection, files
from rmbench.results.schema import Definition, Figure, Metric, TaskResult
from rmbench.results.verify import verify

_NO_TASK = {"summary", "readme", "model", "revision", "fingerprint", "mean", "tasks"}  # names that tables have

Find = Callable[[str], Any]  # the task of a name


@dataclass(frozen=True)
class BoardRow:
    """One view of one result, and where it stands among the others.

    `headline` names the metric that its task's measure looks at first. Only the primary view has a tier, and `arena`,
    the Chatbot Arena score predicted for a policy trained on it; neither has a model that left examples unanswered.
    """

    result: TaskResult
    view: str
    headline: str
    standing: Standing = field(default_factory=Standing)
    arena: Figure | None = None

    @property
    def is_part(self) -> bool:
        """Whether it is of a part of the task: of what `--limit` left, or of a subset."""
        return self.result.is_part

    @property
    def revision(self) -> str:
        """Revision and configuration, as the result's folder names them."""
        return files.result_folder(self.result).name

    def metric(self, name: str) -> Metric | None:
        """The metric over the whole, None where it was not measured."""
        try:
            return self.result.metric(name, view=self.view)
        except KeyError:
            return None

    @property
    def first(self) -> Metric | None:
        """The headline."""
        return self.metric(self.headline)


@dataclass(frozen=True)
class Section:
    """The rows of a task that may be compared, best first: same examples, version and orders, no other responses.

    `rows` are the models by their primary views, those that left examples unanswered behind the others and by name;
    `others` is what else was measured of them, in the same order.
    """

    task: str
    name: str
    rows: Sequence[BoardRow]
    others: Sequence[BoardRow]

    @property
    def definition(self) -> Definition | None:
        """What the headline is."""
        return next((d for row in self.rows if (d := row.result.statistics.get(row.headline))), None)

    @cached_property
    def results(self) -> list[TaskResult]:
        """Each result once, in the order of the rows."""
        return list({id(row.result): row.result for row in self.rows}.values())

    @property
    def examples(self) -> int:
        """How many examples it is of."""
        return self.results[0].dataset.examples

    @property
    def models(self) -> int:
        """How many models, by name, answered all of them."""
        return len({row.result.subject.id for row in self.rows if not row.standing.lost})

    @property
    def is_part(self) -> bool:
        """Whether all of it is of a part of the task."""
        return all(row.is_part for row in self.rows)


def read_results(folder: Path, find: Find) -> list[TaskResult]:
    """Every result under `folder` with its tables, verified. Raises ResultError naming the file that is wrong."""
    paths = sorted(folder.rglob("*.json"), key=lambda path: path.relative_to(folder).parts)
    if not paths:
        raise ResultError(f"{folder}: no results; `rmbench leaderboard add RESULT.json` puts one there")
    results = []
    for path in paths:
        result = read_result(path, find)
        due = files.result_path(result)
        if path.relative_to(folder) != due:
            raise ResultError(f"{path}: what is in it belongs at {folder / due}")
        results.append(result)
    return results


def read_result(path: Path, find: Find) -> TaskResult:
    """A result with its tables. Raises ResultError where they do not give what the result says."""
    result = files.read(path, tables=True)
    if result.subject.kind == "policy":
        raise ResultError(f"{path}: a result of a policy; a leaderboard is of reward models")
    if result.task.name.lower() in _NO_TASK:
        raise ResultError(f"{path}: task.name: {result.task.name!r} cannot name a table and its column")
    try:
        files.check_ids(result)
        verify(result, installed(result.task.name, find))
    except ResultError as error:
        raise ResultError(f"{path}: {error}") from error
    return result


def installed(name: str, find: Find) -> Any:
    """The task of that name. Raises ResultError where it is not installed."""
    try:
        return find(name)
    except UsageError as error:
        raise ResultError(f"task {name!r} is not installed, and only its measure can verify the figures") from error


def other_views(result: TaskResult) -> list[str]:
    """The other aggregates of a process reward model; of several heads none but the one that is the reward."""
    if not set(VIEWS) <= set(result.views):
        return []
    return [view for view in ("default", *VIEWS) if view in result.views and view != result.primary_view]


def sections(results: Sequence[TaskResult], find: Find) -> dict[str, list[Section]]:
    """Sections by task, the one that speaks for the task first: a whole one, with the most answers to its examples.

    These are models times examples, so that neither three easy examples nor one more example makes a task another one.
    """
    return {
        task: sorted(
            (_section(task, name, entries, installed(task, find).measure) for name, entries in named.items()),
            key=lambda one: (one.is_part, -one.models * one.examples, -one.examples, one.name),
        )
        for task, named in sorted(collection.groups(results).items())
    }


def _section(task: str, name: str, results: Sequence[TaskResult], measure: Measure) -> Section:
    """Rows with their tiers: the best headline first, then by name."""
    ordered = sorted(results, key=lambda r: (r.subject.id, files.result_folder(r).name, files.result_path(r).name))
    rows = [BoardRow(result, result.primary_view, measure.headline) for result in ordered]
    placed = standings([Ranked(result, measure) for result in ordered])
    rows = [replace(row, standing=standing) for row, standing in zip(rows, placed, strict=True)]
    whole = [(row.result.subject.id, None if row.standing.lost or not row.first else row.first.value) for row in rows]
    rows = [replace(row, arena=arena) for row, arena in zip(rows, predict(whole, "Chatbot Arena"), strict=True)]
    rows.sort(key=_order)
    others = [
        replace(row, view=view, standing=Standing(lost=row.standing.lost), arena=None)
        for row in rows
        for view in other_views(row.result)
    ]
    return Section(task, name, rows, others)


def _order(row: BoardRow) -> tuple[int, float]:
    if row.standing.lost:
        return 2, 0.0
    definition = row.result.statistics.get(row.headline)
    value = None if row.first is None else row.first.value
    if value is None or definition is None or definition.better is None:
        return 1, 0.0
    return 0, value if definition.better == "lower" else -value
