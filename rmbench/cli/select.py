"""`rmbench select`: the best k of n responses by a reward, or what such a choice is worth."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rmbench.cli import EXIT_INCOMPLETE, debug_option
from rmbench.cli._options import MODEL_HELP, allotted, model_options, model_options_of, reading_options

if TYPE_CHECKING:
    from rmbench.compare.selection import AtN, TaskSelection
    from rmbench.metrics.interval import Estimate

_PIPED_WIDTH = 120
_OF_RESULTS = {"results", "up_to", "view", "kl", "as_json"}
_OF_BOTH = {"seed", "debug"}


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("-m", "--model", metavar="MODEL", help=MODEL_HELP)
@click.option("-k", "--best", "k", type=click.IntRange(min=1), default=1, show_default=True, help="How many a prompt.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="A .jsonl or .parquet file.")
@click.option(
    "--result", "results", multiple=True, type=click.Path(path_type=Path), metavar="RESULT",
    help="A result file, or a folder of them, instead of FILE (repeatable).",
)  # fmt: skip
@click.option("--up-to", type=click.IntRange(min=1), metavar="N", help="With --result: leave prompts with fewer out.")
@click.option("--view", help="With --result: a head or step aggregator. [default: each model's primary one]")
@click.option("--kl", is_flag=True, help="With --result: the KL divergence of best-of-n; for samples of one policy.")
@click.option("--json", "as_json", is_flag=True, help="With --result: print JSON and nothing else.")
@reading_options
@model_options
@debug_option
@click.pass_context
def command(
    context: click.Context,
    /,
    file: Path | None,
    model: str | None,
    k: int,
    out: Path | None,
    results: tuple[Path, ...],
    up_to: int | None,
    view: str | None,
    kl: bool,
    as_json: bool,
    columns: dict[str, str] | None,
    skip_bad_rows: bool,
    **options: Any,
) -> int:
    """Write the K responses in FILE that MODEL rewards most, for each prompt, best first, to OUT.

    FILE is what `rmbench score` reads; rows of one prompt are joined. Equal rewards go by their order in FILE, and a
    response without a finite reward is never selected.

    With --result, print instead what the choice among n by the rewards of a result is worth (selection_at_n): how often
    what it takes of a random n is right, beside chance, the majority's answer and an oracle.
    """
    from rmbench.errors import UsageError

    given = _given(context)
    foreign = given - _OF_RESULTS - _OF_BOTH if results else given & _OF_RESULTS
    if foreign:
        named = " and ".join(_named(context, foreign))
        raise UsageError(f"{named} {'with' if results else 'without'} --result; select FILE writes, --result judges")
    if results:
        return _judge(results, up_to=up_to, view=view, kl=kl, seed=options["seed"] or 0, as_json=as_json)
    if file is None or model is None or out is None:
        missing = ", ".join(_named(context, {"file", "model", "out"} - given))
        raise UsageError(f"missing {missing}; select FILE -m MODEL -o OUT, or --result RESULT.json")
    return _write(file, model, k, out, options, columns=columns, skip_bad_rows=skip_bad_rows)


def _given(context: click.Context) -> set[str]:
    """The parameters that stand on the command line."""
    given, said = context.params, click.core.ParameterSource.COMMANDLINE
    return {name for name in given if given[name] is not None and context.get_parameter_source(name) is said}


def _named(context: click.Context, names: set[str]) -> list[str]:
    """Parameters as they are written on the command line, in the order of the help."""
    known = [parameter for parameter in context.command.params if parameter.name in names]
    return [parameter.opts[0] if parameter.opts[0].startswith("-") else "FILE" for parameter in known]


def _write(file: Path, model: str, k: int, out: Path, options: Mapping[str, Any], **reading: Any) -> int:
    from rmbench.cli._progress import ConsoleProgress
    from rmbench.results import files
    from rmbench.runs.select import select_file

    files.check_table(out)
    [given] = allotted(options, [(model, model_options_of(model))])
    with redirect_stdout(sys.stderr):  # what a user's code prints is no result
        selected = select_file(model, file, k, progress=ConsoleProgress(model), **reading, **given)
    files.write_table(selected.table, out)
    for line in selected.notes:
        click.echo(f"rmbench: {line}", err=True)
    count = f"{selected.table.num_rows:,} of {selected.responses:,} responses to {selected.prompts:,} prompts"
    click.echo(f"{count} are in {out}")
    return EXIT_INCOMPLETE if selected.failed else 0


def _judge(
    results: tuple[Path, ...], *, up_to: int | None, view: str | None, kl: bool, seed: int, as_json: bool
) -> int:
    from rmbench.compare.selection import select

    found = select(results, up_to=up_to, view=view, kl=kl, seed=seed)
    if as_json:
        click.echo("[" + ",\n".join(task.json() for task in found) + "]")
    else:
        for task in found:
            _print(task)
    return 0


def _print(task: TaskSelection) -> None:
    """One row an n; one column a model, then what needs none."""
    from rich.console import Console
    from rich.table import Table

    from rmbench.cli._report import plain

    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED_WIDTH)
    columns = _columns(task)
    table = Table(header_style="bold", caption="[ ] 95 % interval; every n is over the same examples")
    for heading in columns:
        table.add_column(plain(heading), justify="right", overflow="fold")
    for row in task.rows:
        table.add_row(*(plain(cell(row)) for cell in columns.values()))
    name = f"\n[bold]{plain(task.task)}[/] v{task.version}  selection_at_n, {task.examples:,} examples"
    console.print(name, highlight=False)
    console.print(table)
    for model, gain in task.rows[-1].gain.items():
        console.print(f"  {plain(_gain(model, task.rows[-1], gain))}", highlight=False)
    if task.left_out:
        told = ", ".join(f"{reason} {count:,}" for reason, count in task.left_out.items())
        console.print(f"  examples left out: {plain(told)}", highlight=False)


def _columns(task: TaskSelection) -> dict[str, Callable[[AtN], str]]:
    columns: dict[str, Callable[[AtN], str]] = {"n": lambda row: str(row.n)}
    columns |= {model: partial(_selected, model) for model in task.models}
    columns["random"] = lambda _: _cell(task.random)
    if task.rows[0].majority is not None:
        columns["majority"] = lambda row: _cell(row.majority)
    columns["oracle"] = lambda row: _cell(row.oracle)
    if task.rows[0].kl is not None:
        columns["KL, nats"] = lambda row: f"{row.kl:.3f}"
    return columns


def _selected(model: str, row: AtN) -> str:
    return _cell(row.selected[model])


def _gain(model: str, row: AtN, gain: Estimate) -> str:
    """How far the choice among the most is above chance."""
    share = row.selected[model].kind != "number"
    factor, digits, unit = (100, 1, " points") if share else (1, 2, "")
    value, low, high = (f"{factor * end:+.{digits}f}" for end in (gain.value, gain.ci_low, gain.ci_high))
    interval = "" if math.isnan(gain.ci_low) else f" [{low}, {high}]"
    p = "" if gain.p is None else f", p {'< 0.001' if gain.p < 0.001 else f'= {gain.p:.3f}'}"
    return f"{model} at n = {row.n}: {value}{unit} against a random response{interval}{p}"


def _cell(found: Estimate | None) -> str:
    """In percent where it is a share."""
    if found is None:
        return "-"
    factor, digits = (100, 1) if found.kind != "number" else (1, 2)
    value, low, high = (f"{factor * end:.{digits}f}" for end in (found.value, found.ci_low, found.ci_high))
    return value if math.isnan(found.ci_low) else f"{value} [{low}, {high}]"
