"""Turns, tool calls, tools and images out of the shapes that data sets give them."""

from __future__ import annotations

import ast
import base64
import binascii
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from rmbench.data.rows import FIELD, TEMPLATE, Row, shown
from rmbench.errors import NoExampleError
from rmbench.types import Image, Json, Message, Part, ToolCall

_ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "ai": "assistant",
    "tool": "tool", "tool_response": "tool", "observation": "tool", "function": "tool", "function_response": "tool",
    "tool_call": "assistant", "function_call": "assistant",
}  # fmt: skip
_NO_COMMA = re.compile(r"\}\s*\n\s*\{")  # between the objects of a numpy array, as pandas writes it into CSV
_KIND = 40  # characters of a part in which it says what it is
_CALLS = ("tool_call", "function_call")  # roles of turns that are one call
_ROLE, _CONTENT = ("role", "from"), ("content", "value", "text")
_TEXTS = ("text", "input_text", "output_text")  # types of parts that are text
_OF_A_TURN = {*_ROLE, *_CONTENT, "tool_calls", "function_call", "tool_call_id", "name"}
_MEDIA = {"images": "images", "image": "images", "videos": "videos", "video": "videos", "audios": "audio",
          "audio": "audio", "documents": "documents", "image_path": "images", "image_paths": "images",
          "image_url": "images", "image_urls": "images", "video_path": "videos", "audio_path": "audio"}  # fmt: skip
# what data say of a turn for themselves: no template writes it, and turns that differ in it alone are the same
_BOOKKEEPING = {
    "id", "message_id", "uuid", "parent_id", "timestamp", "time", "date", "created", "created_at",
    "create_time", "language", "lang", "country", "state", "hashed_ip", "header", "redacted", "toxic", "openai",
    "turn_identifier", "turn", "index", "idx", "weight", "loss", "train", "mask", "label", "score", "rating",
    "rank", "source", "model", "model_name", "tokens", "n_tokens", "token_count", "metadata", "info",
}  # fmt: skip
_TOOLS = ("tools", "functions")
_SIGNATURES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}


def read_messages(row: Row, name: str | None, value: Any) -> tuple[Message, ...]:
    """The turns listed in `value`, found in field `name`.

    A turn has a `role` and a `content`, a text or parts of type `text` or `image`; or, as ShareGPT has them, `from` and
    `value`. Calls of tools are `tool_calls` of an assistant's turn, or turns of their own with the role `tool_call`,
    whose content is one call; these belong to the turn of the assistant right before them. What a tool said has the
    role `tool`, `tool_response` or `observation`. Other fields of a turn are its `extras`, for a template to write. The
    list may be JSON text. Raises DataError for anything else.
    """
    value = as_list(value)
    if not isinstance(value, list):
        raise row.error(f"expected a text or a list of messages, got {shown(value)}", name)
    turns: list[Message] = []
    for number, turn in enumerate(value, 1):
        role = _role(turn)
        if role not in _ROLES:
            raise row.error(
                f"message {number} is {shown(turn)}; expected an object with `content` and `role`, one of "
                f"{', '.join(_ROLES)}",
                name,
            )
        message = _message(row, name, turn, role, number)
        if role in _CALLS and turns and turns[-1].role == "assistant":
            before = turns.pop()
            calls = (*before.tool_calls, *message.tool_calls)
            message = Message("assistant", before.parts, calls, name=before.name, extras=before.extras)
        turns.append(message)
    return tuple(turns)


def is_turn(value: Any) -> bool:
    """Whether it is an object that says who speaks, as a turn of a conversation does."""
    return isinstance(value, dict) and ("role" in value or {"from", "value"} <= value.keys())


def turns_in(text: str) -> list[Any] | None:
    """The turns that a text lists, or the one that it is, as JSON or as Python writes them; None for any other text."""
    start = text.lstrip()[:1]
    if start == "{":
        turn = _value(text)
        return [turn] if _role(turn) in _ROLES and any(key in turn for key in _CONTENT) else None
    listed = as_list(text) if start == "[" else None
    return listed if isinstance(listed, list) and listed and all(map(is_turn, listed)) else None


def as_json_list(value: Any) -> Any:
    """What a JSON text of a list says; anything else as it is."""
    return _parsed(value) if isinstance(value, str) and value.lstrip().startswith("[") else value


def as_list(value: Any) -> Any:
    """What a text says that is JSON, or a Python literal, of a list; anything else as it is."""
    return _value(value) if isinstance(value, str) and value.lstrip().startswith("[") else value


