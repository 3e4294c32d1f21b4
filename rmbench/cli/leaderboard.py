"""`rmbench leaderboard`: tables from result files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from rmbench.cli import EXIT_FAILED, Commands, debug_option
from rmbench.cli._tasks import finder

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _folder_option(command: _Command) -> _Command:
    option = click.option(
        "--folder",
        type=click.Path(path_type=Path, file_okay=False),
        default="leaderboards",
        show_default=True,
        help="Where the tables are; results are in its folder results.",
    )
    return option(command)


def _task_option(command: _Command) -> _Command:
    option = click.option(
        "-t",
        "--task",
        "tasks",
        metavar="SPEC",
        multiple=True,
        help="A task that is not found by its name alone, as python:module:TASK, whose measure verifies its results.",
    )
    return option(command)


@click.group(cls=Commands)
def command() -> None:
    """Build and check tables of results, from result files alone."""


@command.command()
@_folder_option
@_task_option
@debug_option
def build(folder: Path, tasks: tuple[str, ...]) -> None:
    """Make the tables again from FOLDER/results."""
    from rmbench.leaderboard.build import build
    from rmbench.leaderboard.check import extra

    written = build(folder / "results", folder, finder(tasks)[1])
    for path in written:
        click.echo(path)
    for name in extra(folder, {path.name: "" for path in written}):
        click.echo(f"{folder / name}: no table of these results; remove it, or check will fail", err=True)


@command.command()
@_folder_option
@_task_option
@debug_option
def check(folder: Path, tasks: tuple[str, ...]) -> int:
    """Fail where the tables are not what FOLDER/results gives, naming each cell."""
    from rmbench.leaderboard.check import check

    differences = check(folder / "results", folder, finder(tasks)[1])
    for line in differences:
        click.echo(line)
    if differences:
        click.echo(f"{len(differences):,} differences; `rmbench leaderboard build` makes the tables again", err=True)
    return EXIT_FAILED if differences else 0


@command.command()
@click.argument("results", metavar="RESULT.json...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--replace", is_flag=True, help="Put a result in the place of an older one of the same model and settings."
)
@_folder_option
@_task_option
@debug_option
def add(results: tuple[Path, ...], replace: bool, folder: Path, tasks: tuple[str, ...]) -> None:
    """Check each RESULT and copy it, with its records, into FOLDER/results."""
    from rmbench.leaderboard.add import add

    for path in add(results, folder / "results", finder(tasks)[1], replace=replace):
        click.echo(path)
