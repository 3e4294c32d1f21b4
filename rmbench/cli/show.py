"""`rmbench show`: a result file, or what is known of a task."""

from __future__ import annotations

from pathlib import Path

import click

from rmbench.cli import debug_option


@click.command()
@click.argument("what", metavar="RESULT|TASK")
@debug_option
def command(what: str) -> None:
    """Show every number of a RESULT file, or the data card of a TASK."""
    from rich.console import Console
    from rich.markdown import Markdown

    from rmbench.cli._report import print_details
    from rmbench.data.cards import read_card
    from rmbench.plugins import load_task, module_of
    from rmbench.results import files

    if Path(what).suffix == ".json" or Path(what).exists():
        print_details(files.read(Path(what)))
        return
    task = load_task(what)
    console = Console()
    console.print(f"[bold]{task.name}[/] v{task.version}: {task.summary}\n", highlight=False)
    console.print(Markdown(read_card(task.card, module_of(what)).body))
