"""Log-probabilities without logits of everything: equal to a softmax over all of them, in a room that does not grow."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checkpoints import bytes_bpe
from torch.utils._python_dispatch import TorchDispatchMode

from rmbench.checkpoints import vocabulary as module
from rmbench.checkpoints.vocabulary import Vocabulary, vocabulary_of
from rmbench.errors import ModelError

WIDTH = 8


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def asked(n: int, words: int, seed: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return drawn(n, WIDTH, seed=seed), torch.randint(words, (n,), generator=torch.Generator().manual_seed(seed))


def plain(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """As TRL and reward-bench write it: a softmax over every word, and one of them gathered."""
    return torch.gather(logits.log_softmax(-1), 1, targets[:, None])[:, 0]


class Largest(TorchDispatchMode):
    """Watches how many numbers the largest tensor has that anything makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and func._schema.name != "aten::t":
            self.numbers = max(self.numbers, made.numel())
        return made


@pytest.mark.parametrize(("n", "words"), [(1, 1), (3, 5), (700, 4096), (513, 4097), (30, 9000)])
def test_it_is_a_softmax_over_every_word(n: int, words: int) -> None:
    weight = drawn(words, WIDTH, seed=1)
    states, targets = asked(n, words)
    values = Vocabulary(weight, torch.float32).log_probabilities(states, targets)
    expected = plain((states.double() @ weight.double().T), targets)
    torch.testing.assert_close(values, expected.float(), rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize(
    "values", [{"bias": True}, {"scale": 0.0625}, {"cap": 3.0}, {"bias": True, "scale": 2.0, "cap": 5.0}]
)
def test_bias_scale_and_cap_come_before_the_softmax(values: dict[str, Any]) -> None:
    weight, bias = drawn(5000, WIDTH, seed=1), drawn(5000, seed=3) if values.pop("bias", False) else None
    states, targets = asked(600, 5000)
    vocabulary = Vocabulary(weight, torch.float32, bias, **values)
    logits = states @ weight.T + (0 if bias is None else bias)
    logits = logits * values.get("scale", 1)
    logits = torch.tanh(logits / values["cap"]) * values["cap"] if "cap" in values else logits
    torch.testing.assert_close(
        vocabulary.log_probabilities(states, targets), plain(logits, targets), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(vocabulary.logits_of(states, [7, 0, 4999]), logits[:, [7, 0, 4999]])


def test_no_more_than_a_tile_of_logits_exists_however_many_positions_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TILE", (16, 64))
    weight = drawn(1000, WIDTH, seed=1)
    rooms = []
    for n in (32, 2000):
        states, targets = asked(n, len(weight))
        with Largest() as room:
            values = Vocabulary(weight, torch.float32).log_probabilities(states, targets)
        torch.testing.assert_close(values, plain(states @ weight.T, targets), rtol=1e-5, atol=1e-5)
        rooms.append(room.numbers)
    assert rooms == [16 * 64, 2000], "of many positions a number each is more than the tile"


def test_halves_are_multiplied_in_float32_and_never_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TILE", (16, 64))
    weight = drawn(1000, WIDTH, seed=1, dtype=torch.bfloat16)
    states, targets = asked(40, len(weight))
    states = states.bfloat16()
    with Largest() as room:
        values = Vocabulary(weight, torch.float32).log_probabilities(states, targets)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, plain(states.float() @ weight.float().T, targets), rtol=1e-5, atol=1e-5)
    assert room.numbers == 16 * 64, "the vocabulary is never held in float32"
    rounded = plain((states @ weight.T).float(), targets)
    assert (values - rounded).abs().max() > 1e-3, "logits in bfloat16 would be others"
    as_asked = Vocabulary(weight, torch.bfloat16).log_probabilities(states, targets)
    torch.testing.assert_close(as_asked, rounded, rtol=1e-5, atol=1e-5)


def test_what_a_gpu_is_asked_for_is_the_product_that_a_cpu_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of halves a GPU sums in float32 by itself, which a CPU build of torch refuses: here it is stood in for."""
    weight = drawn(5000, WIDTH, seed=1, dtype=torch.bfloat16)
    states, targets = asked(40, len(weight))
    states = states.bfloat16()
    here = Vocabulary(weight, torch.float32).log_probabilities(states, targets)
    made = []

    def mm(left: torch.Tensor, right: torch.Tensor, out_dtype: torch.dtype) -> torch.Tensor:
        made.append((left.dtype, right.dtype, out_dtype))
        return left.to(out_dtype) @ right.to(out_dtype)

    monkeypatch.setattr(torch, "mm", mm)
    monkeypatch.setattr(module, "_multiplies_in", lambda states, weight, dtype: True)
    there = Vocabulary(weight, torch.float32).log_probabilities(states, targets)
    assert set(made) == {(torch.bfloat16, torch.bfloat16, torch.float32)}
    torch.testing.assert_close(there, here)


def test_a_word_that_cannot_be_said_has_no_part_and_one_that_is_nan_has_all() -> None:
    weight, bias = drawn(9000, WIDTH, seed=1), torch.zeros(9000)
    bias[:5000] = -torch.inf
    states, _ = asked(3, len(weight))
    targets = torch.tensor([0, 6000, 8000])
    values = Vocabulary(weight, torch.float32, bias).log_probabilities(states, targets)
    torch.testing.assert_close(values, plain(states @ weight.T + bias, targets), rtol=1e-5, atol=1e-5)
    assert values[0] == -torch.inf
    assert Vocabulary(weight, torch.float32).log_probabilities(states * torch.nan, targets).isnan().all()


CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": True},
    "gemma2": {"head_dim": 16, "final_logit_softcapping": 0.5},
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 4.0},
    "phi": {},  # whose vocabulary has a bias
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_model_has_the_vocabulary_of_its_own_forward(kind: str) -> None:
    model = language_model(kind)
    if getattr(model.lm_head, "bias", None) is not None:
        torch.nn.init.normal_(model.lm_head.bias)
    ids = [5, 9, 2, 40, 7]
    vocabulary = vocabulary_of(model, torch.float32, bytes_bpe(), "org/m")
    with torch.inference_mode():
        states = model.base_model(torch.tensor([ids])).last_hidden_state[0]
        logits = model(torch.tensor([ids])).logits[0]
    targets = torch.tensor([9, 2, 40, 7, 1])
    torch.testing.assert_close(
        vocabulary.log_probabilities(states, targets), plain(logits, targets), rtol=1e-5, atol=1e-5
    )


def test_a_model_that_does_more_to_its_logits_is_refused() -> None:
    model = language_model("llama")
    model.lm_head.register_forward_hook(lambda module, given, logits: logits * torch.linspace(0.5, 2, logits.shape[-1]))
    with pytest.raises(ModelError, match="org/m: LlamaForCausalLM makes other logits than its output embedding does"):
        vocabulary_of(model, torch.float32, bytes_bpe(), "org/m")


def test_weights_that_are_nan_are_not_refused_but_have_no_likelihood() -> None:
    model = language_model("llama")
    model.lm_head.weight.data.fill_(torch.nan)
    vocabulary = vocabulary_of(model, torch.float32, bytes_bpe(), "org/m")
    assert vocabulary.log_probabilities(drawn(3, 16), torch.tensor([1, 2, 3])).isnan().all()


def language_model(kind: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    shape = {
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
    }
    config = AutoConfig.for_model(kind, **shape, num_key_value_heads=1, pad_token_id=0, **CONFIGS[kind])
    return AutoModelForCausalLM.from_config(config).float().eval()
