"""Several tasks on a terminal at one glance: a headline a task and model, and what the tasks took and share."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from rmbench.cli._report import NOTHING, _cell, _value, plain, print_note
from rmbench.results.overview import SHARED, Effort, Line, efforts, headlines
from rmbench.results.schema import TaskResult

_BESIDE = 3  # what rules and blanks take beside the text of a column
_LEAST = 12  # of the tasks' names
_HEADLINES = "[ ] 95 % interval; chance: what a rule that does not read gets"


def print_overview(results: Sequence[TaskResult], console: Console) -> None:
    """A row a task, as many models beside each other as the terminal holds; nothing where there is one task."""
    lines = headlines(results)
    if len(lines) < 2:
        return
    console.print(f"\n[bold]{len(lines)} tasks[/]", highlight=False)
    models = list(dict.fromkeys(model for line in lines for model in line.figures))
    while models:
        models = models[_print_headlines(console, lines, models) :]
    if spent := efforts(results):
        _print_efforts(console, spent)


def _print_headlines(console: Console, lines: Sequence[Line], models: Sequence[str]) -> int:
    """How many of the models, at least one, were printed; where it is narrow an interval stands below its number."""
    tasks, headings = ([getattr(line, field) for line in lines] for field in ("task", "heading"))
    chance = [_value(line.chance) if line.chance else NOTHING for line in lines]
    cells = {model: [_headline(line, model) for line in lines] for model in models}
    left = _width("task", tasks) + _width("chance", chance) + 1
    headline = _width("headline", headings)
    if left + headline + sum(_width(model, column) for model, column in cells.items()) > console.width:
        cells = {model: [one.replace(" [", "\n[") for one in column] for model, column in cells.items()}
    widths = [_width(model, column) for model, column in cells.items()]
    words = max(_width(heading, ()) for heading in headings)
    headline = max(words, min(headline, console.width - left - sum(widths)))
    room = console.width - left - headline
    held = next((n for n in range(len(models), 1, -1) if sum(widths[:n]) <= room), 1)
    table = Table(header_style="bold", caption=_HEADLINES, caption_justify="left")
    table.add_column("task", min_width=_LEAST, overflow="fold")
    table.add_column("headline", overflow="fold", width=headline - _BESIDE)
    table.add_column("chance", justify="right", no_wrap=True)
    for model, width in zip(models[:held], widths, strict=False):
        table.add_column(plain(model), justify="right", overflow="fold", width=width - _BESIDE)
    for at, line in enumerate(lines):
        shown = ["\n".join(map(plain, cells[model][at].split("\n"))) for model in models[:held]]
        table.add_row(plain(line.task), plain(line.heading), chance[at], *shown)
    console.print(table)
    return held


def _print_efforts(console: Console, efforts: Sequence[Effort]) -> None:
    """What each model's tasks took and share: a table, or where it is narrow a line a model."""
    rows = [(one.model, _counts(one)) for one in efforts]
    table = Table(header_style="bold", caption=SHARED, caption_justify="left")
    table.add_column("model", min_width=_LEAST, overflow="fold")
    for heading in rows[0][1]:
        table.add_column(heading, justify="right", no_wrap=True)
    for model, counts in rows:
        table.add_row(plain(model), *counts.values())
    wide = max(_LEAST, *(len(model) for model, _ in rows)) + _BESIDE + 1
    wide += sum(_width(heading, [counts[heading] for _, counts in rows]) for heading in rows[0][1])
    if wide <= console.width:
        console.print(table)
    else:
        for model, counts in rows:
            said = ", ".join(f"{heading} {count}" for heading, count in counts.items())
            print_note(console, f"{model}: {said}")
        print_note(console, SHARED)
    for one in efforts:
        if one.shared:
            parts = ", ".join(f"{task} {count:,}" for task, count in one.shared.items())
            print_note(console, f"{one.model}: shared with a task before: {parts}")


def _counts(one: Effort) -> dict[str, str]:
    shared = sum(one.shared.values())
    counts = {"tasks": one.tasks, "requests": one.requests, "distinct": one.distinct, "shared": shared}
    counts |= {"scored": one.scored, "tokens": one.tokens}
    rate = NOTHING if one.rate is None else f"{one.rate:,.0f}"
    return {name: f"{count:,}" for name, count in counts.items()} | {"s": f"{one.seconds:,.1f}", "tokens/s": rate}


def _headline(line: Line, model: str) -> str:
    return _cell(line.figures[model]) if model in line.figures else "no result"


def _width(heading: str, column: Sequence[str]) -> int:
    """What a column takes in a table, of its heading the longest word."""
    texts = [*heading.split(), *(part for text in column for part in text.split("\n"))]
    return max(map(len, texts), default=0) + _BESIDE
