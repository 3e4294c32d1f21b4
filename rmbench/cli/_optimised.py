"""What optimising does, on a terminal: one table of rewards and rulers, what choosing does, and what differs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from rmbench.cli._cells import NOTHING, light_table, width_of
from rmbench.cli._console import terminal
from rmbench.cli._report import plain, print_note
from rmbench.metrics.curve import Curve, Figure
from rmbench.optimise.report import Contrast, Entrant, OptimisationReport

_PIPED = 100
_SHOWN = 12  # contrasts
_FAR = 1e6  # an n that nobody draws
_NAME = 16  # columns that a name has at least
_GROUP = 8  # of the sign flips that are shown
_WORDS = {
    "gold_at_best": "{first} above {second} in gold at its best n: {size}",
    "gold_at_end": "{first} above {second} in gold at n = {end}: {size}",
    "degree": "{first} loses more than {second} beyond its best n: {size}",
    "optimum": "{first} has its best n later than {second}: {size} doublings",
}
_HOW_TO_READ = (
    "best n: where gold is highest when the best of n is taken by the reward, [ ] 95 % interval over prompts; lost: "
    "gold there less gold at the largest n.",
    "turns over: gold falls beyond its best n, p < .05 though that n was chosen by looking; still rises: the last "
    "doubling of n helps; level: neither, to within a tenth of gold's SD within prompts; open: the samples do not say.",
    "rises: what the reward gains from its best n to the largest, in its SD within prompts; poor wins: a poor sample "
    "is chosen; good loses: a poor one stands above a good one, both at the largest n, of prompts that have both.",
    "signs: advantages in groups of {group} whose sign is not gold's (by the reward's own noise, where it tells its "
    "doubt); within: share of the reward's variance within prompts; likely: how the reward goes with likelihood among "
    "good samples; optimum n: where the fits d(a - b d) | d(a - b log d) are highest, which gold need not follow, * "
    "beyond what was seen, never: the fit only rises.",
)
Columns = Mapping[str, Callable[[Entrant], str]]


def print_optimised(report: OptimisationReport, console: Console | None = None) -> None:
    """The data, the table of rewards above rulers, what choosing by each does, contrasts, and how to read it."""
    console = console or terminal(_PIPED)
    for line in _heading(report):
        print_note(console, line, indent="")
    _print_table(console, _headline(report), report.entrants, _rulers(report))
    _print_table(console, _beside(report), report.entrants, [])
    for line in _useful(report):
        print_note(console, line)
    for line in _contrasts(report):
        print_note(console, line)
    for line in [*report.notes, *_left_out(report), *_HOW_TO_READ]:
        print_note(console, line.format(group=_group(report)) if "{group}" in line else line)


def _heading(report: OptimisationReport) -> list[str]:
    fewest, most = report.samples
    samples = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    policy = f" of {report.policy}" if report.policy else ""
    clusters = "" if report.clusters == report.prompts else f" in {report.clusters:,} clusters"
    prompts = f"{report.prompts:,} prompt{'' if report.prompts == 1 else 's'}"
    first = f"{report.task} v{report.version}  {prompts}{clusters}, {samples} samples each{policy}"
    good = f"; a good one is {report.good}" if report.good else ""
    return [first, f"gold: {report.gold}; of a random sample {_cell(report.random, _percent(report))}{good}"]


def _percent(report: OptimisationReport) -> float:
    """What gold is multiplied by to be told."""
    return 100.0 if report.is_share else 1.0


def _headline(report: OptimisationReport) -> Columns:
    percent = _percent(report)
    unit, end = " %" if report.is_share else "", report.sizes[-1]
    return {
        "reward": lambda entrant: entrant.title,
        f"gold at best n{unit}": lambda entrant: _cell(entrant.gold_at_best, percent),
        "best n": lambda entrant: _cell(entrant.best_n, 1, 0),
        f"at n = {end}{unit}": lambda entrant: _cell(entrant.gold_at_end, percent),
        "lost": lambda entrant: _cell(entrant.degree, percent),
        "verdict": lambda entrant: f"{entrant.verdict}{_p(entrant.turns_over_p)}",
    }


def _rulers(report: OptimisationReport) -> list[list[str]]:
    """Rows of what needs no reward."""
    curves = {
        "oracle": report.oracle,
        f"oracle, label noise {report.label_noise:g}": report.noisy_oracle,
        "majority": report.majority,
    }
    percent, rows = _percent(report), []
    for name, curve in curves.items():
        if curve is not None:
            best = max(range(len(curve.value)), key=curve.value.__getitem__)
            numbers = [_cell(_at(curve, best), percent), f"{curve.at[best]:g}", _cell(_at(curve, -1), percent)]
            rows.append([name, *numbers, "", ""])
    return [*rows, ["random sample", _cell(report.random, percent), "", _cell(report.random, percent), "", ""]]


def _beside(report: OptimisationReport) -> Columns:
    """What choosing by each reward does; columns that no reward has anything in are left out."""
    group = _group(report)
    columns: dict[str, Callable[[Entrant], str]] = {
        "reward": lambda entrant: entrant.title,
        "rises, SD": lambda entrant: _number(entrant.proxy_rise, 1, 2),
        "poor wins %": lambda entrant: _last(entrant.poor_wins),
        "good loses %": lambda entrant: _last(entrant.good_loses),
        "signs %": lambda entrant: _flips(entrant, group),
        "within %": lambda entrant: _number(entrant.variance_within, 100),
        "likely": lambda entrant: NOTHING if entrant.rank_bias is None else _number(entrant.rank_bias, 1, 2),
        "optimum n": lambda entrant: " | ".join(_optimum(entrant, at) for at in range(len(entrant.fits))),
    }
    cells = {name: [cell(entrant) for entrant in report.entrants] for name, cell in columns.items()}
    return {name: columns[name] for name, values in cells.items() if set(values) != {NOTHING}}


def _print_table(console: Console, columns: Columns, entrants: Sequence[Entrant], rulers: list[list[str]]) -> None:
    """One row a reward, then the rulers below a line; where there is no room an interval stands below its number."""
    rows = [[cell(entrant) for cell in columns.values()] for entrant in entrants]
    wide = _table([*columns], [rows, rulers], " ")
    if width_of(console, wide) <= console.width:
        console.print(wide)
        return
    unnamed = _table([*columns], [[["", *row[1:]] for row in group] for group in (rows, rulers)], "\n")
    room = console.width - width_of(console, unnamed) + _NAME
    named = [[[_broken(row[0], max(room, _NAME)), *row[1:]] for row in group] for group in (rows, rulers)]
    console.print(_table([*columns], named, "\n"))


def _broken(name: str, room: int) -> str:
    """A name in lines of at most `room` columns, broken behind what joins its words where that can be."""
    lines = [""]
    for word in re.findall(r"[^-/_ ]*[-/_ ]|[^-/_ ]+", name):
        if lines[-1] and len(lines[-1]) + len(word.rstrip()) > room:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.rstrip() for line in lines)


def _table(headings: Sequence[str], groups: Sequence[list[list[str]]], space: str) -> Table:
    table = light_table(wide=space == " ")
    for at, heading in enumerate(headings):
        shown = heading if space == " " or not at else heading.replace(" ", "\n", heading.count(" ") > 0)
        table.add_column("\n".join(map(plain, shown.split("\n"))), justify="right" if at else "left", overflow="fold",
                         no_wrap=at > 0, min_width=0 if at else _NAME)  # fmt: skip
    for group in groups:
        for row in group:
            cells = [cell.replace(" [", f"{space}[").replace(" (p", f"{space}(p") for cell in row]
            table.add_row(*("\n".join(map(plain, cell.split("\n"))) for cell in cells))
        table.add_section()
    return table


def _contrasts(report: OptimisationReport) -> list[str]:
    """The differences that hold after Holm's adjustment, those of the least p first."""
    if not report.contrasts:
        return []
    told = sorted((one for one in report.contrasts if one.p_holm < 0.05), key=lambda one: one.p_holm)
    among = f"p < .05 after Holm over {len(report.contrasts):,} paired differences"
    if not told:
        return [f"no difference between rewards has {among}"]
    more = len(told) - _SHOWN
    lines = [f"differences between rewards, {among}:"]
    lines += [f"  {_contrast(one, report)}" for one in told[:_SHOWN]]
    return lines + ([f"  and {more:,} more, which --json has"] if more > 0 else [])


