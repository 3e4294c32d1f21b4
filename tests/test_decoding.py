"""Rows that share, enter and leave write what `model.generate` writes for each prompt alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rmbench.checkpoints.forms import Form
from rmbench.errors import ModelError
from rmbench.models.base import Encoded, Subject
from rmbench.policies import decoding
from rmbench.policies.decoding import RowBudget
from rmbench.policies.local import Local
from rmbench.types import GenerationRequest, Message, Response

VOCAB, ENDS = 64, frozenset({3, 5, 9})
GREEDY = {"temperature": 0.0}
DRAWN = {"temperature": 1.0, "seed": 0}
NUCLEUS = {"temperature": 0.7, "top_p": 0.8, "seed": 4}
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 512, "head_dim": 8}  # fmt: skip
SHARING = ["llama", "qwen2", "mistral", "gpt_neox", "gpt2"]
ALONE = ["gemma2", "sliding", "bloom"]


class Numbers:
    """Prompts are token ids, and so are texts."""

    tokenizer = SimpleNamespace(decode=lambda ids, **_: " ".join(map(str, ids)))

    def encode_forms(self, forms: Sequence[Form]) -> list[Encoded]:
        return [Encoded([int(word) for word in str(form.messages[0].text).split()], ()) for form in forms]


@cache
def made(name: str) -> Local:
    import torch
    import transformers

    names = {"vocab_size": VOCAB, "initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": 3, "pad_token_id": 0}
    config: Any = {
        "llama": lambda: transformers.LlamaConfig(**names, **SIZES),
        "qwen2": lambda: transformers.Qwen2Config(**names, **SIZES),
        "mistral": lambda: transformers.MistralConfig(**names, **SIZES, sliding_window=None),
        "sliding": lambda: transformers.MistralConfig(**names, **SIZES, sliding_window=6),
        "gemma2": lambda: transformers.Gemma2Config(**names, **SIZES, sliding_window=6),
        "gpt_neox": lambda: transformers.GPTNeoXConfig(**names, **SIZES),
        "bloom": lambda: transformers.BloomConfig(**names, hidden_size=32, n_layer=2, n_head=4),
        "gpt2": lambda: transformers.GPT2Config(**names, n_embd=32, n_layer=2, n_head=4, n_positions=512),
    }[name]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    rendering: Any = Numbers()
    return Local(Subject(name, "local"), name, "tokens", model, rendering, ENDS, 16384, decoding.shares(model), 512)


def spelt(ids: list[int]) -> tuple[Message, ...]:
    return (Message("user", " ".join(map(str, ids))),)


def written(policy: Local, asked: list[GenerationRequest]) -> list[Response]:
    found = list(policy.generate(asked))
    assert sorted(index for index, _ in found) == list(range(len(asked)))
    return [response for _, response in sorted(found, key=lambda pair: pair[0])]


@cache
def _alone(name: str, prompt: tuple[Message, ...], sample: int, cap: int, sampling: tuple[Any, ...]) -> Response:
    [response] = written(replace(made(name), shares=False), [GenerationRequest(prompt, sample, cap, dict(sampling))])
    return response


def alone(name: str, asked: list[GenerationRequest]) -> list[Response]:
    """What `model.generate` writes of each by itself."""
    return [_alone(name, one.prompt, one.sample, one.cap or 0, tuple(sorted(one.sampling.items()))) for one in asked]


def some(seed: int, count: int, head: int = 0, longest: int = 12) -> list[list[int]]:
    drawn = random.Random(seed)
    begin = [drawn.randrange(VOCAB) for _ in range(head)]
    return [begin + [drawn.randrange(VOCAB) for _ in range(drawn.randint(1, longest))] for _ in range(count)]


@pytest.fixture(autouse=True)
def small_heads_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_FORWARD", 4)


@pytest.mark.parametrize(
    "name",
    [name if name in ("llama", "gpt2", "sliding") else pytest.param(name, marks=pytest.mark.prove)
     for name in SHARING + ALONE],
)  # fmt: skip
def test_what_has_a_plain_cache_shares_and_all_write_what_the_model_writes_alone(name: str) -> None:
    assert made(name).shares == (name in SHARING)
    prompts = [*some(1, 4, head=9), *some(2, 2), [7], [7], [3]]
    for sampling in (GREEDY, DRAWN, NUCLEUS):
        asked = [GenerationRequest(spelt(ids), sample, 14, sampling) for ids in prompts for sample in range(2)]
        expected = alone(name, asked)
        for budget in (16384, 100):
            assert written(replace(made(name), token_budget=budget), asked) == expected
        assert "stop" in {response.finish for response in expected}


@pytest.mark.parametrize("name", SHARING)
def test_texts_are_those_of_a_loop_without_a_cache(name: str) -> None:
    import torch

    policy = made(name)
    prompts = some(5, 5, head=6)
    responses = written(policy, [GenerationRequest(spelt(ids), 0, 20, GREEDY) for ids in prompts])
    for ids, response in zip(prompts, responses, strict=True):
        new: list[int] = []
        while len(new) < 20 and not ENDS & set(new):
            new.append(int(policy.model(torch.tensor([[*ids, *new]])).logits[0, -1].argmax()))
        stopped = new[-1] in ENDS
        kept = new[:-1] if stopped else new
        assert response == Response(" ".join(map(str, kept)), tokens=len(kept), finish="stop" if stopped else "length",
                                    cap=20)  # fmt: skip


TOKENS = st.integers(0, VOCAB - 1)


@st.composite
def asks(draw: Any) -> list[GenerationRequest]:
    """Prompts with and without a common head, some twice, several samples and caps, in any order."""
    head = draw(st.lists(TOKENS, max_size=8))
    tails = draw(st.lists(st.tuples(st.booleans(), st.lists(TOKENS, min_size=1, max_size=6)), min_size=1, max_size=5))
    prompts = [[*head, *tail] if shared else tail for shared, tail in tails]
    samples, caps = draw(st.integers(1, 3)), draw(st.sampled_from([[1], [2], [12], [1, 9]]))
    sampling = draw(st.sampled_from([GREEDY, DRAWN, NUCLEUS]))
    asked = [GenerationRequest(spelt(ids), n, cap, sampling) for ids in prompts for n in range(samples) for cap in caps]
    return list(draw(st.permutations(asked)))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asks(), st.sampled_from([1, 25, 90, 16384]), st.sampled_from(["llama", "gpt2"]))
def test_neither_batch_nor_order_moves_a_text(asked: list[GenerationRequest], budget: int, name: str) -> None:
    assert written(replace(made(name), token_budget=budget), asked) == alone(name, asked)


def test_a_response_may_end_with_its_first_token() -> None:
    asked = [GenerationRequest(spelt([7, 8]), sample, cap, DRAWN) for sample in range(8) for cap in (1, 5)]
    first = int((written(made("llama"), asked)[0].text or "").split()[0])
    policy = replace(made("llama"), ends=frozenset({first, 3}))
    responses = written(policy, asked)
    assert responses == [written(replace(policy, shares=False), [one])[0] for one in asked]
    assert responses[:2] == [Response("", tokens=0, finish="stop", cap=cap) for cap in (1, 5)]
    assert {response.finish for response in responses if response.cap == 1} == {"stop", "length"}


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Rows and columns of the ids of every forward of the llama."""
    model, seen = made("llama").model, []
    whole = model.forward

    def forward(**inputs: Any) -> Any:
        seen.append(tuple(inputs["input_ids"].shape))
        return whole(**inputs)

    monkeypatch.setattr(model, "forward", forward)
    return seen


