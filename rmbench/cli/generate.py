"""`rmbench generate`: prompts in, a policy's responses out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from rmbench.cli import EXIT_INCOMPLETE, debug_option
from rmbench.cli._options import RENDERING, _tokens, allotted

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
@click.option("-p", "--policy", required=True, metavar="POLICY", help=f"{POLICY_HELP}.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="A .jsonl or .parquet file.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N prompts.")
@sampling_options
@_loading_options
@debug_option
def command(
    source: str,
    policy: str,
    out: Path,
    limit: int | None,
    samples: int | None,
    cap: int | None,
    temperature: float | None,
    top_p: float | None,
    seed: int,
    **options: Any,
) -> int:
    """Have a POLICY answer every prompt of FILE (JSON, JSON lines, CSV, Parquet, a folder) or of a generation TASK.

    OUT has a row a response: prompt, response, sample, tokens, finish, cap, policy. outputs:OUT reads it again, and so
    does rmbench score.
    """
    from rmbench.cli._progress import ConsoleProgress
    from rmbench.policies.spec import declared
    from rmbench.results import files
    from rmbench.runs.respond import Sampling, write_responses

    files.check_table(out)
    sampling = Sampling(samples, cap, temperature, top_p, seed)
    [options] = allotted(options, [(policy, declared(policy))])
    written = write_responses(policy, source, sampling, limit=limit, progress=ConsoleProgress(policy), **options)
    files.write_table(written.table, out)
    for line in written.notes:
        click.echo(f"rmbench: {line}", err=True)
    if written.missing:
        click.echo(f"rmbench: {written.missing:,} responses are missing", err=True)
    click.echo(f"{written.table.num_rows:,} responses to {written.prompts:,} prompts are in {out}")
    return EXIT_INCOMPLETE if written.missing else 0
