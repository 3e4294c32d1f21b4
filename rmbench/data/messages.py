"""Turns, tool calls, tools and images out of the shapes that data sets give them."""

from __future__ import annotations

import ast
import base64
import binascii
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from rmbench.data.files import Row, shown
from rmbench.types import Image, Json, Message, Part, ToolCall

_ROLES = {role: role for role in ("system", "user", "assistant", "tool")} | {
    "tool_call": "assistant",
    "tool_response": "tool",
}
_TOOLS = ("tools", "functions")
_SIGNATURES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}


def read_messages(row: Row, name: str | None, value: Any) -> tuple[Message, ...]:
    """The turns listed in `value`, found in field `name`.

    A turn has a `role` and a `content`: a text, or parts of type `text` or `image`. Calls of tools are `tool_calls` of
    an assistant's turn, or turns of their own with the role `tool_call`, whose content is one call; these belong to the
    turn of the assistant right before them. What a tool said has the role `tool` or `tool_response`. Raises DataError
    for anything else.
    """
    if not isinstance(value, list):
        raise row.error(f"expected a text or a list of messages, got {shown(value)}", name)
    turns: list[Message] = []
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, dict) or turn.get("role") not in _ROLES:
            raise row.error(
                f"message {number} is {shown(turn)}; expected an object with `content` and `role`, one of "
                f"{', '.join(_ROLES)}",
                name,
            )
        message = _message(row, name, turn, number)
        if turn["role"] == "tool_call" and turns and turns[-1].role == "assistant":
            before = turns.pop()
            message = Message("assistant", before.parts, (*before.tool_calls, *message.tool_calls))
        turns.append(message)
    return tuple(turns)


def read_tools(row: Row) -> tuple[Json, ...]:
    """The tools that the row offers, in `tools` or `functions`: a list of objects, or the JSON text of one."""
    name = row.filled(_TOOLS)
    if name is None:
        return ()
    value = row.value[name]
    tools = _parsed(value)
    tools = [_parsed(tool) for tool in tools] if isinstance(tools, list) else tools
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise row.error(f"expected a list of tools, each an object, got {shown(value)}", name)
    return tuple(tools)


def read_image(row: Row, name: str | None, value: Any) -> Image:
    """The image in `value`: bytes, base64 text, a data URL, or an object that holds one of these.

    The object may be one of the `datasets` library, OpenAI's `image_url` or Anthropic's `source`. Raises DataError
    for an address, as nothing is downloaded, and for anything else.
    """
    holder = value
    while isinstance(holder, Mapping):
        holder = next((holder[key] for key in _IMAGE if holder.get(key) is not None), None)
    data = holder if isinstance(holder, bytes) else _decoded(holder) if isinstance(holder, str) else None
    media_type = _media_type(data) if data else None
    if data is None or media_type is None:
        raise row.error(
            f"expected an image (PNG, JPEG, GIF or WebP) as bytes, base64 or a data URL, got {shown(value)}", name
        )
    return Image(sha256(data).hexdigest(), media_type, _giving(data))


_IMAGE = ("bytes", "image_url", "image", "source", "url", "data")


def _message(row: Row, name: str | None, turn: Mapping[str, Any], number: int) -> Message:
    role = _ROLES[turn["role"]]
    if turn["role"] == "tool_call":
        return Message(role, "", (_written_call(row, name, turn.get("content"), number),))
    calls = turn.get("tool_calls") if role == "assistant" else None
    if calls is not None and not isinstance(calls, list):
        raise row.error(f"message {number}: expected a list of `tool_calls`, got {shown(calls)}", name)
    tool_calls = tuple(_call(row, name, call, number) for call in calls or ())
    content = turn.get("content")
    parts = "" if content is None and tool_calls else _parts(row, name, content, number)
    if role != "tool":
        return Message(role, parts, tool_calls)
    return Message(role, parts, tool_call_id=_text(turn, "tool_call_id"), name=_text(turn, "name"))


def _parts(row: Row, name: str | None, content: Any, number: int) -> str | Sequence[Part]:
    """A text, or parts; texts alone are one text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise row.error(f"message {number}: expected `content`, a text or a list of parts, got {shown(content)}", name)
    parts: list[Part] = []
    for part in content:
        if isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
            parts.append(part["text"])
        elif isinstance(part, dict) and part.get("type") in ("image", "image_url"):
            parts.append(read_image(row, name, part))
        else:
            raise row.error(f"message {number}: expected parts of type text or image, got {shown(part)}", name)
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(parts) else parts


def _written_call(row: Row, name: str | None, content: Any, number: int) -> ToolCall:
    """The call that a turn of its own is, as a Python literal or JSON text."""
    call = content
    if isinstance(content, str):
        try:
            with warnings.catch_warnings(action="ignore"):  # of escapes that Python does not know
                call = ast.literal_eval(content)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            call = _parsed(content)
    return _call(row, name, call, number)


def _call(row: Row, name: str | None, call: Any, number: int) -> ToolCall:
    """A call as OpenAI writes it, or without the `function` around it. `arguments` is JSON text, or what it says."""
    function = call.get("function", call) if isinstance(call, dict) else None
    called = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(called, str):
        raise row.error(f"message {number}: expected a tool call with `name` and `arguments`, got {shown(call)}", name)
    arguments = function.get("arguments")
    written = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return ToolCall(called, written, _text(call, "id"))


def _text(holder: Mapping[str, Any], key: str) -> str | None:
    return None if holder.get(key) is None else str(holder[key])


def _parsed(value: Any) -> Any:
    """What a JSON text says; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _decoded(text: str) -> bytes | None:
    """The bytes of base64, alone or in a data URL."""
    _, _, encoded = text.rpartition(";base64,") if text.startswith("data:") else ("", "", text)
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def _media_type(data: bytes) -> str | None:
    return next((media_type for start, media_type in _SIGNATURES.items() if data.startswith(start)), None)


def _giving(data: bytes) -> Callable[[], bytes]:
    return lambda: data
