"""Tiny pairwise models with the names of weights, config keys and architectures of the real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import causal
import torch
from checkpoints import ARCHITECTURES, bytes_bpe, deberta_unigram, roberta_bpe
from safetensors.torch import load_file, save_file

# As Llama 3's was when the pair preference model was trained: the answer's header always follows
LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)
TAGS = ("<|source|>", "<|candidate1|>", "<|candidate2|>", "<|candidate|>")


def drawn(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * shape[-1] ** -0.5


def pairrm(folder: Path, *, without: str = "") -> Path:
    """As llm-blender/PairRM-hf: the head reads 2 x 64 hidden units, and config.json has the ids of the tags."""
    import transformers
    from tokenizers import decoders

    tokenizer = deberta_unigram()
    tokenizer.backend_tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.add_tokens(list(TAGS))
    ids = tokenizer.convert_tokens_to_ids(list(TAGS))
    names = ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id", "cand_prefix_id")
    config = transformers.DebertaV2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        initializer_range=0.3,
        pad_token_id=0,
        n_tasks=1,
        drop_out=0.05,
        sep_token_id=tokenizer.sep_token_id,
        **dict(zip(names, ids, strict=True)),
        **ARCHITECTURES["deberta-v2"].values,
    )
    config.architectures = ["DebertaV2PairRM"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        own = transformers.DebertaV2Model(config).state_dict()
    weights = {f"pretrained_model.{name}": value.contiguous() for name, value in own.items()}
    weights |= {"head_layer.1.weight": drawn(64, 128), "head_layer.1.bias": drawn(64),
                "head_layer.4.weight": drawn(1, 64, seed=4) * 4, "head_layer.4.bias": drawn(1)}  # fmt: skip
    weights.pop(without, None)
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def letters(folder: Path, **values: Any) -> Path:
    """As RLHFlow/pair-preference-model-LLaMA3-8B: a LlamaForCausalLM, and a template that always opens the answer."""
    causal.make(folder, max_position_embeddings=8192, **values)
    _with_template(folder, LLAMA3)
    return folder


def soft_capped(folder: Path) -> Path:
    """A Gemma 2 whose logits are capped softly, and whose output embedding is its input's."""
    import transformers

    tokenizer = bytes_bpe()
    config = transformers.Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        initializer_range=0.3,
        final_logit_softcapping=3.0,
        **ARCHITECTURES["gemma2"].values,
    )
    return saved(transformers.Gemma2ForCausalLM, config, tokenizer, folder)


def bart(folder: Path) -> Path:
    """An encoder-decoder with learnt positions, whose decoder begins with its EOS."""
    import transformers

    tokenizer = roberta_bpe()
    tokenizer.chat_template = None
    config = transformers.BartConfig(
        vocab_size=len(tokenizer),
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        max_position_embeddings=512,
        init_std=0.3,
        decoder_start_token_id=2,
    )
    return saved(transformers.BartForConditionalGeneration, config, tokenizer, folder)


def saved(kind: Any, config: Any, tokenizer: Any, folder: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def steamshp(folder: Path) -> Path:
    """As stanfordnlp/SteamSHP-flan-t5-large: an untied T5 with gated GELU."""
    import transformers
    from tokenizers import Tokenizer, processors

    tokenizer = deberta_unigram()
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["model"]["vocab"].append(["▁B", -6.0])  # T5 has A and B as one token each
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(backend))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", pair="$A [SEP] $B [SEP]", special_tokens=[("[SEP]", tokenizer.sep_token_id)]
    )
    tokenizer.chat_template = None
    config = transformers.T5Config(
        vocab_size=len(tokenizer),
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=tokenizer.sep_token_id,
        decoder_start_token_id=0,
        initializer_factor=1.0,
    )
    return saved(transformers.T5ForConditionalGeneration, config, tokenizer, folder)


def gpm(folder: Path, *, dim: int = 6, blocks: bool = True) -> Path:
    """As general-preference/GPM-Llama-3.1-8B: value_head over the last token, prompt_head where the first turn ends."""
    causal.make(folder, max_position_embeddings=8192)
    weights = load_file(folder / "model.safetensors") | {"value_head.weight": drawn(dim, 64)}
    if blocks:
        weights["prompt_head.weight"] = drawn(dim // 2, 64, seed=5) * 4
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["CustomRewardModel"]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _with_template(folder: Path, template: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
