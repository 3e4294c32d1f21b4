"""`rmbench distances`: how far apart are rewards, and would models err, and choose, alike?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from rmbench.cli import EXIT_INCOMPLETE, debug_option, tell
from rmbench.cli._options import comparing_options, drawn_option
from rmbench.cli._tasks import finder
from rmbench.errors import ResultError, UsageError


@click.command()
@click.argument("paths", metavar="A B [C ...]", nargs=-1, type=click.Path(path_type=Path))
@comparing_options
@click.option("--view", help="A head or step aggregator, of models that have it.  [default: each model's primary one]")
@drawn_option
@click.option("--json", "as_json", is_flag=True, help="Print all that was found as JSON and nothing else.")
@click.option(
    "--csv", "table", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
    help="Write a row for each pair of models to FILE.",
)  # fmt: skip
@click.option(
    "--plots", metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
    help="Write the matrix and the dendrogram of every task into DIR.",
)  # fmt: skip
@debug_option
def command(
    paths: tuple[Path, ...],
    tasks: tuple[str, ...],
    view: str | None,
    metric: str | None,
    seed: int,
    as_json: bool,
    table: Path | None,
    plots: Path | None,
) -> int:
    """Say how far the rewards of A, B and others are apart, on the prompts that all of them rewarded.

    Each is a result file, or a folder with results, in which every model takes part. Of every two models it gives STARC
    and EPIC distances, how often they select other responses, and which errors they share, beyond what is hard for all;
    of a model with several heads how often these are at odds; and which models an ensemble would gain from.
    """
    from rmbench.cli._distances import show
    from rmbench.compare.distances import distances
    from rmbench.compare.entrants import read_models

    models = read_models(paths, {})
    if table is not None:
        _check_new(table, [path for model in models for run in model.runs for path in run.files.values()])
    names, find = finder(tasks)
    report = distances(models, find, tasks=names, metric=metric, view=view, seed=seed)
    if as_json:
        click.echo(report.json())
    else:
        show(report)
        for line in report.refused:
            tell(f"rmbench: {line}", err=True)
    if table is not None:
        _write(table, report.csv())
    if plots is not None:
        from rmbench.compare.distance_plots import draw

        click.echo(f"rmbench: {len(draw(report, plots)):,} plots in {plots}", err=True)
    return EXIT_INCOMPLETE if any(task.is_try for task in report.tasks) else 0


def _check_new(table: Path, results: Sequence[Path]) -> None:
    taken = {file.resolve() for path in results for file in (path, path.with_suffix(".parquet"))}
    if table.resolve() in taken:
        raise UsageError(f"--csv {table} is one of the results that are read; name another file")


def _write(table: Path, text: str) -> None:
    from rmbench.results.files import put

    try:
        table.parent.mkdir(parents=True, exist_ok=True)
        put(table, text.encode())
    except OSError as error:
        raise ResultError(f"{table}: cannot be written ({error.strerror}); --csv names another file") from error
