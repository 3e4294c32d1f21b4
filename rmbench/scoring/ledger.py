"""What has been answered: rewards and responses go one way, from keys to what is known, to what is left, to disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rmbench.scoring.store import Store
from rmbench.scoring.usage import Progress, Usage
from rmbench.scoring.writer import Writer

_Value = TypeVar("_Value")

REPLIES = 0.001  # seconds in which replies are committed together


@dataclass(frozen=True, slots=True)
class Codec(Generic[_Value]):
    """A kind of answer as JSON, and whether one would come out the same next time."""

    to_json: Callable[[_Value], Any]
    from_json: Callable[[Any], _Value]
    lasting: Callable[[_Value], bool]


class Ledger(Generic[_Value]):
    """What one model or policy has answered: in `store` where that may be kept, else here, as long as this lives.

    Without a store everything is remembered. With `fresh` what an earlier run kept is asked again, once.
    """

    def __init__(self, codec: Codec[_Value], store: Store | None, *, fresh: bool = False) -> None:
        self._codec, self._store, self._fresh = codec, store, fresh
        self._remembered: dict[bytes, _Value] = {}
        self._asked_again: set[bytes] = set()

    def known(self, keys: Sequence[bytes]) -> dict[bytes, _Value]:
        """The answers to `keys`, which stand in their order, that need not be asked for."""
        values = {key: self._remembered[key] for key in keys if key in self._remembered}
        if self._store is not None:
            wanted = (key for key in keys if key not in values and (not self._fresh or key in self._asked_again))
            damaged = 0
            for key, fields in self._store.find(wanted):
                try:
                    values[key] = self._codec.from_json(fields)
                except (TypeError, ValueError, AttributeError):  # a row that somebody wrote by hand
                    damaged += 1
            if damaged:
                self._store.tell_damaged(damaged)
        return values

    def run(
        self,
        answers: Generator[list[tuple[bytes, _Value]]],
        total: int,
        known: int,
        usage: Usage,
        progress: Progress | None,
        *,
        window: float | None = 0.0,
    ) -> dict[bytes, _Value]:
        """All of `answers`, each kept while the next is made; of `total` to run, when so many were `known`.

        Answers within `window` seconds share a commit (see `Writer`); where that is None each batch is committed before
        the next is asked for. An answer that may come out otherwise next time is remembered, so that nobody is asked
        twice in one run, and not kept.
        """
        values: dict[bytes, _Value] = {}
        if progress:
            progress.begin(total, known)
        started = time.perf_counter()
        try:
            # Closed here, since a traceback may hold the generator, and with it threads and memory
            with closing(answers), self._keeper(window) as keeper:
                for batch in answers:
                    values.update(batch)
                    handed = time.perf_counter()
                    kept = self._divided(batch, keeper is not None)
                    if keeper is not None:
                        keeper.put((key, self._codec.to_json(value)) for key, value in kept)
                        usage.keeping += time.perf_counter() - handed
                    if progress:
                        progress.advance(len(batch))
        finally:
            usage.seconds += time.perf_counter() - started
            if progress:
                progress.end()
        return values

    def _keeper(self, window: float | None) -> AbstractContextManager[Writer | Store | None]:
        """What takes the answers that are kept."""
        if self._store is None or window is None:
            return nullcontext(self._store)
        return Writer(self._store, window)

    def _divided(self, batch: Iterable[tuple[bytes, _Value]], keeps: bool) -> list[tuple[bytes, _Value]]:
        """What of a batch is for the store; the rest is remembered."""
        kept = []
        for key, value in batch:
            if keeps and self._codec.lasting(value):
                kept.append((key, value))
            else:
                self._remembered[key] = value
        if self._fresh:
            self._asked_again.update(key for key, _ in kept)
        return kept
