"""Checkpoints of types that transformers has not, whose model it has: the same weights under other names.

They are read as that model, so that no code of theirs has to run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rmbench.checkpoints.fingerprint import Checkpoint
from rmbench.errors import ModelError

_PROBE = "Total:  1,234.50 + 20%\n\n\tdon't x²"
_DROPPED = ("architectures", "auto_map", "model_type", "transformers_version", "attn_implementation")


@dataclass(frozen=True, slots=True)
class Kin:
    """`model_type` is transformers' own; `fields` are what a config means that leaves them out, `called` its names of
    fields of that type, and `transforms` makes the weights of its weights.
    """

    model_type: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    called: Mapping[str, str] = field(default_factory=dict)
    transforms: Callable[[], list[Any]] = list


def _internlm2() -> list[Any]:
    """InternLM/InternLM@6908fa5e16fa4ae348c31b04886dc263f8116549:tools/convert2llama.py has the same names and split.

    A row of heads in `wqkv` is a key head's query heads, then its key and its value.
    """
    from transformers.core_model_loading import ConversionOps, WeightConverter, WeightRenaming

    class Apart(ConversionOps):  # type: ignore[misc]
        def convert(
            self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **given: Any
        ) -> dict[str, Any]:
            (tensor,) = input_dict.values()
            tensor = tensor[0] if isinstance(tensor, list) else tensor
            keys, group = given["config"].num_key_value_heads, given["config"].num_attention_heads
            group //= keys
            rows = tensor.view(keys, group + 2, -1, *tensor.shape[1:])
            parts = rows[:, :group], rows[:, group], rows[:, group + 1]
            width = tensor.shape[1:]
            return {
                target: part.reshape(-1, *width).contiguous()
                for target, part in zip(target_patterns, parts, strict=True)
            }

    names = {
        r"tok_embeddings\.": "embed_tokens.",
        r"\.attention\.wo\.": ".self_attn.o_proj.",
        r"\.feed_forward\.w1\.": ".mlp.gate_proj.",
        r"\.feed_forward\.w2\.": ".mlp.down_proj.",
        r"\.feed_forward\.w3\.": ".mlp.up_proj.",
        r"\.attention_norm\.": ".input_layernorm.",
        r"\.ffn_norm\.": ".post_attention_layernorm.",
    }
    split = [
        WeightConverter(
            [f"attention.wqkv.{kind}"], [f"self_attn.{name}_proj.{kind}" for name in "qkv"], operations=[Apart()]
        )
        for kind in ("weight", "bias")
    ]
    return [*(WeightRenaming(old, new) for old, new in names.items()), *split]


KIN: Mapping[str, Kin] = {
    # LAION-AI/Open-Assistant@f1e6ed9526f5817531f3ab85441a40b3671ddccb:model/model_training/models/reward_model.py
    "gpt_neox_reward_model": Kin("gpt_neox", fields={"pooling": "last"}),
    # InternLM/xtuner@9afed8c4213540dd7065a13b665ad0353a906bc9:xtuner/tools/model_converters/modeling_internlm2_reward/
    # configuration_internlm2.py
    "internlm2": Kin(
        "llama",
        fields={"bias": True, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "reward_token_id": 92527},
        called={"bias": "attention_bias"},
        transforms=_internlm2,
    ),
}

# By a weight that tells it: how the backbone is called by a model that its authors built around one, and its own name
PREFIXES: Mapping[str, tuple[str, str]] = {
    # allenai/reward-bench@05a9005efb607249822c193590c8ecab87c77052:rewardbench/models/starling.py
    "transformer.embed_tokens.weight": (r"^transformer\.", "model."),
    # yuchenlin/LLM-Blender@2a67366122808f03075e3a9c84f0791dcde0a247:llm_blender/pair_ranker/pairrm.py
    "pretrained_model.embeddings.word_embeddings.weight": (r"^pretrained_model\.", ""),
}


def kin_of(checkpoint: Checkpoint) -> Kin | None:
    """What a checkpoint is read as, where its type is none of transformers'."""
    return KIN.get(str((checkpoint.json("config.json") or {}).get("model_type")))


def config_of(checkpoint: Checkpoint, kin: Kin) -> Any:
    """The config of transformers' own model that has these weights."""
    from transformers import AutoConfig

    given = {**kin.fields, **(checkpoint.json("config.json") or {})}
    kept = {kin.called.get(name, name): value for name, value in given.items() if name not in _DROPPED}
    return AutoConfig.for_model(kin.model_type, **kept)


def check_words(words: Checkpoint, tokenizer: Any) -> None:
    """Raises ModelError where a tokenizer that transformers makes of tokenizer.model splits otherwise than that file.

    It has no class for these types, so that nothing puts a space before a text where the file asks for one.
    """
    path = words.file("tokenizer.model")
    if kin_of(words) is None or path is None or words.file("tokenizer.json") is not None:
        return
    from sentencepiece import SentencePieceProcessor  # type: ignore[import-not-found,unused-ignore]

    own = list(SentencePieceProcessor(model_file=str(path)).encode(_PROBE))
    if own != list(tokenizer(_PROBE, add_special_tokens=False)["input_ids"]):
        raise ModelError(
            f"{words.id}: {type(tokenizer).__name__}, which transformers makes of tokenizer.model, splits text"
            " otherwise than that file does; put a tokenizer.json beside it, or --trust-remote-code runs its own code"
        )


@contextmanager
def converted(checkpoint: Checkpoint, names: Collection[str]) -> Iterator[None]:
    """transformers makes its own weights of those of a checkpoint while it loads it; `names` are the checkpoint's."""
    from transformers import modeling_utils
    from transformers.core_model_loading import WeightRenaming

    kin = kin_of(checkpoint)
    transforms = [] if kin is None else kin.transforms()
    transforms += [WeightRenaming(*called) for name, called in PREFIXES.items() if name in names]
    if not transforms:
        yield
        return
    theirs = modeling_utils.get_model_conversion_mapping
    modeling_utils.get_model_conversion_mapping = lambda *args, **options: [*transforms, *theirs(*args, **options)]
    try:
        yield
    finally:
        modeling_utils.get_model_conversion_mapping = theirs
