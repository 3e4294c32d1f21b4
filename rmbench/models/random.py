"""Baseline: a number drawn from the text itself, uniform on [0, 1), so chance with the spread of a real run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from rmbench.models.base import Option, Subject
from rmbench.types import Ask, Request, Reward, turn_text

SOURCE = "none"


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("expected a whole number from 0")
    return int(text)


OPTIONS: Mapping[str, Option] = {"seed": Option("Another seed draws other rewards.", _seed, 0)}


class Random:
    """Rewards a response with a uniform draw that depends on `seed`, prompt and response alone."""

    answers: frozenset[Ask] = frozenset({"reward"})

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.fingerprint = f"random:1:{seed}"
        self.subject = Subject("rmbench/random", "random", settings={"seed": seed})

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
        for index, request in enumerate(requests):
            drawn = sha256(_drawn_from(self.seed, request).encode()).digest()
            yield index, Reward((int.from_bytes(drawn[:6]) / 2**48,))


def _drawn_from(seed: int, request: Request) -> str:
    """The text of seed, turns and response, as it was written when figures of this baseline were first published."""
    turns = [
        f"Message(role={message.role!r}, content={(message.text if message.is_plain else turn_text(message))!r})"
        for message in request.prompt
    ]
    prompt = f"({', '.join(turns)}{',' if len(turns) == 1 else ''})"
    return f"({seed!r}, {prompt}, {request.responses[0].text!r})"


def open(source: str, options: Mapping[str, Any], revision: str | None) -> Random:
    """The baseline with the option `seed`."""
    return Random(options["seed"])
