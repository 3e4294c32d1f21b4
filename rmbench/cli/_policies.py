"""Results of policies on a terminal: one table a task, one row a policy and condition."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from rmbench.cli._report import _cell, _console, _data_line, _print_notes, plain
from rmbench.report.digest import Digest, digest, figure
from rmbench.results.schema import TaskResult

_NAMES, _CELL = 40, 20  # characters that a policy with its condition takes, and a figure with its interval


def print_policies(results: Sequence[TaskResult]) -> None:
    """One table for each task, in the order of the results, with effects and what is left open below it."""
    console = _console()
    for task in dict.fromkeys(result.task.name for result in results):
        some = [result for result in results if result.task.name == task]
        console.print(f"\n[bold]{plain(task)}[/]  {plain(_data_line(some[0]))}", highlight=False)
        table = Table(header_style="bold", caption=_caption(some), caption_justify="left")
        table.add_column("policy", min_width=12, overflow="fold")
        table.add_column("condition", overflow="fold")
        found = digest(some)
        names = _columns(found, console.width)
        for name in names:
            table.add_column(plain(found.heading(name)), justify="right", overflow="fold")
        for result in some:
            for view in result.views:
                cells = [_cell(figure(result, name, view)) for name in names]
                table.add_row(*map(plain, [result.subject.id, view, *cells]))
        console.print(table)
        for result in some:
            for line in _effects(result):
                console.print(f"  {plain(line)}", highlight=False)
            for view, reasons in result.left_out.items():
                counts = ", ".join(f"{why} {count:,}" for why, count in reasons.items())
                console.print(f"  {plain(f'{result.subject.id}, {view}: not identified: {counts}')}", highlight=False)
        _print_notes(console, [result.model_copy(update={"left_out": {}, "truncated": 0}) for result in some])


def _columns(found: Digest, width: int) -> list[str]:
    """The headline, what else has its unit, and the first figure of each other unit, as many as the terminal holds."""
    firsts = {found.statistics[name].unit: name for name in [*found.statistics][::-1] if name not in found.tested}
    names = dict.fromkeys([found.headline, *found.variants, *[*firsts.values()][::-1]])
    return [name for name in names if name in found.statistics][: max(1, (width - _NAMES) // _CELL)]


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