def _contrast(contrast: Contrast, report: OptimisationReport) -> str:
    names, change = (contrast.first, contrast.second), contrast.difference
    value, low, high = change.value, change.low, change.high
    if value < 0:
        names, value, low, high = names[::-1], -value, -high, -low
    factor = 1.0 if contrast.figure == "optimum" else _percent(report)
    size = f"{_cell(Figure(value, low, high), factor)}{' points' if factor > 1 else ''}"
    words = {"first": names[0], "second": names[1], "size": size, "end": report.sizes[-1]}
    return f"{_WORDS[contrast.figure].format(**words)}, p{_equals(contrast.p_holm)}"


def _useful(report: OptimisationReport) -> list[str]:
    """One line a member: between which of its rewards choosing by it alone helps."""
    lines: dict[str, str] = {}
    for entrant in report.entrants:
        for one in entrant.useful:
            end = ", and on" if one.is_open else f", where gold is highest (n = {one.best_n})"
            said = f"useful range of {one.member}: its rewards from {one.low:.3g} to {one.high.value:.3g}{end}"
            said = f"useful range of {one.member}: none, choosing by it never helps" if one.best_n == 1 else said
            lines.setdefault(said, f"{said} (in {entrant.title})")
    return [*lines.values()]


def _left_out(report: OptimisationReport) -> list[str]:
    told = ", ".join(f"{reason} {count:,}" for reason, count in report.left_out.items())
    return [f"prompts left out: {told}"] if told else []


