"""`rmbench list`: what there is."""

from __future__ import annotations

import click

from rmbench.cli import debug_option


@click.command()
@click.argument("what", type=click.Choice(["tasks", "models", "policies", "suites"]))
@debug_option
def command(what: str) -> None:
    """List the tasks, the families of reward models, the kinds of policy, or the suites of tasks."""
    from rich.console import Console
    from rich.table import Table

    from rmbench import plugins
    from rmbench.cli._report import plain

    groups = {
        "tasks": plugins.TASKS,
        "models": plugins.MODELS,
        "policies": plugins.POLICIES,
        "suites": plugins.SUITES,
    }
    table = Table("name", "what it is", box=None, header_style="bold")
    for name, summary in plugins.summaries(groups[what]):
        table.add_row(plain(name), plain(summary))
    Console().print(table)
