"""Tiny checkpoints of known reward models with heads of their own, and their rewards by a plain forward.

Nothing of rmbench is used: `reward` takes a conversation through the tokenizer and the model as the file that it names
does. Weights' names, config keys, architectures and the roles of shapes are those of the real checkpoints.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import checkpoints
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import linear, silu

Turns = Sequence[Mapping[str, str]]
Reward = Callable[[Path, Turns], float]
WIDTH, CELLS = 64, 24  # of a hidden state, and of a network between


@dataclass(frozen=True)
class Case:
    """`head` has the shapes of the head's tensors, `config` what config.json says besides, `renamed` what becomes of
    the names of transformers' own backbone, `special` what the tokenizer has besides.
    """

    reward: Reward
    head: Mapping[str, Sequence[int]]
    architecture: str
    backbone: str = "llama"
    config: Mapping[str, Any] = field(default_factory=dict)
    renamed: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] = dict
    special: Mapping[str, str] = field(default_factory=dict)
    chat: str | None = None


def make(folder: Path, case: Case) -> Path:
    """Writes the checkpoint with random weights. What is not in its config.json is no part of it."""
    checkpoints.make(folder, case.backbone)
    tensors = load_file(folder / "model.safetensors")
    tensors = case.renamed({name: tensor for name, tensor in tensors.items() if not name.startswith(("score", "lm_"))})
    generator = torch.Generator().manual_seed(7)
    head = {name: torch.randn(tuple(shape), generator=generator).abs() / 4 for name, shape in case.head.items()}
    save_file({**tensors, **head}, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config = {**config, "architectures": [case.architecture], **case.config}
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    tokenizer = tokenizer_of(folder)
    tokenizer.add_special_tokens(dict(case.special))
    tokenizer.chat_template = case.chat or tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    return folder


def tokenizer_of(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def states(folder: Path, ids: Sequence[int], prefix: str = "model.", kind: str = "llama") -> torch.Tensor:
    """The hidden states [t, h] of a backbone of transformers whose weights are called `prefix` and its own names."""
    from transformers import AutoConfig, AutoModel

    given = json.loads((folder / "config.json").read_text())
    given = {key: value for key, value in given.items() if key not in ("architectures", "auto_map", "model_type")}
    model = AutoModel.from_config(AutoConfig.for_model(kind, **given)).eval()
    weights = {name[len(prefix) :]: tensor for name, tensor in tensors_of(folder).items() if name.startswith(prefix)}
    model.load_state_dict(weights)
    with torch.inference_mode():
        states: torch.Tensor = model(torch.tensor([list(ids)])).last_hidden_state[0]
    return states


def network(tensors: Mapping[str, torch.Tensor], state: torch.Tensor, first: str, last: str) -> float:
    hidden = torch.relu(linear(state, tensors[f"{first}.weight"], tensors[f"{first}.bias"]))
    return linear(hidden, tensors[f"{last}.weight"], tensors[f"{last}.bias"]).item()


def grm(folder: Path, turns: Turns) -> float:
    """allenai/reward-bench@05a9005efb607249822c193590c8ecab87c77052:rewardbench/models/grm.py

    The text as in YangRui2015/Generalizable-Reward-Model@3c31be2da0c6878300a01878cac6b623ba11de0d:
    reward_models/load_datasets.py: rendered, then tokenised with special tokens.
    """
    tokenizer = tokenizer_of(folder)
    ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False))["input_ids"]
    assert ids[:2] == [tokenizer.bos_token_id] * 2
    return network(tensors_of(folder), states(folder, ids)[-1], "v_head.summary.0", "v_head.summary.2")


def acecode(folder: Path, turns: Turns) -> float:
    """TIGER-AI-Lab/AceCoder@e37ef2aea2e3710be6b06e9a91dd92c98321df96:src/acecoder/rm_utils.py"""
    ids = tokenizer_of(folder).apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"]
    tensors = tensors_of(folder)
    state = states(folder, ids, kind="qwen2")[-1]
    return linear(state, tensors["v_head.summary.weight"], tensors["v_head.summary.bias"]).item()


def athene(folder: Path, turns: Turns) -> float:
    """allenai/reward-bench@98cda4a8781d40e97e2a153be9253cc81559ba6c:rewardbench/models/athene.py"""
    tokenizer = tokenizer_of(folder)
    ids = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False) + tokenizer.cls_token)["input_ids"]
    at = max(i for i, token in enumerate(ids) if token == tokenizer.cls_token_id)
    return linear(states(folder, ids)[at], tensors_of(folder)["v_head.weight"]).item()


def internlm(folder: Path, turns: Turns) -> float:
    """InternLM/xtuner@4b1b5251c46e6d2a2440fdc7b645670f6c72585e:xtuner/tools/model_converters/
    modeling_internlm2_reward/modeling_internlm2.py, with the rule of when the reward token is put behind from
    allenai/reward-bench@05a9005efb607249822c193590c8ecab87c77052:rewardbench/models/internlm.py
    """
    tokenizer, tensors = tokenizer_of(folder), tensors_of(folder)
    config = json.loads((folder / "config.json").read_text())
    ids = tokenizer.encode(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)
    ids = ids if ids[-1] == config["reward_token_id"] else [*ids, config["reward_token_id"]]
    keys, width = config["num_key_value_heads"], WIDTH // config["num_attention_heads"]
    group = config["num_attention_heads"] // keys

    def norm(states: torch.Tensor, name: str) -> torch.Tensor:
        mean = states.pow(2).mean(-1, keepdim=True)
        return tensors[name] * (states * torch.rsqrt(mean + config["rms_norm_eps"]))

    angles = torch.arange(len(ids))[:, None] / config["rope_theta"] ** (torch.arange(0, width, 2) / width)
    angles = torch.cat([angles, angles], -1)

    def turned(states: torch.Tensor) -> torch.Tensor:  # [heads, t, width]
        first, second = states.chunk(2, -1)
        return states * angles.cos() + torch.cat([-second, first], -1) * angles.sin()

    states = tensors["model.tok_embeddings.weight"][torch.tensor(ids)]
    future = torch.full((len(ids), len(ids)), -math.inf).triu(1)
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}."
        fused = linear(norm(states, f"{name}attention_norm.weight"), tensors[f"{name}attention.wqkv.weight"])
        fused = fused.view(len(ids), keys, group + 2, width)
        query = turned(fused[:, :, :group].flatten(1, 2).transpose(0, 1))
        key = turned(fused[:, :, -2].transpose(0, 1)).repeat_interleave(group, 0)
        value = fused[:, :, -1].transpose(0, 1).repeat_interleave(group, 0)
        weights = (query @ key.transpose(1, 2) / math.sqrt(width) + future).softmax(-1)
        mixed = (weights @ value).transpose(0, 1).flatten(1)
        states = states + linear(mixed, tensors[f"{name}attention.wo.weight"])
        inner = norm(states, f"{name}ffn_norm.weight")
        up, gate, down = (tensors[f"{name}feed_forward.w{i}.weight"] for i in (3, 1, 2))
        states = states + linear(silu(linear(inner, gate)) * linear(inner, up), down)
    return linear(norm(states, "model.norm.weight")[-1], tensors["v_head.weight"]).item()


def fused(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Llama's weights under InternLM2's names, as InternLM/InternLM@6908fa5e16fa4ae348c31b04886dc263f8116549:
    tools/convert2llama.py takes them apart.
    """
    names = {"self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.down_proj": "feed_forward.w2",
             "mlp.up_proj": "feed_forward.w3", "input_layernorm": "attention_norm",
             "post_attention_layernorm": "ffn_norm", "embed_tokens": "tok_embeddings"}  # fmt: skip
    made = {}
    for name, tensor in tensors.items():
        if "self_attn.q_proj" in name:
            rows = [tensors[name.replace("q_proj", f"{part}_proj")].view(2, -1, 16, WIDTH) for part in "qkv"]
            made[name.replace("self_attn.q_proj", "attention.wqkv")] = torch.cat(rows, 1).reshape(-1, WIDTH)
        elif "self_attn.k_proj" not in name and "self_attn.v_proj" not in name:
            changed = [name.replace(old, new) for old, new in names.items() if old in name]
            made[changed[0] if changed else name] = tensor
    return made


