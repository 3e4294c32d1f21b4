"""How `rmbench distances` prints what was found: a matrix, a dendrogram, and tables of pairs, heads and members."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rmbench.cli._cells import NOTHING, ends, letter_of, light_table, number, p_value, print_fitting
from rmbench.cli._console import terminal
from rmbench.cli._report import plain, print_note

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from rmbench.compare.distance_report import Dependence, DistanceReport, PairOfModels, TaskDistances
    from rmbench.compare.members import Membership
    from rmbench.metrics.curve import Figure
    from rmbench.metrics.distance import Join
    from rmbench.metrics.paired import Difference

_PAIRS, _NAMED, _CONFLICTS = 15, 3, 3
_CELL, _TREE = 6, 60
_CAPTION = (
    "STARC: L2 distance of rewards less their mean over a prompt's responses, over their L2 norm; every prompt weighs "
    "the same. 0 the same preferences by as much, 1.41 unrelated, 2 opposite. EPIC is half of it. Both are of these "
    "responses alone. other: share of prompts for which another response has the highest reward. phi, kappa: of "
    "errors. beyond: what phi has beyond a difficulty, and wrong labels, that all models share; * told from 0 after "
    "Holm over the pairs. CD: Pesaran's, of errors that a model makes where others do (near 0: independent). "
    "[ ] 95 % interval over clusters."
)


def show(report: DistanceReport) -> None:
    """Prints each task: a legend of letters, the matrix, the dendrogram, and what pairs, heads and members say."""
    console = terminal()
    for place, task in enumerate(report.tasks):
        if place:
            console.print()
        _show_task(console, task)
    print_note(console, _CAPTION, indent="")


def _show_task(console: Console, task: TaskDistances) -> None:
    letters = {name: letter_of(place) for place, name in enumerate(task.models)}
    of = "" if task.prompts == task.of_prompts else f" of {task.of_prompts:,}"
    sizes = f"{task.prompts:,}{of} prompts, {task.responses:,} responses"
    console.print(f"[bold]{plain(task.task)}[/] v{task.version}  {sizes}", highlight=False)
    for name, letter in letters.items():
        view = task.views[name]
        console.print(plain(f"{letter}  {name}{'' if view == 'default' else f' ({view})'}"), highlight=False)
    console.print("\nSTARC below the diagonal, above it the % of prompts with another response selected")
    for line in _matrix(task, letters, console.width):
        console.print(plain(line), highlight=False, no_wrap=True)
    console.print("\nDendrogram: groups joined at their mean STARC")
    for line in tree(task.joins, list(letters.values()), min(_TREE, console.width - 20)):
        console.print(plain(line), highlight=False, no_wrap=True)
    print_fitting(console, lambda space: _pairs(task, letters, space))
    for line in _sentences(task, letters):
        print_note(console, line, indent="")
    if task.conflicts:
        console.print(_conflicts(task, letters))
    if task.members is not None:
        ensemble = task.members
        print_note(console, _ensemble(task, ensemble), indent="")
        print_fitting(console, lambda space: _members(task, ensemble, letters, space))
    for note in task.notes:
        print_note(console, note, indent="")


def _matrix(task: TaskDistances, letters: Mapping[str, str], width: int) -> list[str]:
    """Rows of the matrix, in as many blocks of columns as the width takes."""
    names, across = list(letters), max(1, (width - 5) // _CELL)
    others = {(pair.first, pair.second): pair.other.value for pair in task.pairs}
    lines = list[str]()
    for start in range(0, len(names), across):
        columns = range(start, min(start + across, len(names)))
        lines += ["   " + "".join(f"{letters[names[column]]:>{_CELL}}" for column in columns)]
        for row, name in enumerate(names):
            cells = [
                f"{task.matrix[row][column]:.2f}"
                if column < row
                else "."
                if column == row
                else f"{100 * others[name, names[column]]:.1f}"
                for column in columns
            ]
            lines.append(f"{letters[name]:>3}" + "".join(f"{cell:>{_CELL}}" for cell in cells))
    return lines


def tree(joins: Sequence[Join], names: Sequence[str], width: int) -> list[str]:
    """A dendrogram that grows to the right, a line a leaf with one between, and under it the heights."""
    highest = joins[-1].height or 1.0
    order = joins[-1].left + joins[-1].right
    rows: dict[tuple[int, ...], int] = {(leaf,): 2 * place for place, leaf in enumerate(order)}
    starts = dict.fromkeys(rows, 0)
    grid = [[" "] * (width + 1) for _ in range(2 * len(order) - 1)]
    for join in joins:
        at = round(width * join.height / highest)
        upper, lower = sorted((join.left, join.right), key=lambda group: rows[group])
        for group, corner in ((upper, "┐"), (lower, "┘")):
            row = grid[rows[group]]
            row[starts[group] : at] = ["─"] * (at - starts[group])
            row[at] = corner
        for between in range(rows[upper] + 1, rows[lower]):
            grid[between][at] = "│"
        joined = join.left + join.right
        rows[joined], starts[joined] = (rows[upper] + rows[lower]) // 2, at + 1
        grid[rows[joined]][at] = "├" if at < width else "│"
    labels = {2 * place: names[leaf] for place, leaf in enumerate(order)}
    lines = [f"{labels.get(row, ''):>3} {''.join(cells)}".rstrip() for row, cells in enumerate(grid)]
    return [*lines, f"    0{f'{highest:.2f}':>{width}}"]


def _pairs(task: TaskDistances, letters: Mapping[str, str], space: str) -> Table:
    table = light_table()
    table.add_column("pair", no_wrap=True)
    for heading in ("STARC", "other %", f"{task.metric}{' %' if _is_percent(task) else ''}", "phi", "kappa"):
        table.add_column(heading, justify="right", overflow="fold")
    table.add_column("beyond", justify="right", no_wrap=True)
    for pair in sorted(task.pairs, key=lambda one: one.starc.value)[:_PAIRS]:
        errors = pair.errors
        table.add_row(
            f"{letters[pair.first]} {letters[pair.second]}",
            _interval(pair.starc, space),
            _interval(pair.other, space, percent=True, digits=0),
            _change(pair.difference, task, space),
            "-" if errors is None else _interval(errors.phi, space),
            "-" if errors is None or math.isnan(errors.kappa.value) else f"{errors.kappa.value:.2f}",
            _beyond(pair),
        )
    return table


def _beyond(pair: PairOfModels) -> str:
    if pair.errors is None or math.isnan(pair.errors.beyond):
        return "-"
    return f"{pair.errors.beyond:.2f}{'*' if pair.errors.beyond_p_holm < 0.05 else ' '}"


def _sentences(task: TaskDistances, letters: Mapping[str, str]) -> list[str]:
    """What the pairs come to."""
    lines = []
    if len(task.pairs) > _PAIRS:
        lines.append(f"The nearest {_PAIRS} of {len(task.pairs):,} pairs; --json and --csv have all.")
    alike = [
        f"{letters[pair.first]} and {letters[pair.second]} ({100 * pair.other.value:.1f} % of prompts)"
        for pair in task.underspecified
    ]
    if alike:
        more = f" and {len(alike) - _NAMED} more" if len(alike) > _NAMED else ""
        lines.append(
            f"Not told apart by {task.metric}, and yet other responses selected: {', '.join(alike[:_NAMED])}{more}."
        )
    if task.dependence is not None:
        lines += _dependence(task, task.dependence, letters)
    return lines


def _dependence(task: TaskDistances, found: Dependence, letters: Mapping[str, str]) -> list[str]:
    asked = f"Do errors go together? {found.examples:,} examples"
    if math.isnan(found.cd):
        return [f"{asked}: a model is never wrong, or always, so CD has no number."]
    line = f"{asked}: CD {found.cd:.1f}, p {p_value(found.cd_p)}, which counts what is hard for all"
    if not math.isnan(found.star):
        line += f"; beyond a common factor CD* {found.star:.1f} (theta {found.theta:.2f}), p "
        if not math.isnan(found.star_p_drawn):
            line += f"{p_value(found.star_p_drawn)} by draws of the fitted difficulty, "
        line += f"{p_value(found.star_p)} as if models were many"
    line += "."
    told = [
        f"{letters[pair.first]} and {letters[pair.second]} {errors.beyond:+.2f} (p {p_value(errors.beyond_p_holm)})"
        for pair in task.pairs
        if (errors := pair.errors) is not None and errors.beyond_p_holm < 0.05
    ]
    if told:
        return [
            line,
            f"Errors in common, more (+) or fewer (-) than difficulty explains, after Holm: {', '.join(told)}.",
        ]
    if any(pair.errors is not None and not math.isnan(pair.errors.beyond_p) for pair in task.pairs):
        return [line, "No pair is told to have errors in common beyond difficulty."]
    return [line, "Which pairs have errors in common beyond difficulty takes five models or more to say."]


def _conflicts(task: TaskDistances, letters: Mapping[str, str]) -> Table:
    table = light_table()
    for heading in ("model", "heads or aspects"):
        table.add_column(heading, overflow="fold")
    table.add_column("pairs in the opposite order %", justify="right", no_wrap=True)
    for name, letter in letters.items():
        own = [conflict for conflict in task.conflicts if conflict.model == name]
        for conflict in own[:_CONFLICTS]:
            both = f"{conflict.first}, {conflict.second}"
            table.add_row(letter, plain(both), _interval(conflict.opposite, " ", percent=True, digits=1))
        if len(own) > _CONFLICTS:
            table.add_row(letter, f"and {len(own) - _CONFLICTS} pairs less at odds", "")
    return table


def _ensemble(task: TaskDistances, ensemble: Membership) -> str:
    above = ensemble.above_best
    return (
        f"Ensemble of all, the mean of rewards over their SD within prompts: {task.metric} "
        f"{number(ensemble.value, task.kind)}; less {ensemble.best}, the best: {_change(above, task, ' ')}, "
        f"p {p_value(above.p)}. "
        "Each alone, all without it, and what it adds to those and to the best; phi with the others."
    )


def _members(task: TaskDistances, ensemble: Membership, letters: Mapping[str, str], space: str) -> Table:
    table = light_table()
    table.add_column("", no_wrap=True)
    for heading in ("alone", "without it", "it adds", "Holm", "to the best", "Holm"):
        table.add_column(heading, justify="right", overflow="fold")
    table.add_column("phi", justify="right", overflow="fold")
    for member in ensemble.members:
        phi = task.mean_phi(member.model)
        table.add_row(
            letters[member.model],
            number(member.alone, task.kind),
            number(member.without, task.kind),
            _change(member.added, task, space),
            p_value(member.added_p_holm),
            _change(member.to_best, task, space),
            "-" if member.to_best is None else p_value(member.to_best_p_holm),
            "-" if math.isnan(phi) else f"{phi:.2f}",
        )
    return table


def _interval(figure: Figure, space: str, *, percent: bool = False, digits: int = 2) -> str:
    if math.isnan(figure.value):
        return "-"
    value, low, high = ((100 if percent else 1) * end for end in (figure.value, figure.low, figure.high))
    interval = "" if math.isnan(low) else f"{space}[{low:.{digits}f}, {high:.{digits}f}]"
    return f"{value:.{digits}f}{interval}"


def _change(change: Difference | None, task: TaskDistances, space: str) -> str:
    if change is None or math.isnan(change.value):
        return NOTHING
    return f"{number(change.value, task.kind)}{ends(change.ci_low, change.ci_high, task.kind, space)}"


def _is_percent(task: TaskDistances) -> bool:
    return task.kind != "number"
