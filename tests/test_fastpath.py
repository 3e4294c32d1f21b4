"""Off the table, or where the self-check fails, rewards are those of one forward at a time, and the reason is told."""

from __future__ import annotations

import json
import random
import sys
import warnings
from collections import Counter
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
import torch
from ask_models import score
from cards import Card
from real_models import VOCABULARY, RealTokenModel, backbone, drawn, requests_of, watched

from rmbench.checkpoints import weights
from rmbench.device import standing_in
from rmbench.forwards import attention, fastpath, loop
from rmbench.forwards.cost import cost_of
from rmbench.forwards.fastpath import route, tabled
from rmbench.forwards.shallow import shallow
from rmbench.types import Request

pytestmark = pytest.mark.usefixtures("one_thread")

TINY: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 1,
}


def conversations(seed: int = 0, longest: int = 40) -> list[Request]:
    some = random.Random(seed)
    made = []
    for _ in range(5):
        prompt = some.choices(range(4, VOCABULARY), k=some.randint(2, longest))
        for _ in range(3):
            made += requests_of(prompt, some.choices(range(4, VOCABULARY), k=some.randint(2, longest)))
    return made


def padded_only(model: RealTokenModel, requests: list[Request], budget: int = 300, tolerance: float = 1e-5) -> None:
    """Rewards are right, no forward was packed, and none of it was refused by a check: the table knew."""
    with watched() as taken, warnings.catch_warnings():
        warnings.simplefilter("error")
        score(model, requests, token_budget=budget)
    assert set(taken) == {"padded"}
    worst = model.worst(requests)
    assert worst <= tolerance, f"{worst:.1e} off"


@pytest.mark.parametrize(
    ("architecture", "values", "reason"),
    [
        ("deberta-v2", {}, "deberta-v2 is not in the table of tested architectures"),
        ("llama", {"layer_types": ["full_attention", "linear_attention"]}, "layers of type linear_attention"),
        ("llama", {"attention_chunk_size": 8}, "chunks"),
    ],
)
def test_what_is_not_plain_attention_is_padded(architecture: str, values: dict[str, Any], reason: str) -> None:
    settings = {key: value for key, value in values.items() if key != "layer_types"}
    network = backbone(architecture, **settings)
    for name, value in values.items():
        setattr(network.config, name, value)
    model = RealTokenModel(network, layout="encoder" if architecture == "deberta-v2" else "causal")
    assert tabled(model).reason == reason
    padded_only(model, conversations())


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text"])
def test_a_decoder_that_looks_both_ways_runs_one_sequence_at_a_time(architecture: str) -> None:
    """Neither packed nor padded: a token would see the padding behind it."""
    network = backbone(architecture, is_causal=False, use_bidirectional_attention=True)
    model = RealTokenModel(network)
    assert (tabled(model).reason, tabled(model).alone) == ("attention in both directions", True)
    padded_only(model, conversations())