def openbmb(folder: Path, text: str, kind: str) -> float:
    """allenai/reward-bench@05a9005efb607249822c193590c8ecab87c77052:rewardbench/models/openbmb.py"""
    ids = tokenizer_of(folder)(text)["input_ids"]
    return linear(states(folder, ids, kind=kind)[-1], tensors_of(folder)["regression_head.weight"]).item()


def eurus(folder: Path, turns: Turns) -> float:
    """The card of openbmb/Eurus-RM-7b, whose template is said to be Mistral-Instruct-v0.2's."""
    eos = tokenizer_of(folder).eos_token
    pairs = [
        f"[INST] {one['content']} [/INST] {two['content']}" for one, two in zip(turns[::2], turns[1::2], strict=True)
    ]
    return openbmb(folder, eos.join(pairs), "mistral")


def ultrarm(folder: Path, turns: Turns) -> float:
    """The card of openbmb/UltraRM-13b."""
    called = {"user": "Human", "assistant": "Assistant"}
    return openbmb(folder, "\n\n".join(f"{called[one['role']]}: {one['content']}" for one in turns), "llama")


def starling(folder: Path, turns: Turns) -> float:
    """allenai/reward-bench@05a9005efb607249822c193590c8ecab87c77052:rewardbench/models/starling.py"""
    text = "\n".join(f"<|im_start|>{one['role']}\n{one['content'].strip()}<|im_end|>" for one in turns)
    ids = tokenizer_of(folder)(text)["input_ids"]
    end = ids.index(0) if 0 in ids else len(ids)
    rewards = linear(states(folder, ids, prefix="transformer."), tensors_of(folder)["v_head.weight"])
    return rewards[end - 1].item()


