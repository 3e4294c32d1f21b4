"""What tells requests apart: the key that an answer is stored by, and dedup over a run."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator
from hashlib import sha256
from typing import TypeVar

from rmbench.types import Request

_KEY_VERSION = 1
_ENCODE = json.JSONEncoder(separators=(",", ":")).encode
_Key = TypeVar("_Key", bound=Hashable)


def request_keys(fingerprint: str, requests: Iterable[Request]) -> Iterator[tuple[bytes, bytes]]:
    """For each request the digest [32] of all but what is shown, and the key [32] of what reaches the model.

    The key is the sha256 of canonical JSON of everything that can change the answer; `where` is no part of it.

    Steps count where they are asked about. Neighbours with the same prompt share the work on it.
    """
    before: tuple[object, ...] = ()
    for request in requests:
        asked = request.ask, request.reference, request.prompt
        if asked != before:
            turns = [[message.role, message.content] for message in request.prompt]
            begun = sha256(_ENCODE([_KEY_VERSION, fingerprint, request.ask, request.reference, turns])[:-1].encode())
            before, digest = asked, begun.digest()
        shown = ",".join(
            f"[{'null' if response.text is None else _ENCODE(response.text)},"
            f"{'null' if response.steps is None or request.ask != 'steps' else _ENCODE(response.steps)}]"
            for response in request.shown
        )
        whole = begun.copy()
        whole.update(f",[{shown}]]".encode())
        yield digest, whole.digest()


def distinct(keys: Iterable[_Key]) -> dict[_Key, list[int]]:
    """Each key with the positions it stands at, in order of first appearance."""
    positions: dict[_Key, list[int]] = {}
    for position, key in enumerate(keys):
        positions.setdefault(key, []).append(position)
    return positions
