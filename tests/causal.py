"""Tiny random causal language models, as `save_pretrained` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from checkpoints import bytes_bpe


def make(folder: Path, architecture: str = "llama", *, chat: bool = True, **values: Any) -> Path:
    """Two layers, 64 hidden units, 512 positions. GPT-2's positions are learnt: wrong ones change every text."""
    import torch
    import transformers
    from transformers.utils import logging

    tokenizer = bytes_bpe()
    if not chat:
        tokenizer.chat_template = None
    names = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id,
             "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
             "initializer_range": 0.1}  # fmt: skip
    if architecture == "gpt2":
        config: Any = transformers.GPT2Config(**{**names, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512,
                                                 **values})  # fmt: skip
    else:
        config = transformers.LlamaConfig(**{**names, "hidden_size": 64, "intermediate_size": 128,
                                             "num_hidden_layers": 2, "num_attention_heads": 4,
                                             "num_key_value_heads": 2, "max_position_embeddings": 512,
                                             **values})  # fmt: skip
    logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
