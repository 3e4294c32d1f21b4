"""Memory that runs out: the same rewards, and a budget that comes back. What a forward costs, and what is held."""

from __future__ import annotations

import random
from functools import cache
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from ask_models import score
from cards import Card
from hypothesis import given, settings
from hypothesis import strategies as st
from real_models import VOCABULARY, RealTokenModel, backbone, requests_of, watched

from rmbench import scoring
from rmbench.device import standing_in
from rmbench.forwards import memory
from rmbench.forwards.budget import Pace, TokenBudget
from rmbench.forwards.cost import Cost, cost_of
from rmbench.forwards.estimate import budget_of
from rmbench.forwards.loop import run
from rmbench.forwards.memory import held
from rmbench.forwards.plan import plan
from rmbench.models.base import Encoded
from rmbench.scoring import Usage
from rmbench.types import Request

pytestmark = pytest.mark.usefixtures("one_thread")

MESSAGES = ["CUDA out of memory. Tried to allocate 1 GiB", "DefaultCPUAllocator: can't allocate memory: you tried"]


@cache
def network() -> Any:
    return backbone("llama")


def conversations(seed: int, groups: int = 4) -> list[Request]:
    some = random.Random(seed)
    made = []
    for _ in range(groups):
        prompt = some.choices(range(4, VOCABULARY), k=some.randint(2, 30))
        for _ in range(some.randint(1, 4)):
            made += requests_of(prompt, some.choices(range(4, VOCABULARY), k=some.randint(2, 30)))
    return made


class Failing:
    """The same network, which runs out of memory where `fails` says so of the ids' tokens and the forwards before."""

    def __init__(self, model: RealTokenModel, fails: Any, error: Exception | None = None) -> None:
        self.forwards, self.sizes = 0, list[int]()
        inner = model.backbone.forward

        def forward(**inputs: Any) -> Any:
            self.forwards += 1
            tokens = inputs["input_ids"].numel()
            if fails(tokens, self.forwards, inputs["input_ids"].shape):
                raise error or RuntimeError(MESSAGES[self.forwards % 2])
            self.sizes.append(tokens)
            return inner(**inputs)

        self.patched = patch.object(model.backbone, "forward", forward)


@given(seed=st.integers(0, 10**6), most=st.integers(70, 300), shy=st.floats(0, 0.6))
@settings(deadline=None, max_examples=6)
def test_memory_that_runs_out_at_random_changes_nothing(seed: int, most: int, shy: float) -> None:
    model, some = RealTokenModel(network()), random.Random(seed)
    requests = conversations(seed)
    score(model, requests[:1])  # the self-check is done
    model.states.clear()
    longest = max(len(one.ids) for one in model.encode(requests))

    def fails(tokens: int, count: int, shape: Any) -> bool:
        return tokens > max(most, longest) or (tokens > longest and some.random() < shy)

    failing = Failing(model, fails)
    with watched() as taken, failing.patched:
        rewards = score(model, requests, token_budget=2000)
    assert [reward.status for reward in rewards] == ["ok"] * len(requests)
    assert model.worst(requests) <= 1e-5
    assert taken.total() <= 40 * len(requests)  # it gets on
    assert max(failing.sizes) <= max(most, longest)


def test_only_a_sequence_that_cannot_fit_alone_is_an_error() -> None:
    model = RealTokenModel(network())
    requests = [*conversations(3), *requests_of([4] * 200, [5] * 100, ("reward",))]
    score(model, requests[:1])
    with watched(), Failing(model, lambda tokens, *_: tokens > 120).patched:
        rewards = score(model, requests, token_budget=2000)
    assert [reward.status for reward in rewards] == ["ok"] * (len(requests) - 1) + ["error"]
    assert rewards[-1].detail == "out of memory on a sequence of 300 tokens by itself"
    assert model.worst(requests[:-1]) <= 1e-5


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_each_way_of_saying_it_is_understood(error: Exception) -> None:
    model = RealTokenModel(network())
    requests = conversations(4)
    score(model, requests[:1])
    failing = Failing(model, lambda tokens, *_: tokens > 100, error)
    with watched(), failing.patched:
        assert {reward.status for reward in score(model, requests, token_budget=2000)} == {"ok"}
    assert max(failing.sizes) <= 100


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("odd")])
def test_another_error_is_not_swallowed(error: Exception) -> None:
    model = RealTokenModel(network())
    requests = conversations(5)
    score(model, requests[:1])
    with watched(), Failing(model, lambda _, count, __: count == 2, error).patched, pytest.raises(type(error)):
        score(model, requests, token_budget=100)


