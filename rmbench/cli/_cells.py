"""What stands in the cells of the tables of `compare`, `distances`, `correlate` and `overoptimize`, and their form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from rmbench.metrics.interval import Kind

NOTHING = "-"
_UNBOUND = 10_000  # columns, more than any table has


def p_value(p: float | None, equals: str = "") -> str:
    """A p in three characters or more, `equals` before it where nothing else tells what it is."""
    if p is None or math.isnan(p):
        return f"{equals}{NOTHING}"
    if p < 0.0001:
        return "< 0.0001"
    return f"{equals}{p:.4f}" if p < 0.01 else f"{equals}{p:.2f}"


def number(value: float | None, kind: Kind) -> str:
    """A figure, in percent where it is a share."""
    if value is None or math.isnan(value):
        return NOTHING
    if kind != "number":
        return f"{100 * value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def ends(low: float, high: float, kind: Kind, before: str = " ") -> str:
    """The interval of a figure behind it and `before`; nothing where it is open."""
    return "" if math.isnan(low) else f"{before}[{number(low, kind)}, {number(high, kind)}]"


def letter_of(place: int, first: str = "A", beyond: str = "M") -> str:
    """What stands for a long name in a table: the 26 from `first` on, then M27 and so on."""
    return chr(ord(first) + place) if place < 26 else f"{beyond}{place + 1}"


def light_table(*, wide: bool = True) -> Table:
    """A table with a line below its headings alone."""
    from rich import box
    from rich.table import Table

    return Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1 if wide else 0))


def width_of(console: Console, table: Table) -> int:
    """How many columns a table takes where nothing is cut or folded."""
    return console.measure(table, options=console.options.update(max_width=_UNBOUND)).maximum


def print_fitting(console: Console, make: Callable[[str], Table]) -> None:
    """The table that `make` gives with " " between what belongs together; with a line break where it is too wide."""
    table = make(" ")
    console.print(table if width_of(console, table) <= console.width else make("\n"))
