"""Packed and shared forwards give what one forward at a time gives, for every architecture of the table."""

from __future__ import annotations

import random
import warnings
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from ask_models import score
from cards import Card
from checkpoints import ARCHITECTURES
from hypothesis import given, settings
from hypothesis import strategies as st
from real_models import ASKS, FREE, VOCABULARY, RealTokenModel, backbone, requests_of, watched
from token_trees import Sequences, token_trees

from rmbench.device import Cpu, standing_in
from rmbench.forwards import attention, fastpath
from rmbench.forwards.attention import block_mask
from rmbench.forwards.fastpath import DECODERS, ENCODERS, tabled
from rmbench.forwards.loop import hidden_states
from rmbench.forwards.plan import Bin, plan
from rmbench.forwards.prefixes import common_prefixes, in_order, lay_out
from rmbench.models.base import Encoded
from rmbench.types import Request

pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = 1e-5
FULL = {"sliding_window": None}
VALUES: dict[str, dict[str, Any]] = {"mistral": FULL}


@cache
def tiny(architecture: str) -> Any:
    return backbone(architecture, **VALUES.get(architecture, {}))


def conversations(trees: Sequences, asks: tuple[Any, ...] = ASKS) -> list[Request]:
    """Each tree's sequence, halved into prompt and response, as every ask; its ids are as they were."""
    made: list[Request] = []
    for ids in trees:
        half = max(1, len(ids) // 2)
        made += requests_of(ids[:half], ids[half:] or [4], asks)
    return made


def random_trees(seed: int, count: int = 14, longest: int = 30) -> Sequences:
    drawn_ = random.Random(seed)
    made: Sequences = []
    for _ in range(count):
        other = drawn_.choice(made) if made and drawn_.random() < 0.7 else []
        own = drawn_.choices(range(VOCABULARY), k=drawn_.randint(2, longest))
        made.append(other[: drawn_.randint(0, len(other))] + own)
    return [*made, made[0]]


def assert_right(
    model: RealTokenModel, requests: list[Request], budget: int = 200, tolerance: float = TOLERANCE
) -> Any:
    """Rewards through the engine are those of one forward at a time; returns how many forwards took which way."""
    fastpath._routes.clear()
    with watched() as taken, warnings.catch_warnings():
        warnings.simplefilter("error")  # a fast path that is refused says so
        rewards = score(model, requests, token_budget=budget)
    assert [reward.status for reward in rewards] == ["ok"] * len(requests)
    worst = model.worst(requests)
    assert worst <= tolerance, f"{worst:.1e} off"
    # what was read is what the rewards are made of, each in its own place
    for request, reward, one in zip(requests, rewards, model.encode(requests), strict=True):
        states = model.states[tuple(one.ids), tuple(one.reads)]
        (again,) = RealTokenModel(model.backbone, mean=model.mean).read([states], [one])
        for name in ("values", "steps", "tokens"):
            numbers = pytest.approx(getattr(again, name), rel=1e-5, abs=1e-3)
            assert getattr(reward, name) == numbers, request
    return taken


def test_every_architecture_of_the_table_is_made_and_tested() -> None:
    assert set(ARCHITECTURES) >= DECODERS | ENCODERS


@pytest.mark.parametrize("architecture", sorted(DECODERS))
def test_decoders_share_prefixes(architecture: str) -> None:
    model = RealTokenModel(tiny(architecture))
    before = model.backbone.config._attn_implementation
    assert tabled(model).ways == {"shared", "packed", "padded"}
    for seed, budget in enumerate((60, 400)):
        taken = assert_right(model, conversations(random_trees(seed)), budget)
        assert taken["shared"], taken
    assert model.backbone.config._attn_implementation == before


@pytest.mark.parametrize("architecture", sorted(ENCODERS))
@pytest.mark.parametrize("mean", [False, True])
def test_encoders_are_packed(architecture: str, mean: bool) -> None:
    model = RealTokenModel(tiny(architecture), mean=mean)
    assert tabled(model).ways == {"packed", "padded"}
    for seed, budget in enumerate((60, 400)):
        taken = assert_right(model, conversations(random_trees(seed)), budget)
        assert taken["packed"], taken
        assert not taken["shared"]
    assert model.backbone.config._attn_implementation == "sdpa"


# the two families whose rows are made in different ways, over what hypothesis finds hard
@pytest.mark.parametrize("architecture", ["llama", "roberta"])
@given(trees=token_trees(most=8, longest=6, least=2), budget=st.integers(1, 120))
@settings(deadline=None, max_examples=25)
def test_trees_and_budgets_move_nothing(architecture: str, trees: Sequences, budget: int) -> None:
    assert_right(RealTokenModel(tiny(architecture)), conversations(trees), budget)


@given(trees=token_trees(most=8, longest=6, alphabet=3))
@settings(deadline=None, max_examples=40)
def test_every_position_of_a_row_is_what_it_is_alone(trees: Sequences) -> None:
    every_position(RealTokenModel(tiny("qwen2")), trees)


def every_position(model: RealTokenModel, trees: Sequences) -> None:
    encoded = [Encoded(ids, range(len(ids))) for ids in trees]
    for planned in plan(encoded, FREE, 1000, frozenset({"shared", "packed"})):
        found = hidden_states(model, [encoded[i] for i in planned.members], planned)
        for i, states in zip(planned.members, found, strict=True):
            (alone,) = hidden_states(model, [encoded[i]], Bin("padded", [0], len(trees[i]), 0.0))
            assert (states - alone).abs().max() <= TOLERANCE * alone.abs().max()


def test_tokens_that_reach_into_several_runs_merge_all_of_them() -> None:
    model = RealTokenModel(tiny("llama"))
    trees = [[a, a, *[b] * 2, *[c] * n] for a in (4, 5) for b in (6, 7) for c, n in ((8, 3), (9, 9), (10, 5))]
    encoded = [Encoded(ids, range(len(ids))) for ids in trees]
    (planned,) = plan(encoded, FREE, 1000, frozenset({"shared"}))
    assert planned.tree is not None
    assert planned.tree.nested
    found = hidden_states(model, [encoded[i] for i in planned.members], planned)
    for i, states in zip(planned.members, found, strict=True):
        (alone,) = hidden_states(model, [encoded[i]], Bin("padded", [0], len(trees[i]), 0.0))
        assert (states - alone).abs().max() <= TOLERANCE * alone.abs().max()


def long_prompts(groups: int = 3, prompt: int = 250, responses: int = 4) -> list[Request]:
    some = random.Random(1)
    made = []
    for _ in range(groups):
        shared = some.choices(range(4, VOCABULARY), k=prompt)
        for _ in range(responses):
            made += requests_of(shared, some.choices(range(4, VOCABULARY), k=some.randint(3, 20)), ("reward",))
    return made


def test_at_its_own_cost_a_tiny_model_shares_long_prompts() -> None:
    model = RealTokenModel(tiny("llama"))
    with watched(cost=None) as taken:
        score(model, long_prompts(), token_budget=1000)
    assert set(taken) == {"shared"}
    assert model.worst(long_prompts()) <= TOLERANCE


@pytest.mark.parametrize(
    ("architecture", "values"),
    [
        ("llama", {"num_key_value_heads": 1}),
        ("llama", {"num_key_value_heads": 4}),
        ("qwen3", {"head_dim": 24}),
        ("llama", {"head_dim": 40, "attention_bias": True, "mlp_bias": True}),
        ("mistral", {"sliding_window": 514}),  # as wide as there are positions
        ("phi3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0,
                                 "original_max_position_embeddings": 128}},
        ),
        (
            "llama",
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
                                 "high_freq_factor": 4.0, "original_max_position_embeddings": 128}},
        ),
        ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}),
    ],
)  # fmt: skip
def test_variants_of_decoders_share_prefixes(architecture: str, values: dict[str, Any]) -> None:
    model = RealTokenModel(backbone(architecture, **values))
    assert assert_right(model, conversations(random_trees(3)), 300)["shared"]


