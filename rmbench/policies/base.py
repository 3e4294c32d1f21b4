"""The protocol of a policy: a language model, or a file of what one wrote, that answers prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rmbench.types import GenerationRequest, Response


@runtime_checkable
class Policy(Protocol):
    """`generate` yields (index into `requests`, response) in any order, each index once.

    Where a policy has a `subject` (`rmbench.models.base.Subject`) and a `unit`, a text that says what its `tokens`
    count, results tell them.
    """

    @property
    def fingerprint(self) -> str | None:
        """None: kept in this run's journal only, never in the shared store."""

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, Response]]: ...


@runtime_checkable
class StartablePolicy(Protocol):
    """What a kind opens without loading weights: a Policy to be. Leaving the context lets go of it."""

    @property
    def fingerprint(self) -> str | None: ...

    def started(self, device: str | None = None) -> AbstractContextManager[Policy]: ...


OpenedPolicy = Policy | StartablePolicy


@dataclass(frozen=True, slots=True)
class Options:
    """How to load a policy. A kind uses the options that mean something to it; None leaves the choice to it.

    `token_budget` is tokens in a batch, prompt and cap together.
    """

    revision: str | None = None
    device: str | None = None
    dtype: str | None = None
    template: str | None = None
    trust_remote_code: bool = False
    token_budget: int | None = None
