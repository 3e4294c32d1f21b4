"""The protocol of a policy: a language model, or a file of what one wrote, that answers prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from rmbench.types import Message, Response


@dataclass(frozen=True, slots=True)
class Generation:
    """One response to ask for. `sample` counts the samples of a prompt from 0, `cap` is the most tokens it may have.

    `sampling` holds what else decides the text: temperature, top_p, seed, ...
    """

    prompt: tuple[Message, ...]
    sample: int = 0
    cap: int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Policy(Protocol):
    """`generate` yields (index into `generations`, response) in any order, each index once."""

    @property
    def fingerprint(self) -> str | None:
        """None: kept in this run's journal only, never in the shared store."""

    def generate(self, generations: Sequence[Generation]) -> Iterator[tuple[int, Response]]: ...
