"""`rmbench list`: what there is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rmbench.cli import EXIT_FAILED, debug_option, show_error
from rmbench.cli._options import completed

if TYPE_CHECKING:
    from rmbench.models.known import Entry
    from rmbench.plugins import Listed, PluginGroup
    from rmbench.results.schema import TaskResult

_GROUPS = ("tasks", "models", "policies", "suites")
_KNOWN = "known models"
_WIDE = 120  # columns from which on a table of them breaks no word


@click.command()
@click.argument("what", metavar="|".join([*_GROUPS, "RESULT..."]), nargs=-1, required=True,
                shell_complete=completed(words=_GROUPS, files=True))  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print a list as JSON and nothing else.")
@debug_option
def command(what: tuple[str, ...], as_json: bool) -> int:
    """List the tasks, the families of reward models, the kinds of policy or the suites of tasks; or results.

    Tasks stand with size, kind, licence and suites, and where their rows are: bundled, cached here, on the hub, or in a
    file that --data gives.
    Behind the families stand the known models: what each is known by, and whether how it is read was verified.
    A RESULT is a result file, or a folder in which all are listed: with its model, task and headline.
    """
    from rmbench.errors import UsageError
    from rmbench.plugins import did_you_mean

    if any(one in _GROUPS for one in what):  # a folder of such a name is ./tasks
        listed = [(group, one) for group in dict.fromkeys(what) for one in _plugins(group)]
        _print_plugins(listed, _known() if "models" in what else (), as_json=as_json)
        return 0
    paths = [Path(one) for one in what]
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder{did_you_mean(str(path), _GROUPS)}")
    return _print_results(paths, as_json=as_json)


def _plugins(what: str) -> list[Listed]:
    from rmbench import plugins
    from rmbench.errors import UsageError

    groups: Mapping[str, PluginGroup] = {
        "tasks": plugins.TASKS,
        "models": plugins.MODELS,
        "policies": plugins.POLICIES,
        "suites": plugins.SUITES,
    }
    if what not in groups:
        raise UsageError(f"unknown {what!r}{plugins.did_you_mean(what, groups)}; expected {', '.join(groups)}")
    return plugins.listed(groups[what])


def _known() -> Sequence[Entry]:
    from rmbench.models.known import entries

    return tuple(entries().values())


def _print_plugins(listed: Sequence[tuple[str, Listed]], table_entries: Sequence[Entry], *, as_json: bool) -> None:
    from rmbench.cli._console import terminal
    from rmbench.cli._report import plain

    if as_json:
        from rmbench.cli import _catalogue

        facts = _catalogue.facts([one for group, one in listed if group == "tasks"])
        rows: list[dict[str, Any]] = [
            {"group": group, "name": one.name, "summary": one.summary, "error": one.error}
            | (facts[one.name] if group == "tasks" else {})
            for group, one in listed
        ]
        click.echo(json.dumps([*rows, *map(_entry, table_entries)], indent=1))
        return
    from rich.table import Table

    for heading in dict.fromkeys(group for group, _ in listed):
        if heading == "tasks":
            _print_tasks([one for group, one in listed if group == heading])
            continue
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column(heading, no_wrap=True)
        table.add_column("what it is")
        for group, one in listed:
            if group == heading:
                table.add_row(plain(one.name), plain(one.summary or f"cannot be loaded: {one.error}"))
        terminal().print(table)
        if heading == "models":
            _print_known(table_entries)


def _print_tasks(listed: Sequence[Listed]) -> None:
    from rmbench.cli._catalogue import lines
    from rmbench.cli._console import terminal
    from rmbench.cli._report import plain

    console = terminal()
    for facts, told in lines(listed, console.width):
        style = None if told else "bold"
        console.print(plain(facts), style=style, highlight=False, soft_wrap=True)
        for line in told.splitlines():
            console.print(plain(line), highlight=False, soft_wrap=True)


def _print_known(table_entries: Sequence[Entry]) -> None:
    """The known models in a table; where it has no room, each in a line with what it is known as below it."""
    from rich.table import Table

    from rmbench.cli._console import terminal
    from rmbench.cli._report import plain, print_note

    console = terminal()
    if console.width < _WIDE:
        console.print(f"\n[bold]{_KNOWN}[/]: family, how it is read, what is known as it, or why it is not read")
        for one in table_entries:
            console.print(plain(f"{one.name}: {one.family}, {_trust(one)}"), highlight=False)
            print_note(console, _known_as(one))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in (_KNOWN, "family", "how it is read"):
        table.add_column(column, no_wrap=True)
    table.add_column("what is known as it, or why it is not read", overflow="fold")
    for one in table_entries:
        table.add_row(*map(plain, (one.name, one.family, _trust(one), _known_as(one))))
    console.print(table)


def _known_as(entry: Entry) -> str:
    reason = "" if entry.refused is None else f": {entry.refused}"
    return ", ".join([*entry.ids, *_marks(entry)]) + reason


def _marks(entry: Entry) -> list[str]:
    """What tells any checkpoint: its architecture, its weights."""
    marks = [" or ".join(entry.architectures)] if entry.architectures else []
    marks += [f"with {' and '.join(entry.weights)}"] if entry.weights else []
    return [" ".join(marks)] if marks else []


def _trust(entry: Entry) -> str:
    return "refused" if entry.refused is not None else "verified" if entry.verified else "unverified"


def _entry(entry: Entry) -> dict[str, Any]:
    from dataclasses import asdict

    stated = asdict(entry)
    return {"group": _KNOWN, "name": stated.pop("name"), "summary": _trust(entry), "error": None, **stated}


def _print_results(paths: Sequence[Path], *, as_json: bool) -> int:
    """One entry a result. A file that is none is named, and the list goes on."""
    from rmbench.cli._console import terminal
    from rmbench.cli._report import plain
    from rmbench.results import collection, files

    console = terminal()
    rows, failed = list[dict[str, Any]](), False
    for path in collection.files_in(paths):
        try:
            result = files.read(path)
        except Exception as error:
            show_error(error)
            failed = True
        else:
            rows.append(_row(path, result))
            if not as_json:  # the file on a line of its own, whole at any width
                console.print(plain(str(path)), highlight=False, soft_wrap=True)
                console.print(plain(f"  {result}"), highlight=False)
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    if not rows and not failed:
        raise collection.nothing_in(paths)
    return EXIT_FAILED if failed else 0


def _row(path: Path, result: TaskResult) -> dict[str, Any]:
    from rmbench.results.digest import figure

    headline = figure(result, result.task.headline, result.primary_view)
    numbers = dict.fromkeys(("value", "ci_low", "ci_high", "n")) if headline is None else {
        "value": headline.value, "ci_low": headline.ci_low, "ci_high": headline.ci_high, "n": headline.n,
    }  # fmt: skip
    return {
        "file": str(path),
        "kind": result.subject.kind,
        "model": result.subject.id,
        "task": result.label,
        "version": result.task.version,
        "examples": result.dataset.examples,
        "part": result.dataset.part,
        "metric": result.task.headline,
        **numbers,
        "created": result.created,
    }
