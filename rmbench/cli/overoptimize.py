"""`rmbench overoptimize`: where choosing or training by a reward stops helping."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rmbench.cli import EXIT_INCOMPLETE, debug_option, show_error, tell
from rmbench.cli._options import (
    MODEL_HELP,
    MODELS,
    allotted,
    model_options,
    model_options_of,
    part_options,
    reading_options,
)
from rmbench.errors import UsageError

if TYPE_CHECKING:
    from rmbench.optimise.report import OptimisationReport
    from rmbench.runs.sampled import Asked

_OF_SAMPLES = ("columns", "skip_bad_rows", "limit", "subset", "fresh")
_TABLES = (".jsonl", ".csv", ".tsv", ".parquet", ".gz")


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[SAMPLES | RESULT...]")
@click.option(
    "-m", "--model", "models", multiple=True, metavar="MODEL", shell_complete=MODELS,
    help=f"Ask this one about SAMPLES: {MODEL_HELP} (repeatable).",
)  # fmt: skip
@click.option(
    "--gold", metavar="COLUMN|MODEL|RESULT|FILE",
    help="What a sample is worth: a column of SAMPLES or a tag in results, another model, its result, or a file of "
    "rewards by example_id and candidate. [default: the labels]",
)  # fmt: skip
@click.option("--view", "views", multiple=True, help="A head or step aggregator; each takes part (repeatable).")
@click.option(
    "--up-to",
    type=click.IntRange(min=2),
    metavar="N",
    help="Curves go to N; prompts with fewer samples are left out. [default: the fewest samples of a prompt]",
)
@click.option(
    "--good",
    type=float,
    metavar="X",
    help="A sample worth X or more is good. [default: 1 of gold 0 or 1, else what is above the prompt's mean]",
)
@click.option(
    "--label-noise",
    type=float,
    default=0.0,
    metavar="P",
    help="Beside the rewards, an oracle that errs so often (of scores: noise of P SDs within prompts).",
)
@click.option(
    "--measured", type=click.Path(path_type=Path), metavar="CSV",
    help="Trained policies to show beside the curves: reward, method, kl, gold, low, high, source.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Write overoptimize.html and .json, overoptimize-figures.csv and .parquet there, and results of models.",
)  # fmt: skip
@click.option("--draws", type=click.IntRange(min=100), default=2000, show_default=True, help="Of the bootstrap.")
@click.option("--fresh", is_flag=True, help="Ask again what an earlier run kept, as of code that may have changed.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON and nothing else.")
@part_options
@reading_options
@model_options
@debug_option
@click.pass_context
def command(
    context: click.Context,
    /,
    paths: tuple[Path, ...],
    models: tuple[str, ...],
    gold: str | None,
    views: tuple[str, ...],
    up_to: int | None,
    good: float | None,
    label_noise: float,
    measured: Path | None,
    out: Path | None,
    draws: int,
    as_json: bool,
    columns: dict[str, str] | None,
    skip_bad_rows: bool,
    limit: int | None,
    subset: dict[str, list[str]] | None,
    fresh: bool,
    **options: Any,
) -> int:
    """Show where choosing the best of n by a reward stops helping, for one reward or more on the same samples.

    SAMPLES is a file with many responses of one policy to each prompt and what each is worth (see the card of the task
    samples); without it MODELs are asked about the pool that comes with rmbench. RESULTs are results of one task, files
    or folders, as an earlier --out holds them. Curves of gold and reward over n and over KL are those of all subsets of
    the samples; fits say where gold would turn over, and differences between rewards are paired.
    """
    from rmbench.cli._optimised import print_optimised
    from rmbench.cli._progress import ConsoleProgress
    from rmbench.judged_results import optimised

    reading = {"columns": columns, "skip_bad_rows": skip_bad_rows, "limit": limit, "subset": subset, "fresh": fresh}
    _check(paths, models, reading)
    asked, truth = _asked(models, gold, options)
    finding = {"views": views, "up_to": up_to, "good": good, "label_noise": label_noise, "measured": measured}
    finding |= {"seed": options["seed"] or 0, "draws": draws}
    results, samples = ([], paths[0] if paths else None) if models else (paths, None)
    with redirect_stdout(sys.stderr):  # what a user's code prints is no figure
        report = optimised(results, asked, samples, truth, out, reading, finding, ConsoleProgress)
    told = "--out DIR writes a page with the curves over n and over KL, and tables of every number"
    if out is not None:  # before anything is printed, which a closed pipe would end
        told = _write_page(report, out, debug=bool(context.find_root().meta.get("debug")))
    if as_json:
        click.echo(report.json())
    else:
        print_optimised(report)
    if out is not None or not as_json:
        tell(f"\n{told}", err=as_json)
    return EXIT_INCOMPLETE if any(set(one.statuses) - {"ok"} for one in report.entrants) else 0


def _check(paths: tuple[Path, ...], models: tuple[str, ...], reading: dict[str, Any]) -> None:
    """Raises UsageError for what does not go together."""
    if models and len(paths) > 1:
        raise UsageError(f"got {len(paths)} files; models are asked about one file of samples")
    if not models and not paths:
        expected = "give RESULTs, or models with -m, and SAMPLES or nothing: then they are asked about the bundled pool"
        raise UsageError(f"nothing to look at: {expected}")
    if not models and (tables := [path for path in paths if path.suffix in _TABLES]):
        raise UsageError(f"{tables[0]} is no result; -m MODEL asks a model about the samples in it")
    if not models and (idle := [name for name in _OF_SAMPLES if reading[name]]):
        raise UsageError(f"--{idle[0].replace('_', '-')} is for models that are asked about samples (-m)")


def _asked(models: tuple[str, ...], gold: str | None, options: dict[str, Any]) -> tuple[list[Asked], Any]:
    """The models, each with the options that it takes, and the gold, which may be another model."""
    from rmbench.cli._names import named
    from rmbench.models.spec import parse
    from rmbench.runs.sampled import Asked

    specs = list(dict.fromkeys(models))
    names = named(specs, (), parse)
    given = allotted(options, [(spec, model_options_of(spec)) for spec in specs], of_run=("seed",))
    for own in given:
        own.pop("seed", None)  # a run's own, which its models get
    return [Asked(spec, names[spec], own) for spec, own in zip(specs, given, strict=True)], gold


def _write_page(report: OptimisationReport, out: Path, *, debug: bool) -> str:
    """What stands in the folder, said; the page is among it where it could be written."""
    written = f"overoptimize.json, overoptimize-figures.csv and .parquet are in {out}"
    try:
        from rmbench.report import optimisation

        optimisation.write(report, out / "overoptimize.html")
    except Exception as error:  # the figures are safe, and a page can be had later
        if debug:
            raise
        show_error(error, "no page")
        return written
    return f"{out / 'overoptimize.html'} is the page for a browser; {written}"
