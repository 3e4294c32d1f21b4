"""`rmbench audit`: can published rows be right, and what is wrong with the examples of a task?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rmbench.cli import EXIT_FAILED, debug_option
from rmbench.cli._options import completed, data_option, reading_options

if TYPE_CHECKING:
    from rich.console import Console

    from rmbench.audit.examples import TaskAudit
    from rmbench.audit.findings import Finding
    from rmbench.audit.published import TableAudit
    from rmbench.audit.separation import Separation
    from rmbench.runs.loading import TaskData

_SHOWN = 12  # findings of one kind that a terminal shows; --json has all
_SUBSETS = 40


def _counts(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in given:
        column, _equals, count = value.rpartition("=")
        if not (count.isascii() and count.isdigit()) or int(count) < 1:
            raise click.BadParameter(f"{value!r} is neither N nor COLUMN=N, as in Chat=358")
        counts[column] = int(count)
    return counts


@click.command()
@click.argument(
    "subjects", metavar="CSV|TASK...", nargs=-1, required=True, shell_complete=completed("tasks", files=True)
)
@data_option
@reading_options
@click.option(
    "--definitions", metavar="TOML", type=click.Path(path_type=Path),
    help="How columns make averages, beside what comes with rmbench (rmbench/audit/benchmarks.toml says how).",
)  # fmt: skip
@click.option("--benchmark", metavar="NAME", help="The definition to take.  [default: those that fit the columns]")
@click.option(
    "--n", multiple=True, metavar="[COLUMN=]N", callback=_counts,
    help="Examples that a column is a mean over; without COLUMN, the headline (repeatable).",
)  # fmt: skip
@click.option(
    "--pair", "pairs", nargs=2, multiple=True, metavar="MODEL MODEL",
    help="Compare two rows subset by subset, p after Holm.  [default: the first two]",
)  # fmt: skip
@click.option("--near", is_flag=True, help="Look for near duplicates too: prompts with other words here and there.")
@click.option(
    "--card", "as_card", is_flag=True,
    help="Print what a card states of such data: a line of its `reads`, and the block of an audit with --near.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print all that was found as JSON and nothing else.")
@debug_option
def command(
    subjects: tuple[str, ...],
    data: dict[str, str],
    columns: dict[str, str] | None,
    skip_bad_rows: bool,
    definitions: Path | None,
    benchmark: str | None,
    n: dict[str, int],
    pairs: tuple[tuple[str, str], ...],
    near: bool,
    as_card: bool,
    as_json: bool,
) -> int:
    """Look for what cannot be right in published tables (CSV files) and in the examples of tasks.

    Of a table: averages that are not those of their parts beyond rounding, rows that are incomplete, zeros that stand
    for what is missing, differences that n cannot support. Of tasks: copies, within and across them, opposite labels,
    equal, empty and cut responses, what "always longer, shorter, first" scores, and what difference n can show. The
    exit code is 1 where something contradicts itself.
    """
    from rmbench.audit.published import audit_table
    from rmbench.runs.loading import load_tasks

    files, named = _parted(subjects)
    of_tables, of_tasks = bool(definitions or benchmark or n or pairs), bool(data or columns or skip_bad_rows or near)
    _refuse(files, named, of_tables=of_tables, of_tasks=of_tasks or as_card, as_card=as_card, as_json=as_json)
    tables = [
        one for file in files for one in audit_table(Path(file), own=definitions, benchmark=benchmark, n=n, pairs=pairs)
    ]
    loaded = load_tasks(named, data=data, columns=columns, skip_bad_rows=skip_bad_rows) if named else []
    return _print_cards(loaded, data) if as_card else _audit(tables, loaded, near=near, as_json=as_json)


def _parted(subjects: Sequence[str]) -> tuple[list[str], list[str]]:
    """The CSV files and the tasks. Raises UsageError for a file that is not there."""
    from rmbench.errors import UsageError

    files = [subject for subject in subjects if Path(subject).is_file()]
    named = [subject for subject in subjects if subject not in files]
    lost = [name for name in named if Path(name).suffix.lower() in (".csv", ".tsv")]
    if lost:
        raise UsageError(f"{lost[0]}: no such file")
    return files, named


def _refuse(
    files: Sequence[str], named: Sequence[str], *, of_tables: bool, of_tasks: bool, as_card: bool, as_json: bool
) -> None:
    """Raises UsageError for options that have no subject, or that exclude one another."""
    from rmbench.errors import UsageError

    if of_tables and not files:
        raise UsageError("--definitions, --benchmark, --n and --pair are for CSV files")
    if (of_tasks and not named) or (as_card and files):
        raise UsageError("--data, --columns, --skip-bad-rows, --near and --card are for tasks")
    if as_card and as_json:
        raise UsageError("--card prints Markdown and --json JSON; give one of them")


def _audit(tables: Sequence[TableAudit], loaded: Sequence[TaskData], *, near: bool, as_json: bool) -> int:
    from rmbench.audit.examples import audit_across, audit_examples
    from rmbench.audit.near import near_duplicates

    tasks = [audit_examples(one.name, one.task, one.data) for one in loaded]
    sets = {one.name: one.data for one in loaded}
    across = [*audit_across(sets), *(near_duplicates(sets) if near else [])]
    if as_json:
        whole = {
            "tables": [one.to_json() for one in tables],
            "tasks": [one.to_json() for one in tasks],
            "across": [one.to_json() for one in across],
        }
        click.echo(json.dumps(whole, indent=2, ensure_ascii=False))
    else:
        _print(tables, tasks, across)
    audits: Sequence[TableAudit | TaskAudit | Finding] = [*tables, *tasks, *across]
    return EXIT_FAILED if any(one.contradicts for one in audits) else 0


def _print_cards(loaded: Sequence[TaskData], data: Mapping[str, str]) -> int:
    from rmbench.audit.card import audited, block, entry

    for one in loaded:
        path = data.get(one.name)
        each = audited(one.task, one.data, path and path.removeprefix(f"{one.task.name}:"))
        click.echo(f"    - {entry(each.figures)}\n\n{block([each])}")
    return 0


def _print(tables: Sequence[TableAudit], tasks: Sequence[TaskAudit], across: Sequence[Finding]) -> None:
    from rmbench.cli._console import terminal
    from rmbench.cli._report import plain

    console = terminal(100)
    for number, table in enumerate(tables):
        if number:
            click.echo()
        _print_table(console, table)
    for number, task in enumerate(tasks):
        if number or tables:
            click.echo()
        _print_task(console, task)
    if across:
        console.print("\n[bold]across the examples of all[/]", highlight=False)
        _print_findings(console, across)
    for line in dict.fromkeys(_legend([*tables, *tasks])):
        console.print(plain(line), highlight=False)


def _legend(audits: Sequence[TableAudit | TaskAudit]) -> list[str]:
    from rmbench.audit.findings import KINDS
    from rmbench.audit.published import TableAudit

    kinds = dict.fromkeys(finding.kind for one in audits for finding in one.findings if finding.kind != "rule")
    lines = ["", *(f"{kind}: {KINDS[kind]}" for kind in kinds)]
    if any(isinstance(one, TableAudit) and one.separation for one in audits):
        lines.append("p: with errors that have nothing to do with one another; least: the least of any pairing")
    return lines if len(lines) > 1 else []


def _print_table(console: Console, audit: TableAudit) -> None:
    from rmbench.cli._report import plain

    name = f"{audit.file} {audit.part}".strip()
    console.print(f"[bold]{plain(name)}[/]  {plain(audit.definition.title)}", highlight=False)
    by = f"{audit.rows:,} rows, {audit.checked:,} held to {audit.definition.source or audit.definition.name}"
    console.print(plain(by), highlight=False)
    _print_findings(console, audit.findings)
    if audit.unstated:
        console.print(plain(f"no part stated: {', '.join(audit.unstated)}"), highlight=False)
    if audit.separation is not None:
        _print_separation(console, audit.separation)
    for note in audit.notes:
        console.print(plain(note), highlight=False)
    console.print(plain(_said(audit.findings)), highlight=False)


def _said(findings: Sequence[Finding]) -> str:
    """How much of what was found."""
    counts = Counter(finding.kind for finding in findings if finding.kind != "rule")
    if not any(finding.contradicts for finding in findings):
        counts = Counter({"nothing contradicts": 0, **counts})
    return ", ".join(f"{kind} {count:,}" if count else kind for kind, count in counts.items())


def _print_findings(console: Console, findings: Sequence[Finding]) -> None:
    from rich.table import Table

    from rmbench.cli._report import plain

    shown = [finding for finding in findings if finding.kind != "rule"]
    if not shown:
        return
    table = Table(header_style="bold")
    rows = any(finding.row is not None for finding in shown)
    if rows:
        table.add_column("row", justify="right", no_wrap=True)
    table.add_column("where", overflow="fold", max_width=34)
    table.add_column("", overflow="fold", max_width=12)
    table.add_column("what was found", overflow="fold")
    seen: Counter[str] = Counter()
    for finding in shown:
        seen[finding.kind] += 1
        if seen[finding.kind] > _SHOWN:
            continue
        kind = f"[bold red]{finding.kind}[/]" if finding.contradicts else finding.kind
        told = finding.told + (f" ({', '.join(finding.examples)})" if finding.examples else "")
        place = ["" if finding.row is None else str(finding.row)] if rows else []
        table.add_row(*place, plain(finding.where), kind, plain(told))
    console.print(table)
    for kind, count in seen.items():
        if count > _SHOWN:
            console.print(f"{count - _SHOWN:,} more of {kind}; --json has all", highlight=False)


def _print_separation(console: Console, apart: Separation) -> None:
    from rich.table import Table

    from rmbench.cli._report import plain

    verdicts = Counter(pair.verdict for pair in apart.neighbours)
    size = f"{apart.detectable:.1f} points" if apart.percent else f"{apart.detectable:.3f}"
    told = (
        f"{apart.column}: of {len(apart.neighbours):,} neighbours n cannot support the difference of "
        f"{verdicts['none']:,} whatever the pairing, {verdicts['open']:,} only the examples tell, "
        f"{verdicts['told']:,} are told apart; the first is not told from {apart.first:,} below it; detectable at the "
        f"median {size}"
    )
    console.print(plain(told), highlight=False)
    if not apart.subsets:
        return
    table = Table(header_style="bold")
    table.add_column("subset", overflow="fold")
    for heading in ("difference", "p", "Holm", "least"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    before = None
    for pair in apart.subsets:
        if before not in (None, (pair.model, pair.other)):
            table.add_section()
        if before != (pair.model, pair.other):
            table.add_row(plain(f"{pair.model} - {pair.other}"))
        before = (pair.model, pair.other)
        size = f"{pair.difference:+.1f}" if apart.percent else f"{pair.difference:+.4f}"
        told = {"told": "told apart", "open": "open", "none": "n cannot"}[pair.verdict]
        table.add_row(f"  {plain(pair.column)}", size, _p(pair.p), _p(pair.p_holm), _p(pair.p_least), told)
    console.print(table)


def _print_task(console: Console, audit: TaskAudit) -> None:
    from rich.table import Table

    from rmbench.audit.findings import DETECTABLE
    from rmbench.cli._report import plain

    size = f"{audit.examples:,} examples, {audit.candidates:,} candidates"
    console.print(f"[bold]{plain(audit.task)}[/]  {plain(audit.source)}: {size}", highlight=False)
    _print_findings(console, audit.findings)
    table = Table(header_style="bold")
    table.add_column("subset", overflow="fold")
    table.add_column("n", justify="right", no_wrap=True)
    rules = list(audit.subsets[0].rules)
    shares = [share for share, least in audit.subsets[0].detectable.items() if least is not None]
    for heading in (*(f"always\n{rule}" for rule in rules), *(f"detectable\nat {share}" for share in shares)):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in audit.subsets[:_SUBSETS]:
        scores = [_share(one.rules.get(rule)) + ("*" if rule in one.beaten else " ") for rule in rules]
        name = one.subset if one.metric == audit.headline else f"{one.subset} ({one.metric})"
        table.add_row(plain(name), f"{one.n:,}", *scores, *(_share(one.detectable[share]) for share in shares))
    console.print(table)
    if len(audit.subsets) > _SUBSETS:
        console.print(f"{len(audit.subsets) - _SUBSETS:,} more subsets; --json has all", highlight=False)
    lines = [f"always: {audit.headline} of the rule, * above chance"] if rules else []
    lines += [f"detectable: {DETECTABLE}"] if shares else []
    for line in [*lines, *audit.notes, _said(audit.findings)]:
        console.print(plain(line), highlight=False)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _p(p: float | None) -> str:
    if p is None:
        return "-"
    return "<.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"
