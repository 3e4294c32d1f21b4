"""Turns with tools and images: every shape that data sets give them, and nothing that is lost on the way."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from rmbench.data.conversation import read_responses
from rmbench.data.dataset import Source, collect, content_id, prompt_hash
from rmbench.data.files import Row, read_rows
from rmbench.data.messages import read_image, read_messages, read_tools
from rmbench.data.part import Part
from rmbench.errors import DataError
from rmbench.plugins import load_task
from rmbench.types import Candidate, Example, Image, Message, Response, ToolCall

PNG = b"\x89PNG\r\n\x1a\n and the rest"
BASE64 = base64.b64encode(PNG).decode()
SOURCES = [Source("x.jsonl", "local", "ab", 3)]
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def row(**value: Any) -> Row:
    return Row(value, "x.jsonl", 1)


def read(*turns: Any) -> tuple[Message, ...]:
    return read_messages(row(), "messages", list(turns))


def test_calls_as_openai_writes_them() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"in":"Bern"}'}}
    asked, said, answered = read(
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "name": "weather", "content": "dry"},
    )
    assert asked.is_plain
    assert said == Message("assistant", "", (ToolCall("weather", '{"in":"Bern"}', "1"),))
    assert answered == Message("tool", "dry", tool_call_id="1", name="weather")


def test_arguments_that_come_as_an_object_become_json() -> None:
    (said,) = read({"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {"a": "é"}}]})
    assert said.tool_calls == (ToolCall("f", '{"a": "é"}'),)


def test_calls_that_are_turns_belong_to_the_turn_of_the_assistant_before_them() -> None:
    calls = [str({"name": "f", "arguments": json.dumps({"n": n})}) for n in (1, 2)]
    turns = read(
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "Let me see."},
        *({"role": "tool_call", "content": call} for call in calls),
        *({"role": "tool_response", "content": answer, "name": "f"} for answer in "ab"),
        {"role": "tool_call", "content": json.dumps({"name": "g", "arguments": None})},
    )
    assert [turn.role for turn in turns] == ["user", "assistant", "tool", "tool", "assistant"]
    assert turns[1] == Message("assistant", "Let me see.", (ToolCall("f", '{"n": 1}'), ToolCall("f", '{"n": 2}')))
    assert (turns[3], turns[4].tool_calls) == (Message("tool", "b", name="f"), (ToolCall("g", "{}"),))


def test_texts_in_parts_are_one_text() -> None:
    (turn,) = read({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})
    assert turn == Message("user", "ab")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BASE64}"}},
        {"type": "image_url", "image_url": f"data:image/png;base64,{BASE64}"},
        {"type": "image", "image": BASE64},
        {"type": "image", "image": PNG},
        {"type": "image", "image": {"bytes": PNG, "path": None}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BASE64}},
    ],
)
def test_an_image_in_any_of_its_shapes(part: Any) -> None:
    (turn,) = read({"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]})
    (image,) = turn.images
    assert (turn.parts[0], image.sha256, image.media_type) == ("What is it?", sha256(PNG).hexdigest(), "image/png")
    assert image.open() == PNG
    with pytest.raises(ValueError, match="holds an image"):
        print(turn.text)


@pytest.mark.parametrize("value", ["https://a.b/c.png", "/home/me/c.png", b"GI", {"path": "c.png"}, 3, None])
def test_an_image_is_never_fetched_and_never_guessed(value: Any) -> None:
    with pytest.raises(DataError, match=r"row 1, `image`: expected an image \(PNG, JPEG, GIF or WebP\) as bytes"):
        read_image(row(), "image", value)


def test_tools_of_a_row_as_objects_or_as_json() -> None:
    for value in ([WEATHER], json.dumps([WEATHER]), [json.dumps(WEATHER)]):
        assert read_tools(row(tools=value)) == (WEATHER,)
        assert read_tools(row(functions=value)) == (WEATHER,)
    for nothing in (row(), row(tools=None), row(tools=[]), row(tools="[]")):
        assert read_tools(nothing) == ()
    with pytest.raises(DataError, match="`tools`: expected a list of tools, each an object, got 'hammer'"):
        read_tools(row(tools="hammer"))


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (
            {"role": "critic", "content": "a"},
            "message 1 is .*; expected an object with `content` and `role`, one of sys",
        ),
        ("a", "message 1 is 'a'; expected an object"),
        ({"role": "user", "content": None}, "message 1: expected `content`, a text or a list of parts, got None"),
        ({"role": "user", "content": [{"type": "audio"}]}, "message 1: expected parts of type text or image, got {'ty"),
        ({"role": "tool_call", "content": "f(x)"}, "message 1: expected a tool call with `name` and `arguments`, got"),
        ({"role": "assistant", "content": "", "tool_calls": [3]}, "message 1: expected a tool call with `name`"),
        ({"role": "assistant", "content": "", "tool_calls": 3}, "message 1: expected a list of `tool_calls`, got 3"),
    ],
)
def test_a_turn_of_another_shape_is_an_error(turn: Any, message: str) -> None:
    with pytest.raises(DataError, match=r"x\.jsonl, row 1, `messages`: " + message):
        read(turn)


# what tells examples apart


def example(prompt: Message, response: str | Response, tools: tuple[Any, ...] = ()) -> Example:
    return Example("", (prompt,), (Candidate(response, True), Candidate("b", False)), tools=tools)


def test_ids_cover_tools_calls_and_images() -> None:
    asked, pictured = Message("user", "?"), Message("user", ["?", Image(sha256(PNG).hexdigest(), "image/png", bytes)])
    called = Response([Message("assistant", "a", (ToolCall("f", "{}"),))])
    examples = [
        example(asked, "a"),
        example(pictured, "a"),
        example(asked, called),
        example(asked, "a", (WEATHER,)),
        example(asked, Response([Message("assistant", "a"), Message("user", "go on")])),
    ]
    assert len({content_id(one) for one in examples}) == len(examples)
    assert prompt_hash((asked,)) != prompt_hash((pictured,))
    data = collect([*examples, *examples], SOURCES, part=Part(deduplicate=True))
    assert len(data.examples) == len(examples)


def test_a_response_of_one_text_has_one_id_however_it_is_held() -> None:
    asked = Message("user", "?")
    assert content_id(example(asked, "a")) == content_id(example(asked, Response("a", steps=("a",))))


# preference pairs of trajectories


def test_pairs_of_trajectories_split_at_the_first_turn_of_the_assistant() -> None:
    asked, call = {"role": "user", "content": "?"}, {"role": "tool_call", "content": "{'name': 'f', 'arguments': '{}'}"}
    said, told = {"role": "assistant", "content": "a"}, {"role": "tool_response", "content": "b"}
    sides = {"chosen": {"messages": [asked, call, told, said]}, "reject": {"messages": [asked, said, asked, said]}}
    (pair,) = load_task("preference").read([row(query="?", tools=[WEATHER], **sides)])
    chosen, rejected = (candidate.response for candidate in pair.candidates)
    assert (pair.prompt, pair.tools) == ((Message("user", "?"),), (WEATHER,))
    assert [turn.role for turn in chosen.messages] == ["assistant", "tool", "assistant"]
    assert [turn.role for turn in rejected.messages] == ["assistant", "user", "assistant"]
    assert chosen.text == '{"name": "f", "arguments": {}}\n\na'


@pytest.mark.parametrize(
    ("name", "pairs", "broken"),
    [("planning_multi_hard", 73, 5), ("planning_single_easy", 144, 0), ("safety_refusal", 51, 4)],
)
def test_plan_rewardbench(rmbench_data: Path, name: str, pairs: int, broken: int) -> None:
    path = rmbench_data / "plan_rewardbench" / f"{name}.jsonl"
    data = load_task("preference").load(path)
    assert (len(data.examples), data.excluded) == (pairs, {})
    assert data.noted.get("tool calls whose arguments are not JSON", 0) == broken
    assert all(one.tools and [turn.role for turn in one.prompt] == ["user"] for one in data.examples)
    rows = [json.loads(line) for line in path.read_text().split("\n") if line]
    calls = [row[side]["messages"] for row in rows for side in ("chosen", "reject")]
    written = sum(turn["role"] == "tool_call" for turns in calls for turn in turns)
    assert written == sum(
        len(turn.tool_calls)
        for one in data.examples
        for candidate in one.candidates
        for turn in getattr(candidate.response, "messages", ())
    )


def test_rows_to_score_keep_tools_and_calls() -> None:
    call = {"name": "f", "arguments": "{}"}
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Wait.", "tool_calls": [call]}]
    read = read_responses(row(messages=turns, tools=[WEATHER]))
    assert (read.prompt, read.tools) == ((Message("user", "?"),), (WEATHER,))
    assert read.responses == (Response([Message("assistant", "Wait.", [ToolCall("f", "{}")])]),)
    assert read.texts == ('Wait.\n\n{"name": "f", "arguments": {}}',)


def test_every_trajectory_of_a_row_to_score_is_a_response(rmbench_data: Path) -> None:
    rows = list(read_rows(rmbench_data / "plan_rewardbench" / "planning_single_easy.jsonl"))
    pairs = load_task("preference").read(rows)
    for one, pair in zip(map(read_responses, rows), pairs, strict=True):
        assert (one.prompt, one.tools) == (pair.prompt, pair.tools)
        assert one.texts == tuple(candidate.text for candidate in pair.candidates)