def test_the_budget_comes_back_when_memory_does() -> None:
    model = RealTokenModel(network())
    encoded = [Encoded([4 + i % 30] * 10, [9], note=1) for i in range(30)] * 20
    failing = Failing(model, lambda _, count, shape: count <= 3 and shape[0] > 1)
    budget = TokenBudget(400)
    with failing.patched:
        done = [
            (planned.tokens, len(planned.members))
            for planned, _ in run(
                model,
                encoded,
                lambda some, tokens: plan(some, Cost(1, 0, 0, 0), tokens, frozenset({"padded"})),
                budget,
            )
        ]
    assert sum(members for _, members in done) == len(encoded)
    assert done[0][0] == 50
    assert (max(tokens for tokens, _ in done), budget.now) == (400, 400)


def test_a_budget_halves_below_what_failed_and_is_never_nothing() -> None:
    budget = TokenBudget(1000)
    budget.failed(300)
    assert budget.now == 150
    for _ in range(20):
        budget.failed(budget.now)
    assert budget.now == 1


def test_a_budget_grows_after_some_that_fit_up_to_its_limit() -> None:
    budget = TokenBudget(1000)
    assert not any(budget.worked() for _ in range(100))
    budget.failed(1000)
    budget.failed(500)
    assert budget.now == 250
    sizes = []
    for _ in range(30):
        budget.worked()
        sizes.append(budget.now)
    assert (sizes[0], sizes[6], sizes[7], sizes[14], sizes[15], sizes[-1]) == (250, 250, 500, 500, 1000, 1000)


def test_a_size_that_fails_again_is_tried_ever_more_rarely() -> None:
    """Memory for 600: 1000 fails each time, also where it is the limit."""
    budget, tries = TokenBudget(1000), []
    for forward in range(2000):
        if budget.now > 600:
            tries.append(forward)
            budget.failed(budget.now)
        else:
            budget.worked()
    waits = [after - before for before, after in pairwise(tries)]
    assert len(tries) < 12
    assert waits[:4] == [9, 17, 33, 65]


def paced(limit: int, speed: Any, forwards: int = 40) -> tuple[Pace, list[tuple[int, float]]]:
    """A pace and the tokens and seconds of each forward, on a machine that does `speed(tokens)` tokens a second."""
    pace, ran = Pace(limit), []
    for _ in range(forwards):
        tokens = pace.size
        seconds = tokens / speed(tokens)
        ran.append((tokens, seconds))
        pace.ran(tokens, 10.0 * tokens, seconds)
    return pace, ran


@pytest.mark.parametrize("speed", [30.0, 100.0, 400.0, 900.0, 3000.0])
def test_forwards_start_small_and_grow_until_they_last_seconds(speed: float) -> None:
    pace, ran = paced(10**6, lambda _: speed)
    assert ran[0][0] == 512
    assert all(2.0 <= seconds <= 5.0 for _, seconds in ran[8:])
    assert all(after <= 2 * before for (before, _), (after, _) in pairwise(ran))
    assert pace.most == pytest.approx(5 * speed, rel=0.5)


def test_forwards_grow_no_further_than_the_limit() -> None:
    _, ran = paced(8192, lambda _: 1e6)
    assert [tokens for tokens, _ in ran[:6]] == [512, 1024, 2048, 4096, 8192, 8192]


def test_a_size_that_is_slower_than_its_half_is_given_up() -> None:
    _, ran = paced(10**6, lambda tokens: 2000.0 if tokens <= 2048 else 1500.0)
    assert max(tokens for tokens, _ in ran) == 4096
    assert {tokens for tokens, _ in ran[6:]} == {2048}


def test_one_slow_forward_is_no_verdict() -> None:
    pace = Pace(8192)
    pace.ran(512, 5120.0, 0.5)
    pace.ran(1024, 10240.0, 1.6)  # a neighbour worked
    for _ in range(6):
        pace.ran(pace.size, 10.0 * pace.size, pace.size / 1000)
    assert pace.size == 4096


def test_a_machine_that_becomes_slow_gets_smaller_forwards_and_larger_ones_when_it_is_free_again() -> None:
    slow = {True: 100.0, False: 1000.0}
    pace, sizes = Pace(8192), []
    for forward in range(40):
        pace.ran(pace.size, 10.0 * pace.size, pace.size / slow[10 <= forward < 20])
        sizes.append(pace.size)
    assert sizes[9] == 4096
    assert max(sizes[10:19]) <= 500
    assert sizes[-1] > 2000


def test_short_forwards_at_the_end_teach_nothing() -> None:
    pace = Pace(8192)
    for _ in range(5):
        pace.ran(pace.size, 1.0 * pace.size, pace.size / 1000)
    size = pace.size
    assert not pace.ran(10, 10.0, 0.5)
    assert pace.size == size


def test_only_a_cpu_has_a_pace_and_only_where_no_budget_was_asked_for() -> None:
    model = RealTokenModel(network())
    encoded = model.encode(conversations(1))
    with standing_in({"cuda:0": Card(10**9)}):
        assert budget_of(model, None, encoded).pace is None
    assert budget_of(model, 300, encoded).pace is None
    pace = budget_of(model, None, encoded).pace
    assert pace is not None
    assert pace.size == 512