def test_qwen2_has_biases_that_count() -> None:
    network = tiny("qwen2")
    assert network.layers[0].self_attn.q_proj.bias.abs().min() > 0


@pytest.mark.parametrize("window", [4, 10, 64, 1000])
def test_modernbert_s_local_layers_see_their_window(window: int) -> None:
    """`local_attention` is both sides together; sequences are shorter and longer than it."""
    network = backbone("modernbert", local_attention=window)
    model = RealTokenModel(network, mean=True)
    trees = [[4 + (i * i + n) % 30 for i in range(n)] for n in (2, 3, 4, 5, 6, 9, 10, 11, 12, 33, 34, 63, 64, 65, 300)]
    with patch.object(attention, "_BAND", 16):
        taken = assert_right(model, conversations(trees, ("reward",)), 400)
    assert taken["packed"]
    assert any(layer.attn.sliding_window == window // 2 + 1 for layer in network.layers)


@pytest.mark.parametrize("architecture", ["roberta", "xlm-roberta"])
def test_a_pad_id_inside_a_text_has_roberta_s_own_position(architecture: str) -> None:
    model = RealTokenModel(tiny(architecture), mean=True)
    trees = [[5, 6, 1, 7, 8], [1, 1, 9], [9, 1, 1], [4, 5, 6, 7, 1, 1, 1, 9, 10, 11]]
    encoded = [Encoded(ids, range(len(ids))) for ids in trees]
    planned = plan(encoded, FREE, 1000, frozenset({"packed"}))
    assert [one.way for one in planned] == ["packed"]
    # transformers counts pads from the ids alone, so its own forward needs no help
    found = hidden_states(model, [encoded[i] for i in planned[0].members], planned[0])
    for i, states in zip(planned[0].members, found, strict=True):
        with torch.inference_mode():
            alone = model.backbone(input_ids=torch.tensor([trees[i]])).last_hidden_state[0]
        assert (states - alone).abs().max() <= TOLERANCE * alone.abs().max()


def test_bert_s_token_types_stay_with_their_tokens() -> None:
    model, other = RealTokenModel(tiny("bert"), mean=True), RealTokenModel(tiny("bert"), mean=True)
    model.typed = True
    requests = conversations(random_trees(4), ("reward",))
    assert assert_right(model, requests)["packed"]
    score(other, requests)
    assert any(not torch.allclose(model.states[key], other.states[key]) for key in model.states)


@pytest.mark.parametrize("architecture", sorted(ENCODERS))
def test_a_row_may_be_longer_than_an_encoder_s_positions(architecture: str) -> None:
    trees = [[4 + (i * 7 + n) % 30 for i in range(n)] for n in (510, 200, 300, 30)]
    taken = assert_right(RealTokenModel(tiny(architecture)), conversations(trees, ("reward",)), 2100)
    assert taken == {"packed": 1}


def test_empty_responses_and_single_tokens() -> None:
    """The shortest are what the self-check runs; here they read nothing, or have one token."""
    model = RealTokenModel(tiny("llama"))
    requests = [*requests_of([5], [], ("tokens",)), *requests_of([5, 6], [], ("tokens",))]
    requests += [*requests_of([7], [], ("reward",)), *conversations(random_trees(5))]
    assert assert_right(model, requests)["shared"]


@pytest.mark.parametrize("architecture", ["llama", "modernbert"])
def test_float64_keeps_its_precision(architecture: str) -> None:
    model = RealTokenModel(backbone(architecture, torch.float64))
    taken = assert_right(model, conversations(random_trees(6)), tolerance=1e-12)
    assert taken["shared"] or taken["packed"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma2", "bert", "modernbert"])
def test_half_precision_is_as_far_from_float32_as_alone(architecture: str, dtype: torch.dtype) -> None:
    model = RealTokenModel(backbone(architecture, dtype))
    requests = conversations(random_trees(7), ("reward", "tokens"))
    with watched() as taken:
        score(model, requests, token_budget=300)
    assert taken["shared"] or taken["packed"]
    exact = RealTokenModel(model.backbone.float())
    exact.states = model.states
    packed = exact.worst(requests)
    alone = RealTokenModel(backbone(architecture, dtype))
    score(alone, requests, token_budget=1)
    exact.states = alone.states
    assert packed <= 2 * exact.worst(requests) + 1e-3


SLIDING = {"use_sliding_window": True, "max_window_layers": 1}  # the second layer only
ENDLESS = {"sliding_window": 514}
WINDOWED = {"mistral": {}, "mixtral": {}, "phi3": {}, "starcoder2": {}, "qwen2": SLIDING, "qwen3": SLIDING,
            "qwen3_moe": SLIDING, "gemma2": {}, "gemma3_text": {}, "gpt_oss": {}, "olmo3": {}}  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "window"), [*((one, 5) for one in WINDOWED), *(("gemma3_text", one) for one in (1, 17))]
)
def test_windows_end_where_they_end_alone(architecture: str, window: int) -> None:
    """Shorter than sequences and than what they share, as long as both, and of one token, which sees itself only."""
    values = {**WINDOWED[architecture], "sliding_window": window}
    model, endless = (RealTokenModel(backbone(architecture, **{**values, **one})) for one in ({}, ENDLESS))
    requests = conversations([*random_trees(0, 8), *random_trees(window, 2, 60)], ("tokens", "reward"))
    with patch.object(attention, "_BAND", 4 if window % 2 else 256):
        assert assert_right(model, requests, 500)["shared"]
    score(endless, requests)
    apart = [float((model.states[key] - endless.states[key]).abs().max()) for key in model.states if len(key[1])]
    assert max(apart) > 1e-3


