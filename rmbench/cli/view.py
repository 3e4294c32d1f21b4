"""`rmbench view`: the report of a run in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rmbench.cli import debug_option, tell

if TYPE_CHECKING:
    from rmbench.results.schema import TaskResult


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

    from rmbench.judged_results import bundled_texts
    from rmbench.report import page

    report = folder / "report.html"
    if everything or not report.is_file():
        results = _results(folder)
        page.write(results, bundled_texts(results), report)
    elif (more := len(_paths(folder)) - page.count(report)) > 0:
        tell(f"{more:,} more results are in {folder}; --all makes a page of everything", err=True)
    if (optimised := folder / "overoptimize.html").is_file():
        tell(f"{optimised} is the page of what optimising does", err=True)
    click.echo(report)
    if not no_browser and not webbrowser.open(report.resolve().as_uri()):
        click.echo("no browser could be opened here", err=True)


def _results(folder: Path) -> list[TaskResult]:
    """The results under `folder`: every JSON file that has its records beside it. Raises ResultError."""
    from rmbench.errors import ResultError
    from rmbench.results import collection

    if not folder.is_dir():
        raise ResultError(f"{folder}: no such folder; expected one with results, as `rmbench run --out` writes")
    paths = _paths(folder)
    if not paths:
        raise collection.nothing_in([folder])
    return [collection.read_whole(path) for path in paths]


def _paths(folder: Path) -> list[Path]:
    from rmbench.results import collection

    return collection.files_in([folder])
