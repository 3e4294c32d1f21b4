"""Answers with what it was asked, in capitals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rmbench.models.base import Subject
from rmbench.types import GenerationRequest, Response

SOURCE = "none"
OPTIONS: dict[str, Any] = {}


class Shouting:
    """The same for everybody."""

    fingerprint = "shouting:1"
    subject = Subject("spelling/shouting", "shouting")

    def generate(self, requests: Sequence[GenerationRequest]) -> Iterator[tuple[int, Response]]:
        """One a request."""
        for index, request in enumerate(requests):
            yield index, Response(request.prompt[-1].text.upper(), finish="stop")


def open(source: str, options: Mapping[str, Any], revision: str | None = None) -> Shouting:
    """The policy."""
    return Shouting()
