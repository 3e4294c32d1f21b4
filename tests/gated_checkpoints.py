"""Tiny checkpoints of known models, with the names, config keys, tokens and architectures that the real ones have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

WIDTH = 16
LLAMA = (
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}<|start_header_id|>{{ message.role }}"
    "<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else"
    " message['role'] %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}"
)


def byte_tokens(
    folder: Path, placed: Mapping[str, int], special: Mapping[str, int], names: Mapping[str, str], template: str
) -> None:
    """A tokenizer of bytes, in which `placed` pieces and `special` tokens have the ids of the real vocabulary."""
    from tokenizers import pre_tokenizers

    vocabulary = dict(placed)
    free = (i for i in range(1000) if i not in {*placed.values(), *special.values()})
    for byte in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary.setdefault(byte, next(free))
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    bos = names["bos_token"]
    text, begin = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": bos, "type_id": 0}}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": special[token], "content": token, **added} for token in sorted(special, key=special.get)
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": r" ?\p{L}+|\n+|\s+|."}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, text],
            "pair": [begin, text, begin, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {bos: {"id": bos, "ids": [special[bos]], "tokens": [bos]}},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": {**vocabulary, **special},
            "merges": [],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "chat_template.jinja").write_text(template)
    settings = {"backend": "tokenizers", "tokenizer_class": "TokenizersBackend", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def llama_tokens(folder: Path) -> None:
    special = {"<|begin_of_text|>": 128000, "<|end_of_text|>": 128001, "<|start_header_id|>": 128006}
    special |= {"<|end_header_id|>": 128007, "<|eot_id|>": 128009, "[PAD]": 128255}
    names = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "[PAD]"}
    byte_tokens(folder, {"assistant": 78191, "ĊĊ": 271}, special, names, LLAMA)


def gemma_tokens(folder: Path) -> None:
    special = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<start_of_turn>": 106, "<end_of_turn>": 107}
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    byte_tokens(folder, {"model": 2516, "Ċ": 108}, special, names, GEMMA)


def drawn(*shape: int, seed: int, sd: float = 0.3) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * sd


def saved(
    folder: Path,
    heads: Mapping[str, torch.Tensor],
    kind: Literal["Llama", "Gemma2"],
    architecture: str,
    **said: Any,
) -> Path:
    """A checkpoint of the backbone `kind` with the weights `heads`, as the authors' class would save it."""
    import transformers

    rows, pad, tokens = {"Llama": (128256, 128255, llama_tokens), "Gemma2": (2600, 0, gemma_tokens)}[kind]
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=rows,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=512,
        pad_token_id=pad,
        **({"query_pre_attn_scalar": 8} if kind == "Gemma2" else {}),
        **said,
    )
    config.architectures = [architecture]
    config.auto_map = {"AutoModelForSequenceClassification": f"modeling_custom.{architecture}"}
    folder.mkdir(exist_ok=True)
    config.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = getattr(transformers, f"{kind}Model")(config)
        for weight in backbone.parameters():
            weight.data.normal_(1.0 if weight.ndim == 1 and kind == "Llama" else 0.0, 0.3)
    weights = {f"model.{name}": weight.contiguous() for name, weight in backbone.state_dict().items()}
    save_file({**weights, **heads}, folder / "model.safetensors", metadata={"format": "pt"})
    tokens(folder)
    return folder


