"""What a leaderboard is made of: results that agree with their records, gathered where examples agree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rmbench.calibration.fit import calibrate
from rmbench.errors import ResultError
from rmbench.leaderboard.predicted import predict
from rmbench.metrics import comparison, summary
from rmbench.metrics.aggregate import VIEWS
from rmbench.metrics.interval import estimate
from rmbench.metrics.paired import tiers
from rmbench.results import files, provenance
from rmbench.results.replay import examples_of, outcomes_of
from rmbench.results.schema import Figure, Metric, TaskResult
from rmbench.types import Array

_FILE_NAME = re.compile(r"[A-Za-z0-9]\w*(-\w+)*", re.ASCII)
_NO_TASK = {"summary", "readme", "model", "revision", "fingerprint", "mean", "tasks"}  # names that tables have
_RECORDS = {"example_id", "candidate", "subset", "cluster", "label", "reward", "heads", "steps", "probability",
            "status", "n_tokens", "truncated", "characters"}  # fmt: skip
_COMPARISONS = {"example_id", "first", "second", "win_first", "win_second", "status"}


@dataclass(frozen=True)
class Row:
    """One view of one result, with its place among the others. `p` is None for the best of a tier.

    `arena` is the Chatbot Arena score predicted for a policy trained on it, of the primary view alone.
    """

    result: TaskResult
    view: str
    tier: int | None = None
    p: float | None = None
    arena: Figure | None = None

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


@dataclass(frozen=True)
class Section:
    """The rows of a task that may be compared, best first: same examples, version and protocol, no other responses."""

    task: str
    name: str
    rows: Sequence[Row]

    @cached_property
    def results(self) -> list[TaskResult]:
        """Each result once, in the order of the rows."""
        return list({id(row.result): row.result for row in self.rows}.values())


def read_results(folder: Path) -> list[TaskResult]:
    """Every result under `folder` with its tables, checked. Raises ResultError naming the file that is wrong."""
    paths = sorted(folder.rglob("*.json"), key=lambda path: path.relative_to(folder).parts)
    if not paths:
        raise ResultError(f"{folder}: no results; `rmbench leaderboard add RESULT.json` puts one there")
    results = []
    for path in paths:
        result = read_result(path)
        due = files.result_folder(result) / f"{result.task.name}.json"
        if path.relative_to(folder) != due:
            raise ResultError(f"{path}: what is in it belongs at {folder / due}")
        results.append(result)
    return results


def read_result(path: Path) -> TaskResult:
    """A result with its tables. Raises ResultError where they do not hold what the result says."""
    result = files.read(path, tables=True)
    if result.subject.kind == "policy":
        raise ResultError(f"{path}: a result of a policy; a leaderboard is of reward models")
    if not _FILE_NAME.fullmatch(result.task.name) or result.task.name.lower() in _NO_TASK:
        raise ResultError(f"{path}: task.name: {result.task.name!r} cannot name a table and its column")
    records = path.with_suffix(".parquet")
    _check_columns(records, result.records, _RECORDS)
    compared = result.records.num_rows > 0 and result.records["status"].null_count == result.records.num_rows
    if compared and result.comparisons is None:
        raise ResultError(f"{path.with_suffix('.comparisons.parquet')}: missing; this model compared candidates")
    if result.comparisons is not None:
        _check_columns(path.with_suffix(".comparisons.parquet"), result.comparisons, _COMPARISONS)
    try:
        judged = ((example.id, example.cluster, example.labels) for example in examples_of(result))
        if provenance.examples_sha256(judged) != result.dataset.examples_sha256:
            raise ResultError(f"{records}: its examples or labels are not those of {path.name}")
        for view in shown_views(result):
            _check_figures(path, result, view)
        _check_calibration(path, result)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ResultError(f"{records}: no records of a result ({type(error).__name__}: {error})") from error
    return result


def shown_views(result: TaskResult) -> list[str]:
    """Every aggregator of a process reward model; of several heads only the one that is the reward."""
    if result.primary_view not in VIEWS:
        return [result.primary_view]
    measured = {metric.view for metric in result.metrics}
    return [view for view in VIEWS if view in measured]


def sections(results: Sequence[TaskResult]) -> dict[str, list[Section]]:
    """Sections by task; of a task's the one with the most results comes first."""
    tasks: dict[str, dict[str, list[TaskResult]]] = {}
    for result in results:
        siblings = [other for other in results if _judged(other) == _judged(result)]
        name = result.dataset.examples_sha256[:8]
        if len({other.dataset.responses_sha256 for other in siblings} - {None}) > 1:
            name += f"-{(result.dataset.responses_sha256 or 'unknown')[:8]}"
        title = f"v{result.task.version} {result.task.protocol or ''}".strip()
        tasks.setdefault(result.task.name, {}).setdefault(f"{title} {name}", []).append(result)
    return {
        task: sorted(
            (Section(task, name, _ranked(some)) for name, some in named.items()),
            key=lambda section: (-len(section.results), -section.results[0].dataset.examples, section.name),
        )
        for task, named in sorted(tasks.items())
    }


