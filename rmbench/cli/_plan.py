"""What `--explain-plan` prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from rmbench.cli import tell

if TYPE_CHECKING:
    from rmbench.forwards.plan import Way
    from rmbench.scoring import Explanation

_WHAT = {
    "shared": "with others of the same beginning, computed once",
    "packed": "one behind the other, without padding",
    "padded": "sorted by length and padded",
}

_COUNTED = ("rows", "requests", "known", "to run", "tokens", "time")
_ALL = "all"


def print_plans(explanations: Sequence[Explanation], *, as_json: bool) -> None:
    """One table, a row a model and task, and a paragraph a model on how; or a JSON list with an object a model."""
    if as_json:
        click.echo(_json(explanations))
        return
    _print_table(explanations)
    tell("\n\n".join("\n".join(_lines(plan)) for plan in explanations))


def _print_table(explanations: Sequence[Explanation]) -> None:
    from rich.table import Table

    from rmbench.cli._console import terminal
    from rmbench.cli._report import plain

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("model and task", no_wrap=True)
    for heading in _COUNTED:
        table.add_column(heading, justify="right", no_wrap=True)
    for plan in explanations:
        table.add_row(plain(plan.model))
        for name, *cells in _rows(plan):
            table.add_row(f"  {plain(name)}", *cells)
    terminal().print(table)
    tell("")


def _rows(plan: Explanation) -> list[list[str]]:
    """The cells of each task, and of all where there are several."""
    timed = plan.runs_forwards
    rows = [
        [task, *(f"{count:,}" for count in (planned.rows, planned.requests, planned.known, planned.left)),
         f"{planned.tokens:,}" if timed else "-", _time(plan.task_seconds(task)) if timed else "-"]
        for task, planned in plan.tasks.items()
    ]  # fmt: skip
    several = plan.tasks.values()
    total = [sum(p.rows for p in several), plan.requests, sum(p.known for p in several), plan.left]
    seconds = [plan.task_seconds(task) for task in plan.tasks]
    whole = None if None in seconds else sum(filter(None, seconds))
    tokens = f"{sum(p.tokens for p in several):,}"
    last = [_ALL, *(f"{count:,}" for count in total), *((tokens, _time(whole)) if timed else ("-", "-"))]
    return [*rows, last] if len(rows) > 1 else rows


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{hours:,.1f} h" if hours >= 1 else f"{minutes:.1f} min" if minutes >= 2 else f"{seconds:.1f} s"


def _json(explanations: Sequence[Explanation]) -> str:
    return json.dumps(
        [
            {
                "model": plan.model,
                "requests": plan.requests,
                "stored": plan.stored,
                "left": plan.left,
                "unreadable": plan.unreadable,
                "same_tokens": plan.same,
                "token_budget": plan.token_budget,
                "reason": plan.reason,
                "first": list(plan.first),
                "tasks": {
                    task: {
                        "rows": planned.rows,
                        "requests": planned.requests,
                        "known": planned.known,
                        "left": planned.left,
                        "tokens": planned.tokens if plan.runs_forwards else None,
                        "seconds": plan.task_seconds(task) if plan.runs_forwards else None,
                    }
                    for task, planned in plan.tasks.items()
                },
                "ways": {
                    way: {
                        "sequences": share.sequences,
                        "tokens": share.tokens,
                        "computed": share.computed,
                        "forwards": share.forwards,
                        "seconds": plan.seconds(way),
                    }
                    for way, share in plan.ways.items()
                },
            }
            for plan in explanations
        ],
        indent=1,
    )


def _lines(plan: Explanation) -> list[str]:
    lines = [f"{plan.model}: {plan.requests:,} requests, {plan.stored:,} in the store, {plan.left:,} to run"]
    if plan.unreadable:
        lines.append(f"  {plan.unreadable:,} cannot be read and need no forward")
    if plan.same:
        lines.append(f"  {plan.same:,} read the same tokens as another and share its forward")
    for way, share in sorted(plan.ways.items()):
        lines.append(
            f"  {way}: {share.sequences:,} sequences of {share.tokens:,} tokens, {_WHAT[way]}: "
            f"{share.computed:,} tokens in {share.forwards:,} forwards, {_seconds(plan, way)}"
        )
    if plan.ways:
        lines.append(f"  predicted: {_seconds(plan, *plan.ways)} at {plan.token_budget:,} tokens a forward")
    if plan.reason and plan.left:
        lines.append(f"  not packed: {plan.reason}" if plan.ways else f"  {plan.reason}")
    return [*lines, *(f"  {line}" for line in plan.first)]


def _seconds(plan: Explanation, *ways: Way) -> str:
    seconds = [plan.seconds(way) for way in ways]
    each = [time for time in seconds if time is not None]
    return f"{sum(each):,.1f} s" if len(each) == len(seconds) else "an unknown time, as the forward tried did not fit"
