"""`rmbench schema`: what a result file holds."""

from __future__ import annotations

import json

import click

from rmbench.cli import debug_option


@click.command()
@debug_option
def command() -> None:
    """Print the JSON Schema of result files."""
    from rmbench.results.schema import TaskResult

    click.echo(json.dumps(TaskResult.model_json_schema(), indent=1))
