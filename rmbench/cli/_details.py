"""One result on a terminal: every figure that it states, and what each is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from rmbench.cli._console import terminal
from rmbench.cli._report import (
    _counts,
    _data_line,
    _interval,
    _is_fraction,
    _print_notes,
    _value,
    plain,
)
from rmbench.results.digest import calibration_errors, said, with_effective
from rmbench.results.schema import Calibration, TaskResult

_HEADINGS = ("figure", "value", "95 % interval", "n", "clusters")
Line = tuple[str, tuple[str, ...]]  # what the figure is of, and its cells


def print_details(result: TaskResult, names: Sequence[str] = ()) -> None:
    """Every metric of every view and subset of one result, its calibration and scale, how it was run, and what the
    metrics are.

    With `names` these metrics alone.
    """
    console = terminal()
    title = f"[bold]{plain(result.subject.id)}[/] on [bold]{plain(result.label)}[/] v{result.task.version}"
    console.print(title, highlight=False)
    console.print(plain(_data_line(result)), highlight=False)
    lines = [*_metrics(result, names)]
    _print_lines(console, lines)
    if any("(" in count for _, cells in lines for count in cells[-2:]):
        console.print("(as many independent rows, or clusters alike in size, tell as much)", highlight=False)
    if not names:
        if result.calibration is not None:
            _print_calibration(console, result.calibration)
        _print_scale(console, result)
        _print_notes(console, [result])
        for told, settings in (("run with", result.config.run), ("command", result.config.command)):
            words = ", ".join(f"{name} {value}" for name, value in settings.items() if value not in (None, {}, False))
            if words:
                console.print(f"  {told}: {plain(words)}", highlight=False)
    console.print()
    for name in names or result.statistics:
        console.print(f"[bold]{plain(name)}[/]  {plain('; '.join(said(result.statistics[name])))}", highlight=False)


def _metrics(result: TaskResult, names: Sequence[str]) -> Iterator[Line]:
    for metric in result.metrics:
        if not names or metric.name in names:
            cells = (
                f"{metric.label}{' %' if _is_fraction(metric) else ''}",
                _value(metric),
                _interval(metric),
                with_effective(metric.n, metric.n_effective),
                with_effective(metric.clusters, metric.clusters_effective),
            )
            yield f"{metric.view}, {metric.subset}", cells


def _print_calibration(console: Console, calibration: Calibration) -> None:
    """Every figure of every map, judged out of fold."""
    lines: list[Line] = []
    for one in calibration.maps:
        square, _ = calibration_errors(one)
        for figure in (square if each.name == square.name else each for each in one.figures):
            value = "-" if figure.value is None else f"{figure.value:.4f}"
            ends = "" if figure.ci_low is None else f"[{figure.ci_low:.4f}, {figure.ci_high:.4f}]"
            cells = (figure.name, value, ends, f"{figure.n:,}", f"{figure.clusters:,}")
            lines.append((f"calibration of {one.scope}, {one.map}", cells))
    _print_lines(console, lines)
    for one in calibration.maps:
        if one.note:
            console.print(f"  {one.scope}, {one.map}: {plain(one.note)}", highlight=False)


def _print_scale(console: Console, result: TaskResult) -> None:
    scale = result.scale
    if scale is not None and scale.rewards:
        console.print(
            f"  {scale.rewards:,} rewards from {scale.minimum:g} ({scale.at_minimum:,} times) to {scale.maximum:g} "
            f"({scale.at_maximum:,} times), {scale.distinct:,} different ones",
            highlight=False,
        )
    if len(result.statuses) > 1:
        console.print(f"  requests by status: {plain(_counts(result.statuses))}", highlight=False)


def _print_lines(console: Console, lines: Sequence[Line]) -> None:
    """A table for all figures of one thing, named above it, the columns of all tables alike.

    Where the terminal is narrow, an interval stands below its number.
    """
    if not lines:
        return
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *(cells for _, cells in lines), strict=True)]
    wide = sum(widths) + 2 * len(widths) <= console.width
    named, value, interval, *rest = widths
    for of in dict.fromkeys(of for of, _ in lines):
        console.print(f"\n[bold]{plain(of)}[/]", highlight=False)
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column("figure", width=named, overflow="fold")
        table.add_column("value", width=value if wide else max(value, interval), justify="right")
        if wide:
            table.add_column("95 % interval", width=interval, justify="right")
        for heading, width in zip(("n", "clusters"), rest, strict=True):
            table.add_column(heading, width=width, justify="right")
        for _, cells in (line for line in lines if line[0] == of):
            name, number, ends, *counts = map(plain, cells)
            table.add_row(name, *([number, ends] if wide else [f"{number}\n{ends}".rstrip()]), *counts)
        console.print(table)
