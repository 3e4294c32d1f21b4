"""Chat templates: compiled in a box, and conversations as the hub's templates expect them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from rmbench.checkpoints.sandbox import bounded
from rmbench.types import Json, Message, ToolCall, turn_text

# Templates that ask for today get this day, the one that Llama 3.1's own template falls back to.
FROZEN_DATE = date(2024, 7, 26)

PLAIN_ROLES = frozenset({"system", "user", "assistant"})
_CALL_ID = "call12345"  # Mistral's templates take nine letters and digits

# turns as the hub has them, tools or None, and whether the answer is due
Template = Callable[[Sequence[Mapping[str, Any]], Sequence[Json] | None, bool], str]
# turns of a prompt, and responses to it
Comparing = Callable[[Sequence[Mapping[str, Any]], Sequence[str]], str]


def compiled(source: str, specials: Mapping[str, Any]) -> Template:
    """Compiles a chat template in a sandbox that offers what transformers offers, but with a frozen date and bounds.

    `specials` are the names and texts of the tokenizer's special tokens. Raises jinja2.TemplateError where `source` is
    no template; so does the result where the template breaks out, raises, or cannot be rendered.
    """
    template = _made(source)

    def render(turns: Sequence[Mapping[str, Any]], tools: Sequence[Json] | None = None, due: bool = False) -> str:
        text: str = template(messages=turns, tools=tools, documents=None, add_generation_prompt=due, **specials)
        return text

    return render


def comparing(source: str, specials: Mapping[str, Any]) -> Comparing:
    """Compiles a template that writes the turns of a prompt, `messages`, and `responses` to it; as `compiled` does."""
    template = _made(source)

    def render(turns: Sequence[Mapping[str, Any]], responses: Sequence[str]) -> str:
        text: str = template(messages=turns, responses=responses, **specials)
        return text

    return render


def _made(source: str) -> Callable[..., str]:
    """A template in its sandbox, by the names that it is given."""
    import jinja2
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols

    class Generation(Extension):
        """`{% generation %}` marks what the assistant wrote, for training; here it only shows its body."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)

    class Namespace(jinja2.utils.Namespace):
        """`namespace()` without underscored attributes, by which templates would reach into the interpreter."""

        def __init__(*args: Any, **values: Any) -> None:
            self, *rest = args
            super(Namespace, self).__init__()
            for key, value in dict(*rest, **values).items():
                self[key] = value

        def __setitem__(self, key: str, value: Any) -> None:
            if key.startswith("_"):
                raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {key!r}")
            super().__setitem__(key, value)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        # the filter of Jinja itself would escape for HTML
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment, made = bounded([Generation, loopcontrols], tojson=tojson)
    environment.globals.update(raise_exception=raise_exception, strftime_now=FROZEN_DATE.strftime, namespace=Namespace)
    template: Callable[..., str] = made(source)
    return template


def turns_of(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as the hub's templates expect them. Raises ValueError at an image."""
    return [_turn(message) for message in messages]


def _turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.is_plain:
        return turn
    if message.tool_calls:
        turn["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        turn["name"] = message.name
    return turn | {name: json.loads(value) for name, value in message.extras}


def _call(call: ToolCall) -> dict[str, Any]:
    """A call whose arguments are an object, as templates expect it, or the text of one that is not JSON."""
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        arguments = call.arguments
    made = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return made if call.id is None else {"id": call.id, **made}


def takes_tools(template: Template) -> bool:
    """Whether the names of tools get into what the template writes."""
    tool = {"type": "function", "function": {"name": "find_place", "description": "Finds a place.",
            "parameters": {"type": "object", "properties": {"name": {"type": "string", "description": "Its name"}},
                           "required": ["name"]}}}  # fmt: skip
    turns = turns_of((Message("user", "Hi"), Message("assistant", "Hello")))
    return _differs(template, [(turns, None), (turns, [tool])], "find_place")


def takes_calls(template: Template) -> bool:
    """Whether the template writes the tool calls of a turn."""
    made = [[*_asked(name), *_told("7")] for name in ("find_place", "find_time")]
    return _differs(template, [(turns, None) for turns in made], "find_time")


def takes_results(template: Template) -> bool:
    """Whether the template writes turns of role `tool`. Some know them only behind a call, some only without one."""
    calls = [_asked("find_place"), turns_of((Message("user", "Hi"), Message("assistant", "Hello")))]
    return any(
        _differs(template, [([*call, *_told(result)], None) for result in ("seven", "eleven")], "eleven")
        for call in calls
    )


def _asked(name: str) -> list[dict[str, Any]]:
    call = ToolCall(name, '{"name": "Rome"}', _CALL_ID)
    return turns_of((Message("user", "Hi"), Message("assistant", "", (call,))))


def _told(result: str) -> list[dict[str, Any]]:
    return turns_of((Message("tool", result, (), _CALL_ID, "find_place"), Message("assistant", "Well")))


def _differs(template: Template, made: Sequence[tuple[Any, Any]], shown: str) -> bool:
    try:
        one, other = (template(turns, tools, False) for turns, tools in made)
    except Exception:  # a template is a program: it may raise anything
        return False
    return one != other and shown in other


def takes_system(template: Template) -> bool:
    """Whether the template renders a conversation that begins with a system turn, and does not refuse it."""
    turns = turns_of((Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello")))
    try:
        template(turns, None, False)
    except Exception:  # a template is a program: it may raise anything
        return False
    return True


def without_system(messages: Sequence[Message]) -> list[Message]:
    """The same conversation with the system turns that it begins with at the head of the first user turn."""
    first = next((at for at, message in enumerate(messages) if message.role != "system"), len(messages))
    system, rest = [part for message in messages[:first] for part in (*message.parts, "\n\n")], list(messages[first:])
    if not system:
        return rest
    at = next((at for at, message in enumerate(rest) if message.role == "user"), None)
    if at is None:
        return [Message("user", "".join(map(str, system[:-1]))), *rest]
    user = rest[at]
    parts = (*system, *user.parts)
    is_text = all(isinstance(part, str) for part in parts)
    rest[at] = replace(user, parts=("".join(map(str, parts)),) if is_text else parts)
    return rest


def plain(messages: Sequence[Message]) -> str:
    """One `Role: content` per turn, joined by an empty line; tool calls as their JSON."""
    return "\n\n".join(f"{message.role.capitalize()}: {_text(message)}" for message in messages)


def as_text(messages: Sequence[Message], tools: Sequence[Json]) -> list[Message]:
    """The same conversation in turns of system, user and assistant alone.

    Tools stand in the system turn, calls in the turn that makes them, and what a tool gave in a turn of the user.
    """
    made: list[Message] = []
    for message in messages:
        if message.role != "tool":
            made.append(Message(message.role, _text(message)))
            continue
        result = f"Result of {message.name or 'the call'}:\n{message.text}"
        if made and made[-1].role == "user":  # templates want user and assistant in turn
            result = f"{made.pop().text}\n\n{result}"
        made.append(Message("user", result))
    if not tools:
        return made
    lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    told = f"You can call these functions, one JSON object a line:\n{lines}"
    if made and made[0].role == "system":
        told = f"{made.pop(0).text}\n\n{told}"
    return [Message("system", told), *made]


def _text(message: Message) -> str:
    return turn_text(message) if message.tool_calls else message.text
