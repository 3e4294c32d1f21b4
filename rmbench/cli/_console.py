"""Where tables are printed."""

from __future__ import annotations

import os

from rich.console import Console

_PIPED_WIDTH = 120


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """What was raised goes on to `main`, where rich would end the process with a code of its own."""
        raise  # noqa: PLE0704 - called while the error is handled


def terminal(piped: int = _PIPED_WIDTH) -> Console:
    """As wide as the terminal that one sits at, or as COLUMNS says; else `piped`: rich's guess, 80, folds names."""
    made = _Console()
    columns = os.environ.get("COLUMNS", "")
    told = made.is_terminal or any(map(os.isatty, (0, 2))) or (columns.isascii() and columns.isdigit())
    return made if told else _Console(width=piped)
