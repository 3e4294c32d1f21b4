"""`rmbench view`: the report of a run in a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rmbench.cli import debug_option

if TYPE_CHECKING:
    from rmbench.results.schema import TaskResult
    from rmbench.types import Example


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="Make it anew of all results in DIR, not of the last run.")
@click.option("--no-browser", is_flag=True, help="Only say where the report is.")
@debug_option
def command(folder: Path, everything: bool, no_browser: bool) -> None:
    """Open the report of the last run into DIR; where there is none, it is made of the results in DIR.

    Texts of failures are on the page of a run, and on one made here where the task's own data were scored.
    """
    import webbrowser

    from rmbench.report import page

    report = folder / "report.html"
    if everything or not report.is_file():
        results = _results(folder)
        page.write(results, _texts(results), report)
    elif (more := len(_paths(folder)) - page.count(report)) > 0:
        click.echo(f"{more:,} more results are in {folder}; --all makes a page of everything", err=True)
    click.echo(report)
    if not no_browser and not webbrowser.open(report.resolve().as_uri()):
        click.echo("no browser could be opened here", err=True)


def _results(folder: Path) -> list[TaskResult]:
    """The results under `folder`: every JSON file that has its records beside it. Raises ResultError."""
    from rmbench.errors import ResultError
    from rmbench.results import collection, files

    if not folder.is_dir():
        raise ResultError(f"{folder}: no such folder; expected one with results, as `rmbench run --out` writes")
    paths = _paths(folder)
    if not paths:
        raise collection.nothing_in([folder])
    return [files.read(path, tables=True) for path in paths]


def _paths(folder: Path) -> list[Path]:
    from rmbench.results import collection

    return collection.files_in([folder])


def _texts(results: Sequence[TaskResult]) -> Mapping[str, Mapping[str, Example]]:
    """The examples by id of each task whose own bundled rows are what was scored."""
    from rmbench.plugins import load_task, task_names
    from rmbench.runs.loading import load_tasks

    texts: dict[str, Mapping[str, Example]] = {}
    known = task_names()
    for result in results:
        name, data, config = result.task.name, result.dataset, result.config.data
        if (
            name in texts
            or data.source != "bundled"
            or name not in known
            or load_task(name).version != result.task.version
        ):
            continue
        choice = {option: config.get(option) for option in ("limit", "deduplicate")}
        (loaded,) = load_tasks([name], limit=choice["limit"], deduplicate=bool(choice["deduplicate"]))
        if loaded.data.sha256 == data.sha256:
            texts[name] = {example.id: example for example in loaded.data.examples}
    return texts
