"""Makes tiny random reward model checkpoints of the common architectures, as `save_pretrained` writes them.

    python benchmarks/checkpoints.py llama FOLDER

They know nothing, but they load, tokenise and score like the real ones: tests, demos and benchmarks need no download.
"""

from __future__ import annotations

import argparse
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SENTENCES = (
    "A train leaves at 14:05 and arrives at 16:50. How long is the journey in minutes?",
    "The journey takes 165 minutes, because two hours are 120 minutes and 45 more are left.",
    "Please sort these words by their last letter: apple, banana, cherry, orange, and plum.",
    "I am sorry, but I cannot say which of the two answers is right without the table.",
    "def area(width, height):\n    return width * height  # square metres\n",
    "What is 37 + 58? Let us add the tens first: 30 + 50 = 80, then 7 + 8 = 15, so it is 95.",
    "Water boils at 100 degrees Celsius (212 degrees Fahrenheit) at sea level; why lower on a mountain?",
    "System, user and assistant take turns: the user asks, the assistant answers, the system sets the rules.",
)
CHAT = (
    "{{ bos_token or '' }}{% for message in messages %}"
    "<|{{ message.role }}|>\n{{ message.content }}{{ eos_token }}\n{% endfor %}"
)
ENCODER_CHAT = (
    "{{ cls_token }}{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}{{ sep_token }}"
)


