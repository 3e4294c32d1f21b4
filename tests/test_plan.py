"""What has to be run: keys, dedup, batches."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from rmbench.forwards.plan import batches
from rmbench.scoring.keys import distinct, request_keys
from rmbench.types import Message, Request, Response, Where

REQUEST = Request("reward", (Message("user", "2 + 2?"),), (Response("4"),), where=Where("set", "a", (0,)))


def request_key(fingerprint: str, request: Request) -> bytes:
    """The key by its definition; `request_keys` makes it in parts."""
    return sha256(
        json.dumps(
            [
                1,
                fingerprint,
                request.ask,
                request.reference,
                [[message.role, message.content] for message in request.prompt],
                [[response.text, response.steps] for response in request.shown],
            ],
            separators=(",", ":"),
        ).encode()
    ).digest()


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


def test_a_key_is_the_same_wherever_the_request_comes_from() -> None:
    assert request_key("f", REQUEST) == request_key("f", replace(REQUEST, where=None))


def test_a_key_changes_with_everything_a_model_can_see() -> None:
    others = [
        replace(REQUEST, ask="steps"),
        replace(REQUEST, prompt=(Message("system", "2 + 2?"),)),
        replace(REQUEST, prompt=(Message("user", "2 + 2"), Message("user", "?"))),
        replace(REQUEST, shown=(Response("5"),)),
        replace(REQUEST, shown=(Response("4", steps=("4",)),)),
        replace(REQUEST, shown=(Response("4"), Response("5"))),
        replace(REQUEST, shown=(Response("5"), Response("4"))),
        replace(REQUEST, reference="4"),
    ]
    keys = {request_key("f", request) for request in (REQUEST, *others)} | {request_key("g", REQUEST)}
    assert len(keys) == len(others) + 2


def test_a_lone_surrogate_has_a_key() -> None:
    assert len(request_key("f", replace(REQUEST, shown=(Response("\ud800"),)))) == 32


TEXTS = st.text(max_size=6)
RESPONSES = st.builds(Response, st.none() | TEXTS, st.none() | st.lists(TEXTS, max_size=3).map(tuple), tokens=st.none())
REQUESTS = st.builds(
    Request,
    st.sampled_from(["reward", "steps", "tokens", "compare"]),
    st.lists(st.builds(Message, st.sampled_from(["user", "system"]), TEXTS), max_size=2).map(tuple),
    st.lists(RESPONSES, min_size=1, max_size=3).map(tuple),
    st.none() | TEXTS,
    st.just(Where("set", "a", (0,))),
)


@given(st.lists(REQUESTS, max_size=6).map(lambda some: [*some, *some[::-1]]))
def test_the_keys_of_a_run_are_those_of_what_reaches_the_model(requests: list[Request]) -> None:
    found = list(request_keys("f", requests))
    for request, (digest, key) in zip(requests, found, strict=True):
        shown = request.shown if request.ask == "steps" else tuple(replace(one, steps=None) for one in request.shown)
        assert key == request_key("f", replace(request, shown=shown, where=None))
        others = [other for other, (seen, _) in zip(requests, found, strict=True) if seen == digest]
        assert {(other.ask, other.prompt, other.reference) for other in others} == {
            (request.ask, request.prompt, request.reference)
        }


def test_keys_stay_what_they_were_in_stores_that_exist() -> None:
    assert request_key("f", REQUEST).hex() == "ffc6c6e02b067481b5ac521af585025cfe7a98d121748b9771b848215f8142c4"


@given(st.lists(st.integers(0, 5)))
def test_distinct_keeps_every_position(keys: list[int]) -> None:
    found = distinct(keys)
    assert {i: key for key, places in found.items() for i in places} == dict(enumerate(keys))
    assert list(found) == list(dict.fromkeys(keys))
