"""What tells requests apart: the key that an answer is stored by, and what of a request reaches a model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence, Set
from hashlib import sha256
from typing import Any

from rmbench.types import GenerationRequest, Image, Message, Request, Response, Use

KEY_VERSION = 2
_OF_PROMPT = 8  # bytes of a key that requests of one prompt share
_ENCODE = json.JSONEncoder(separators=(",", ":")).encode  # in the order given, in which templates write tools


def request_keys(fingerprint: str, requests: Iterable[Request], uses: Set[Use] = frozenset()) -> Iterator[bytes]:
    """The key [32] of what of each request reaches a model that `uses` so much.

    It begins with 8 bytes of the sha256 of all but the responses, so that in the order of keys, which is the order that
    a store takes fastest, the requests of one prompt stand together; the rest is of the sha256 of canonical JSON of
    everything that can change the answer: reference, criteria and tools count where they are used, images by their
    hashes, steps where they are asked about. Neighbours with the same prompt share the work on it.
    """
    before: list[Any] = []
    for request in requests:
        asked = [request.ask, request.prompt, request.tools, request.reference, request.criteria]
        # By `is`: 1, 1.0 and True are equal and are written differently
        if not before or any(one is not other for one, other in zip(asked, before, strict=True)):
            begun = sha256(_ENCODE([KEY_VERSION, fingerprint, *context(request, uses)])[:-1].encode())
            before, digest = asked, begun.digest()
        responses = ",".join(_response(response, request.ask == "steps") for response in request.responses)
        whole = begun.copy()
        whole.update(f",[{responses}]]".encode())
        yield digest[:_OF_PROMPT] + whole.digest()[_OF_PROMPT:]


def context(request: Request, uses: Set[Use]) -> list[Any]:
    """What of a request but its responses reaches a model that `uses` so much, as JSON."""
    used = [
        list(request.tools) if "tools" in uses and request.tools else None,
        request.reference if "reference" in uses else None,
        [[one.text, one.weight] for one in request.criteria] if "criteria" in uses and request.criteria else None,
    ]
    return [request.ask, [turn(message) for message in request.prompt], *(used if used != [None] * 3 else [])]


def generation_key(fingerprint: str, request: GenerationRequest) -> bytes:
    """The key [32] of everything that can change what a policy writes, in parts as a reward's is."""
    prompt = [[turn(message) for message in request.prompt], list(request.tools)]
    begun = sha256(_ENCODE(["generation", KEY_VERSION, fingerprint, prompt]).encode())
    digest = begun.digest()
    begun.update(_ENCODE([dict(sorted(request.sampling.items())), request.sample, request.cap, request.top]).encode())
    return digest[:_OF_PROMPT] + begun.digest()[_OF_PROMPT:]


def turn(message: Message) -> list[Any]:
    """A message as JSON: role and text, and behind them what few messages have."""
    if message.is_plain:
        return [message.role, message.parts[0]]
    parts = [
        {"image": part.sha256, "media_type": part.media_type} if isinstance(part, Image) else part
        for part in message.parts
    ]
    calls = [[call.name, call.arguments, call.id] for call in message.tool_calls]
    told: list[Any] = [message.role, parts, calls, message.tool_call_id, message.name]
    return [*told, message.extras] if message.extras else told


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


def lacking(request: Request, uses: Set[Use]) -> Use | None:
    """What an example needs and a model that `uses` so much would not see: tools, called or offered, or images."""
    turns = (*request.prompt, *(turn for response in request.responses for turn in response.messages or ()))
    if all(turn.is_plain for turn in turns) and not request.tools:
        return None
    if "tools" not in uses and (request.tools or any(turn.tool_calls or turn.role == "tool" for turn in turns)):
        return "tools"
    return "images" if "images" not in uses and any(turn.images for turn in turns) else None
