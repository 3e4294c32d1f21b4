"""A task's card in a terminal."""

from __future__ import annotations

from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markdown import Markdown, TableElement
from rich.measure import Measurement
from rich.table import Table

_BETWEEN = 3  # columns of the screen, of two of a table


class _Named(TableElement):
    """A table whose first column holds names. Where it is too wide, the others fold between words, and names get the
    rest of the room, folded where they are still longer, and never cut.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for table in super().__rich_console__(console, options):
            if isinstance(table, Table) and console.measure(table, options=options).maximum >= options.max_width:
                name, *others = table.columns
                room = options.max_width
                for column in others:
                    cells = [Measurement.get(console, options, cell) for cell in (column.header, *column.cells)]
                    column.width = max(cell.minimum for cell in cells)
                    room -= column.width + _BETWEEN
                longest = max(console.measure(cell, options=options).maximum for cell in (name.header, *name.cells))
                name.width, name.overflow = min(longest, max(room - _BETWEEN, 1)), "fold"
            yield table


class _Card(Markdown):
    elements: ClassVar = {**Markdown.elements, "table_open": _Named}


def card(body: str) -> RenderableType:
    """The Markdown of a card, its tables with whole names."""
    return _Card(body)
