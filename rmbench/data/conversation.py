"""Prompts and responses out of the shapes that preference and best-of-n files give them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from rmbench.bounded import MOST_RESPONSES
from rmbench.data.dataset import LeftOut, content_id
from rmbench.data.messages import as_json_list, as_list, check_media, is_turn, read_messages, read_tools, turns_in
from rmbench.data.rows import NO_PROMPT, Row, listed, shown
from rmbench.errors import DataError, NoExampleError
from rmbench.types import Candidate, Example, Json, Message, Response

_T = TypeVar("_T")
_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant): ?")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_TEXT = ("text", "answer", "response", "content", "solution", "completion", "output", "value", "messages")
_UNTAGGED: Mapping[str, Any] = {}  # one for all: most responses have no tags
_SUBSET = ("subset", "category_path", "category")
_REFERENCE = ("reference", "ground_truth")
_SYSTEM = ("system", "system_prompt", "system_message")
_ASKER, _ANSWERER = ("user", "human", "question", "prompt", "instruction"), ("assistant", "gpt", "answer", "response")

POLICY = ("policy", "llm_name", "model", "model_name", "generator")
CONVERSATION = ("conversation", "conversations", "messages")  # these may hold the response too
PROMPT = ("prompt", "question", "problem", "instruction", "query", "conversation_input", *CONVERSATION, "input",
          "context")  # fmt: skip
RESPONSE = ("response", "completion", "candidate", "solution", "output", "text", "answer")
_BESIDE_A_CONVERSATION = ("response", "completion")
RESPONSES = ("candidates", "responses", "completions", "answers", "solutions", "outputs",
             "generations")  # fmt: skip
CHOSEN = ("chosen",)
REJECTED = ("rejected", "reject", "rejected_response", "rejected_messages")
IDS = ("id", "example_id", "pair_uid", "pair_id", "bon_uid", "uid")

PREFILLED = "prompts that end with a turn of the assistant, which stays a turn before the response"
CONTRADICTED = "rows whose prompt is not how their conversations begin, which count"
ANSWERED = "conversations that end with an answer, which is no part of the prompt"
SEVERAL = "rows of several chosen or rejected responses, each read as one example of n"
_PROMPTS_DIFFER = "prompts differ"
_NO_RESPONSE = "no response"
_ANOTHER_SYSTEM = "two system messages that differ"


@dataclass(frozen=True, slots=True)
class Responses:
    """The responses of a row that answer one prompt. `id` is the row's own, else a hash of prompt and responses.

    `fields` are the columns of `row` that the responses stand in, `policies` who wrote each, where the data say so.
    """

    id: str
    prompt: tuple[Message, ...]
    responses: tuple[Response, ...]
    tools: tuple[Json, ...]
    row: Row
    fields: tuple[str, ...]
    policies: tuple[str | None, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """Each response as text."""
        return tuple(response.text or "" for response in self.responses)


@dataclass(frozen=True, slots=True)
class Reply:
    """A response with the prompt it brings along, if any. `response` is None where there is no response in it.

    `tags` holds `policy`, the name of the model that wrote it, where the data say so; `field` is where it stands.
    """

    prompt: tuple[Message, ...]
    response: str | Response | None
    tags: dict[str, str] = field(default_factory=dict)
    field: str = "response"

    @property
    def text(self) -> str | None:
        """The response as text, None where there is none."""
        return self.response.text if isinstance(self.response, Response) else self.response

    @property
    def turns(self) -> tuple[Message, ...]:
        """Every turn of its conversation."""
        if isinstance(self.response, Response):
            return self.prompt + (self.response.messages or ())
        return self.prompt if self.response is None else (*self.prompt, Message("assistant", self.response))


@dataclass(frozen=True, slots=True)
class Answers:
    """What a row holds of responses; `chosen` counts those at the beginning that are preferred, None where it is not
    said."""

    replies: Sequence[Reply]
    chosen: int | None


@dataclass(frozen=True, slots=True)
class _Joined:
    """Responses to one prompt."""

    prompt: tuple[Message, ...]
    responses: Sequence[str | Response]
    tools: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class _Placed:
    """A whole conversation that ends with a response. `start` is how many of its turns are the row's own prompt for
    certain; where it `contradicts` that prompt none are."""

    turns: tuple[Message, ...]
    start: int = 0
    contradicts: bool = False


# reading rows


def no_response(row: Row, name: str) -> DataError:
    """The error of a row whose field `name` should hold a response."""
    value = row.peek(name)
    expected = "expected a text or messages that end with the assistant's turn"
    return row.error(f"no response: {expected}, got {'null' if value is None else shown(value)}", name)


def attempt(row: Row, read: Callable[[Row], _T]) -> _T | LeftOut:
    """What is read of a row; why it is left out, where it makes no example, or is bad and such rows are skipped."""
    try:
        return read(row)
    except DataError as error:
        if isinstance(error, NoExampleError):
            reason = error.reason
        elif row.tally is not None and row.tally.skip_bad_rows:
            reason = f"bad row: {error.reason}"
        else:
            raise
    if reason != NO_PROMPT:  # which the columns that are there may explain
        row.leave_out()
    return LeftOut(reason)


def read_grouped(
    rows: Iterable[Row],
    group_of: Callable[[Row], object | None],
    alone: Callable[[Row], Example],
    joined: Callable[[list[Row]], Example],
) -> Iterator[Example | LeftOut]:
    """One example a row that `group_of` gives None, at once; then one of the rows that it gives the same."""
    groups: dict[object, list[Row]] = {}
    for row in rows:
        group = attempt(row, group_of)
        if isinstance(group, LeftOut):
            yield group
        elif group is None:
            yield attempt(row, alone)
        else:
            groups.setdefault(group, []).append(row)
    for several in groups.values():
        yield attempt(several[0], lambda _, several=several: joined(several))  # type: ignore[misc]


def read_all(rows: Iterable[Row]) -> Iterator[Responses | LeftOut]:
    """What each row holds to be scored, or why it is left out, in the order of the rows. Raises DataError."""
    for row in rows:
        yield attempt(row, read_responses)


def read_prompt(row: Row) -> tuple[Message, ...]:
    """The prompt: a system message of its own column, the turns of `history`, and the first of the fields `PROMPT` that
    holds something; () where none does.

    It is a text, an hh-rlhf transcript, a list of messages or the JSON text of one. An `instruction` goes on with the
    `input` beside it, after an empty line, as in Alpaca's rows. Raises NoExampleError where the row has what no model
    here sees or contradicts itself, DataError for anything else.
    """
    check_media(row, row.value)
    name = row.filled(PROMPT)
    asked = () if name is None else _asked(row, name)
    asked = _with_history(row, asked)
    system = row.filled(_SYSTEM)
    if system is None:
        return asked
    told = _told(row, system)
    if not asked or asked[0].role != "system":
        return (told, *asked)
    if not _same(told, asked[0]):
        raise row.no_example(_ANOTHER_SYSTEM, system)
    return asked


def read_asked(row: Row) -> tuple[Message, ...]:
    """What a policy is asked: the prompt, without the answer that ends a conversation (`CONVERSATION`).

    A turn of the assistant that ends any other prompt stays a turn of it.
    """
    turns = read_prompt(row)
    if turns and turns[-1].role == "assistant" and row.filled(PROMPT) in CONVERSATION:
        row.note(ANSWERED)
        return turns[:-1]
    return turns


def check_asked(row: Row, prompt: Sequence[Message]) -> None:
    """Raises NoExampleError for a prompt that asks nothing: it is empty, blank, or a system message alone."""
    if not any(turn.role != "system" and turn.says_something for turn in prompt):
        raise row.error(f"{NO_PROMPT}; found {listed(row.given)}; expected `prompt`; --columns prompt=COLUMN names "
                        "another column", "prompt", reason=NO_PROMPT, kind=NoExampleError)  # fmt: skip


def read_reply(row: Row, name: str, value: Any) -> Reply:
    """The response in `value`, found in field `name`.

    It is a text, a conversation that ends with the assistant's turn (a list of messages, JSON text of one, or a
    transcript as in hh-rlhf, "\\n\\nHuman: ...\\n\\nAssistant: ..."), a message, or an object that holds one of these
    (`text`, `answer`, `messages`, ...). Raises DataError for anything else.
    """
    if value is None:
        return Reply((), None, field=name)
    if isinstance(value, str):
        turns = _transcript(value)
        written = None if turns else turns_in(value)
        if written is not None:
            return _last_turn(read_messages(row, name, written), name)
        return _last_turn(turns, name) if turns else Reply((), value, field=name)
    if isinstance(value, dict) and not is_turn(value):
        holder = row.of(value)
        check_media(holder, value, name)
        reply = read_reply(row, name, value[holder.need(_TEXT, f"`{name}` is a text or an object that holds one")])
        policy = holder.name(POLICY)
        return replace(reply, tags={"policy": policy} if policy else {})
    return _last_turn(read_messages(row, name, [value] if isinstance(value, dict) else value), name)


def read_answers(row: Row) -> Answers:
    """The responses that a row holds: chosen and rejected ones, a response or the last turn of `messages` against the
    `rejected_response`s, a list, or one; none where it has only a conversation."""
    if (chosen := row.first(CHOSEN)) is not None:
        beside = [name for name in REJECTED if name in row.value]
        beside = [name for name in beside if row.value[name] is not None] or beside[:1]
        return _sides(row, _several(row, chosen), [one for name in beside for one in _several(row, name)])
    rejected = row.filled(REJECTED)
    if rejected is not None and _may_answer(row, rejected) and (preferred := _preferred(row)):
        return _sides(row, preferred, _several(row, rejected))
    several = row.filled(RESPONSES)
    if several is not None and isinstance(values := as_json_list(row.peek(several)), list):
        row.value.get(several)
        return Answers([read_reply(row, several, value) for value in values], None)
    single = next((name for name in RESPONSE if row.value.get(name) is not None), None)  # an empty one is one
    return Answers([] if single is None else _several(row, single), None)


def read_responses(row: Row) -> Responses:
    """Every response of a row, as `read_answers` finds them, else the last turn of its conversation.

    Raises NoExampleError for a row that makes no example, as `to_example` does, DataError for one without a response.
    """
    answers = read_answers(row)
    replies, own = (answers.replies, read_prompt(row)) if answers.replies else _conversation(row)
    joined = _joined(row, replies, own)
    if any(message.images for one in joined.responses if isinstance(one, Response) for message in one.messages or ()):
        raise row.no_example("a response with an image")
    responses = tuple(one if isinstance(one, Response) else Response(one) for one in joined.responses)
    name = row.name(IDS) or content_id(Example("", joined.prompt, tuple(map(Candidate, responses)), joined.tools))
    fields = tuple(dict.fromkeys(reply.field for reply in replies))
    policy = row.name(POLICY)
    policies = tuple([reply.tags.get("policy", policy) for reply in replies])
    return Responses(name, joined.prompt, responses, joined.tools, row, fields, policies)


def to_example(
    row: Row, replies: Sequence[Reply], labels: Sequence[bool | float | None], ids: tuple[str, ...] = IDS
) -> Example:
    """The example of a row's responses, named by the first of the fields `ids` that has a value, else not at all.

    A conversation that a response stands in goes on from the row's own prompt (`read_prompt`), or begins with it, whose
    system message stays. The response is the last turn of a conversation; where the row has tools, or a conversation
    uses some, it is all from the first turn of the assistant on. Raises NoExampleError for fewer than two responses,
    for responses to different prompts, which no reward compares, and for a row without a prompt; DataError where a
    response is missing. The row's own policy is that of a response that names none.
    """
    if len(replies) < 2:
        raise row.no_example("fewer than two responses")
    joined = _joined(row, replies, read_prompt(row))
    policy = row.name(POLICY)
    wrote = {} if policy is None else {"policy": policy}
    return Example(
        row.name(ids) or "",
        joined.prompt,
        tuple(
            Candidate(response, label, tags={**wrote, **reply.tags} if wrote else reply.tags or _UNTAGGED)
            for response, reply, label in zip(joined.responses, replies, labels, strict=True)
        ),
        tools=joined.tools,
        facets=facets(row, _SUBSET),
        cluster=row.name(("cluster",)),
        reference=row.words(_REFERENCE),
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


# the prompt


def _told(row: Row, name: str) -> Message:
    """The system message in a field: its text, or a turn of that role, alone or in a list."""
    turns = () if isinstance(row.value[name], str | int | float) else _read(row, name, row.value[name])
    return turns[0] if len(turns) == 1 and turns[0].role == "system" else Message("system", row.text(name))


def _asked(row: Row, name: str) -> tuple[Message, ...]:
    value = row.value[name]
    if name == "instruction" and row.filled(("input",)):
        value = f"{row.text('instruction')}\n\n{row.text('input')}"
    if isinstance(value, str):
        turns = _transcript(value)
        if not turns and (written := turns_in(value)) is None:
            return (Message("user", value),)
        # a transcript up to where the response is due ends with "Assistant:" and nothing after it
        return (turns[:-1] if turns[-1] == Message("assistant", "") else turns) if turns else _read(row, name, written)
    return _read(row, name, value)


def _read(row: Row, name: str, value: Any) -> tuple[Message, ...]:
    return read_messages(row, name, [value] if is_turn(value) else value)


def _with_history(row: Row, asked: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns of `history` before what is asked, and behind its system message."""
    value = row.value.get("history")
    if value is None or value in ("", [], "[]"):
        return asked
    if isinstance(value, str) and not value.lstrip().startswith("["):
        if asked:
            raise row.no_example("`history` is a text beside a prompt", "history")
        return _transcript(value) or (Message("user", value),)
    system = _systems(asked)
    return (*system, *_history(row, value), *asked[len(system) :])


