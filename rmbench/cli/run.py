"""`rmbench run`: score models on tasks."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click

from rmbench.cli import EXIT_FAILED, EXIT_INCOMPLETE, debug_option, show_error


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


def _tokens(_: click.Context, __: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    if not (value.isascii() and value.isdigit()) or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither a number of tokens nor auto")
    return int(value)


@click.command()
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    required=True,
    metavar="MODEL",
    help="demo, length, random, a hub id, a folder, scores:FILE, python:module:attribute, ... (repeatable).",
)
@click.option("-t", "--task", "tasks", multiple=True, required=True, metavar="TASK", help="See rmbench list tasks.")
@click.option("--data", multiple=True, metavar="TASK=PATH", callback=_files, help="Run TASK on a file or folder.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N examples of each task.")
@click.option("--deduplicate", is_flag=True, help="Drop repeated examples and count them.")
@click.option("--out", type=click.Path(path_type=Path), default="results", show_default=True, help="Result folder.")
@click.option("--name", help="The model's id in results; with one model only.")
@click.option("--device", help="cpu, cuda, cuda:N, mps, or auto to spread over all GPUs. [default: the best one here]")
@click.option("--dtype", help="float32, bfloat16 or float16. [default: the checkpoint's own]")
@click.option("--head-dtype", default="float32", show_default=True, help="dtype of the reward head.")
@click.option("--max-length", type=click.IntRange(min=2), metavar="N", help="Cut longer sequences; cuts are counted.")
@click.option("--truncation-side", type=click.Choice(["left", "right"]), default="left", show_default=True)
@click.option(
    "--pooling", type=click.Choice(["last", "hf"]), default="last", show_default=True, help="hf: as transformers."
)
@click.option("--template", metavar="FILE", help="A Jinja chat template, or plain, or pair. [default: the tokenizer's]")
@click.option("--trust-remote-code", is_flag=True, help="Run code that comes with the checkpoint.")
@click.option("--token-budget", default="auto", show_default=True, callback=_tokens, help="Padded tokens in a batch.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the bootstrap and of random."
)
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
    if as_json:
        click.echo("[" + ",\n".join(result.model_dump_json() for result in results) + "]")
    elif results:
        print_results(results)
        click.echo(f"\nResults and records are in {out}")
    if failed:
        return EXIT_FAILED
    return EXIT_INCOMPLETE if any(set(result.statuses) - {"ok"} for result in results) else 0
