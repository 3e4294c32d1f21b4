"""A reward for capitals, `weight` for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rmbench.models.base import Option, Subject
from rmbench.types import Ask, Request, Reward

SOURCE = "none"
OPTIONS = {"weight": Option("what a capital is worth", int, 1)}


class Capitals:
    """Counts them."""

    answers: frozenset[Ask] = frozenset({"reward"})

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.fingerprint = f"capitals:1:{weight}"
        self.subject = Subject("spelling/capitals", "capitals", settings={"weight": weight})

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
        """One a request."""
        for index, request in enumerate(requests):
            count = sum(letter.isupper() for letter in request.responses[0].text or "")
            yield index, Reward((float(self.weight * count),))


def open(source: str, options: Mapping[str, Any], revision: str | None) -> Capitals:
    """The model."""
    return Capitals(options["weight"])
