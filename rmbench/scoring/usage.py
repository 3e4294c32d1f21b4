"""What scoring tells while it runs, and what it took."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol


class Progress(Protocol):
    """Told how scoring goes: how many are to run and were known, how many each batch or reply answered, the end.

    One that has a method `busy(what)` is told of the waits before that too, as while weights are loaded: it gives a
    context in which these are.
    """

    def begin(self, total: int, known: int) -> None: ...

    def advance(self, sequences: int) -> None: ...

    def end(self) -> None: ...


def busy(progress: Progress | None, what: str) -> AbstractContextManager[object]:
    """A context that tells `progress`, where it wants to know, that something goes on that takes a while."""
    tell = getattr(progress, "busy", None)
    return nullcontext() if tell is None else tell(what)


@dataclass
class Usage:
    """What scoring took, in sequences, tokens and seconds.

    `requests` were asked, of which `unique` differ and `stored` were known; `shared` of those that differ were asked by
    another task of the run before. `scored` were run now, in `batches` forwards that took `seconds` and read `tokens`
    tokens, padding not counted. Of these, scoring waited `keeping` seconds for the store. `ways` counts the sequences
    that were run in each way: shared, packed, padded.
    """

    requests: int = 0
    unique: int = 0
    shared: int = 0
    stored: int = 0
    scored: int = 0
    batches: int = 0
    tokens: int = 0
    seconds: float = 0.0
    keeping: float = 0.0
    token_budget: int | None = None
    ways: dict[str, int] = field(default_factory=dict)
