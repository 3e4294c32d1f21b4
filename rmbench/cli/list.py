"""`rmbench list`: what there is."""

from __future__ import annotations

import click

from rmbench.cli import debug_option


@click.command()
@click.argument("what", type=click.Choice(["tasks", "models"]))
@debug_option
def command(what: str) -> None:
    """List the tasks, or the families of reward models."""
    from rich.console import Console
    from rich.table import Table

    from rmbench import plugins

    table = Table("name", "what it is", box=None, header_style="bold")
    if what == "tasks":
        for name in plugins.task_names():
            table.add_row(name, plugins.load_task(name).summary)
    else:
        for name, family in sorted(plugins.families().items()):
            table.add_row(name, plugins.summary(family))
    Console().print(table)
