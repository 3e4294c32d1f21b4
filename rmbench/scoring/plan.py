"""What has to be run: the identity of a request, dedup over the run, and length-sorted token-budget batches."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Sequence
from hashlib import sha256
from typing import TypeVar

from rmbench.types import Request

_KEY_VERSION = 1
_Key = TypeVar("_Key", bound=Hashable)


def request_key(fingerprint: str, request: Request) -> bytes:
    """sha256 of canonical JSON of everything that can change the answer: [32] bytes. `where` is no part of it."""
    return sha256(
        json.dumps(
            [
                _KEY_VERSION,
                fingerprint,
                request.ask,
                request.reference,
                [[message.role, message.content] for message in request.prompt],
                [[response.text, response.steps] for response in request.shown],
            ],
            separators=(",", ":"),
        ).encode()
    ).digest()


def distinct(keys: Iterable[_Key]) -> dict[_Key, list[int]]:
    """Each key with the positions it stands at, in order of first appearance."""
    positions: dict[_Key, list[int]] = {}
    for position, key in enumerate(keys):
        positions.setdefault(key, []).append(position)
    return positions


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices into `lengths` in padded batches, longest first; a batch holds longest x count <= `budget` tokens.

    A sequence longer than the budget is a batch of its own. Longest first, so that memory runs out at once or never.
    """
    planned: list[list[int]] = []
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if batch and lengths[batch[0]] * (len(batch) + 1) > budget:
            planned.append(batch)
            batch = []
        batch.append(index)
    return [*planned, batch] if batch else planned
