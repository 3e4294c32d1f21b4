"""What has to be run: keys, dedup, batches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench.forwards.budget import Pace
from rmbench.forwards.cost import Cost
from rmbench.forwards.plan import Way, batches, plan
from rmbench.models.base import Encoded
from rmbench.scoring.keys import delivered, request_keys
from rmbench.types import USES, Criterion, Image, Message, Request, Response, ToolCall, Use

REQUEST = Request("reward", (Message("user", "2 + 2?"),), (Response("4"),))
TOOLS = ({"type": "function", "function": {"name": "add"}},)


def request_key(fingerprint: str, request: Request) -> bytes:
    """The key of a plain request by its definition; `request_keys` makes it in parts."""
    prompt = [2, fingerprint, request.ask, [[message.role, message.text] for message in request.prompt]]
    responses = [[response.text, response.steps] for response in request.responses]
    whole = json.dumps([*prompt, responses], separators=(",", ":"))
    begun = json.dumps(prompt, separators=(",", ":"))[:-1]
    return sha256(begun.encode()).digest()[:8] + sha256(whole.encode()).digest()[8:]


def key_of(request: Request, uses: Sequence[Use] = (), fingerprint: str = "f") -> bytes:
    (key,) = request_keys(fingerprint, [request], frozenset(uses))
    return key


@given(st.lists(st.integers(1, 300), max_size=80), st.integers(1, 600))
def test_batches_hold_every_sequence_once_within_the_budget(lengths: list[int], budget: int) -> None:
    planned = batches(lengths, budget)
    assert sorted(index for batch in planned for index in batch) == list(range(len(lengths)))
    for batch in planned:
        assert len(batch) == 1 or max(lengths[index] for index in batch) * len(batch) <= budget


@given(st.lists(st.integers(1, 300), min_size=1, max_size=80), st.integers(1, 600))
def test_batches_go_from_long_to_short(lengths: list[int], budget: int) -> None:
    flat = [lengths[index] for batch in batches(lengths, budget) for index in batch]
    assert flat == sorted(lengths, reverse=True)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 600), st.floats(0, 50))
def test_where_padding_is_work_no_sequence_is_padded_for_more_than_a_forward_costs(
    lengths: list[int], budget: int, start: float
) -> None:
    cost = Cost(token=1.0, pair=0.01, call=0.0, merge=0.0, start=start)
    planned = batches(lengths, budget, cost)
    assert sorted(index for batch in planned for index in batch) == list(range(len(lengths)))
    for batch in planned:
        width = max(lengths[index] for index in batch)
        assert all(cost.padded([width]) - cost.padded([lengths[index]]) <= start + 1e-9 for index in batch)
    alone = sum(cost.padded([length]) + start for length in lengths)
    assert sum(cost.padded([lengths[i] for i in batch]) + start for batch in planned) <= alone + 1e-6


def groups(*sizes: tuple[int, int, int]) -> list[Encoded]:
    """Of each size a prompt of so many tokens, and so many responses of so many."""
    made, token = [], 0
    for prompt, responses, tokens in sizes:
        token += 100
        beginning = [token] * prompt
        made += [Encoded([*beginning, *[token + 1 + i] * tokens], [0]) for i in range(responses)]
    return made


SHARED: frozenset[Way] = frozenset({"shared", "packed", "padded"})


@pytest.mark.parametrize(
    ("encoded", "pace", "budget", "tokens"),
    [
        (groups((100, 12, 10), (100, 12, 10)), Pace(8192, 256, 640), 8192, [220, 220]),  # each fits the usual size
        (groups((300, 12, 20)), Pace(8192, 256, 640), 8192, [540]),  # kept together: no forward lasts longer than 640
        (groups((1000, 12, 100)), Pace(8192, 512, 1280), 8192, [2200]),  # one alone takes 1100, so twice that
        (groups((1000, 12, 100)), Pace(8192, 512, 600), 1500, [1500, 1500, 1200]),  # but memory has the last word
        (groups((1000, 12, 100)), Pace(8192, 512, 9000), 1200, [1200] * 6),
        (groups((60, 2, 10), (300, 12, 20), (60, 2, 10)), Pace(8192, 256, 640), 8192, [540, 160]),
    ],
)
def test_what_begins_alike_stays_together_as_long_as_a_forward_may_last(
    encoded: list[Encoded], pace: Pace, budget: int, tokens: list[int]
) -> None:
    planned = plan(encoded, Cost(1, 0, 0, 0), budget, SHARED, pace)
    assert sorted((one.tokens for one in planned), reverse=True) == sorted(tokens, reverse=True)
    assert sorted(i for one in planned for i in one.members) == list(range(len(encoded)))
    for one in planned:
        alone = max(len(encoded[i].ids) for i in one.members)
        assert one.tokens <= budget
        assert one.tokens <= max(pace.size, pace.most, 2 * alone)


def test_a_key_changes_with_everything_a_model_can_see() -> None:
    call = Message("assistant", "", [ToolCall("add", "{}")])
    picture = Image("ab", "image/png", bytes)
    others = [
        replace(REQUEST, ask="steps"),
        replace(REQUEST, prompt=(Message("system", "2 + 2?"),)),
        replace(REQUEST, prompt=(Message("user", "2 + 2"), Message("user", "?"))),
        replace(REQUEST, prompt=(Message("user", ["2 + 2?", picture]),)),
        replace(REQUEST, prompt=(Message("user", ["2 + 2?", replace(picture, sha256="cd")]),)),
        replace(REQUEST, prompt=(Message("user", ["2 + 2?", replace(picture, media_type="image/webp")]),)),
        replace(REQUEST, prompt=(Message("user", "2 + 2?", name="Ann"),)),
        replace(REQUEST, prompt=(*REQUEST.prompt, call, Message("tool", "4", tool_call_id="1"))),
        replace(REQUEST, responses=(Response("5"),)),
        replace(REQUEST, responses=(Response([call]),)),
        replace(REQUEST, responses=(Response([call, Message("tool", "4"), Message("assistant", "4")]),)),
        replace(REQUEST, ask="steps", responses=(Response("4", steps=("4",)),)),
        replace(REQUEST, ask="steps", responses=(Response("4", steps="turns"),)),
        replace(REQUEST, responses=(Response("4"), Response("5"))),
        replace(REQUEST, responses=(Response("5"), Response("4"))),
        replace(REQUEST, reference="4"),
        replace(REQUEST, criteria=(Criterion("is right"),)),
        replace(REQUEST, criteria=(Criterion("is right", 2.0),)),
        replace(REQUEST, tools=TOOLS),
        replace(REQUEST, tools=({"a": 1, "b": 2},)),
        replace(REQUEST, tools=({"b": 2, "a": 1},)),
        replace(REQUEST, tools=({"b": 2, "a": 1.0},)),
        replace(REQUEST, tools=({"b": 2, "a": True},)),
        replace(REQUEST, reference=""),
    ]
    keys = {key_of(request, USES) for request in (REQUEST, *others)} | {key_of(REQUEST, USES, "g")}
    assert len(keys) == len(others) + 2
    assert keys == {*request_keys("f", [*others, REQUEST], frozenset(USES)), key_of(REQUEST, USES, "g")}


def test_what_a_model_does_not_use_is_no_part_of_its_key_and_is_not_delivered() -> None:
    more = replace(REQUEST, reference="4", criteria=(Criterion("is right"),), tools=TOOLS)
    assert key_of(more) == key_of(REQUEST)
    assert delivered(more, frozenset()) == REQUEST
    for use in ("reference", "criteria", "tools"):
        assert key_of(more, [use]) != key_of(REQUEST, [use])
        assert getattr(delivered(more, frozenset({use})), use) == getattr(more, use)


def test_of_a_response_only_its_messages_are_delivered_and_steps_where_they_are_asked_about() -> None:
    written = Response("4", ("4",), tokens=1, finish="stop", cap=8)
    assert delivered(replace(REQUEST, responses=(written,)), frozenset()) == REQUEST
    asked = replace(REQUEST, ask="steps", responses=(written,))
    assert delivered(asked, frozenset()).responses == (Response("4", ("4",)),)
    assert key_of(replace(REQUEST, responses=(written,))) == key_of(REQUEST)


def test_a_lone_surrogate_has_a_key() -> None:
    assert len(request_key("f", replace(REQUEST, responses=(Response("\ud800"),)))) == 32


TEXTS = st.text(max_size=6)
RESPONSES = st.builds(Response, st.none() | TEXTS, st.none() | st.lists(TEXTS, max_size=3).map(tuple), tokens=st.none())
REQUESTS = st.builds(
    Request,
    st.sampled_from(["reward", "steps", "tokens", "compare"]),
    st.lists(st.builds(Message, st.sampled_from(["user", "system"]), TEXTS), max_size=2).map(tuple),
    st.lists(RESPONSES, min_size=1, max_size=3).map(tuple),
    reference=st.none() | TEXTS,
)


@given(st.lists(REQUESTS, max_size=6).map(lambda some: [*some, *some[::-1]]))
def test_the_keys_of_a_run_are_those_of_what_reaches_the_model(requests: list[Request]) -> None:
    keys = list(request_keys("f", requests))
    for request, key in zip(requests, keys, strict=True):
        assert key == request_key("f", delivered(request, frozenset()))
        others = [other for other, seen in zip(requests, keys, strict=True) if seen[:8] == key[:8]]
        assert {(other.ask, other.prompt) for other in others} == {(request.ask, request.prompt)}


def test_keys_stay_what_they_were_in_stores_that_exist() -> None:
    assert key_of(REQUEST).hex() == "aea003509686838a5ca9a7f6a52f97755bba5913b1e64069297940a3b24c148c"
