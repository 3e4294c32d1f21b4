"""Options that several commands share, and which of them reach which model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from rmbench.errors import UsageError

_Command = TypeVar("_Command", bound=Callable[..., Any])

MODEL_HELP = "demo, length, random, a hub id, a folder, scores:FILE, ensemble:A,B, python:module:attribute, ..."

OUT_HELP = "A .jsonl, .csv, .tsv or .parquet file, or - for standard output."

OF_FORWARDS = ("token_budget", "devices")  # options of a run, for models that forwards are run for


def completed(
    *groups: str, words: Sequence[str] = (), files: bool = False
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """What a shell completes a value by: names of plugins of these groups, `words`, and files where nothing else fits.

    Suites stand as `suite:NAME`; a family that needs a source, as `classifier:`, with what parts the two.
    """

    def complete(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
        from rmbench import plugins

        by_group: dict[str, Callable[[], list[str]]] = {
            "tasks": plugins.task_names,
            "suites": lambda: [f"suite:{name}" for name in plugins.names(plugins.SUITES)],
            "models": lambda: plugins.spec_starts(plugins.MODELS),
            "policies": lambda: plugins.spec_starts(plugins.POLICIES),
        }
        values = [*words, *(name for group in groups for name in by_group[group]())]
        items = [CompletionItem(begun, type="file")] if files else []  # first: bash forgets what stands before it
        return [*items, *(CompletionItem(value) for value in values if value.startswith(begun))]

    return complete


MODELS, POLICIES = completed("models", files=True), completed("policies", files=True)


def _tokens(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    if value is None or value == "auto":
        return None
    if not (value.isascii() and value.isdigit()) or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither a number of tokens nor auto")
    return int(value)


RENDERING = (
    click.option(
        "--template",
        metavar="FILE|NAME",
        help="A Jinja chat template, one of the tokenizer's by name, plain, or pair. [default: the tokenizer's]",
    ),
    click.option(
        "--bos",
        type=click.Choice(["auto", "tokenizer", "own", "none", "one", "both", "template"]),
        help="auto: as the tokenizer. [default: auto]",
    ),
    click.option(
        "--fold-system", is_flag=True, default=None, help="Put the system turn into the first user turn, as text."
    ),
    click.option(
        "--control-tokens",
        type=click.Choice(["keep", "text"]),
        help="text: the tokenizer's control tokens inside of texts are read as text. [default: keep]",
    ),
)
_MODEL = (
    click.option(
        "--device", help="cpu, cuda, cuda:N, mps, or auto to spread over all GPUs. [default: the best one here]"
    ),
    click.option("--dtype", help="float32, bfloat16 or float16. [default: the checkpoint's own]"),
    click.option("--head-dtype", help="dtype of the reward head. [default: float32]"),
    click.option(
        "--max-length", type=click.IntRange(min=2), metavar="N", help="Cut longer sequences; cuts are counted."
    ),
    click.option(
        "--truncation-side", type=click.Choice(["left", "right"]), help="The end that is cut. [default: left]"
    ),
    click.option(
        "--pooling",
        type=click.Choice(["auto", "last", "hf"]),
        help="auto: as the checkpoint's class; hf: the last token that is no pad; last: the last. [default: auto]",
    ),
    *RENDERING,
    click.option("--trust-remote-code", is_flag=True, default=None, help="Run code that comes with the checkpoint."),
    click.option(
        "--allow-unverified",
        is_flag=True,
        default=None,
        help="Read a known model by an entry that was not verified; results say so.",
    ),
    click.option(
        "--token-budget", metavar="N|auto", callback=_tokens, help="Padded tokens in a batch. [default: auto]"
    ),
    click.option("--seed", type=click.IntRange(min=0), help="Seed of random, and of draws. [default: 0]"),
)


def form_option(command: _Command) -> _Command:
    """In what format a table is written, where its name does not say it."""
    formats = click.Choice(["jsonl", "csv", "tsv", "parquet"])
    told = "What OUT is written as. [default: as its suffix says; jsonl of standard output]"
    return click.option("--format", "form", type=formats, help=told)(command)


def _files(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    paths: dict[str, str] = {}
    for value in given:
        task, equals, path = value.partition("=")
        if not (task and equals and path):
            expected = "TASK=PATH, as in rewardmath=scores.json, or NAME=TASK:PATH"
            raise click.BadParameter(f"{value!r} is not {expected}")
        if task in paths:
            raise click.BadParameter(f"{task} is given twice, {paths[task]} and {path}; a run reads one of them")
        paths[task] = path
    return paths


data_option = click.option(
    "--data",
    multiple=True,
    metavar="TASK=PATH",
    callback=_files,
    help="Read TASK from a file or folder; NAME=TASK:PATH from several, each with results under its NAME (repeatable).",
)


def _columns(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str] | None:
    columns: dict[str, str] = {}
    for pair in (pair for value in values for pair in value.split(",")):
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not (ours and equals and theirs):
            raise click.BadParameter(f"{pair!r} is not NAME=COLUMN, as in prompt=question,chosen=good")
        if ours in columns:
            raise click.BadParameter(f"{ours} is given twice, {columns[ours]} and {theirs}")
        columns[ours] = theirs
    return columns or None


_READING = (
    click.option(
        "--columns",
        multiple=True,
        metavar="NAME=COLUMN,...",
        callback=_columns,
        help="Read COLUMN of your data as what is called NAME here, as in prompt=question,chosen=good,rejected=bad.",
    ),
    click.option("--skip-bad-rows", is_flag=True, help="Leave out rows that cannot be read, and count them by reason."),
)


def reading_options(command: _Command) -> _Command:
    """How data of the user's own are read: `columns` and `skip_bad_rows`."""
    for option in reversed(_READING):
        command = option(command)
    return command