def _history(row: Row, value: Any) -> tuple[Message, ...]:
    """Earlier turns: messages, or pairs of what was asked and what was answered."""
    pairs = as_list(value)
    if not isinstance(pairs, list) or any(map(is_turn, pairs)):
        return read_messages(row, "history", value)
    turns: list[Message] = []
    for given in pairs:
        pair = given
        if isinstance(given, dict):
            pair = [_value_of(given, keys) for keys in (_ASKER, _ANSWERER)]
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(one, str) for one in pair):
            raise row.error(f"expected messages, or pairs of a question and its answer, got {shown(pair)}", "history")
        turns += (Message("user", pair[0]), Message("assistant", pair[1]))
    return tuple(turns)


def _value_of(holder: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((holder[key] for key in keys if holder.get(key) is not None), None)


def _transcript(text: str) -> tuple[Message, ...]:
    """The turns of an hh-rlhf transcript, () for any other text."""
    if not text.startswith(("\n\nHuman:", "Human:")) or "\n\nAssistant:" not in text:
        return ()
    _, *parts = _TURN.split(text)
    return tuple(Message(_ROLES[speaker], content) for speaker, content in zip(parts[::2], parts[1::2], strict=True))


# the responses


def _sides(row: Row, chosen: Sequence[Reply], rejected: Sequence[Reply]) -> Answers:
    if len(chosen) + len(rejected) > 2:
        row.note(SEVERAL)
    return Answers([*chosen, *rejected], len(chosen))


def _preferred(row: Row) -> list[Reply]:
    """What stands against a `rejected` response where nothing is called chosen: the row's response, else the last turn
    of its conversation."""
    whole = row.filled(CONVERSATION)
    names = RESPONSE if whole is None else _BESIDE_A_CONVERSATION
    single = next((name for name in names if _may_answer(row, name)), None)
    if single is not None:
        return _several(row, single)
    return [] if whole is None else [_last_turn(read_messages(row, whole, row.value[whole]), whole)]


def _may_answer(row: Row, name: str) -> bool:
    """Whether a column can hold a response, and not a number or a mark."""
    return isinstance(row.peek(name), str | list | dict)


def _several(row: Row, name: str) -> list[Reply]:
    """The responses in a field: one, or a list of texts, of conversations or of objects that are no turns."""
    value = row.value[name]
    listed_apart = isinstance(value, list) and value and not any(map(is_turn, value))
    return [read_reply(row, name, one) for one in (value if listed_apart else [value])]


def _conversation(row: Row) -> tuple[list[Reply], tuple[Message, ...]]:
    """The response that ends the row's own conversation, in its prompt or beside it, and what is prompt for certain."""
    prompt, whole = row.filled(PROMPT), row.filled(CONVERSATION)
    asked = read_prompt(row)
    if prompt is not None and asked and asked[-1].role == "assistant":
        return [_last_turn(asked, prompt)], ()
    if whole is not None and whole != prompt:
        return [_last_turn(read_messages(row, whole, row.value[whole]), whole)], asked
    raise row.lacks("response", "expected `messages` that end with the assistant's turn, or a `prompt` and a "
                    "`response`, or a list of `responses`, or `chosen` and `rejected`")  # fmt: skip


def _last_turn(messages: tuple[Message, ...], name: str) -> Reply:
    if not messages or messages[-1].role != "assistant":
        return Reply(messages, None, field=name)
    last = messages[-1]
    return Reply(messages[:-1], last.text if last.is_plain else Response(messages[-1:]), field=name)


def _joined(row: Row, replies: Sequence[Reply], own: tuple[Message, ...]) -> _Joined:
    """The responses behind the one prompt that they all answer. Raises NoExampleError, DataError."""
    if len(replies) > MOST_RESPONSES:
        raise row.error(f"expected at most {MOST_RESPONSES:,} responses to a prompt, got {len(replies):,}")
    for reply in replies:
        if reply.response is None and not reply.prompt:
            raise no_response(row, reply.field)
    tools = read_tools(row)
    if own and own[-1].role == "assistant" and any(reply.turns[-1:] == own[-1:] for reply in replies):
        own = own[:-1]  # the row's conversation holds the response too
    texts = [reply.response for reply in replies if isinstance(reply.response, str) and not reply.prompt]
    prompt, responses = own, cast("Sequence[str | Response]", texts)
    if len(texts) < len(replies):
        prompt, responses = _of_conversations(row, [_placed(row, own, reply) for reply in replies], bool(tools))
    check_asked(row, prompt)
    if prompt[-1].role == "assistant":
        row.note(PREFILLED)
    return _Joined(prompt, responses, tools)


def _of_conversations(
    row: Row, placed: Sequence[_Placed], with_tools: bool
) -> tuple[tuple[Message, ...], Sequence[str | Response]]:
    """The prompt that all conversations share, and the response that each goes on with."""
    if any(one.contradicts for one in placed):
        row.note(CONTRADICTED)
    is_trajectory = with_tools or any(_uses_tools(one.turns[one.start :] or one.turns) for one in placed)
    taken_apart = _taken_apart(row, placed, is_trajectory=is_trajectory)
    return taken_apart[0][0], [_response(turns) for _, turns in taken_apart]


def _placed(row: Row, own: tuple[Message, ...], reply: Reply) -> _Placed:
    """Where a reply stands: in its own conversation, which goes on from the row's prompt or holds it."""
    turns = reply.turns
    system, asked = _systems(own), own[len(_systems(own)) :]
    told, said = _systems(turns), turns[len(_systems(turns)) :]
    if system and told and not _alike(system, told):
        raise row.no_example(_ANOTHER_SYSTEM, reply.field)
    system = told or system
    if not asked or _alike(asked, said[: len(asked)]):
        return _Placed(system + said, len(system) + len(asked) if asked else 0)
    if _continues(asked, said) or any(_alike(asked, said[at : at + len(asked)]) for at in range(len(said))):
        return _Placed(system + said)
    if not said or said[0].role in ("assistant", "tool") or asked[-1].role == "assistant":
        return _Placed(system + asked + said, len(system) + len(asked))
    return _Placed(system + said, contradicts=True)


def _continues(asked: tuple[Message, ...], said: tuple[Message, ...]) -> bool:
    """Whether a conversation begins with what is asked, and goes on in the very turn that this ends with."""
    *before, last = asked
    at = len(before)
    if len(said) <= at or not _alike(before, said[:at]) or said[at].role != last.role:
        return False
    return not last.images and not said[at].images and said[at].text.startswith(last.text)


def _taken_apart(
    row: Row, placed: Sequence[_Placed], *, is_trajectory: bool
) -> list[tuple[tuple[Message, ...], tuple[Message, ...]]]:
    """The prompt and the response of each conversation; the prompts are the same."""
    apart = [_trajectory(one) if is_trajectory else (one.turns[:-1], one.turns[-1:]) for one in placed]
    if any(not answer or (not is_trajectory and answer[-1].role != "assistant") for _, answer in apart):
        raise row.no_example(_NO_RESPONSE)
    if any(prompt != apart[0][0] for prompt, _ in apart):
        # turns of the user differ too: what goes on from the row's own prompt is the response
        apart = [(one.turns[: one.start], one.turns[one.start :]) for one in placed]
        if any(not one.start for one in placed) or any(not _alike(prompt, apart[0][0]) for prompt, _ in apart):
            raise row.no_example(_PROMPTS_DIFFER)
        return [(apart[0][0], answer) for _, answer in apart]
    return apart


def _trajectory(placed: _Placed) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """All turns from the assistant's first one on as the response, whoever has the last one."""
    turns = placed.turns
    places = range(placed.start, len(turns))
    first = next((at for at in places if turns[at].role in ("assistant", "tool")), len(turns))
    return turns[:first], turns[first:]


def _response(turns: tuple[Message, ...]) -> str | Response:
    return turns[0].text if len(turns) == 1 and turns[0].is_plain and turns[0].role == "assistant" else Response(turns)


def _uses_tools(turns: Sequence[Message]) -> bool:
    return any(message.tool_calls or message.role == "tool" for message in turns)


def _systems(turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """The system messages that a conversation begins with."""
    count = next((at for at, turn in enumerate(turns) if turn.role != "system"), len(turns))
    return turns[:count]


def _alike(messages: Sequence[Message], others: Sequence[Message]) -> bool:
    return len(messages) == len(others) and all(map(_same, messages, others))


def _same(one: Message, other: Message) -> bool:
    """Whether two turns say the same, but for white space around it."""
    if one == other:
        return True
    texts = not one.images and not other.images and one.tool_calls == other.tool_calls
    return texts and one.role == other.role and one.text.strip() == other.text.strip()
