"""A family that can be imported, and whose rewards depend on who is beside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rmbench.types import Ask, Request, Reward

SOURCE = "none"
OPTIONS: dict[str, Any] = {}


class Promise:
    """Rates by place."""

    answers: frozenset[Ask] = frozenset({"reward"})
    fingerprint = "promise:1"

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
        """One a request."""
        for index, _ in enumerate(requests):
            yield index, Reward((float(index),))


def open(source: str, options: Mapping[str, Any], revision: str | None) -> Promise:
    """The model."""
    return Promise()