def bytes_bpe(bos: str | None = "<s>") -> Any:
    """A byte-level BPE as Qwen's and Llama 3's are, with `bos` put in front of a text where one is given."""
    from tokenizers import Regex, normalizers, pre_tokenizers, processors
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    special = ["<pad>", "<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
    tokenizer = _byte_level(
        special,
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        ),
    )
    tokenizer.normalizer = normalizers.NFC()
    if bos is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    names = {"bos_token": bos, "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return _wrapped(tokenizer, CHAT, extra_special_tokens=special[4:], **names)


def qwen_bpe() -> Any:
    """The same without a BOS."""
    return bytes_bpe(bos=None)


def bert_wordpiece() -> Any:
    """BERT's uncased WordPiece with type ids."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *_CHARACTERS, *(f"##{c}" for c in _CHARACTERS), *_words(tokenizer)]
    tokenizer.model = models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return _wrapped(tokenizer, ENCODER_CHAT, model_input_names=_TYPED, **_BERT_NAMES)


def roberta_bpe() -> Any:
    """RoBERTa's byte-level BPE, whose ids begin with <s>, <pad>, </s>."""
    from tokenizers import pre_tokenizers, processors

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = _byte_level(special, pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
    return _wrapped(tokenizer, ENCODER_CHAT, unk_token="<unk>", pad_token="<pad>", mask_token="<mask>", **names)


def deberta_unigram() -> Any:
    """DeBERTa-v3's SentencePiece unigram."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "),
            normalizers.NFC(),
            normalizers.Strip(left=False, right=True),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    characters = [(piece, -8.0) for piece in ("▁", *_CHARACTERS)]
    words = [(piece, -6.0) for piece in _words(tokenizer)]
    tokenizer.model = models.Unigram([*((piece, 0.0) for piece in special), *characters, *words], unk_id=3)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = {"bos_token": "[CLS]", "eos_token": "[SEP]", **_BERT_NAMES}
    return _wrapped(tokenizer, ENCODER_CHAT, model_input_names=_TYPED, **names)


def modernbert_bpe() -> Any:
    """ModernBERT's byte-level BPE with BERT's special tokens."""
    from tokenizers import pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = _byte_level(special, pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return _wrapped(tokenizer, ENCODER_CHAT, **_BERT_NAMES)


_TYPED = ["input_ids", "token_type_ids", "attention_mask"]
_BERT_NAMES = {
    "unk_token": "[UNK]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


# The trainers of WordPiece and Unigram give another vocabulary on each run; characters and whole words do here.
_CHARACTERS = tuple(string.ascii_letters + string.digits + string.punctuation)


def _words(tokenizer: Any) -> list[str]:
    words = {
        word
        for sentence in SENTENCES
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(sentence))
    }
    return sorted(word for word in words if len(word) > 1)


def _byte_level(special: list[str], pre_tokenizer: Any) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def _wrapped(tokenizer: Any, chat: str, **names: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    wrapped.chat_template = chat
    return wrapped


@dataclass(frozen=True, slots=True)
class Architecture:
    """What of a checkpoint is the architecture's own: config class, class of the model, tokenizer, config values."""

    config: str
    model: str
    tokenizer: Callable[[], Any] = bytes_bpe
    values: dict[str, Any] = field(default_factory=dict)


_GROUPED = {"num_key_value_heads": 2}
_GEMMA = {**_GROUPED, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 16}
_BOTH = ("sliding_attention", "full_attention")
ARCHITECTURES = {
    "llama": Architecture("LlamaConfig", "LlamaForSequenceClassification", values=_GROUPED),
    "qwen2": Architecture("Qwen2Config", "Qwen2ForSequenceClassification", qwen_bpe, _GROUPED),
    "qwen3": Architecture("Qwen3Config", "Qwen3ForSequenceClassification", qwen_bpe, {**_GROUPED, "head_dim": 16}),
    "mistral": Architecture(
        "MistralConfig", "MistralForSequenceClassification", values={**_GROUPED, "sliding_window": 16}
    ),
    "gemma2": Architecture("Gemma2Config", "Gemma2ForSequenceClassification", values=_GEMMA),
    "gemma3_text": Architecture(
        "Gemma3TextConfig", "Gemma3TextForSequenceClassification", values={**_GEMMA, "layer_types": list(_BOTH)}
    ),
    "phi3": Architecture("Phi3Config", "Phi3ForSequenceClassification", values=_GROUPED),
    "gemma": Architecture("GemmaConfig", "GemmaForSequenceClassification", values={**_GROUPED, "head_dim": 32}),
    "olmo2": Architecture("Olmo2Config", "Olmo2ForSequenceClassification", values=_GROUPED),
    "olmo3": Architecture(
        "Olmo3Config",
        "Olmo3ForSequenceClassification",
        values={**_GROUPED, "sliding_window": 16, "layer_types": list(_BOTH)},
    ),
    "starcoder2": Architecture("Starcoder2Config", "Starcoder2ForSequenceClassification", values=_GROUPED),
    "mixtral": Architecture(
        "MixtralConfig", "MixtralForSequenceClassification", values={**_GROUPED, "num_local_experts": 4}
    ),
    "qwen3_moe": Architecture(
        "Qwen3MoeConfig",
        "Qwen3MoeForSequenceClassification",
        qwen_bpe,
        {**_GROUPED, "head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64},
    ),
    "gpt_oss": Architecture(
        "GptOssConfig",
        "GptOssForSequenceClassification",
        values={
            **_GROUPED,
            "head_dim": 16,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 16,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1.5e5},
        },
    ),
    "gpt_neox": Architecture("GPTNeoXConfig", "GPTNeoXForSequenceClassification"),
    "gpt2": Architecture("GPT2Config", "GPT2ForSequenceClassification"),
    "opt": Architecture(
        "OPTConfig", "OPTForSequenceClassification", values={"ffn_dim": 128, "word_embed_proj_dim": 64}
    ),
    "bert": Architecture("BertConfig", "BertForSequenceClassification", bert_wordpiece),
    "roberta": Architecture(
        "RobertaConfig",
        "RobertaForSequenceClassification",
        roberta_bpe,
        {"type_vocab_size": 1, "max_position_embeddings": 514},
    ),
    "xlm-roberta": Architecture(
        "XLMRobertaConfig",
        "XLMRobertaForSequenceClassification",
        roberta_bpe,
        {"type_vocab_size": 1, "max_position_embeddings": 514},
    ),
    "electra": Architecture(
        "ElectraConfig", "ElectraForSequenceClassification", bert_wordpiece, {"embedding_size": 32}
    ),
    "deberta-v2": Architecture(
        "DebertaV2Config",
        "DebertaV2ForSequenceClassification",
        deberta_unigram,
        {
            "relative_attention": True,
            "position_buckets": 16,
            "pos_att_type": ["p2c", "c2p"],
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
    ),
    "modernbert": Architecture(
        "ModernBertConfig",
        "ModernBertForSequenceClassification",
        modernbert_bpe,
        {"local_attention": 16, "global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3},
    ),
}


def make(
    folder: str | Path, architecture: str, *, num_labels: int = 1, seed: int = 0, dtype: str = "float32", **values: Any
) -> Path:
    """Writes a random checkpoint of `architecture` (a key of `ARCHITECTURES`) to `folder` and returns the folder.

    Two layers, 64 hidden units, 512 positions, `num_labels` heads, weights from `seed` in `dtype`; `values` go into the
    config over the defaults. The spread of the weights is wide, so that rewards differ in more than their last bits.
    """
    import torch
    import transformers

    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}: {', '.join(ARCHITECTURES)}")
    kind = ARCHITECTURES[architecture]
    tokenizer = kind.tokenizer()
    config = getattr(transformers, kind.config)(
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 512,
            "initializer_range": 0.1,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "num_labels": num_labels,
            **kind.values,
            **values,
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, kind.model)(config).to(getattr(torch, dtype))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


def main() -> None:
    """Reads the command line: architecture, folder, labels and seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("architecture", choices=ARCHITECTURES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(make(given.folder, given.architecture, num_labels=given.labels, seed=given.seed))


if __name__ == "__main__":
    main()