def test_the_layers_of_an_architecture_with_both_kinds_are_of_both_kinds() -> None:
    for architecture in ("gemma2", "gemma3_text", "gpt_oss", "olmo3"):
        windows = [layer.self_attn.sliding_window for layer in tiny(architecture).layers]
        assert windows == [16, None]


@pytest.mark.parametrize("cap", [0.5, 5.0, 50.0])
def test_a_soft_cap_bends_scores_before_they_are_merged(cap: float) -> None:
    values = {"query_pre_attn_scalar": 2, "sliding_window": 7}  # scores of about 3
    model, plain = (RealTokenModel(backbone("gemma2", attn_logit_softcapping=one, **values)) for one in (cap, None))
    requests = conversations(random_trees(2))
    with patch.object(attention, "_BAND", 4):
        assert assert_right(model, requests, 400)["shared"]
        assert_right(plain, requests, 400)
    apart = max(float((model.states[key] - plain.states[key]).abs().max()) for key in model.states if len(key[1]))
    assert apart > 1e-2


def test_sinks_take_their_share_once() -> None:
    """Strong and weak ones, where a token reaches into no other run, into one and into several."""
    network = backbone("gpt_oss", sliding_window=7)
    for layer, values in zip(network.layers, ([4.0, 0.0, -4.0, 1.0], [30.0, -30.0, 2.0, 0.5]), strict=True):
        layer.self_attn.sinks.copy_(torch.tensor(values))
    trees = [[a, a, *[b] * 4, *[c] * n] for a in (4, 5) for b in (6, 7) for c, n in ((8, 3), (9, 9), (10, 5))]
    assert assert_right(RealTokenModel(network), conversations([*trees, *random_trees(9)]), 500)["shared"]