def test_samples_share_their_prompt_and_prompts_their_head(forwards: list[tuple[int, int]]) -> None:
    policy = replace(made("llama"), ends=frozenset())
    asked = [GenerationRequest(spelt([*range(20), n, n]), sample, 6, DRAWN) for n in range(4) for sample in range(8)]
    written(policy, asked)
    assert forwards == [(1, 20), (4, 2), *[(32, 1)] * 5]
    forwards.clear()
    # Those of the last prompt that enter later find it there, and so does a prompt that begins like it
    written(replace(policy, token_budget=5 * 28), asked)
    assert [shape for shape in forwards if shape[1] > 1] == [(1, 22), (1, 2), (1, 2), (1, 2)]
    forwards.clear()
    written(policy, [replace(one, cap=1) for one in asked])
    assert forwards == [(1, 20), (4, 2)]


def test_rows_that_end_leave_and_others_enter(forwards: list[tuple[int, int]]) -> None:
    policy = replace(made("llama"), token_budget=16 * 70)
    asked = [GenerationRequest(spelt(ids), 0, 64, DRAWN) for ids in some(3, 120, longest=6)]
    responses = written(policy, asked)
    needed = sum(min((r.tokens or 0) + 1, 64) - 1 for r in responses)
    steps = [rows for rows, columns in forwards if columns == 1]
    assert max(steps) <= 20
    computed = sum(steps)
    assert needed <= computed <= 1.25 * needed
    # Batches of 16 that run until their last row ends would take at least
    batches = sum(max(r.tokens or 0 for r in responses[i : i + 16]) for i in range(0, 120, 16))
    assert len(steps) < 0.7 * batches


