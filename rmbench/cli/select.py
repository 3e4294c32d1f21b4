"""`rmbench select`: the best k of n responses by a reward, or what such a choice is worth."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from rmbench.errors import UsageError

if TYPE_CHECKING:
    from rmbench.compare.selection import AtN, TaskSelection
    from rmbench.metrics.interval import Estimate
    from rmbench.results.tables import Target
    from rmbench.runs.select import Selected

_OF_RESULTS = {"results", "view"}
_OF_WORTH = {"up_to", "kl", "as_json"}  # of what a choice is worth, by a result or by gold
_OF_BOTH = {"seed", "debug", "gold"}
_GOLD = "gold"  # the name of the model that is only to judge


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    shell_complete=MODELS,
    help=f"{MODEL_HELP} (repeatable).",
)
@click.option("-k", "--best", "k", type=click.IntRange(min=1), default=1, show_default=True, help="How many a prompt.")
@click.option("-o", "--out", type=click.Path(path_type=Path, allow_dash=True), help=OUT_HELP)
@form_option
@click.option(
    "--gold", metavar="MODEL|FILE",
    help="What the choice of the best of n is worth by another model, or by a file that rmbench score wrote; with "
    "--result, by another result.",
)  # fmt: skip
@click.option(
    "--result", "results", multiple=True, type=click.Path(path_type=Path), metavar="RESULT",
    help="A result file, or a folder of them, instead of FILE (repeatable).",
)  # fmt: skip
@click.option(
    "--fitted", multiple=True, type=click.Path(path_type=Path), metavar="RESULT.json",
    help="A result of one of the models: what an ensemble or transform fitted there is used (repeatable).",
)  # fmt: skip
@click.option("--up-to", type=click.IntRange(min=1), metavar="N", help="Of the worth: leave prompts with fewer out.")
@click.option("--view", help="With --result: a head or step aggregator. [default: each model's primary one]")
@click.option("--kl", is_flag=True, help="Of the worth: the KL divergence of best-of-n; for samples of one policy.")
@click.option("--json", "as_json", is_flag=True, help="Of the worth: print JSON and nothing else.")
@reading_options
@model_options
@debug_option
@click.pass_context
def command(
    context: click.Context,
    /,
    file: Path | None,
    models: tuple[str, ...],
    k: int,
    out: Path | None,
    form: str | None,
    gold: str | None,
    results: tuple[Path, ...],
    fitted: tuple[Path, ...],
    up_to: int | None,
    view: str | None,
    kl: bool,
    as_json: bool,
    columns: dict[str, str] | None,
    skip_bad_rows: bool,
    **options: Any,
) -> int:
    """Write the K responses in FILE that MODEL rewards most, for each prompt, best first, to OUT.

    FILE is what `rmbench score` reads, and OUT has its columns too; rows of one prompt are joined. Equal rewards go by
    their order in FILE, and a response without a finite reward is never selected. Of several models the first selects.

    With --gold, print what the choice among n is worth by another reward. With --result, print what the choice among n
    by the rewards of a result is worth (selection_at_n): how often what it takes of a random n is right, beside chance,
    the majority's answer and an oracle.
    """
    given = _given(context)
    worth = set() if results or gold else _OF_WORTH
    foreign = given - _OF_RESULTS - _OF_WORTH - _OF_BOTH if results else given & (_OF_RESULTS | worth)
    if foreign:
        named = " and ".join(_named(context, foreign))
        raise UsageError(f"{named} {'with' if results else 'without'} --result; select FILE writes, --result judges")
    seed = options["seed"] or 0
    if results:
        from rmbench.compare.selection import select

        truth = None if gold is None else Path(gold)
        _show(select(results, up_to=up_to, view=view, kl=kl, gold=truth, seed=seed), as_json=as_json)
        return 0
    needed = {"file", "models"} if gold else {"file", "models", "out"}
    if file is None or not models or (out is None and gold is None):
        missing = ", ".join(_named(context, needed - given))
        raise UsageError(f"missing {missing}; select FILE -m MODEL -o OUT, or --result RESULT.json")
    selected, place = _select(
        file, models, k, out, form, gold, options, fitted=fitted, columns=columns, skip_bad_rows=skip_bad_rows
    )
    lines = [*selected.notes, *(place.write(selected.columns) if place else [])]
    for line in lines:
        tell(f"rmbench: {line}", err=True)
    if place is not None:
        count = f"{selected.count:,} of {selected.responses:,} responses to {selected.prompts:,} prompts"
        tell(f"{count} are in {place}", err=as_json or place.path is None)
    if gold is not None:
        from rmbench.compare.selection import judged

        _show(
            [
                judged(
                    f"{file.name} by gold {Path(gold).name}",
                    selected.by,
                    selected.outcomes,
                    up_to=up_to,
                    kl=kl,
                    seed=seed,
                )
            ],
            as_json=as_json,
        )
    return EXIT_INCOMPLETE if selected.failed else 0


def _given(context: click.Context) -> set[str]:
    """The parameters that stand on the command line."""
    given, said = context.params, click.core.ParameterSource.COMMANDLINE
    return {name for name in given if given[name] is not None and context.get_parameter_source(name) is said}


def _named(context: click.Context, names: set[str]) -> list[str]:
    """Parameters as they are written on the command line, in the order of the help."""
    parameters = [parameter for parameter in context.command.params if parameter.name in names]
    return [parameter.opts[0] if parameter.opts[0].startswith("-") else "FILE" for parameter in parameters]


def _select(
    file: Path,
    models: tuple[str, ...],
    k: int,
    out: Path | None,
    form: str | None,
    gold: str | None,
    options: Mapping[str, Any],
    **reading: Any,
) -> tuple[Selected, Target | None]:
    """What is selected, and where it is to be written."""
    if gold is not None and str(out) == "-":
        raise UsageError("-o - and --gold both write to standard output; name a file")
    from rmbench.cli._names import columns_of, files_of
    from rmbench.cli._progress import ConsoleProgress
    from rmbench.models.spec import parse
    from rmbench.results.tables import target
    from rmbench.runs.rows import check_input
    from rmbench.runs.select import select_file

    judge = None if gold is None else Path(gold) if _is_table(Path(gold)) else gold
    read = [
        file,
        *reading["fitted"],
        *([judge] if isinstance(judge, Path) else []),
        *files_of([*models, *([gold] if gold else [])]),
    ]
    place = None if out is None else target(out, read, form=form)
    check_input(file)
    specs = columns_of(models, parse)
    if isinstance(judge, str):
        name = parse(judge).name or _GOLD
        if name in specs:
            raise UsageError(
                f"--gold {judge}: a model of -m is called {name} too; name one of them, as in mine={judge}"
            )
        specs, judge = {**specs, name: judge}, name
    given = allotted(options, [(spec, model_options_of(spec)) for spec in specs.values()])
    asked = {name: (spec, own) for (name, spec), own in zip(specs.items(), given, strict=True)}
    with redirect_stdout(sys.stderr):  # what a user's code prints is no result
        return select_file(asked, file, k, gold=judge, progress=ConsoleProgress, **reading), place


def _is_table(path: Path) -> bool:
    """Whether it is a file of rewards, and no model."""
    return path.suffix in (".json", ".jsonl", ".csv", ".tsv", ".parquet") and path.is_file()


def _show(selections: Sequence[TaskSelection], *, as_json: bool) -> None:
    if as_json:
        click.echo("[" + ",\n".join(task.json() for task in selections) + "]")
    else:
        for task in selections:
            _print(task)


def _print(task: TaskSelection) -> None:
    """One row an n; one column a model, then what needs none."""
    from rich.table import Table

    from rmbench.cli._console import terminal
    from rmbench.cli._report import plain

    console = terminal()
    columns = _columns(task)
    table = Table(header_style="bold", caption="[ ] 95 % interval; every n is over the same examples")
    for heading in columns:
        table.add_column(plain(heading), justify="right", overflow="fold")
    for row in task.rows:
        table.add_row(*(plain(cell(row)) for cell in columns.values()))
    version = f" v{task.version}" if task.version else ""
    name = f"\n[bold]{plain(task.task)}[/]{version}  selection_at_n, {task.examples:,} examples"
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


def _cell(estimate: Estimate | None) -> str:
    """In percent where it is a share."""
    if estimate is None:
        return "-"
    factor, digits = (100, 1) if estimate.kind != "number" else (1, 2)
    value, low, high = (f"{factor * end:.{digits}f}" for end in (estimate.value, estimate.ci_low, estimate.ci_high))
    return value if math.isnan(estimate.ci_low) else f"{value} [{low}, {high}]"
