"""Baseline: minus the number of characters of the response, so the shorter answer always wins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rmbench.models.base import Option, Subject
from rmbench.types import Ask, Request, Reward

SOURCE = "none"
OPTIONS: Mapping[str, Option] = {}


class Shortest:
    """Rewards a response with minus its length in characters (Unicode code points)."""

    answers: frozenset[Ask] = frozenset({"reward"})
    fingerprint = "shortest:1"
    subject = Subject("rmbench/shortest", "shortest")

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
        for index, request in enumerate(requests):
            yield index, Reward((-float(len(request.responses[0].text or "")),))


def open(source: str, options: Mapping[str, Any], revision: str | None) -> Shortest:
    """The baseline; it has neither a source nor options."""
    return Shortest()