def beaver(folder: Path, turns: Turns) -> float:
    """allenai/reward-bench@05a9005efb607249822c193590c8ecab87c77052:rewardbench/models/beaver.py

    The text as in shuoli90/safe-rlhf@00d1098688987dc277e08d281a0953bc22501e97:safe_rlhf/datasets/{utils,preference}.py
    """
    tokenizer, tensors = tokenizer_of(folder), tensors_of(folder)
    config = json.loads((folder / "config.json").read_text())
    text = "BEGINNING OF CONVERSATION: "
    for one in turns:
        user = one["role"] == "user"
        text += f"USER: {one['content']} ASSISTANT:" if user else one["content"] + tokenizer.eos_token
    score = linear(states(folder, tokenizer(text)["input_ids"])[-1], tensors["score_head.weight"]).item()
    if config.get("do_normalize"):
        mean = tensors["normalizer.mean"].item() if config["score_type"] == "reward" else 0.0
        score = (score - mean) / (tensors["normalizer.var"].sqrt().item() + 1e-8)
    return -score if config["score_type"] == "cost" else score


def oasst(folder: Path, turns: Turns) -> float:
    """LAION-AI/Open-Assistant@f1e6ed9526f5817531f3ab85441a40b3671ddccb:model/model_training/models/reward_model.py

    The text as in custom_datasets/formatting.py beside it.
    """
    tokenizer, tensors = tokenizer_of(folder), tensors_of(folder)
    called = {"user": "<|prompter|>", "assistant": "<|assistant|>"}
    text = "".join(f"{called[one['role']]}{one['content']}{tokenizer.eos_token}" for one in turns)
    hidden = states(folder, tokenizer(text)["input_ids"], prefix="gpt_neox.", kind="gpt_neox")
    pooling = json.loads((folder / "config.json").read_text())["pooling"]
    pooled = hidden.mean(dim=0) if pooling == "mean" else hidden[-1]
    return linear(pooled, tensors["out_proj.weight"], tensors["out_proj.bias"]).item()


BOXED = "Please reason step by step, and put your final answer within \\boxed{}."


def qwen(folder: Path, turns: Turns, system: str = BOXED) -> float:
    """QwenLM/Qwen2.5-Math@25a9bc84bc4c43bcc499c4bec9ab14a0983d3852:README.md, the head as in
    sgl-project/sglang@0385ece3c4c1a649cf8f7be9c0fb2269307f783e:python/sglang/srt/models/qwen2_rm.py
    """
    tokenizer = tokenizer_of(folder)
    text = tokenizer.apply_chat_template([{"role": "system", "content": system}, *turns], tokenize=False)
    ids = tokenizer.encode(text, add_special_tokens=False)
    return network(tensors_of(folder), states(folder, ids, kind="qwen2")[-1], "score.0", "score.2")


