"""The protocol of a policy: a language model, or a file of what one wrote, that answers prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from rmbench.models.base import Subject
from rmbench.types import GenerationRequest, Response


@runtime_checkable
class Policy(Protocol):
    """`generate` yields (index into `requests`, response) in any order, each index once.

    Where a policy has a `subject` (`rmbench.models.base.Subject`) and a `unit`, a text that says what its `tokens`
    count, results tell them.
    """

    @property
    def fingerprint(self) -> str | None:
        """None: nothing tells its texts apart from another's, so they are remembered within one call only."""

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, Response]]: ...


@runtime_checkable
class OpenedPolicy(Protocol):
    """A policy at rest, known without its weights; `started` loads them and gives the policy to write."""

    subject: Subject
    fingerprint: str

    def started(self, device: str | None = None) -> AbstractContextManager[Policy]: ...