@pytest.mark.parametrize(
    ("config", "values"),
    [
        ("MambaConfig", {"state_size": 4}),
        ("Qwen3NextConfig", {"head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 2,
                             "linear_key_head_dim": 8, "linear_value_head_dim": 8, "num_experts": 2,
                             "num_experts_per_tok": 1, "moe_intermediate_size": 16,
                             "shared_expert_intermediate_size": 16,
                             "layer_types": ["linear_attention", "full_attention"]}),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_state_spaces_are_padded(config: str, values: dict[str, Any]) -> None:
    import transformers

    given = {**TINY, **values}
    if config == "MambaConfig":
        given = {key: given[key] for key in given if key not in ("intermediate_size", "num_attention_heads")}
    network = drawn(transformers.AutoModel, getattr(transformers, config)(**given))
    model = RealTokenModel(network, layout="causal")
    assert "not in the table" in tabled(model).reason
    padded_only(model, conversations(longest=12), tolerance=1e-4)  # scans add up in another order


def rope(**values: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_theta": 1e4, **values}}


@pytest.mark.parametrize(
    ("architecture", "values"),
    [
        ("phi3", {**rope(rope_type="longrope", short_factor=[1.0] * 4, long_factor=[4.0] * 4, factor=4.0,
                         original_max_position_embeddings=32, partial_rotary_factor=1.0),
                  "original_max_position_embeddings": 32}),
        ("llama", rope(rope_type="dynamic", factor=4.0)),
    ],
)  # fmt: skip
def test_ropes_that_look_at_the_batch_run_one_sequence_at_a_time(architecture: str, values: dict[str, Any]) -> None:
    network = backbone(architecture, **values)
    model = RealTokenModel(network)
    assert "depends on the longest of a batch" in tabled(model).reason
    shapes: list[tuple[int, ...]] = []
    network.register_forward_pre_hook(lambda _, __, given: shapes.append(given["input_ids"].shape), with_kwargs=True)
    requests = conversations(longest=40)  # on both sides of longrope's 32
    with watched() as taken:
        score(model, requests, token_budget=1000)
    assert set(taken) == {"padded"}
    assert {shape[0] for shape in shapes} == {1}
    assert model.worst(requests) <= 1e-5


def test_longrope_would_differ_in_a_batch() -> None:
    """Why they run alone: a neighbour longer than 32 changes a short one."""
    values = {**rope(rope_type="longrope", short_factor=[1.0] * 4, long_factor=[4.0] * 4, factor=4.0,
                     original_max_position_embeddings=32, partial_rotary_factor=1.0),
              "original_max_position_embeddings": 32}  # fmt: skip
    model = RealTokenModel(backbone("phi3", **values))
    requests = conversations(longest=40)
    taken_for_steady = patch.object(weights, "_STEADY_ROPES", frozenset({"default", "longrope"}))
    with taken_for_steady, pytest.warns(UserWarning, match="packed forwards are not used"):  # the check sees it too
        score(model, requests, token_budget=1000)
    assert model.worst(requests) > 1e-3


def test_code_that_is_not_transformers_own_is_padded() -> None:
    from transformers.models.llama.modeling_llama import LlamaModel

    module = ModuleType("transformers_modules.remote")
    remote = type("RemoteModel", (LlamaModel,), {"__module__": module.__name__})
    with patch.dict(sys.modules, {module.__name__: module}):
        network = remote(backbone("llama").config).eval()
    model = RealTokenModel(network, layout="causal")
    assert tabled(model).reason == "RemoteModel is not code of transformers"
    padded_only(model, conversations())


def with_warning(model: RealTokenModel, requests: list[Request]) -> tuple[str, Counter[str]]:
    with watched() as taken, pytest.warns(UserWarning, match="packed forwards are not used") as caught:
        score(model, requests, token_budget=300)
    (warning,) = caught
    assert model.worst(requests) <= 1e-5
    assert set(taken) == {"padded"}
    return str(warning.message), taken


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_a_kernel_that_leaks_is_caught_and_results_stay_right(architecture: str) -> None:
    def leaking(module: Any, query: Any, key: Any, value: Any, mask: Any, **given: Any) -> Any:
        causal = given["packed_causal"]
        heads = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(heads, 1), value.repeat_interleave(heads, 1)
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
        return out.transpose(1, 2), None

    with patch.object(attention, "packed_attention", leaking):
        message, _ = with_warning(RealTokenModel(backbone(architecture)), conversations())
    assert "tests/real: " in message
    assert "hidden states are off by" in message


def test_a_merge_that_is_wrong_is_caught() -> None:
    own = attention._flash

    def unmerged(*given: Any, causal: bool, **more: Any) -> Any:
        out, log = own(*given, causal=causal, **more)
        return out, log if causal else log - 3  # a shared prefix weighs too little

    with patch.object(attention, "_flash", unmerged):
        message, _ = with_warning(RealTokenModel(backbone("llama")), conversations())
    assert "hidden states are off by" in message


@pytest.mark.parametrize("error", [RuntimeError("no kernel for this head size"), NotImplementedError(), TypeError("x")])
def test_a_kernel_that_raises_is_caught_with_its_reason(error: Exception) -> None:
    def raising(*_: Any, **__: Any) -> Any:
        raise error

    with patch.object(attention, "packed_attention", raising):
        message, _ = with_warning(RealTokenModel(backbone("llama")), conversations())
    assert type(error).__name__ in message
    assert str(error) in message


def test_a_kernel_that_gives_nan_is_caught() -> None:
    own = attention.packed_attention

    def spoilt(*given: Any, **more: Any) -> Any:
        out, _ = own(*given, **more)
        return out * float("nan"), None

    with patch.object(attention, "packed_attention", spoilt):
        message, _ = with_warning(RealTokenModel(backbone("llama")), conversations())
    assert "nan" in message


def test_the_check_runs_once_for_a_model() -> None:
    model = RealTokenModel(backbone("llama"))
    encoded = model.encode(conversations())
    with patch.object(fastpath, "hidden_states", wraps=fastpath.hidden_states) as runs:
        first = route(model, encoded)
        count = runs.call_count
        assert route(model, encoded) is first
    assert 0 < count == runs.call_count


def long_conversations(tokens: int, groups: int = 8) -> list[Request]:
    """Prompts of so many tokens with three responses each, which begin alike."""
    some = random.Random(1)
    made = []
    for _ in range(groups):
        prompt = some.choices(range(4, VOCABULARY), k=tokens)
        for _ in range(3):
            made += requests_of(prompt, some.choices(range(4, VOCABULARY), k=some.randint(2, 40)), ("reward",))
    return made


def late_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    own = loop.positions
    monkeypatch.setattr(loop, "positions", lambda tree, network: own(tree, network).clip(max=220))


def late_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    own = attention._flash

    def flash(*given: Any, causal: bool, **more: Any) -> Any:
        out, log = own(*given, causal=causal, **more)
        start, stop = given[4]
        return out, log - (0 if causal or stop - start < 200 else 1)  # a long prefix weighs too little

    monkeypatch.setattr(attention, "_flash", flash)


def late_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    own = attention.packed_attention

    def forgetful(module: Any, query: Any, key: Any, value: Any, mask: Any, **given: Any) -> Any:
        out, weights = own(module, query, key, value, mask, **given)
        places = torch.from_numpy(given["packed"].positions)
        return torch.where((places > 210)[None, :, None, None], 0.9 * out, out), weights

    monkeypatch.setattr(attention, "packed_attention", forgetful)


@pytest.mark.parametrize("plant", [late_positions, late_merges, late_keys])
def test_a_fault_that_only_long_sequences_show_is_caught(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    message, _ = with_warning(RealTokenModel(backbone("llama")), long_conversations(240))
    assert "hidden states are off by" in message


def test_longer_sequences_later_have_the_check_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    late_keys(monkeypatch)
    model = RealTokenModel(backbone("llama"))
    assert "shared" in route(model, model.encode(conversations())).ways  # nothing of these is long enough to show it
    with pytest.warns(UserWarning, match="packed forwards are not used"):
        assert route(model, model.encode(long_conversations(240))).ways == {"padded"}


@pytest.mark.parametrize(("tokens", "most"), [(900, 2 * 160 + 2 * 1024), (30, 3 * 160)])
def test_a_check_has_an_end_however_long_the_sequences_are(tokens: int, most: int) -> None:
    model = RealTokenModel(backbone("llama", max_position_embeddings=4096))
    encoded = model.encode(long_conversations(tokens))
    with patch.object(fastpath, "hidden_states", wraps=fastpath.hidden_states) as runs:
        route(model, [*encoded, *model.encode(long_conversations(3 * tokens, groups=1))])
    alone = [call.args[1][0] for call in runs.call_args_list if call.args[2].way == "padded"]
    assert sum(len(one.ids) for one in alone) <= most
    assert max(len(one.ids) for one in alone) <= 1024


def deep(layers: int = 12, **values: Any) -> Any:
    return backbone("llama", num_hidden_layers=layers, **values)


def test_a_check_runs_a_few_layers_and_leaves_the_model_as_it_was() -> None:
    network = deep()
    layers = list(network.layers)
    model = RealTokenModel(network)
    ran: list[int] = []
    for place, layer in enumerate(layers):
        layer.register_forward_pre_hook(lambda *_, place=place: ran.append(place))
    assert "shared" in route(model, model.encode(conversations())).ways
    assert set(ran) == {0, 1}
    assert list(network.layers) == layers
    assert network.config._attn_implementation == "sdpa"
    requests = conversations(1)
    score(model, requests)
    assert max(ran) == 11
    assert model.worst(requests) <= 1e-5


@pytest.mark.parametrize("place", [1, 5, 11])
def test_a_layer_unlike_the_others_is_part_of_the_check(place: int) -> None:
    """Settings, code or a hook of its own: each makes it another kind of layer."""
    network = deep()
    own = network.layers[place].self_attn.forward

    def leaking(hidden_states: Any, *given: Any, **more: Any) -> Any:
        out, weights = own(hidden_states, *given, **more)
        return out + (hidden_states.mean(1, keepdim=True) if "packed" in more else 0), weights

    network.layers[place].self_attn.forward = leaking
    with pytest.warns(UserWarning, match="hidden states are off by"):
        route(RealTokenModel(network), RealTokenModel(network).encode(conversations()))


def test_kinds_of_layers_are_told_apart_by_settings_shapes_and_types() -> None:
    assert shallow(deep(), "causal").share == 2 / 12
    other = deep()
    other.layers[6].self_attn.scaling *= 2
    assert shallow(other, "causal").share == 7 / 12
    types = ["full_attention"] * 3 + ["sliding_attention"] + ["full_attention"] * 8
    mixed = backbone("qwen2", num_hidden_layers=12, layer_types=types, use_sliding_window=True, sliding_window=8)
    assert shallow(mixed, "causal").share == 4 / 12
    nested = shallow(backbone("bert", num_hidden_layers=6), "encoder")
    assert (nested.share, len(nested.backbone.encoder.layer)) == (2 / 6, 2)
    assert shallow(backbone("gpt2", num_hidden_layers=6), "causal").share == 2 / 6
    assert shallow(torch.nn.Linear(2, 2), "causal").share == 1.0


def small_and_large() -> tuple[list[Request], list[Request]]:
    return conversations()[:2], long_conversations(300, groups=40)


def test_what_is_too_little_to_pay_for_a_check_is_run_plainly_and_the_rest_is_checked() -> None:
    model = RealTokenModel(deep(hidden_size=256, intermediate_size=512))
    cost = cost_of(model.backbone)
    little, much = small_and_large()
    with patch.object(fastpath, "hidden_states", wraps=fastpath.hidden_states) as runs:
        path = route(model, model.encode(little), cost)
        assert (path.ways, runs.call_count) == ({"padded"}, 0)
        assert "too little" in path.reason
        assert "shared" in route(model, model.encode(much), cost).ways
        assert runs.call_count > 0


def test_on_a_gpu_a_check_is_always_made() -> None:
    model = RealTokenModel(backbone("llama"))
    with standing_in({"cuda:0": Card(2**30, attention="flash")}):
        assert "shared" in route(model, model.encode(conversations()[:2]), cost_of(model.backbone)).ways


class Kept:
    """A place for verdicts, as a store is."""

    def __init__(self) -> None:
        self.verdict: Any = None

    def get(self) -> Any:
        return self.verdict

    def put(self, verdict: Any) -> None:
        self.verdict = json.loads(json.dumps(verdict))


def test_a_verdict_is_kept_good_or_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept()
    first, second = (RealTokenModel(backbone("llama")) for _ in range(2))
    checked = route(first, first.encode(conversations()), None, kept)
    with patch.object(fastpath, "hidden_states", side_effect=AssertionError("checked again")):
        assert route(second, second.encode(conversations()), None, kept) == checked
    late_merges(monkeypatch)
    bad, third, fourth = Kept(), RealTokenModel(backbone("llama")), RealTokenModel(backbone("llama"))
    with pytest.warns(UserWarning, match="packed forwards are not used"):
        route(third, third.encode(long_conversations(240)), None, bad)
    with pytest.warns(UserWarning, match="packed forwards are not used"):  # told each time
        assert route(fourth, fourth.encode(long_conversations(240)), None, bad).ways == {"padded"}


def test_a_kept_verdict_opens_no_way_that_the_table_closes() -> None:
    kept = Kept()
    kept.put({"ways": ["packed", "padded", "shared"], "reason": "", "reach": 160, "rate": 1.0})
    model = RealTokenModel(backbone("gemma3_text", use_bidirectional_attention=True))
    assert route(model, model.encode(conversations()), None, kept).ways == {"padded"}


def test_a_model_s_own_attention_is_back_after_an_error() -> None:
    network = backbone("llama")

    def fail() -> None:
        with attention.attending(network):
            assert network.config._attn_implementation == attention.NAME
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert network.config._attn_implementation == "sdpa"


def test_sinks_stay_off_flex_attention() -> None:
    """Nobody has measured them there; windows and soft caps are what `test_the_way_of_cuda_...` measures."""
    model = RealTokenModel(backbone("gpt_oss"))
    assert tabled(model).ways == {"shared", "packed", "padded"}
    with standing_in({"cuda:0": Card(2**30, attention="flex")}):
        assert tabled(model).ways == {"padded"}
        assert "sinks" in tabled(model).reason
        for other in ("gemma2", "gemma3_text", "mistral"):
            assert tabled(RealTokenModel(backbone(other, sliding_window=8))).ways == {"shared", "packed", "padded"}
        assert tabled(RealTokenModel(backbone("modernbert", local_attention=8))).ways == {"packed", "padded"}


@pytest.mark.parametrize(
    ("architecture", "own"), [("mistral", "sliding_window"), ("gemma2", "softcap"), ("gpt_oss", "s_aux")]
)
def test_attention_that_forgets_what_a_layer_tells_it_is_caught(architecture: str, own: str) -> None:
    right = attention.packed_attention

    def forgetful(*given: Any, **more: Any) -> Any:
        assert more[own] is not None
        return right(*given, **{**more, own: None})

    tight = {"sliding_window": 8} if own == "sliding_window" else {"sliding_window": 512}
    cap = {"attn_logit_softcapping": 1.0} if own == "softcap" else {}
    with patch.object(attention, "packed_attention", forgetful):
        message, _ = with_warning(RealTokenModel(backbone(architecture, **tight, **cap)), conversations())
    assert "hidden states are off by" in message


@pytest.mark.parametrize("window", [300, 1100])
def test_a_window_that_ends_late_is_part_of_the_check(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of sequences that go on behind a window goes on behind it too."""
    own = attention._visible

    def late(tree: Any, queries: Any, keys: Any, width: Any) -> Any:
        return own(tree, queries, keys, width + (width == window))

    monkeypatch.setattr(attention, "_visible", late)
    network = backbone("mistral", sliding_window=window, max_position_embeddings=4096)
    model = RealTokenModel(network)
    assert "shared" in route(model, model.encode(long_conversations(window - 100))).ways
    with pytest.warns(UserWarning, match="hidden states are off by"):
        route(model, model.encode(long_conversations(window + 20, groups=1)))
