"""Baseline: the number of characters of the response, so the longer answer always wins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rmbench.models.base import Options, Subject
from rmbench.types import Ask, Request, Reward

SOURCELESS = True


class Length:
    """Rewards a response with its length in characters (Unicode code points)."""

    answers: frozenset[Ask] = frozenset({"reward"})
    fingerprint = "length:1"
    subject = Subject("rmbench/length", "length")

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
        for index, request in enumerate(requests):
            yield index, Reward((float(len(request.responses[0].text or "")),))


def load(source: str, options: Options) -> Length:
    return Length()
