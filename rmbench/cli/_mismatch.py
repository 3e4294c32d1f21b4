"""What a benchmark ranks against what selection ranks, as it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from rmbench.cli._cells import ends, letter_of, light_table, number, p_value, print_fitting

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from rmbench.correlate.mismatch import Correlation, MismatchReport, Slice, Swap
    from rmbench.correlate.sides import Apart, Placed
    from rmbench.metrics.interval import Kind

_BESIDE, _RANK_WIDTH = 56, 4  # columns of a table of ranks beside its ranks, and of each
_SHOWN = 12  # swaps of a slice
_CHANCE = 0.05  # below it the p of a swap that Holm does not let stand is said
_CAPTION = (
    "picked, and each facet=value: the label of the response that a reward picks out of a pool, beside chance and "
    "oracle. r: Pearson, rho: Spearman over models, [ ] 95 % over models and examples. swaps: pairs of models in the "
    "other order than on the benchmark, in brackets those told from chance: both differences tested over the same "
    "examples, Holm over every pair of every slice. cost: how far the benchmark's first model is below the first here, "
    "which owes some of it to having been picked. Of a rank, [ ] is what tests between all models, after Holm, leave "
    "open."
)


def print_mismatch(report: MismatchReport, console: Console) -> None:
    """What the benchmark ranks, a table of slices, one of ranks, and the pairs that swap."""
    from rmbench.cli._report import plain, print_note

    unit = " %" if report.kind != "number" else ""
    head = f"{report.metric}{unit}: {report.title}; {len(report.models)} models, {report.examples:,} examples"
    console.print(f"[bold]{plain(report.benchmark)}[/]  {plain(head)}", highlight=False)
    print_fitting(console, partial(_slices, report.slices))
    reasons: dict[str, list[str]] = {}
    for letter, one in zip(_letters(report.slices), report.slices, strict=True):
        if one.reason:
            reasons.setdefault(one.reason, []).append(letter)
    for reason, letters in reasons.items():
        which = "everywhere" if len(letters) == len(report.slices) else ", ".join(letters)
        print_note(console, f"-: {reason}: {which}")
    at_once = max(1, (console.width - _BESIDE) // _RANK_WIDTH)
    for start in range(0, len(report.slices), at_once):
        console.print(_ranks(report, slice(start, start + at_once)))
    for letter, one in zip(_letters(report.slices), report.slices, strict=True):
        for line in _told(letter, one, report):
            print_note(console, line)
    for line in report.left_out:
        print_note(console, line)
    print_note(console, _CAPTION, indent="")


def _letters(slices: Sequence[Slice]) -> list[str]:
    return [letter_of(place, "a", "s") for place in range(len(slices))]


def _slices(slices: Sequence[Slice], space: str) -> Table:
    from rmbench.cli._report import plain

    wide = space == " "
    table = light_table(wide=wide)
    table.add_column("", no_wrap=True)
    table.add_column("what is ranked", overflow="fold")
    headings = ("n", "chance", "oracle", "r", "rho", "tau", "swaps", "cost")
    for heading in headings if wide else ("n", "chance\noracle", "r\nrho", "swaps", "cost"):
        table.add_column(heading, justify="right", no_wrap=True)
    for letter, one in zip(_letters(slices), slices, strict=True):
        told = sum(swap.is_told for swap in one.swaps)
        rulers = [number(one.chance, one.kind), number(one.oracle, one.kind)]
        correlations = [_correlation(one.pearson), _correlation(one.spearman)]
        tau = "-" if one.kendall is None else f"{one.kendall:.2f}"
        table.add_row(
            letter,
            space.join(map(plain, (one.task, one.name))),
            f"{one.examples:,}",
            *([*rulers, *correlations, tau] if wide else ["\n".join(rulers), "\n".join(correlations)]),
            f"{len(one.swaps)} \\[{told}]{space}of {one.pairs}",
            "0" if one.cost.value == 0 else _apart(one.cost, one.kind, space),
        )
    return table


def _ranks(report: MismatchReport, some: slice) -> Table:
    """Each model's figure and rank on the benchmark, and its rank on some of the slices."""
    from rmbench.cli._report import plain

    table = light_table()
    table.add_column("model", overflow="fold")
    table.add_column(plain(report.metric), justify="right", no_wrap=True)
    table.add_column("rank", justify="right", no_wrap=True)
    for letter in _letters(report.slices)[some]:
        table.add_column(letter, justify="right", no_wrap=True)
    for model, placed in report.models.items():
        elsewhere = [_rank(one.models.get(model)) for one in report.slices[some]]
        table.add_row(plain(model), number(placed.value, report.kind), _open_rank(placed), *elsewhere)
    return table


def _told(letter: str, one: Slice, report: MismatchReport) -> list[str]:
    """The pairs that swap, those that are told from chance first and with their differences."""
    told = [swap for swap in one.swaps if swap.is_told]
    lines = [f"{letter}: {_swap(swap, one.kind, report.kind)}" for swap in told[:_SHOWN]]
    others = [
        f"{swap.above} > {swap.below}{f' (p {p_value(swap.p)})' if swap.p < _CHANCE else ''}"
        for swap in one.swaps
        if swap not in told[:_SHOWN]
    ]
    if others:
        more = f" and {len(others) - _SHOWN} more, which --json has" if len(others) > _SHOWN else ""
        among = "not told from chance" if len(told) <= _SHOWN else "further"
        lines.append(f"{letter}: swapped, {among}: {', '.join(others[:_SHOWN])}{more}")
    return lines


def _swap(swap: Swap, kind: Kind, benchmark: Kind) -> str:
    before, here = swap.benchmark, swap.slice
    return (
        f"{swap.above} above {swap.below} by {_apart(before, benchmark)} on the benchmark, "
        f"{_apart(here, kind)} here, p {p_value(swap.p)} ({p_value(swap.p_holm)} after Holm)"
    )


def _apart(apart: Apart, kind: Kind, space: str = " ") -> str:
    return f"{number(apart.value, kind)}{ends(apart.low, apart.high, kind, space)}"


def _correlation(found: Correlation | None) -> str:
    return "-" if found is None else f"{found.value:.3f} \\[{found.low:.2f}, {found.high:.2f}]"


def _rank(placed: Placed | None) -> str:
    return "-" if placed is None else str(placed.rank.rank)


def _open_rank(placed: Placed) -> str:
    rank = placed.rank
    return f"{rank.rank} \\[{rank.low}]" if rank.low == rank.high else f"{rank.rank} \\[{rank.low}, {rank.high}]"
