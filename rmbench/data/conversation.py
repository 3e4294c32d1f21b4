"""Prompts and responses out of the shapes that preference and best-of-n files give them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rmbench.data.dataset import LeftOut, content_id
from rmbench.data.files import Row, shown
from rmbench.types import Candidate, Example, Message

_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_TEXT = ("text", "answer", "response", "content", "solution", "completion", "output")
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
    """The texts of a row that answer one prompt. `id` is the row's own, else a hash of prompt and texts."""

    id: str
    prompt: tuple[Message, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """A response with the prompt it brings along, if any. `text` is None where there is no response in it.

    `tags` holds `policy`, the name of the model that wrote it, where the data say so.
    """

    prompt: tuple[Message, ...]
    text: str | None
    tags: dict[str, str] = field(default_factory=dict)


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
        return _messages(row, name, value)
    turns = _transcript(value) or (Message("user", value),)
    # a transcript up to where the response is due ends with "Assistant:" and nothing after it
    return turns[:-1] if turns[-1] == Message("assistant", "") else turns


def read_reply(row: Row, name: str, value: Any) -> Reply:
    """The response in `value`, found in field `name`.

    It is a text, an object that holds one (`text`, `answer`, ...), or a conversation that ends with the assistant's
    turn: a list of messages or a transcript as in hh-rlhf, "\\n\\nHuman: ...\\n\\nAssistant: ...". Raises DataError
    for anything else.
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
        return Reply(reply.prompt, reply.text, {"policy": policy} if policy else {})
    return _last_turn(_messages(row, name, value))


def read_responses(row: Row) -> Responses:
    """Every response of a row: the last turn of a conversation, one, a list, or chosen and rejected.

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
    found = f"found {', '.join(f'`{name}`' for name in list(row.value)[:12]) or 'nothing'}"
    if any(reply.text is None for reply in replies):
        raise row.error(f"no response; {found}; `messages` that end with the assistant's turn, or a `prompt` and a "
                        "`response`, or a list of `responses`, or `chosen` and `rejected` would do")  # fmt: skip
    if any(reply.prompt != replies[0].prompt for reply in replies):
        raise row.error("its responses answer different prompts; give them rows of their own")
    prompt = replies[0].prompt or asked
    if not prompt:
        raise row.error(f"no prompt; {found}; `prompt` would do", "prompt")
    texts = tuple(str(reply.text) for reply in replies)
    name = row.name(_IDS) or content_id(Example("", prompt, tuple(Candidate(text) for text in texts)))
    return Responses(name, prompt, texts)


def to_example(
    row: Row, replies: Sequence[Reply], labels: Sequence[bool | float | None], ids: tuple[str, ...]
) -> Example | LeftOut:
    """The example of a row's responses, named by the first of the fields `ids` that has a value, else not at all.

    Its prompt is what came before each response in its own conversation, else the row's own (`read_prompt`), else
    empty. Left out are responses to different prompts, which no reward compares, and rows where a response is missing.
    """
    if len(replies) < 2:
        return LeftOut("fewer than two responses")
    if any(reply.text is None for reply in replies):
        return LeftOut("no response")
    if any(reply.prompt != replies[0].prompt for reply in replies):
        return LeftOut("prompts differ")
    return Example(
        row.name(ids) or "",
        replies[0].prompt or read_prompt(row),
        tuple(
            Candidate(reply.text or "", label, tags=reply.tags or _UNTAGGED)
            for reply, label in zip(replies, labels, strict=True)
        ),
        facets=facets(row, _SUBSET),
        cluster=row.name(("cluster",)),
        reference=row.name(_REFERENCE),
    )


def facets(row: Row, subset: tuple[str, ...]) -> dict[str, str]:
    """What sort of example a row is: the facet `subset`, from the first of the fields that has a value."""
    name = row.name(subset)
    return {} if name is None else {"subset": name}


def _messages(row: Row, name: str | None, value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise row.error(f"{shown(value)} is neither text nor a list of messages", name)
    turns = [turn if isinstance(turn, dict) else {} for turn in value]
    for number, turn in enumerate(turns, 1):
        if turn.get("role") not in ("system", "user", "assistant") or not isinstance(turn.get("content"), str):
            raise row.error(
                f"message {number} is {shown(value[number - 1])}; a message has `content`, a text, and `role`, one of "
                "system, user, assistant",
                name,
            )
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)


def _transcript(text: str) -> tuple[Message, ...]:
    """The turns of an hh-rlhf transcript, () for any other text."""
    if not text.startswith(("\n\nHuman:", "Human:")) or "\n\nAssistant:" not in text:
        return ()
    _, *parts = _TURN.split(text)
    return tuple(Message(_ROLES[speaker], content) for speaker, content in zip(parts[::2], parts[1::2], strict=True))


def _last_turn(messages: tuple[Message, ...]) -> Reply:
    if not messages or messages[-1].role != "assistant":
        return Reply((), None)
    return Reply(messages[:-1], messages[-1].text)
