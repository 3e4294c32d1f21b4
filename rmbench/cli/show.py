"""`rmbench show`: a result file, or what is known of a task."""

from __future__ import annotations

from pathlib import Path

import click

from rmbench.cli import debug_option


@click.command()
@click.argument("what", metavar="RESULT|TASK")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Of a RESULT only this one (repeatable).")
@debug_option
def command(what: str, metrics: tuple[str, ...]) -> None:
    """Show every number of a RESULT file and what it is, or the data card of a TASK."""
    from rich.console import Console
    from rich.markdown import Markdown

    from rmbench.cli._report import print_details
    from rmbench.data.cards import read_card
    from rmbench.errors import UsageError
    from rmbench.plugins import load_task, module_of
    from rmbench.results import files

    if Path(what).suffix == ".json" or Path(what).exists():
        print_details(files.read(Path(what)), metrics)
        return
    if metrics:
        raise UsageError(f"--metric {metrics[0]}: {what} is a task; expected a result file, which states its metrics")
    task = load_task(what)
    console = Console()
    console.print(f"[bold]{task.name}[/] v{task.version}: {task.summary}\n", highlight=False)
    console.print(Markdown(read_card(task.card, module_of(what)).body))