def _value(text: str) -> Any:
    """What a text says as JSON, as a Python literal, or as numpy writes several objects; any other text as it is."""
    parsed = _parsed(text)
    parsed = _literal(text) if parsed is text else parsed
    return _literal(_NO_COMMA.sub("}, {", text)) if parsed is text else parsed


def check_media(row: Row, holder: Mapping[str, Any], name: str | None = None) -> None:
    """Raises NoExampleError for a row, or an object within it, with images, documents and the like beside its texts:
    what no model here sees."""
    if not _MEDIA.keys().isdisjoint(holder):
        for field, what in _MEDIA.items():
            if holder.get(field):
                raise row.no_example(_unseen(what), name or field)


def read_tools(row: Row) -> tuple[Json, ...]:
    """The tools that the row offers, in `tools` or `functions`: a list of objects, or the JSON text of one."""
    name = row.filled(_TOOLS)
    value = None if name is None else row.value[name]
    tools = _parsed(value)
    if tools is None:
        return ()
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
        expected = "expected an image (PNG, JPEG, GIF or WebP) as bytes, base64 or a data URL"
        raise row.error(f"{expected}, got {shown(value)}", name, reason=_unseen("images"), kind=NoExampleError)
    return Image(sha256(data).hexdigest(), media_type, _giving(data))


_IMAGE = ("bytes", "image_url", "image", "source", "url", "data")


def _role(turn: Any) -> str | None:
    """Who speaks in a turn, None where it does not say."""
    role = next((turn[key] for key in _ROLE if turn.get(key) is not None), None) if isinstance(turn, dict) else None
    return role.lower() if isinstance(role, str) else None


def _message(row: Row, name: str | None, turn: Mapping[str, Any], written: str, number: int) -> Message:
    check_media(row, turn, name)
    role, content = _ROLES[written], next((turn[key] for key in _CONTENT if turn.get(key) is not None), None)
    extras = _extras(row, turn)
    if written in _CALLS:
        return Message(role, "", (_written_call(row, name, content, number),), extras=extras)
    calls = turn.get("tool_calls") if role == "assistant" else None
    if calls is not None and not isinstance(calls, list):
        raise row.error(f"message {number}: expected a list of `tool_calls`, got {shown(calls)}", name)
    if role == "assistant" and turn.get("function_call"):
        calls = [*(calls or ()), turn["function_call"]]
    tool_calls = tuple(_call(row, name, call, number) for call in calls or ())
    parts = "" if content is None and tool_calls else _parts(row, name, content, number)
    tool_call_id = _text(turn, "tool_call_id") if role == "tool" else None
    named = _text(turn, "name")
    if named is not None and role != "tool":
        row.note(TEMPLATE + "name")
    return Message(role, parts, tool_calls, tool_call_id, named, extras)


def _extras(row: Row, turn: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The other fields of a turn as JSON text, and a count of each by whether a template gets it."""
    extras = []
    for key, value in turn.items():
        if key in _OF_A_TURN or value is None or value in ("", [], {}) or not isinstance(key, str):
            continue
        text = None if key.lower() in _BOOKKEEPING else _written(value)
        if text is not None:
            extras.append((key, text))
        row.note((FIELD if text is None else TEMPLATE) + key)
    return extras


def _written(value: Any) -> str | None:
    """A value as JSON text, None where JSON has no word for it."""
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None


def _unseen(what: str) -> str:
    return f"has {what}, which no model here sees"


def _parts(row: Row, name: str | None, content: Any, number: int) -> str | Sequence[Part]:
    """A text, or parts; texts alone are one text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise row.error(f"message {number}: expected `content`, a text or a list of parts, got {shown(content)}", name)
    parts: list[Part] = []
    for part in content:
        if isinstance(part, str):
            parts.append(part)
        elif isinstance(part, dict) and part.get("type", "text") in _TEXTS and isinstance(part.get("text"), str):
            parts.append(part["text"])
        elif isinstance(part, dict) and part.get("type") in ("image", "image_url"):
            parts.append(read_image(row, name, part))
        else:
            problem = f"message {number}: expected parts of type text or image, got {shown(part)}"
            what = next(
                (what for field, what in _MEDIA.items() if field in str(part)[:_KIND]), "parts that are no text"
            )
            raise row.error(problem, name, reason=_unseen(what), kind=NoExampleError)
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(parts) else parts


def _written_call(row: Row, name: str | None, content: Any, number: int) -> ToolCall:
    """The call that a turn of its own is, as a Python literal or JSON text."""
    call = _literal(content) if isinstance(content, str) else content
    return _call(row, name, _parsed(content) if call is content else call, number)


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


def _literal(text: str) -> Any:
    """What a Python literal says; any other text as it is."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes that Python does not know
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


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
