"""What tells requests apart: the key that an answer is stored by, and what of a request reaches a model."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator, Sequence, Set
from hashlib import sha256
from typing import Any, TypeVar

from rmbench.types import GenerationRequest, Image, Message, Request, Response, Use

KEY_VERSION = 2
_ENCODE = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode
_Key = TypeVar("_Key", bound=Hashable)


def request_keys(
    fingerprint: str, requests: Iterable[Request], uses: Set[Use] = frozenset()
) -> Iterator[tuple[bytes, bytes]]:
    """For each request the digest [32] of all but its responses, and the key [32] of what reaches the model.

    The key is the sha256 of canonical JSON of everything that can change the answer of a model that `uses` so much:
    reference, criteria and tools count where they are used, images by their hashes, steps where they are asked about.
    Neighbours with the same prompt share the work on it.
    """
    before: tuple[object, ...] = ()
    for request in requests:
        asked = request.ask, request.prompt, request.tools, request.reference, request.criteria
        if asked != before:
            begun = sha256(_ENCODE([KEY_VERSION, fingerprint, *context(request, uses)])[:-1].encode())
            before, digest = asked, begun.digest()
        responses = ",".join(_response(response, request.ask == "steps") for response in request.responses)
        whole = begun.copy()
        whole.update(f",[{responses}]]".encode())
        yield digest, whole.digest()


def context(request: Request, uses: Set[Use]) -> list[Any]:
    """What of a request but its responses reaches a model that `uses` so much, as JSON."""
    used = [
        list(request.tools) if "tools" in uses else None,
        request.reference if "reference" in uses else None,
        [[one.text, one.weight] for one in request.criteria] if "criteria" in uses else None,
    ]
    return [request.ask, [turn(message) for message in request.prompt], *(used if any(used) else [])]


def generation_key(fingerprint: str, request: GenerationRequest) -> bytes:
    """sha256 [32] of canonical JSON of everything that can change what a policy writes."""
    return sha256(
        _ENCODE(
            [
                "generation",
                KEY_VERSION,
                fingerprint,
                [turn(message) for message in request.prompt],
                list(request.tools),
                dict(request.sampling),
                request.sample,
                request.cap,
                request.top,
            ]
        ).encode()
    ).digest()


def turn(message: Message) -> list[Any]:
    """A message as JSON: role and text, and behind them what few messages have."""
    if message.is_plain:
        return [message.role, message.parts[0]]
    parts = [{"image": part.sha256} if isinstance(part, Image) else part for part in message.parts]
    calls = [[call.name, call.arguments, call.id] for call in message.tool_calls]
    return [message.role, parts, calls, message.tool_call_id, message.name]


def _response(response: Response, with_steps: bool) -> str:
    messages = response.messages
    if messages is None:
        content = "null"
    elif len(messages) == 1 and messages[0].is_plain and messages[0].role == "assistant":
        content = _ENCODE(messages[0].parts[0])
    else:
        content = _ENCODE([turn(message) for message in messages])
    return f"[{content},{_ENCODE(response.steps) if with_steps else 'null'}]"


def delivered(request: Request, uses: Set[Use]) -> Request:
    """What reaches a model, and no more than its key covers: what it uses, steps only where they are asked about."""
    with_steps = request.ask == "steps"
    responses: Sequence[Response] = request.responses
    if any(_is_more(response, with_steps) for response in responses):
        responses = tuple([Response(one.messages, one.steps if with_steps else None) for one in responses])
    return Request(
        request.ask,
        request.prompt,
        tuple(responses),
        request.tools if "tools" in uses else (),
        request.reference if "reference" in uses else None,
        request.criteria if "criteria" in uses else (),
    )


def _is_more(response: Response, with_steps: bool) -> bool:
    rest = response.tokens, response.finish, response.cap
    return rest != (None, None, None) or bool(response.top) or (response.steps is not None and not with_steps)


def distinct(keys: Iterable[_Key]) -> dict[_Key, list[int]]:
    """Each key with the positions it stands at, in order of first appearance."""
    positions: dict[_Key, list[int]] = {}
    for position, key in enumerate(keys):
        positions.setdefault(key, []).append(position)
    return positions
