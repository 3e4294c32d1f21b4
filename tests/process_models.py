"""Tiny process reward models, and solutions in steps to ask them about. Nothing here is of rmbench but the words."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from checkpoints import SENTENCES
from safetensors.torch import load_file, save_file

from rmbench.types import Message, Request, Response

HIDDEN = 48
QUESTION = "What is 37 + 58? Let us see."
SOLUTIONS = (
    ("We add the tens: 30 + 50 = 80.", "Then 7 + 8 = 15.\nThat is clear.", "So it is 95."),
    ("We add the tens: 30 + 50 = 80.", "Then 7 + 8 = 14.", "So it is 94", "The answer is: 94"),
    ("95",),
)
ASKED = [Request("steps", (Message("user", QUESTION),), (Response("\n\n".join(steps), steps),)) for steps in SOLUTIONS]


def byte_level(specials: Sequence[str], *texts: str, chat: str | None = None, **names: str) -> Any:
    """A byte-level BPE with Qwen's and Llama 3's way to part words, in which each of `texts` is likely one token."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    tokenizer = Tokenizer(models.BPE())
    parts = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated")
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([parts, whole])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*SENTENCES, *(f"x{text}y" for text in texts for _ in range(50))], trainer)
    if (bos := names.pop("adds", None)) is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, extra_special_tokens=[one for one in specials if one not in names.values()], **names
    )
    wrapped.chat_template = chat
    return wrapped


def pieces(pad: str) -> Any:
    """A unigram with a mark for spaces and a BOS in front, as Mistral's and Llama 2's tokenizers have."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = sorted({f"▁{word}" for sentence in SENTENCES for word in sentence.split()})
    characters = sorted({character for text in (*SENTENCES, QUESTION, "ки#") for character in text} | set("▁\n"))
    vocabulary = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("<pad>", 0.0)]
    vocabulary += [("▁ки", -3.0), ("▁+", -3.0), ("▁-", -3.0)]
    vocabulary += [(one, -8.0) for one in characters] + [(one, -6.0) for one in words if one not in ("▁+", "▁-")]
    tokenizer = Tokenizer(models.Unigram(list(dict(vocabulary).items()), unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token=pad
    )


def saved(
    folder: Path,
    tokenizer: Any,
    kind: str,
    architecture: str,
    *,
    auto: str = "AutoModelForCausalLM",
    tensors: dict[str, torch.Tensor] | None = None,
    **config: Any,
) -> Path:
    """Two layers of `kind`, a config class of transformers, called `architecture`, with more tensors beside them."""
    described = getattr(transformers, kind)(
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": HIDDEN,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            "initializer_range": 0.2,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            **config,
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        getattr(transformers, auto).from_config(described).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "model.safetensors"
    save_file({**load_file(path), **(tensors or {})}, path, metadata={"format": "pt"})
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**written, "architectures": [architecture]}))
    return folder


@contextmanager
def quiet() -> Iterator[None]:
    """Without what PEFT is told about coming versions of transformers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def drawn(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.4


def trl_ids(tokenizer: Any, steps: Sequence[str], separator: str = "\n") -> tuple[list[int], list[int]]:
    """As TRL's PRMTrainer takes a row apart."""
    ids = tokenizer(QUESTION, add_special_tokens=False)["input_ids"]
    ids = [*([] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]), *ids]
    ends = []
    for step in steps:
        ids += tokenizer(step, add_special_tokens=False)["input_ids"]
        ids += tokenizer.encode(separator, add_special_tokens=False)
        ends.append(len(ids) - 1)
    return ids, ends
