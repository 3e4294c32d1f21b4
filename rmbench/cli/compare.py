"""`rmbench compare`: do models differ?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rmbench.cli import EXIT_INCOMPLETE, debug_option, tell
from rmbench.cli._cells import ends, letter_of, number, p_value, print_fitting
from rmbench.cli._tasks import finder

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from rmbench.compare.agreement import Agreement
    from rmbench.compare.report import ComparisonReport, Contrast, TaskComparison

_SETTINGS = 6
_CAPTION = (
    "[ ] 95 % interval; p two-sided, over clusters, of that one test. detectable: the difference that one test at 5 %, "
    "before Holm, finds in 80 % of such samples, (t.975 + t.8) standard errors. With few examples interval and "
    "p, which are not made from one another, may fall on either side of 5 %."
)
_RANK_CAPTION = " Of a rank, [ ] is what tests of all pairs, after Holm, leave open."


def _groups(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, list[Path]]:
    folders: dict[str, list[Path]] = {}
    for value in given:
        name, _equals, paths = value.partition("=")
        if not name or not all(paths.split(",")):
            raise click.BadParameter(f"{value!r} is not NAME=PATH[,PATH...], as in mine=out/seed1,out/seed2")
        if name in folders:
            raise click.BadParameter(f"{name} is given twice; put its paths in one, with commas between them")
        folders[name] = [Path(path) for path in paths.split(",")]
    return folders


@click.command()
@click.argument("paths", metavar="A B [C ...]", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--group", "groups", multiple=True, metavar="NAME=PATH[,PATH...]", callback=_groups,
    help="Seeds or checkpoints of one model, compared as one, after A B C (repeatable).",
)  # fmt: skip
@click.option(
    "-t", "--task", "tasks", multiple=True, metavar="TASK",
    help="Only this one, by its name or, where that finds none, as python:module:TASK (repeatable).",
)  # fmt: skip
@click.option("--view", help="A head or step aggregator. [default: each model's primary one, then all in common]")
@click.option("--metric", help="Any metric of the task, as in a result. [default: the headline of the task]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of what is drawn.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON and nothing else.")
@debug_option
def command(
    paths: tuple[Path, ...],
    groups: Mapping[str, Sequence[Path]],
    tasks: tuple[str, ...],
    view: str | None,
    metric: str | None,
    seed: int,
    as_json: bool,
) -> int:
    """Compare A with B, and with every other, on the same examples of the tasks that they share.

    Each is a result file, or a folder with results, in which every model takes part. Those are compared that most of
    them can be compared with; each other one is a line. A run that --limit cut off takes no part where there are whole
    ones; where there are none the exit code is 3, since a try decides nothing.
    """
    from rmbench.compare.entrants import read_models
    from rmbench.compare.report import compare

    models = read_models(paths, groups)
    names, find = finder(tasks)
    report = compare(models, find, metric=metric, tasks=names, view=view, seed=seed)
    if as_json:
        click.echo(report.json())
    else:
        _print(report)
        for line in report.refused:
            tell(f"rmbench: {line}", err=True)
    return EXIT_INCOMPLETE if any(task.is_try for task in report.tasks) else 0


def _print(report: ComparisonReport) -> None:
    """A legend of letters, then for each task its sentences, table, overlap of errors, ranking and notes."""
    from rmbench.cli._console import terminal
    from rmbench.cli._report import plain

    console = terminal()
    letters = {name: letter_of(place) for place, name in enumerate(report.models)}
    for name, letter in letters.items():
        runs = len(report.models[name])
        console.print(plain(f"{letter}  {name}{f', {runs} runs' if runs > 1 else ''}"), highlight=False)
    for task in report.tasks:
        console.print(f"\n[bold]{plain(task.task)}[/] v{task.version}  {task.examples:,} examples", highlight=False)
        console.print(f"{plain(_said(task))}", highlight=False)
        for contrast in task.contrasts:
            if contrast.headline:
                console.print(plain(_sentence(contrast, task)), highlight=False)
        # without room an interval stands below its difference and a value below its facet, so that both stay whole
        print_fitting(console, partial(_table, task, letters))
        for contrast in task.contrasts:
            if contrast.headline and contrast.overlap:
                console.print(f"  {plain(_overlap(contrast, letters))}", highlight=False)
            if contrast.agreement is not None:
                console.print(f"  {plain(_agreement(contrast, contrast.agreement, letters))}", highlight=False)
        _print_ranking(console, task, letters)
        for note in task.notes:
            console.print(f"  {plain(note)}", highlight=False)
    ranked = any(task.ranking for task in report.tasks)
    console.print(f"\n{plain(_CAPTION + (_RANK_CAPTION if ranked else ''))}", highlight=False)


def _said(task: TaskComparison) -> str:
    """What the metric is."""
    return f"{task.metric}: {task.title}{f' ({task.unit})' if task.unit else ''}"


def _sentence(contrast: Contrast, task: TaskComparison) -> str:
    """What the numbers of a headline say, the higher model first, and no more."""
    change = contrast.difference
    if change is None:
        return f"{contrast.model} and {contrast.baseline}: no example counts for both"
    if math.isnan(change.value):
        return f"{contrast.model} and {contrast.baseline}: one of them has no {task.metric} on what counts for both"
    names, low, high = (contrast.model, contrast.baseline), change.ci_low, change.ci_high
    if change.value < 0:
        names, low, high = names[::-1], -change.ci_high, -change.ci_low
    size = f"{number(abs(change.value), task.kind)}{' points' if _is_percent(task) else ''}"
    interval = ends(low, high, task.kind)
    where = "level with" if change.value == 0 else f"{size} above"
    holm = contrast.p_holm
    adjusted = f" ({p_value(holm)} after Holm)" if holm is not None and p_value(holm) != p_value(change.p) else ""
    direction = f" in {task.metric}{', where less is better' if task.lower_is_better else ''}"
    told = "a try, which decides nothing" if task.is_try else "a difference"
    if not (task.is_try or contrast.is_told):
        told = "no difference shown"
    return f"{names[0]} is {where} {names[1]}{direction}{interval}, p {p_value(change.p, '= ')}{adjusted}: {told}"


def _table(task: TaskComparison, letters: Mapping[str, str], space: str) -> Table:
    from rich.table import Table

    from rmbench.cli._report import plain

    table = Table(header_style="bold")
    unit = " %" if _is_percent(task) else ""
    table.add_column("examples", overflow="fold")
    for heading in ("", f"{task.metric}{unit}", "difference", "p", "detectable", "n"):
        table.add_column(heading, justify="right", overflow="fold", no_wrap=heading == "difference")
    for contrast in task.contrasts:
        where, *numbers = _cells(contrast, task, letters, space)
        table.add_row(plain(where).replace("=", "=\n" if space == "\n" else "=", 1), *numbers)
    return table


def _cells(contrast: Contrast, task: TaskComparison, letters: Mapping[str, str], space: str) -> list[str]:
    baseline, model = letters[contrast.baseline], letters[contrast.model]
    views = list(dict.fromkeys([contrast.model_view, contrast.baseline_view]))
    where = contrast.subset if views == ["default"] else f"{contrast.subset} ({' - '.join(views)})"
    change, values = contrast.difference, (contrast.model_value, contrast.baseline_value)
    if change is None:
        return [where, f"{model} - {baseline}", "-", "-", "-", "-", "0"]
    interval = ends(change.ci_low, change.ci_high, task.kind, space)
    beyond = _is_percent(task) and change.detectable > 1  # no share differs by more than all of it
    return [
        where,
        f"{model} - {baseline}",
        " - ".join(number(value, task.kind) for value in values if value is not None),
        f"{number(change.value, task.kind)}{interval}",
        p_value(change.p),
        "-" if math.isnan(change.detectable) or beyond else number(change.detectable, task.kind),
        f"{contrast.n:,}" + (f" (-{contrast.dropped:,})" if contrast.dropped else ""),
    ]


def _overlap(contrast: Contrast, letters: Mapping[str, str]) -> str:
    errors: Any = contrast.overlap
    baseline, model = letters[contrast.baseline], letters[contrast.model]
    counts = f"only {baseline} {_count(errors.only_theirs)}, only {model} {_count(errors.only_ours)}"
    line = f"wrong: {counts}, both {_count(errors.both)}, neither {_count(errors.neither)}"
    if math.isnan(errors.common):
        return line
    shares = f"{100 * errors.common:.0f} %, {100 * errors.common_if_independent:.0f} % if independent"
    exact = contrast.difference.mcnemar_p if contrast.difference else None
    return f"{line}; both of what either gets wrong: {shares}" + (
        "" if exact is None else f"; McNemar p {p_value(exact, '= ')}"
    )


def _agreement(contrast: Contrast, agreed: Agreement, letters: Mapping[str, str]) -> str:
    """Whether rewards are the same, or how far apart; and what the two were made with that is not the same."""
    what = "rewards" if agreed.rewards else "verdicts"
    pair = f"{letters[contrast.model]} and {letters[contrast.baseline]}"
    if agreed.is_same:
        said = f"{pair}: same {what}, {agreed.rewards or agreed.pairs:,} of them"
    else:
        parts = [
            f"{agreed.flips:,} of {agreed.pairs:,} pairs in the other order, in {agreed.flipped_examples:,} examples"
        ]
        if agreed.rewards:
            sds = "" if math.isnan(agreed.sds) else f" ({agreed.sds:.2g} SD)"
            parts.insert(
                0, f"rewards are up to {agreed.largest:.3g}{sds} apart, {agreed.differing:,} of {agreed.rewards:,}"
            )
        parts += [f"{agreed.ties:,} ties of one alone"] if agreed.ties else []
        parts += [f"{agreed.unmatched:,} answered by one alone"] if agreed.unmatched else []
        said = f"{pair}: {'; '.join(parts)}"
    settings = [f"{name} {ours} / {theirs}" for name, (theirs, ours) in contrast.settings.items()]
    more = f" and {len(settings) - _SETTINGS} more" if len(settings) > _SETTINGS else ""
    return f"{said}; settings that differ: {', '.join(settings[:_SETTINGS]) or 'none'}{more}"


def _print_ranking(console: Console, task: TaskComparison, letters: Mapping[str, str]) -> None:
    from rmbench.cli._report import plain

    for place in task.ranking:
        rank = place.rank
        open_ranks = f"{rank.low}" if rank.low == rank.high else f"{rank.low} to {rank.high}"
        value = f"{number(place.value, task.kind)}{' %' if _is_percent(task) else ''}"
        line = f"rank {rank.rank} [{open_ranks}]  {letters[place.model]}  {value}  {place.model}"
        console.print(f"  {plain(line)}", highlight=False)


def _is_percent(task: TaskComparison) -> bool:
    return task.kind != "number"


def _count(number: float) -> str:
    return f"{number:,.0f}" if number == round(number) else f"{number:,.1f}"
