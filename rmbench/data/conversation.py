"""Prompts and responses out of the shapes that preference and best-of-n files give them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rmbench.data.dataset import LeftOut, content_id
from rmbench.data.files import Row, shown
from rmbench.data.messages import read_messages, read_tools
from rmbench.types import Candidate, Example, Json, Message, Response

_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_TEXT = ("text", "answer", "response", "content", "solution", "completion", "output", "messages")
_UNTAGGED: Mapping[str, Any] = {}  # one for all: most responses have no tags
_SUBSET = ("subset", "category_path", "category")
_REFERENCE = ("reference", "ground_truth")

POLICY = ("policy", "llm_name", "model", "model_name", "generator")
PROMPT = (
    "prompt",
    "question",
    "problem",
    "instruction",
    "query",
    "conversation_input",
    "conversation",
    "messages",
    "input",
)


RESPONSE = ("response", "completion", "candidate", "solution", "output", "text", "answer")
RESPONSES = ("candidates", "responses", "completions", "answers", "solutions", "outputs")
_IDS = ("id", "example_id", "pair_uid", "pair_id", "bon_uid", "uid")


@dataclass(frozen=True, slots=True)
class Responses:
    """The responses of a row that answer one prompt. `id` is the row's own, else a hash of prompt and responses."""

    id: str
    prompt: tuple[Message, ...]
    responses: tuple[Response, ...]
    tools: tuple[Json, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """Each response as text."""
        return tuple(response.text or "" for response in self.responses)


@dataclass(frozen=True, slots=True)
class Reply:
    """A response with the prompt it brings along, if any. `response` is None where there is no response in it.

    `tags` holds `policy`, the name of the model that wrote it, where the data say so.
    """

    prompt: tuple[Message, ...]
    response: str | Response | None
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str | None:
        """The response as text, None where there is none."""
        return self.response.text if isinstance(self.response, Response) else self.response

    @property
    def messages(self) -> tuple[Message, ...]:
        """Every turn of its conversation, () of a text alone."""
        return self.prompt + (self.response.messages or () if isinstance(self.response, Response) else ())


def read_prompt(row: Row) -> tuple[Message, ...]:
    """The prompt in the first of the fields `PROMPT` that holds one, () where none does.

    It is a text, an hh-rlhf transcript or a list of messages. An `instruction` goes on with the `input` beside it,
    after an empty line, as in Alpaca's rows. Raises DataError for anything else.
    """
    name = row.filled(PROMPT)
    if name is None:
        return ()
    value = row.value[name]
    if name == "instruction" and row.filled(("input",)):
        value = f"{row.text('instruction')}\n\n{row.text('input')}"
    if not isinstance(value, str):
        return read_messages(row, name, value)
    turns = _transcript(value) or (Message("user", value),)
    # a transcript up to where the response is due ends with "Assistant:" and nothing after it
    return turns[:-1] if turns[-1] == Message("assistant", "") else turns


def read_reply(row: Row, name: str, value: Any) -> Reply:
    """The response in `value`, found in field `name`.

    It is a text, a conversation that ends with the assistant's turn (a list of messages or a transcript as in hh-rlhf,
    "\\n\\nHuman: ...\\n\\nAssistant: ..."), or an object that holds one of these (`text`, `answer`, `messages`, ...).
    Raises DataError for anything else.
    """
    if value is None:
        return Reply((), None)
    if isinstance(value, str):
        turns = _transcript(value)
        return _last_turn(turns) if turns else Reply((), value)
    if isinstance(value, dict):
        holder = Row(value, row.file, row.number)
        reply = read_reply(row, name, value[holder.need(_TEXT, f"`{name}` is a text or an object that holds one")])
        policy = holder.name(POLICY)
        return replace(reply, tags={"policy": policy} if policy else {})
    return _last_turn(read_messages(row, name, value))


def read_responses(row: Row) -> Responses:
    """Every response of a row: that of a conversation, one, a list, or chosen and rejected, as `to_example` reads them.

    Raises DataError for a row without a response or without a prompt, and for responses to different prompts.
    """
    asked = read_prompt(row)
    listed = row.filled(RESPONSES)
    single = next((name for name in RESPONSE if row.value.get(name) is not None), None)  # an empty one is one
    if asked and asked[-1].role == "assistant":
        replies = [_last_turn(asked)]
    elif listed is not None and isinstance(row.value[listed], list):
        replies = [read_reply(row, listed, value) for value in row.value[listed]]
    elif row.first(("chosen",)):
        replies = [
            read_reply(row, side, row.value[side]) for side in ("chosen", "rejected", "reject") if side in row.value
        ]
    elif single is not None:
        replies = [read_reply(row, single, row.value[single])]
    else:
        replies = [Reply((), None)]
    tools = read_tools(row)
    replies = list(_whole(replies, tools))
    found = f"found {', '.join(f'`{name}`' for name in list(row.value)[:12]) or 'nothing'}"
    if any(reply.response is None for reply in replies):
        raise row.error(f"no response; {found}; expected `messages` that end with the assistant's turn, or a `prompt` "
                        "and a `response`, or a list of `responses`, or `chosen` and `rejected`")  # fmt: skip
    if any(reply.prompt != replies[0].prompt for reply in replies):
        raise row.error("its responses answer different prompts; give them rows of their own")
    prompt = replies[0].prompt or asked
    if not prompt:
        raise row.error(f"no prompt; {found}; expected `prompt`", "prompt")
    if any(message.images for reply in replies for message in reply.messages[len(reply.prompt) :]):
        raise row.error("expected responses that are texts, got one with an image")
    responses = [one if isinstance(one, Response) else Response(one) for one in (reply.response for reply in replies)]
    name = row.name(_IDS) or content_id(Example("", prompt, tuple(map(Candidate, responses)), tools))
    return Responses(name, prompt, tuple(responses), tools)


def to_example(
    row: Row, replies: Sequence[Reply], labels: Sequence[bool | float | None], ids: tuple[str, ...]
) -> Example | LeftOut:
    """The example of a row's responses, named by the first of the fields `ids` that has a value, else not at all.

    Its prompt is what came before each response in its own conversation, else the row's own (`read_prompt`), else
    empty. The response is the last turn of a conversation; where the row has tools, or a conversation uses some, it is
    all from the first turn of the assistant on. Left out are responses to different prompts, which no reward compares,
    and rows where a response is missing. The row's own policy is that of a response that names none.
    """
    if len(replies) < 2:
        return LeftOut("fewer than two responses")
    tools = read_tools(row)
    replies = list(_whole(replies, tools))
    if any(reply.response is None for reply in replies):
        return LeftOut("no response")
    if any(reply.prompt != replies[0].prompt for reply in replies):
        return LeftOut("prompts differ")
    policy = row.name(POLICY)
    wrote = {} if policy is None else {"policy": policy}
    return Example(
        row.name(ids) or "",
        replies[0].prompt or read_prompt(row),
        tuple(
            Candidate(reply.response or "", label, tags={**wrote, **reply.tags} if wrote else reply.tags or _UNTAGGED)
            for reply, label in zip(replies, labels, strict=True)
        ),
        tools=tools,
        facets=facets(row, _SUBSET),
        cluster=row.name(("cluster",)),
        reference=row.name(_REFERENCE),
    )


def facets(row: Row, subset: tuple[str, ...]) -> dict[str, str]:
    """What sort of example a row is: the facet `subset`, from the first of the fields that has a value, and those that
    an object `facets` names."""
    name = row.name(subset)
    named = row.value.get("facets") or {}
    if not isinstance(named, dict):
        raise row.error(f"expected an object of facets and their values, got {shown(named)}", "facets")
    return ({} if name is None else {"subset": name}) | {
        facet: str(value) for facet, value in named.items() if value is not None
    }


def _transcript(text: str) -> tuple[Message, ...]:
    """The turns of an hh-rlhf transcript, () for any other text."""
    if not text.startswith(("\n\nHuman:", "Human:")) or "\n\nAssistant:" not in text:
        return ()
    _, *parts = _TURN.split(text)
    return tuple(Message(_ROLES[speaker], content) for speaker, content in zip(parts[::2], parts[1::2], strict=True))


def _last_turn(messages: tuple[Message, ...]) -> Reply:
    if not messages or messages[-1].role != "assistant":
        return Reply(messages, None)
    last = messages[-1]
    return Reply(messages[:-1], last.text if last.is_plain else Response(messages[-1:]))


def _whole(replies: Sequence[Reply], tools: Sequence[Json]) -> list[Reply]:
    """Where tools are offered or used, each reply as a trajectory."""
    return [*map(_trajectory, replies)] if tools or any(map(_uses_tools, replies)) else list(replies)


def _uses_tools(reply: Reply) -> bool:
    return any(message.tool_calls or message.role == "tool" for message in reply.messages)


def _trajectory(reply: Reply) -> Reply:
    """All turns from the assistant's first one on as the response, whoever has the last one."""
    turns = reply.messages
    if isinstance(reply.response, str) and reply.prompt:
        turns = (*turns, Message("assistant", reply.response))
    first = next((at for at, turn in enumerate(turns) if turn.role == "assistant"), None)
    if first is None:
        return reply
    only = turns[first] if first == len(turns) - 1 else None
    response = only.text if only and only.is_plain else Response(turns[first:])
    return replace(reply, prompt=turns[:first], response=response)
