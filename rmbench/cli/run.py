"""`rmbench run`: score models on tasks."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click

from rmbench.cli import EXIT_FAILED, EXIT_INCOMPLETE, debug_option, show_error
from rmbench.cli._options import MODEL_HELP, model_options


def _files(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in given:
        task, equals, path = value.partition("=")
        if not (task and equals and path):
            raise click.BadParameter(f"{value!r} is not TASK=PATH, as in rewardmath=scores.json")
        if task in found:
            raise click.BadParameter(f"{task} is given twice, {found[task]} and {path}; a run reads one of them")
        found[task] = path
    return found


@click.command()
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    required=True,
    metavar="MODEL",
    help=f"{MODEL_HELP} (repeatable).",
)
@click.option("-t", "--task", "tasks", multiple=True, required=True, metavar="TASK", help="See rmbench list tasks.")
@click.option("--data", multiple=True, metavar="TASK=PATH", callback=_files, help="Run TASK on a file or folder.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N examples of each task.")
@click.option("--deduplicate", is_flag=True, help="Drop repeated examples and count them.")
@click.option("--out", type=click.Path(path_type=Path), default="results", show_default=True, help="Result folder.")
@click.option("--name", help="The model's id in results; with one model only.")
@model_options
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON and nothing else.")
@debug_option
@click.pass_context
def command(
    context: click.Context,
    /,
    models: tuple[str, ...],
    tasks: tuple[str, ...],
    data: dict[str, str],
    limit: int | None,
    deduplicate: bool,
    out: Path,
    name: str | None,
    token_budget: int | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Score every MODEL on every TASK and write one result file each."""
    from rmbench.cli._progress import ConsoleProgress
    from rmbench.cli._report import print_results
    from rmbench.errors import UsageError
    from rmbench.flow import evaluate, load_tasks
    from rmbench.models.spec import parse
    from rmbench.report import page

    if name is not None and len(models) > 1:
        raise UsageError(f"--name {name} would name {len(models)} models alike; give one model, or no name")
    loaded = load_tasks(list(dict.fromkeys(tasks)), data=data, limit=limit, deduplicate=deduplicate)
    specs = list(dict.fromkeys(models))
    for spec in specs:
        parse(spec)
    results, failed = [], False
    for spec in specs:
        try:
            # What a user's code prints must not end up among the results
            with redirect_stdout(sys.stderr):
                results += evaluate(
                    spec,
                    loaded,
                    out=out,
                    name=name,
                    token_budget=token_budget,
                    progress=ConsoleProgress(spec),
                    **options,
                )
        except Exception as error:
            if len(specs) == 1 or context.find_root().meta.get("debug"):
                raise
            show_error(error)  # the other models still have their turn
            failed = True
    reported = False
    if results:
        texts = {item.task.name: {example.id: example for example in item.data.examples} for item in loaded}
        try:
            page.write(results, texts, out / "report.html")
            reported = True
        except Exception as error:  # the results are safe, and a page can be had later
            if context.find_root().meta.get("debug"):
                raise
            show_error(error, "no report")
    if as_json:
        click.echo("[" + ",\n".join(result.model_dump_json() for result in results) + "]")
    elif results:
        print_results(results)
        shown = f"; `rmbench view {out}` shows this run with plots and failures" if reported else ""
        click.echo(f"\nResults and records are in {out}{shown}")
    if failed:
        return EXIT_FAILED
    return EXIT_INCOMPLETE if any(set(result.statuses) - {"ok"} for result in results) else 0