def _group(report: OptimisationReport) -> int:
    sizes = [flip.size for entrant in report.entrants for flip in entrant.sign_flips]
    return max((size for size in sizes if size <= _GROUP), default=_GROUP)


def _flips(entrant: Entrant, group: int) -> str:
    """Against gold, and in brackets by the reward's own noise where that is known."""
    flip = next((one for one in entrant.sign_flips if (one.size, one.baseline) == (group, "mean")), None)
    if flip is None:
        return NOTHING
    noise = "" if math.isnan(flip.by_noise.value) else f" ({_number(flip.by_noise, 100)})"
    return f"{_number(flip.against_gold, 100)}{noise}"


def _optimum(entrant: Entrant, at: int) -> str:
    fit = entrant.fits[at]
    value = fit.optimum_n.value
    if math.isnan(value):
        return NOTHING
    told = "never" if math.isinf(value) else f"{value:,.0f}" if value <= _FAR else f">{_FAR:.0e}".replace("+0", "")
    return f"{told}{'*' if fit.is_extrapolated and not math.isinf(value) else ''}"


def _last(curve: Curve | None) -> str:
    return NOTHING if curve is None else _number(_at(curve, -1), 100)


def _at(curve: Curve, place: int) -> Figure:
    return Figure(curve.value[place], curve.low[place], curve.high[place])


def _number(figure: Figure, factor: float, digits: int = 1) -> str:
    return NOTHING if math.isnan(figure.value) else f"{factor * figure.value:.{digits}f}"


def _cell(figure: Figure, factor: float, digits: int | None = None) -> str:
    """A number with its interval."""
    if math.isnan(figure.value):
        return NOTHING
    shown = digits if digits is not None else 1 if factor > 1 else 2
    value, low, high = (f"{factor * end:.{shown}f}" for end in (figure.value, figure.low, figure.high))
    return value if math.isnan(figure.low) else f"{value} [{low}, {high}]"


def _p(p: float) -> str:
    return "" if math.isnan(p) else f" (p{_equals(p)})"


def _equals(p: float) -> str:
    return " < .001" if p < 0.001 else f" = {p:.3f}" if p < 0.1 else f" = {p:.2f}"