def _subset(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, list[str]] | None:
    subset: dict[str, list[str]] = {}
    for one in given:
        facet, equals, value = one.partition("=")
        if not (facet and equals and value):
            raise click.BadParameter(f"{one!r} is not FACET=VALUE, as in domain=math")
        subset.setdefault(facet, []).append(value)
    return subset or None


_PART = (
    click.option("--limit", type=click.IntRange(min=1), metavar="N",
                 help="N examples of each task, drawn by --seed, of every facet and file alike."),
    click.option("--subset", multiple=True, metavar="FACET=VALUE", callback=_subset,
                 help="Only examples with this facet, as domain=math; of one facet any of its values (repeatable)."),
)  # fmt: skip


def revisions_of(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> str | dict[str, str] | None:
    """Commits by task or hub set, or the one commit of the one task."""
    commits: dict[str, str] = {}
    for one in given:
        name, equals, commit = one.partition("=")
        if not equals and len(given) == 1:
            return one
        if not (name and commit):
            raise click.BadParameter(f"{one!r} is not TASK=COMMIT, as in rm_bench=73c52d7")
        if name in commits:
            raise click.BadParameter(f"{name} is given twice, {commits[name]} and {commit}")
        commits[name] = commit
    return commits or None


def part_options(command: _Command) -> _Command:
    """Which part of a task is run; results say so."""
    for option in reversed(_PART):
        command = option(command)
    return command


def model_options(command: _Command) -> _Command:
    """How a model is loaded and run. One that a model's family does not declare is not for it; None is not given."""
    for option in reversed(_MODEL):
        command = option(command)
    return command


def allotted(
    flags: Mapping[str, Any], declared: Sequence[tuple[str, Collection[str]]], *, of_run: Container[str] = ()
) -> list[dict[str, Any]]:
    """The flags that each of several subjects takes, in their order; `declared` are their specs and options.

    One line on standard error says which flags some of them do not take. Raises UsageError for flags that none takes;
    those `of_run` mean something without a subject.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    idle: dict[tuple[str, ...], list[str]] = {}
    for name in given:
        without = tuple(spec for spec, options in declared if name not in options)
        if without and name not in of_run:
            idle.setdefault(without, []).append(_flag(name))
    everybody = tuple(spec for spec, _ in declared)
    if everybody in idle:
        all_flags = sorted({_flag(name) for _, options in declared for name in options})
        expected = f"expected one of {', '.join(all_flags)}" if all_flags else "there are no options"
        plural = "s" if len(idle[everybody]) > 1 else ""
        raise UsageError(f"unknown option{plural} {_and(idle[everybody])} of {_and(everybody)}; {expected}")
    if idle:
        lines = [
            f"{_and(names)} {'does' if len(names) == 1 else 'do'} not apply to {_and(without)}"
            for without, names in idle.items()
        ]
        click.echo(f"rmbench: {'; '.join(lines)}", err=True)
    return [{name: value for name, value in given.items() if name in options} for _, options in declared]


def model_options_of(spec: str) -> set[str]:
    """The options that mean something to a model, those of a run's forwards among them. Raises UsageError."""
    from rmbench.models.spec import declared, runs_forwards

    return {*declared(spec), *(OF_FORWARDS if runs_forwards(spec) else ())}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _and(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