def _judged(result: TaskResult) -> tuple[Any, ...]:
    return result.task.name, result.task.version, result.task.protocol, result.dataset.examples_sha256


def _ranked(results: Sequence[TaskResult]) -> list[Row]:
    """Rows with their tiers: highest accuracy first, then by name."""
    ordered = sorted(results, key=lambda r: (r.subject.id, files.result_folder(r).name))
    rows = [Row(result, view) for result in ordered for view in shown_views(result)]
    known = {
        i: found
        for i, row in enumerate(rows)
        if is_comparison(row.result) and np.isfinite(found := _wins(row.result, row.view)).any()
    }
    if known:
        first = next(iter(known))
        examples = sorted(examples_of(rows[first].result), key=lambda example: example.id)
        _, clusters = np.unique([example.cluster or example.id for example in examples], return_inverse=True)
        for i, (tier, p) in zip(known, tiers(list(known.values()), clusters), strict=True):
            rows[i] = replace(rows[i], tier=tier, p=p)
    primary = [i for i, row in enumerate(rows) if row.view == row.result.primary_view]
    figures = [(rows[i].result.subject.id, getattr(rows[i].metric("accuracy"), "value", None)) for i in primary]
    for i, arena in zip(primary, predict(figures, "Chatbot Arena"), strict=True):
        rows[i] = replace(rows[i], arena=arena)
    return sorted(rows, key=lambda row: -_value(row))


def _value(row: Row) -> float:
    accuracy = row.metric("accuracy")
    return -1.0 if accuracy is None or accuracy.value is None else accuracy.value


def is_comparison(result: TaskResult) -> bool:
    """Whether the task ranks candidates by their labels, so that what was won follows from the records."""
    return result.task.protocol is not None


def _wins(result: TaskResult, view: str) -> Array:
    """Strict wins [n] in the order of the examples' ids."""
    outcomes = outcomes_of(result, view)
    order = sorted(range(len(outcomes)), key=lambda i: outcomes[i].example_id)
    return comparison.wins(outcomes, view)[order]


def _check_figures(path: Path, result: TaskResult, view: str) -> None:
    """Raises ResultError where a figure is not what the records give.

    Ends of bootstrap intervals are not compared: they belong to the numpy that drew them.
    """
    if not is_comparison(result):
        return
    stated = {metric.name: metric for metric in result.metrics if (metric.view, metric.subset) == (view, "all")}
    outcomes = outcomes_of(result, view)
    statistics = summary.statistics(outcomes, view)
    estimates = estimate(statistics, [outcome.cluster for outcome in outcomes], draws=2)
    for statistic, due in zip(statistics, estimates, strict=True):
        drawn = statistic.kind != "proportion" and statistic.interval is None
        ends = () if drawn else ("ci_low", "ci_high")
        for field in ("value", *ends, "n", "clusters") if statistic.name in stated else ():
            found, expected = getattr(stated[statistic.name], field), getattr(due, field)
            found = np.nan if found is None else found
            if not np.isclose(found, expected, rtol=1e-6, atol=1e-9, equal_nan=True):
                name = f"{statistic.name} of view {view!r}" + (f", {field}," if field != "value" else "")
                raise ResultError(f"{path}: {name} is {found:.6g}, its records give {expected:.6g}")


def _check_calibration(path: Path, result: TaskResult) -> None:
    """Raises ResultError where a calibration error is not what the records give."""
    if result.calibration is None:
        return
    view = result.calibration.view
    due = calibrate(outcomes_of(result, view), view, seed=result.config.get("seed", 0)).report
    for stated in result.calibration.maps:
        expected = None if due is None else due.of(stated.scope, stated.map).figure("ece").value
        found = stated.figure("ece").value
        if expected is None or found is None or not np.isclose(found, expected, rtol=1e-4, atol=1e-6):
            name = f"calibration error of {stated.scope}, {stated.map}"
            raise ResultError(f"{path}: {name} is {found}, its records give {expected}")


def _check_columns(path: Path, table: Any, due: set[str]) -> None:
    missing = sorted(due - set(table.column_names))
    if missing:
        raise ResultError(f"{path}: column {missing[0]!r} is missing")
    odd = sorted(name for name in set(table.column_names) - due if not name.startswith("tag_"))
    if odd:
        raise ResultError(f"{path}: column {odd[0]!r} is none of a result's records")
