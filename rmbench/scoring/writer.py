"""Answers on their way to a store: another thread commits them, so that a forward never waits for the disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from rmbench.scoring.store import Store


class Writer:
    """Commits what it is given, in the order it came, until its `with` block ends; then everything is committed.

    Without a `window`, as for forward batches, each `put` is a transaction, and `put` waits for the one before it: at
    most one batch is in flight while the next is made. With a window, in seconds, as for replies that come one by one,
    those within it are committed together when it is over; a reply that comes later than that after the last commit is
    committed before `put` returns. So a slow model never waits for more than one commit a reply, a fast one for one a
    window, and a kill loses what came within a window.

    What `Store.put` raises stops the next `put`, or the end of the block. The store is the writer's meanwhile.
    """

    def __init__(self, store: Store, window: float = 0.0) -> None:
        self._store, self._window = store, window
        self._changed = threading.Condition()
        self._waiting: list[tuple[bytes, Any]] = []
        self._writing = self._urgent = self._closed = False
        self._due = 0.0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="rmbench-store")

    def put(self, values: Iterable[tuple[bytes, Any]]) -> None:
        """Takes JSON-able values. Raises what committing these, or some before them, raised."""
        with self._changed:
            if not self._window:
                self._changed.wait_for(self._idle)
            self._check()
            idle = not self._waiting
            self._waiting.extend(values)
            late = time.monotonic() >= self._due
            self._urgent |= late
            if idle or late:  # within a window the thread has nothing to hear of
                self._changed.notify_all()
            if late and self._window:
                self._changed.wait_for(self._idle)
                self._check()

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        if error is None:
            self._check()

    def _idle(self) -> bool:
        return self._error is not None or not (self._waiting or self._writing)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while self._error is None:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                self._changed.wait_for(lambda: self._urgent or self._closed, timeout=self._due - time.monotonic())
                values, self._waiting = self._waiting, []
                self._writing, self._urgent = True, False
            error: BaseException | None = None
            try:
                self._store.put(values)
            except BaseException as raised:  # whatever it is, the run has to hear of it
                error = raised
            with self._changed:
                self._writing, self._error = False, error
                self._due = time.monotonic() + self._window
                self._changed.notify_all()
