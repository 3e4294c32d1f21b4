"""`rmbench score`: any conversations in, rewards out."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click

from rmbench.cli import EXIT_INCOMPLETE, debug_option
from rmbench.cli._options import MODEL_HELP, allotted, model_options, model_options_of, reading_options


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-m", "--model", required=True, metavar="MODEL", help=MODEL_HELP)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="A .jsonl or .parquet file.")
@click.option(
    "--calibrator",
    type=click.Path(path_type=Path),
    metavar="RESULT.json",
    help="A result of the same model: its calibration gives each reward a probability.",
)
@reading_options
@model_options
@debug_option
def command(
    file: Path,
    model: str,
    out: Path,
    calibrator: Path | None,
    columns: dict[str, str] | None,
    skip_bad_rows: bool,
    **options: Any,
) -> int:
    """Score every response in FILE: JSON, JSON lines, CSV or Parquet, or a folder of them.

    A row is a conversation that ends with the assistant's turn (`messages`), or a `prompt` with a `response`, with a
    list of `responses`, or with `chosen` and `rejected`.
    """
    from rmbench.cli._progress import ConsoleProgress
    from rmbench.errors import UsageError
    from rmbench.results import files
    from rmbench.runs.score import score_file

    files.check_table(out)
    if out.resolve() == file.resolve() or file.resolve() in out.resolve().parents:
        raise UsageError(f"-o {out} would write over the responses; name another file")
    [options] = allotted(options, [(model, model_options_of(model))])
    with redirect_stdout(sys.stderr):  # what a user's code prints is no result
        reading: dict[str, Any] = {"columns": columns, "skip_bad_rows": skip_bad_rows}
        scored = score_file(model, file, calibrator=calibrator, progress=ConsoleProgress(model), **reading, **options)
    files.write_table(scored.table, out)
    for line in scored.notes:
        click.echo(f"rmbench: {line}", err=True)
    click.echo(f"{scored.table.num_rows:,} rewards of {scored.prompts:,} prompts are in {out}")
    return EXIT_INCOMPLETE if scored.failed else 0
