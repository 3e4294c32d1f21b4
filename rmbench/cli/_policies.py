"""Results of policies on a terminal: one table a task, one row a policy and condition."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from rmbench.cli._report import _cell, _console, _data_line, _find, _print_notes, plain
from rmbench.results.schema import TaskResult

_COLUMNS = (
    ("median", "quantile_0.5"),
    ("mean", "tokens"),
    ("refused %", "refused"),
    ("empty %", "empty"),
    ("characters", "characters"),
)


def print_policies(results: Sequence[TaskResult]) -> None:
    """One table for each task, in the order of the results, with effects and what is left open below it."""
    console = _console()
    for task in dict.fromkeys(result.task.name for result in results):
        some = [result for result in results if result.task.name == task]
        console.print(f"\n[bold]{plain(task)}[/]  {plain(_data_line(some[0]))}", highlight=False)
        table = Table(header_style="bold", caption=_caption(some), caption_justify="left")
        table.add_column("policy", min_width=12, overflow="fold")
        table.add_column("condition", overflow="fold")
        rows = [(result, view) for result in some for view in dict.fromkeys(m.view for m in result.metrics)]
        there = _columns(some)
        for heading, _ in there:
            table.add_column(heading, justify="right", overflow="fold")
        for result, view in rows:
            cells = [_cell(_find(result, name, view)) for _, name in there]
            table.add_row(*map(plain, [result.subject.id, view, *cells]))
        console.print(table)
        for result in some:
            for line in _effects(result):
                console.print(f"  {plain(line)}", highlight=False)
            for view, reasons in result.left_out.items():
                counts = ", ".join(f"{why} {count:,}" for why, count in reasons.items())
                console.print(f"  {plain(f'{result.subject.id}, {view}: not identified: {counts}')}", highlight=False)
        _print_notes(console, [result.model_copy(update={"left_out": {}, "truncated": 0}) for result in some])


def _columns(results: Sequence[TaskResult]) -> list[tuple[str, str]]:
    """Heading and metric: CSR at every k, and of the lengths those that some result has; characters without tokens."""
    names = {metric.name for result in results for metric in result.metrics if metric.value is not None}
    found = {metric.name for result in results for metric in result.metrics}
    ks = sorted(int(name[4:]) for name in found if name.startswith("csr_") and name[4:].isdecimal())
    lengths = [column for column in _COLUMNS if column[1] in names]
    return [*((f"CSR@{k:,} %", f"csr_{k}") for k in ks), *(lengths[:-1] if "tokens" in names else lengths)]


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
        if metric.subset == "all" and metric.p is not None and metric.value is not None
    ]