@given(trees=token_trees(most=8, longest=6, alphabet=3), window=st.integers(1, 12), band=st.integers(1, 6))
@settings(deadline=None, max_examples=15)
def test_every_position_of_a_row_sees_its_window(trees: Sequences, window: int, band: int) -> None:
    """Soft caps, sinks, both kinds of layers."""
    for architecture in ("gemma2", "gpt_oss"):
        network = tiny(architecture)
        network.layers[0].self_attn.sliding_window = network.config.sliding_window = window  # both look at it
        with patch.object(attention, "_BAND", band):
            every_position(RealTokenModel(network), trees)


@given(token_trees(most=8), st.booleans(), st.sampled_from([None, 1, 3, 6]))
@settings(deadline=None, max_examples=15)
def test_the_block_mask_is_the_tree_s_visibility(trees: Sequences, causal: bool, window: int | None) -> None:
    ids = [np.array(one, np.int32) for one in trees]
    ids = [ids[i] for i in in_order(ids)]
    common = common_prefixes(ids) if causal else np.zeros(len(ids), np.int64)
    tree = lay_out(ids, common, [range(len(one)) for one in ids])
    t = len(tree.ids)
    expected = torch.zeros(t, t, dtype=torch.bool)
    for places in tree.reads:
        for i, place in enumerate(places):
            seen = [j for j in range(len(places)) if window is None or abs(i - j) < window]
            expected[place, [places[j] for j in seen if j <= i or not causal]] = True
    mask = block_mask(tree, window, causal=causal, device=Cpu("cpu"))
    q, k = torch.meshgrid(torch.arange(t), torch.arange(t), indexing="ij")
    assert torch.equal(mask.mask_mod(torch.tensor(0), 0, q, k), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "bert", "modernbert"])
def test_the_way_of_cuda_runs_on_a_cpu_as_well(architecture: str) -> None:
    """FlexAttention, uncompiled, on the same masks that CUDA gets: with windows of five tokens, and soft caps."""
    from torch.nn.attention import flex_attention as flex
    from transformers.integrations import flex_attention as integration

    local = {"local_attention": 8} if architecture == "modernbert" else {"sliding_window": 5}
    model = RealTokenModel(backbone(architecture, **local if architecture not in ("llama", "bert") else {}))
    encoded = [Encoded(ids, range(len(ids))) for ids in random_trees(8, 6)]
    ways = frozenset({"shared", "packed"} if architecture in DECODERS else {"packed"})
    planned = plan(encoded, FREE, 1000, ways)
    uncompiled = patch.object(integration, "WrappedFlexAttention", lambda *_: lambda: flex.flex_attention)
    with standing_in({"cuda:0": Card(2**30, attention="flex", counts=False)}), uncompiled:
        found = [hidden_states(model, [encoded[i] for i in one.members], one) for one in planned]
    for one, states in zip(planned, found, strict=True):
        for i, some in zip(one.members, states, strict=True):
            (alone,) = hidden_states(model, [encoded[i]], Bin("padded", [0], 0, 0.0))
            assert (some - alone).abs().max() <= TOLERANCE * alone.abs().max()
