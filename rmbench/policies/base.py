"""The protocol of a policy: a language model, or a file of what one wrote, that answers prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from rmbench.errors import UsageError
from rmbench.models.base import Subject
from rmbench.types import GenerationRequest, Response


@runtime_checkable
class Policy(Protocol):
    """`generate` yields (index into `requests`, response) in any order, each index once.

    Where a policy has a `subject` (`rmbench.models.base.Subject`) and a `unit`, a text that says what its `tokens`
    count, results tell them. One that cannot give the `top` that is asked for says so (`refuse_top`).
    """

    @property
    def fingerprint(self) -> str | None:
        """None: nothing tells its texts apart from another's, so they are remembered within one call only."""

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, Response]]: ...


def refuse_top(name: str, requests: Sequence[GenerationRequest]) -> None:
    """For policies that tell no log-probabilities. Raises UsageError where they are asked for."""
    if most := max((request.top for request in requests), default=0):
        raise UsageError(f"{name} tells no log-probabilities of tokens, and top={most} asks for them")


@runtime_checkable
class OpenedPolicy(Protocol):
    """A policy at rest, known without its weights; `started` loads them and gives the policy to write."""

    subject: Subject

    @property
    def fingerprint(self) -> str | None: ...

    def started(self, device: str | None = None) -> AbstractContextManager[Policy]: ...
