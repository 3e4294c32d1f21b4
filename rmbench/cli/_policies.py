"""Results of policies on a terminal: one table a task, one row a policy and condition."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rmbench.cli._console import terminal
from rmbench.cli._report import (
    NOTHING,
    Cell,
    _cell,
    _data_line,
    _figure,
    _name,
    _print_notes,
    plain,
    print_parts,
)
from rmbench.results.digest import Digest, digest
from rmbench.results.schema import Metric, TaskResult


def print_policies(results: Sequence[TaskResult]) -> None:
    """One table for each task, in the order of the results, with effects and what is left open below it."""
    console = terminal()
    for task in dict.fromkeys(result.label for result in results):
        alike = [result for result in results if result.label == task]
        console.print(f"\n[bold]{plain(task)}[/]  {plain(_data_line(alike[0]))}", highlight=False)
        digested = digest(alike)
        rows = [(result, view) for result in alike for view in result.views]
        columns: dict[str, Cell] = {"policy": _name}
        columns |= {digested.heading(name): partial(_figure, name) for name in _columns(digested)}
        print_parts(console, columns, rows, [_caption(alike)])
        for result in alike:
            for line in _effects(result):
                console.print(f"  {plain(line)}", highlight=False)
            for view, reasons in result.left_out.items():
                counts = ", ".join(f"{why} {count:,}" for why, count in reasons.items())
                console.print(f"  {plain(f'{result.subject.id}, {view}: not identified: {counts}')}", highlight=False)
        _print_notes(console, [result.model_copy(update={"left_out": {}, "truncated": 0}) for result in alike])


def _columns(digested: Digest) -> list[str]:
    """The headline, the first number of each kind, and what else has the headline's unit."""
    untested = [name for name in digested.statistics if name not in digested.tested]
    firsts: dict[tuple[str, str], str] = {}
    for name in untested:
        if not digested.is_share(name):
            firsts.setdefault((digested.statistics[name].title, digested.statistics[name].unit), name)
    names = dict.fromkeys([digested.headline, *digested.variants, *firsts.values()])
    return [name for name in names if name in untested]


def _caption(results: Sequence[TaskResult]) -> str:
    units = sorted({str(result.config.model["unit"]) for result in results})
    mixed = "; lengths of different units are not to be compared" if len(units) > 1 else ""
    return (
        f"[ ] 95 % interval; lengths in {' and '.join(units)}{mixed}; CSR and tokens of responses that are neither "
        "refused nor empty, characters of all"
    )


def _effects(result: TaskResult) -> list[str]:
    return [
        f"{result.subject.id}, {metric.view}: {metric.name.replace('_', ' ')} {_cell(metric)}"
        for metric in result.metrics
        if metric.subset == "all" and (metric.p is not None or _is_bounded(result, metric)) and _cell(metric) != NOTHING
    ]


def _is_bounded(result: TaskResult, metric: Metric) -> bool:
    """Whether it is a ratio of lengths of which a cap hides one side."""
    return metric.value is None and result.statistics[metric.name].unit == "times"