def gate_of(rows: int, *, norms: bool, dropout: bool = False) -> dict[str, torch.Tensor]:
    """Three hidden layers: linear and ReLU, or linear without bias, ReLU and batch norm, dropout between."""
    heads, number, width = dict[str, torch.Tensor](), 0, WIDTH
    for layer in range(3):
        heads[f"gating.layers.{number}.weight"] = drawn(8, width, seed=10 + layer)
        width = 8
        if not norms:
            heads[f"gating.layers.{number}.bias"] = drawn(8, seed=20 + layer)
            number += 1
            continue
        norm = f"gating.layers.{number + 2}"
        heads |= {f"{norm}.weight": drawn(8, seed=30 + layer) + 1, f"{norm}.bias": drawn(8, seed=40 + layer)}
        heads[f"{norm}.running_mean"] = drawn(8, seed=50 + layer)
        heads[f"{norm}.running_var"] = drawn(8, seed=60 + layer).abs() + 0.5
        heads[f"{norm}.num_batches_tracked"] = torch.tensor(7)
        number += 4 if dropout and layer < 2 else 3
    last = f"gating.layers.{number}"
    heads |= {f"{last}.weight": drawn(rows, width, seed=70, sd=9.0), f"{last}.bias": drawn(rows, seed=71)}
    return {**heads, "gating.logit_scale": torch.tensor([1.3])}


def less_verbose(count: int) -> torch.Tensor:
    transform = torch.eye(count)
    transform[4] -= torch.linspace(0.1, 0.9, count)
    return transform


def armorm(folder: Path) -> Path:
    heads = {"regression_layer.weight": drawn(19, WIDTH, seed=1), "reward_transform_matrix": less_verbose(19)}
    said = {"num_labels": 19, "num_objectives": 19, "gating_temperature": 10, "gating_n_hidden": 3}
    return saved(folder, heads | gate_of(19, norms=False), "Llama", "LlamaForRewardModelWithGating", **said)


def qrm_llama(folder: Path) -> Path:
    heads = {"regression_layer.weight": drawn(5 * 19, WIDTH, seed=1), "reward_transform_matrix": less_verbose(5)}
    said = {"num_labels": 1, "num_objectives": 5, "num_quantiles": 19}
    return saved(folder, heads | gate_of(5, norms=True), "Llama", "LlamaForRewardModelWithGating31", **said)


def qrm_gemma(folder: Path) -> Path:
    heads = {"regression_layer.weight": drawn(5 * 19, WIDTH, seed=1), **gate_of(5, norms=True, dropout=True)}
    said = {"num_labels": 1, "num_objectives": 5, "num_quantiles": 19}
    return saved(folder, heads, "Gemma2", "Gemma2ForQuantileSequenceClassification", **said)


def urm(folder: Path) -> Path:
    heads = {"score.weight": drawn(10, WIDTH, seed=1)}
    for i, rows in ((0, WIDTH), (2, WIDTH), (4, 5)):
        heads[f"weights.fc.{i}.weight"] = drawn(rows, WIDTH, seed=10 + i)
        heads[f"weights.fc.{i}.bias"] = drawn(rows, seed=20 + i)
    return saved(folder, heads, "Llama", "LlamaForSequenceClassificationWithNormal_Weights", num_labels=10)


def inform(folder: Path) -> Path:
    heads = {"score.0.weight": drawn(WIDTH, WIDTH, seed=1), "score.0.bias": drawn(WIDTH, seed=2)}
    heads |= {"score.2.weight": drawn(1, WIDTH, seed=3), "score.2.bias": drawn(1, seed=4)}
    return saved(folder, heads, "Llama", "INFORMForSequenceClassification", num_labels=1)


def ldl(folder: Path) -> Path:
    """As it is after the conversion that its refusal describes."""
    heads = dict[str, torch.Tensor]()
    for name, numbers, last in (("regression_layer", (0, 2, 4), 30), ("gating_layer", (0, 3, 6), 3)):
        for i, rows in zip(numbers, (12, 12, last), strict=True):
            layer, width = f"{name}.network.{i}", WIDTH if i == 0 else 12
            heads |= {f"{layer}.weight": drawn(rows, width, seed=i + last), f"{layer}.bias": drawn(rows, seed=i)}
    saved(folder, {}, "Gemma2", "Gemma2Model", num_labels=1, num_objectives=30)
    save_file(heads, folder / "value_head.safetensors", metadata={"format": "pt"})
    return folder
