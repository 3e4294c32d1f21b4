"""`rmbench generate`: prompts in, a policy's responses out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

import click

from rmbench.cli import EXIT_INCOMPLETE, debug_option, tell
from rmbench.cli._options import (
    OUT_HELP,
    POLICIES,
    RENDERING,
    _tokens,
    allotted,
    form_option,
    part_options,
    reading_options,
)

_Command = TypeVar("_Command", bound=Callable[..., Any])

POLICY_HELP = "local:CHECKPOINT (a folder or hub id), or outputs:FILE for responses that are written already"

_SAMPLING = (
    click.option("--samples", type=click.IntRange(min=1), metavar="N",
                 help="Responses to each prompt. [default: 1; of outputs, as many as there are]"),
    click.option("--max-new-tokens", "cap", type=click.IntRange(min=1), metavar="N",
                 help="The most tokens of a response. [default: the task's; 5000 for a file]"),
    click.option("--temperature", type=click.FloatRange(min=0), metavar="T",
                 help="0 takes the likeliest token. [default: 1]"),
    click.option("--top-p", type=click.FloatRange(min=0, min_open=True, max=1), metavar="P",
                 help="Draw from the likeliest tokens that have this share. [default: 1]"),
    click.option("--count-with", metavar="TOKENIZER", help="A hub id or folder: count the tokens of outputs with it."),
)  # fmt: skip

_LOADING = (
    click.option("--device", help="cpu, cuda, cuda:N, mps, or auto. [default: the best one here]"),
    click.option("--dtype", help="float32, bfloat16 or float16. [default: the checkpoint's own]"),
    *RENDERING,
    click.option("--trust-remote-code", is_flag=True, default=None, help="Run code that comes with the checkpoint."),
    click.option("--token-budget", metavar="N|auto", callback=_tokens,
                 help="Tokens in a batch, prompt and cap together. [default: auto]"),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the samples."),
)  # fmt: skip


def sampling_options(command: _Command) -> _Command:
    """How a policy writes."""
    for option in reversed(_SAMPLING):
        command = option(command)
    return command


def _loading_options(command: _Command) -> _Command:
    for option in reversed(_LOADING):
        command = option(command)
    return command


@click.command()
@click.argument("source", metavar="FILE|TASK")
@click.option(
    "-p",
    "--policy",
    "policies",
    required=True,
    multiple=True,
    metavar="POLICY",
    shell_complete=POLICIES,
    help=f"{POLICY_HELP} (repeatable).",
)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, allow_dash=True), help=OUT_HELP)
@form_option
@part_options
@reading_options
@sampling_options
@_loading_options
@debug_option
def command(
    source: str,
    policies: tuple[str, ...],
    out: Path,
    form: str | None,
    limit: int | None,
    subset: dict[str, list[str]] | None,
    columns: dict[str, str] | None,
    skip_bad_rows: bool,
    samples: int | None,
    cap: int | None,
    temperature: float | None,
    top_p: float | None,
    seed: int,
    **options: Any,
) -> int:
    """Have a POLICY answer every prompt of FILE (JSON, JSON lines, CSV, Parquet, a folder, - for standard input) or of
    a generation TASK.

    OUT has a row a response: the columns of FILE, prompt, response, sample, tokens, finish, cap, policy. outputs:OUT
    reads it again, and so does rmbench score. Of several policies a row is a sample, with columns response:NAME, ...;
    NAME=POLICY names one.
    """
    from rmbench.cli._names import columns_of, files_of
    from rmbench.cli._progress import ConsoleProgress
    from rmbench.policies.spec import declared, parse
    from rmbench.results.tables import target
    from rmbench.runs.respond import Sampling, write_responses

    sampling = Sampling(samples, cap, temperature, top_p, seed)
    specs = columns_of(policies, parse)
    read = [Path(one.source) for one in map(parse, specs.values()) if one.family == "outputs"]
    place = target(out, [Path(source), *read, *files_of(policies)], form=form)
    given = allotted(options, [(spec, declared(spec)) for spec in specs.values()])
    asked = {name: (spec, own) for (name, spec), own in zip(specs.items(), given, strict=True)}
    with redirect_stdout(sys.stderr):  # what a policy's code prints is no result
        reading: dict[str, Any] = {"columns": columns, "skip_bad_rows": skip_bad_rows}
        written = write_responses(
            asked, source, sampling, limit=limit, subset=subset, progress=ConsoleProgress, **reading
        )
    lines = [*written.notes, *place.write(written.columns)]
    if written.missing:
        lines.append(f"{written.missing:,} responses are missing")
    for line in lines:
        tell(f"rmbench: {line}", err=True)
    responses = len(written.columns["sample"])
    rows = "responses" if len(specs) == 1 else f"samples of {len(specs)} policies"
    tell(f"{responses:,} {rows} to {written.prompts:,} prompts are in {place}", err=place.path is None)
    return EXIT_INCOMPLETE if written.missing else 0