def test_a_run_replans_what_is_left_when_its_forwards_may_be_larger() -> None:
    model = RealTokenModel(network())
    encoded = [Encoded([4 + i % 30] * 10, [9], note=1) for i in range(600)]
    budget = TokenBudget(8192, pace=Pace(8192, size=40))
    padded: frozenset[Any] = frozenset({"padded"})

    def planned(some: Any, tokens: int) -> Any:
        return plan(some, Cost(1, 0, 0, 0), tokens, padded, budget.pace)

    clock = iter(range(0, 10**6, 2))
    with patch("rmbench.forwards.loop.time", SimpleNamespace(perf_counter=lambda: next(clock) / 10**4)):
        done = [one for one, _ in run(model, encoded, planned, budget)]
    assert sorted(i for one in done for i in one.members) == list(range(600))
    assert [one.tokens for one in done[:5]] == [40, 80, 160, 320, 640]


def test_halving_more_than_once_is_not_failing_again() -> None:
    budget = TokenBudget(2**20)
    while budget.now > 1000:
        budget.failed(budget.now)
    fits = 0
    while budget.now < 2**20:
        budget.worked()
        fits += 1
    assert fits == 8 * 11


def test_the_cost_of_a_network_is_counted_from_its_weights_and_shape() -> None:
    model = network()
    cost = cost_of(model)
    weights = sum(weight.numel() for name, weight in model.named_parameters() if "embed" not in name)
    assert cost.token == 2 * weights
    assert cost.pair == 4 * 4 * 8 * 2  # heads, their size, layers
    assert min(cost.call, cost.merge) > 0
    wide = cost_of(backbone("llama", head_dim=16))
    assert (wide.pair, wide.merge) == (2 * cost.pair, 2 * cost.merge)
    assert cost_of(backbone("gpt2")).pair == cost.pair


def test_the_cost_of_what_has_no_config_is_its_weights() -> None:
    assert cost_of(torch.nn.Linear(3, 5, bias=False)).token == 30
    assert cost_of(torch.nn.Linear(3, 5)).pair == 0


def test_costs_of_batches() -> None:
    cost = Cost(token=10, pair=1, call=100, merge=5)
    assert cost.padded([3, 5]) == 2 * (50 + 25) + 100
    assert cost.packed([3, 5]) == 80 + 9 + 25 + 200
    assert cost.tree(tokens=7, pairs=9, calls=3, merged=2) == 70 + 9 + 300 + 10


class Libc(SimpleNamespace):
    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.options: dict[int, int] = {}

    def mallopt(self, option: int, value: int) -> int:
        self.options[option] = value
        return 1

    def malloc_trim(self, pad: int) -> int:
        self.calls.append(("trim", pad))
        return 1


def test_memory_is_held_and_given_back_also_after_an_error() -> None:
    libc = Libc()

    def fail() -> None:
        with held("cpu"):
            assert set(libc.options.values()) == {2**31 - 1}
            assert not libc.calls
            raise KeyError

    with patch.object(memory, "_glibc", lambda: libc), pytest.raises(KeyError):
        fail()
    assert libc.options == {-3: 32 * 2**20, -1: 64 * 2**20}
    assert libc.calls == [("trim", 0)]


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_other_devices_and_other_libraries_are_left_alone(device: str) -> None:
    libc = Libc()
    with patch.object(memory, "_glibc", lambda: libc), held(device):
        assert not libc.options
    with patch.object(memory, "_glibc", lambda: None), held("cpu"):
        pass


def test_memory_is_given_back_where_a_run_is_left_in_the_middle() -> None:
    libc = Libc()
    model = RealTokenModel(network())
    with patch.object(memory, "_glibc", lambda: libc):
        answers = scoring.windows.forwards(
            model, [(bytes([i]), one) for i, one in enumerate(conversations(1))], 50, Usage()
        )
        next(answers)
        assert not libc.calls
        answers.close()
    assert libc.calls == [("trim", 0)]


def test_usage_counts_each_sequence_s_tokens_whatever_was_shared() -> None:
    model, usage = RealTokenModel(network()), Usage()
    requests = conversations(2)
    with watched() as taken:
        score(model, requests, usage=usage, token_budget=300)
    encoded = {(tuple(one.ids), tuple(one.reads), one.ask): len(one.ids) for one in model.encode(requests)}
    assert taken["shared"]
    assert usage.batches == taken.total()
    assert (usage.requests, usage.token_budget) == (len(requests), 300)
    assert usage.unique == usage.scored == len(set(requests))
    # a note of the family's own keeps equal tokens of different requests apart
    assert usage.tokens >= sum(encoded.values())
