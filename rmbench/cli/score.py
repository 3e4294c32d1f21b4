"""`rmbench score`: any conversations in, rewards out."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click

from rmbench.cli import EXIT_INCOMPLETE, debug_option, tell
from rmbench.cli._options import (
    MODEL_HELP,
    MODELS,
    OUT_HELP,
    allotted,
    form_option,
    model_options,
    model_options_of,
    reading_options,
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-m",
    "--model",
    "models",
    required=True,
    multiple=True,
    metavar="MODEL",
    shell_complete=MODELS,
    help=f"{MODEL_HELP} (repeatable).",
)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, allow_dash=True), help=OUT_HELP)
@form_option
@click.option(
    "--calibrator",
    type=click.Path(path_type=Path),
    metavar="RESULT.json",
    help="A result of the same model: its calibration gives each reward a probability.",
)
@click.option(
    "--fitted",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="RESULT.json",
    help="A result of the same model: what an ensemble or transform fitted there is used (repeatable).",
)
@click.option("--tokens", is_flag=True, help="A value a token of the response too, of models that have some (dpo).")
@reading_options
@model_options
@debug_option
def command(
    file: Path,
    models: tuple[str, ...],
    out: Path,
    form: str | None,
    calibrator: Path | None,
    fitted: tuple[Path, ...],
    tokens: bool,
    columns: dict[str, str] | None,
    skip_bad_rows: bool,
    **options: Any,
) -> int:
    """Score every response in FILE: JSON, JSON lines, CSV or Parquet, a folder of them, or - for standard input.

    A row is a conversation that ends with the assistant's turn (`messages`), or a `prompt` with a `response`, with a
    list of `responses`, or with `chosen` and `rejected`. OUT has a row a response in the order of FILE: its own
    columns, `response`, and what was found. Of several models columns are called reward:NAME; NAME=MODEL names one.
    """
    from rmbench.cli._names import columns_of, files_of
    from rmbench.cli._progress import ConsoleProgress
    from rmbench.models.spec import parse
    from rmbench.results.tables import target
    from rmbench.runs.rows import check_input
    from rmbench.runs.score import score_file

    place = target(out, [file, *([calibrator] if calibrator else []), *fitted, *files_of(models)], form=form)
    check_input(file)
    specs = columns_of(models, parse)
    given = allotted(options, [(spec, model_options_of(spec)) for spec in specs.values()])
    asked = {name: (spec, own) for (name, spec), own in zip(specs.items(), given, strict=True)}
    with redirect_stdout(sys.stderr):  # what a user's code prints is no result
        reading: dict[str, Any] = {"columns": columns, "skip_bad_rows": skip_bad_rows}
        reading["ask"] = "tokens" if tokens else "reward"
        scored = score_file(asked, file, calibrator=calibrator, fitted=fitted, progress=ConsoleProgress, **reading)
    lines = [*scored.notes, *place.write(scored.columns)]
    for line in lines:
        tell(f"rmbench: {line}", err=True)
    rewards = sum(map(len, scored.rewards.values()))
    tell(f"{rewards:,} rewards of {scored.rows.prompts:,} prompts are in {place}", err=place.path is None)
    return EXIT_INCOMPLETE if scored.failed else 0
