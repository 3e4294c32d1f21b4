"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])

MODEL_HELP = "demo, length, random, a hub id, a folder, scores:FILE, python:module:attribute, ..."


def _tokens(_: click.Context, __: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    if not (value.isascii() and value.isdigit()) or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither a number of tokens nor auto")
    return int(value)


_MODEL = (
    click.option(
        "--device", help="cpu, cuda, cuda:N, mps, or auto to spread over all GPUs. [default: the best one here]"
    ),
    click.option("--dtype", help="float32, bfloat16 or float16. [default: the checkpoint's own]"),
    click.option("--head-dtype", default="float32", show_default=True, help="dtype of the reward head."),
    click.option(
        "--max-length", type=click.IntRange(min=2), metavar="N", help="Cut longer sequences; cuts are counted."
    ),
    click.option("--truncation-side", type=click.Choice(["left", "right"]), default="left", show_default=True),
    click.option(
        "--pooling", type=click.Choice(["last", "hf"]), default="last", show_default=True, help="hf: as transformers."
    ),
    click.option(
        "--template", metavar="FILE", help="A Jinja chat template, or plain, or pair. [default: the tokenizer's]"
    ),
    click.option("--trust-remote-code", is_flag=True, help="Run code that comes with the checkpoint."),
    click.option(
        "--token-budget", default="auto", show_default=True, callback=_tokens, help="Padded tokens in a batch."
    ),
    click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of random, and of draws."
    ),
)


def model_options(command: _Command) -> _Command:
    """How a model is loaded and run."""
    for option in reversed(_MODEL):
        command = option(command)
    return command