def test_a_response_is_there_as_soon_as_its_row_ends(forwards: list[tuple[int, int]]) -> None:
    import torch

    asked = [GenerationRequest(spelt(ids), 0, 64, DRAWN) for ids in some(3, 12)]
    at = []
    for _, response in made("llama").generate(asked):
        assert not torch.is_inference_mode_enabled()
        at.append((len(forwards), response.tokens))
    assert at == sorted(at, key=lambda pair: pair[0])
    assert [made for made, _ in at] == [min((tokens or 0) + 1, 64) for _, tokens in at]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asks(), st.integers(0, 10**6), st.sampled_from([90, 16384]))
def test_memory_that_runs_out_anywhere_moves_no_text(asked: list[GenerationRequest], seed: int, budget: int) -> None:
    drawn, policy = random.Random(seed), made("llama")

    def failing(whole: Any, rows: Any = lambda *_, **__: 2) -> Any:
        def run(*some: Any, **named: Any) -> Any:
            if rows(*some, **named) > 1 and drawn.random() < 0.15:
                raise drawn.choice([MemoryError(), RuntimeError("CUDA out of memory")])
            return whole(*some, **named)

        return run

    with pytest.MonkeyPatch.context() as patch:
        forward = failing(policy.model.forward, lambda **inputs: len(inputs["input_ids"]))
        expected = alone("llama", asked)
        patch.setattr(policy.model, "forward", forward)
        for name in ("keep", "join", "row"):
            patch.setattr(decoding._Block, name, failing(getattr(decoding._Block, name)))
        assert written(replace(policy, token_budget=budget), asked) == expected


def test_a_single_row_that_does_not_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = made("llama")
    asked = [GenerationRequest(spelt(ids), 0, 8, DRAWN) for ids in ([1, 2, 3], [4, 5])]
    whole = policy.model.forward

    def forward(**inputs: Any) -> Any:
        if inputs["attention_mask"].shape[1] > 4:
            raise MemoryError
        return whole(**inputs)

    monkeypatch.setattr(policy.model, "forward", forward)
    with pytest.raises(ModelError, match="llama: out of memory on a single prompt of 3 tokens with a cap of 8"):
        written(policy, asked)


def test_a_budget_is_halved_grows_back_and_grows_the_slower_the_more_often_it_was_halved() -> None:
    budget = RowBudget(1000)
    assert (budget.holds(100), budget.holds(5000)) == (10, 1)
    responses = []
    for _ in range(3):
        budget.halve(100, budget.holds(100))
        assert budget.tokens == 500
        responses.append(0)
        while budget.tokens < 1000:
            budget.ended(100)
            responses[-1] += 1
    assert responses == [40, 80, 160]
    budget.ended(10**9)
    assert budget.tokens == 1000


def test_a_batch_that_does_not_fit_is_halved_and_grows_again(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = replace(made("llama"), ends=frozenset(), token_budget=16 * 12)
    asked = [GenerationRequest(spelt([n % VOCAB, n // VOCAB, 1, 2]), 0, 8, DRAWN) for n in range(400)]
    expected, whole, sizes, room = written(policy, asked), policy.model.forward, [], [6]

    def forward(**inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if len(sizes) > 100:
            room[0] = 100
        if sizes[-1] > room[0]:
            raise RuntimeError("CUDA out of memory")
        return whole(**inputs)

    monkeypatch.setattr(policy.model, "forward", forward)
    assert written(policy, asked) == expected
    assert sizes[:3] == [16, 8, 4]
    assert sum(size > 6 for size in sizes[:100]) == 2
    assert max(sizes[-50:]) == 16
