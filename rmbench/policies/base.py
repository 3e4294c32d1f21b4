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
    """`generate` yields (index into `generations`, response) in any order, each index once.

    Where a policy has a `subject` (`rmbench.models.base.Subject`) and a `unit`, a text that says what its `tokens`
    count, results tell them.
    """

    @property
    def fingerprint(self) -> str | None:
        """None: kept in this run's journal only, never in the shared store."""

    def generate(self, generations: Sequence[Generation]) -> Iterator[tuple[int, Response]]: ...


@dataclass(frozen=True, slots=True)
class Options:
    """How to load a policy. A kind uses the options that mean something to it; None leaves the choice to it.

    `token_budget` is tokens in a batch, prompt and cap together; `count_with` names the tokenizer, a hub id or a
    folder, that counts texts which bring no counts of their own.
    """

    revision: str | None = None
    device: str | None = None
    dtype: str | None = None
    template: str | None = None
    trust_remote_code: bool = False
    token_budget: int | None = None
    count_with: str | None = None
