"""`rmbench show`: result files, or what is known of tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rmbench.cli import debug_option
from rmbench.cli._options import completed

if TYPE_CHECKING:
    from rmbench.kinds.base import Task
    from rmbench.results.schema import TaskResult


@click.command()
@click.argument(
    "what", metavar="RESULT|TASK...", nargs=-1, required=True, shell_complete=completed("tasks", files=True)
)
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Of a RESULT only this one (repeatable).")
@click.option("--json", "as_json", is_flag=True, help="Print a list as JSON and nothing else.")
@debug_option
def command(what: tuple[str, ...], metrics: tuple[str, ...], as_json: bool) -> None:
    """Show every number of a RESULT and what it is, or the data card of a TASK.

    A RESULT is a result file, or a folder, of which every result is shown.
    """
    from rmbench.cli._details import print_details
    from rmbench.results.collection import nothing_in
    from rmbench.results.schema import TaskResult

    shown = [one for each in what for one in _of(each, metrics)]
    for name, one in product(metrics, shown):
        if isinstance(one, TaskResult):
            one.check_metric(name)
    if not shown:
        raise nothing_in([Path(each) for each in what])
    if as_json:
        click.echo(json.dumps([_as_json(one, metrics) for one in shown], indent=1, allow_nan=False))
        return
    for place, one in enumerate(shown):
        if place:
            click.echo()
        if isinstance(one, TaskResult):
            print_details(one, metrics)
        else:
            _print_task(*one)


def _of(what: str, metrics: Sequence[str]) -> list[TaskResult | tuple[str, Task]]:
    """The results in a file or folder, or a task with what it is called."""
    from rmbench.errors import UsageError
    from rmbench.plugins import load_task
    from rmbench.results import collection, files

    if Path(what).suffix == ".json" or Path(what).exists():
        return [files.read(path) for path in collection.files_in([Path(what)])]
    task = load_task(what)
    if metrics:
        raise UsageError(f"--metric {metrics[0]}: {what} is a task; expected a result file, which states its metrics")
    return [(what, task)]


def _as_json(one: TaskResult | tuple[str, Task], metrics: Sequence[str]) -> dict[str, Any]:
    from rmbench.data.cards import read_card
    from rmbench.plugins import module_of

    if isinstance(one, tuple):
        name, task = one
        card = read_card(task.card, module_of(name))
        about = {"name": task.name, "version": task.version, "kind": task.kind, "subject": task.subject}
        return {**about, "summary": task.summary, "card": card.body}
    stated: dict[str, Any] = one.model_dump(mode="json")
    if metrics:
        stated["metrics"] = [metric for metric in stated["metrics"] if metric["name"] in metrics]
        stated["statistics"] = {name: stated["statistics"][name] for name in metrics}
    return stated


def _print_task(name: str, task: Task) -> None:
    from rmbench.cli._card import card
    from rmbench.cli._console import terminal
    from rmbench.data.cards import read_card
    from rmbench.plugins import module_of

    console = terminal()
    console.print(f"[bold]{task.name}[/] v{task.version}: {task.summary}\n", highlight=False)
    console.print(card(read_card(task.card, module_of(name)).body))