def worldpm(folder: Path, turns: Turns) -> float:
    """QwenLM/WorldPM@c9b9b8c76ad01d014a76993fef91fa8fdf19558b:README.md"""
    return qwen(folder, turns, system="")


def without(prefix: str, own: str = "model.") -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda tensors: {name.replace(own, prefix, 1): tensor for name, tensor in tensors.items()}


_NETWORK = {"0.weight": (CELLS, WIDTH), "0.bias": (CELLS,), "2.weight": (1, CELLS), "2.bias": (1,)}
_NEOX = {"model_type": "gpt_neox_reward_model"}
_OASST = {"out_proj.weight": (1, WIDTH), "out_proj.bias": (1,)}
_BEAVER = {"score_head.weight": (1, WIDTH), "normalizer.mean": (1,), "normalizer.var": (1,), "normalizer.count": (1,)}
_QWEN = {f"score.{name}": (WIDTH, WIDTH) if name == "0.weight" else (WIDTH,) if name == "0.bias" else (1, WIDTH)
         if name == "2.weight" else (1,) for name in _NETWORK}  # fmt: skip

# By the entry of the table, behind a slash what of it is special
CASES: Mapping[str, Case] = {
    "grm-sftreg": Case(
        grm,
        {f"v_head.summary.{name}": shape for name, shape in _NETWORK.items()},
        "LlamaForCausalLM",
        config={"vhead_layer_type": "mlp", "vhead_num_neurons": CELLS, "vhead_num_layers": 1},
    ),
    "acecode-rm": Case(
        acecode,
        {"v_head.summary.weight": (1, WIDTH), "v_head.summary.bias": (1,)},
        "Qwen2ForCausalRM",
        "qwen2",
        {"pad_token_id": None},
    ),
    "athene-rm": Case(
        athene,
        {"v_head.weight": (1, WIDTH)},
        "CustomAutoModelForSequenceClassification",
        special={"cls_token": "<|system|>"},
    ),
    "internlm2-reward": Case(
        internlm,
        {"v_head.weight": (1, WIDTH)},
        "InternLM2ForRewardModel",
        config={
            "model_type": "internlm2",
            "bias": False,
            "attention_bias": None,
            "rope_theta": 1e6,
            "rope_parameters": None,
            "reward_token_id": 1,
            "head_dim": None,
            "mlp_bias": None,
            "auto_map": {
                "AutoConfig": "configuration_internlm2.InternLM2Config",
                "AutoModel": "modeling_internlm2.InternLM2ForRewardModel",
            },
        },
        renamed=fused,
    ),
    "eurus-rm": Case(
        eurus,
        {"regression_head.weight": (1, WIDTH)},
        "EurusRewardModel",
        "mistral",
        {"auto_map": {"AutoModel": "modeling_eurus_rm.EurusRewardModel"}},
    ),
    "ultrarm": Case(ultrarm, {"regression_head.weight": (1, WIDTH)}, "LlamaRewardModel"),
    "starling-rm-34b": Case(
        starling, {"v_head.weight": (1, WIDTH)}, "LlamaForSequenceClassification", renamed=without("transformer.")
    ),
    "beaver/reward": Case(
        beaver, _BEAVER, "LlamaForScore", config={"score_type": "reward", "score_dim": 1, "do_normalize": False}
    ),
    "beaver/cost": Case(
        beaver, _BEAVER, "LlamaForScore", config={"score_type": "cost", "score_dim": 1, "do_normalize": False}
    ),
    "beaver/normalised reward": Case(
        beaver, _BEAVER, "LlamaModelForScore", config={"score_type": "reward", "score_dim": 1, "do_normalize": True}
    ),
    "beaver/normalised cost": Case(
        beaver, _BEAVER, "LlamaModelForScore", config={"score_type": "cost", "score_dim": 1, "do_normalize": True}
    ),
    "oasst-pythia/last": Case(oasst, _OASST, "GPTNeoXRewardModel", "gpt_neox", {**_NEOX, "pooling": "last"}),
    "oasst-pythia/mean": Case(oasst, _OASST, "GPTNeoXRewardModel", "gpt_neox", {**_NEOX, "pooling": "mean"}),
    "worldpm": Case(worldpm, _QWEN, "Qwen2ForRewardModel", "qwen2", {"pad_token_id": None}),
    "qwen-math-rm": Case(qwen, _QWEN, "Qwen2ForRewardModel", "qwen2"),
}
