"""How scoring goes: a live bar with sequences/s and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_UNTOLD = 2.0


class ConsoleProgress:
    """Writes to standard error, so that standard output holds results alone."""

    def __init__(self, model: str) -> None:
        self.model = model
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._total = self._done = 0
        self._started = self._told = 0.0

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Tells that `what` goes on, with the seconds that it takes so far, and how long it took if that was long."""
        started = time.monotonic()
        if sys.stderr.isatty():
            column = TimeElapsedColumn()
            with Progress(
                SpinnerColumn(), TextColumn("{task.description}", markup=False), column,
                console=Console(stderr=True), transient=True,
            ) as waiting:  # fmt: skip
                waiting.add_task(f"{self.model}: {what}", total=None)
                yield
            return
        late = threading.Timer(_SECONDS_UNTOLD, self._say, [f"{what} ..."])
        late.daemon = True
        late.start()
        try:
            yield
        finally:
            late.cancel()
        if time.monotonic() - started >= _SECONDS_UNTOLD:
            self._say(f"{what} took {time.monotonic() - started:,.1f} s")

    def begin(self, total: int, known: int) -> None:
        self._total, self._done = total, 0
        if known:
            self._say(f"{known:,} are known from before, {total:,} are left")
        self._started = self._told = time.monotonic()
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}", markup=False),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self.model, total=total, rate="")
            self._bar.start()

    def advance(self, sequences: int) -> None:
        self._done += sequences
        now = time.monotonic()
        if self._bar:
            self._bar.update(self._task, advance=sequences, rate=f"{self._rate(now):,.1f} sequences/s")
        elif now - self._told >= _SECONDS_BETWEEN_LINES:
            self._told = now
            left = (self._total - self._done) / max(self._rate(now), 1e-9)
            self._say(f"{self._done:,}/{self._total:,} sequences, {self._rate(now):,.1f}/s, {left:,.0f} s left")

    def end(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None
        now = time.monotonic()
        self._say(f"{self._done:,}/{self._total:,} sequences in {now - self._started:,.1f} s, {self._rate(now):,.1f}/s")

    def _rate(self, now: float) -> float:
        return self._done / max(now - self._started, 1e-9)

    def _say(self, text: str) -> None:
        print(f"{self.model}: {text}", file=sys.stderr, flush=True)
