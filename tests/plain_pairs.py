"""How the authors of pairwise models compare two responses, one conversation at a time, by their own published code.

Each function is written from the file it names, takes its own tokens and imports nothing of rmbench. It gives a number
for the order shown: above 0 where the first response is preferred.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import torch
from safetensors.torch import load_file

Turns = Sequence[Mapping[str, str]]


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def conversation_pair(prompt: Turns, first: str, second: str) -> tuple[str, str, str]:
    """The three texts of a conversation: yuchenlin/LLM-Blender@2a673661:llm_blender/blender/blender_utils.py,
    `get_pair_from_conv`; the same in allenai/reward-bench@05a90056:rewardbench/models/pairrm.py.
    """
    texts = []
    for last in (first, second):
        turns = [*prompt, {"role": "assistant", "content": last}]
        said = [f"<Response {i // 2 + 1}>: {turns[i]['content']}" for i in range(1, len(turns), 2)]
        asked = [f"USER: {turns[i]['content']}\nAssistant: <Response {i // 2 + 1}>" for i in range(0, len(turns), 2)]
        texts.append(("\n".join(asked), "\n".join(said)))
    (source, one), (_, other) = texts
    instruction = "Finish the following coversation in each i-th turn by filling in <Response i> with your response."
    return instruction + source, one, other


def pairrm_ids(folder: Path, source: str, first: str, second: str, *, most: int = 1224, each: int = 412) -> list[int]:
    """yuchenlin/LLM-Blender@2a673661:llm_blender/blender/blender_utils.py, `tokenize_pair`."""
    tokenizer = _tokenizer(folder)
    ids: list[int] = tokenizer.encode("<|source|>" + source, max_length=most, truncation=True)
    room = (most + 2 * each - len(ids)) // 2
    for tag, text in (("<|candidate1|>", first), ("<|candidate2|>", second)):
        ids = ids + tokenizer.encode(tag + text, max_length=room, truncation=True)
    return ids


BETTER_PAIRRM = """{% for message in messages -%}
    {% if message['role'] == 'user' -%}
    USER: {{ message['content']|trim -}}
    {% if not loop.last -%}


    {% endif %}
    {% elif message['role'] == 'assistant' -%}
    ASSISTANT: {{ message['content']|trim -}}
    {% if not loop.last -%}


    {% endif %}
    {% elif message['role'] == 'user_context' -%}
    USER: {{ message['content']|trim -}}
    {% if not loop.last -%}


    {% endif %}
    {% elif message['role'] == 'system' -%}
    SYSTEM MESSAGE: {{ message['content']|trim -}}
    {% if not loop.last -%}


    {% endif %}
    {% endif %}
    {% endfor -%}
    {% if add_generation_prompt and messages[-1]['role'] != 'assistant' -%}
    ASSISTANT: {% endif -%}"""


def better_pairrm_ids(
    folder: Path, prompt: Turns, first: str, second: str, *, most: int = 2030, each: int = 670
) -> list[int]:
    """allenai/reward-bench@05a90056:rewardbench/models/betterpairrm.py: cut, decoded, and encoded once more."""
    tokenizer = _tokenizer(folder)

    def again(text: str, length: int, side: str) -> str:
        tokenizer.truncation_side = side
        ids = tokenizer.encode(text, add_special_tokens=False, max_length=length, truncation=True)
        written: str = tokenizer.decode(ids, skip_special_tokens=True)
        return written

    source = jinja2.Environment().from_string(BETTER_PAIRRM).render(messages=prompt, add_generation_prompt=True)
    source, first, second = again(source, most, "left"), again(first, each, "right"), again(second, each, "right")
    opening = tokenizer.encode("<|source|>")
    tokenizer.truncation_side = "left"
    ids: list[int] = opening + tokenizer.encode(source, max_length=most - len(opening), truncation=True)
    tokenizer.truncation_side = "right"
    room = (most + 2 * each - len(ids)) // 2
    for tag, text in (("<|candidate1|>", first), ("<|candidate2|>", second)):
        ids = ids + tokenizer.encode(tag + text, max_length=room, truncation=True)
    return ids


def pairrm(folder: Path, ids: Sequence[int]) -> float:
    """yuchenlin/LLM-Blender@2a673661:llm_blender/pair_ranker/pairrm.py, `DebertaV2PairRM.forward`."""
    from transformers import AutoConfig, DebertaV2Model

    weights = load_file(folder / "model.safetensors")
    network = DebertaV2Model(AutoConfig.from_pretrained(folder)).eval()
    own = {name.removeprefix("pretrained_model."): value for name, value in weights.items() if "head_layer" not in name}
    network.load_state_dict(own)
    config = json.loads((folder / "config.json").read_text())
    row = torch.tensor([list(ids)])
    with torch.inference_mode():
        states = network(input_ids=row, attention_mask=torch.ones_like(row), output_hidden_states=True).hidden_states
        source, first, second = (
            states[-1][row == config[f"{name}_prefix_id"]] for name in ("source", "cand1", "cand2")
        )
        scores = []
        for candidate in (first, second):
            inner = torch.cat([source, candidate], -1) @ weights["head_layer.1.weight"].T
            inner = torch.tanh(inner + weights["head_layer.1.bias"])
            scores.append(inner @ weights["head_layer.4.weight"].T + weights["head_layer.4.bias"])
    return float((scores[0] - scores[1]).mean())


CONTEXT = (
    "\n{% for message in messages %}{% if loop.index0 % 2 == 0 %}\n\n<turn> user\n {{ message['content'] }}{% else %}"
    "\n\n<turn> assistant\n {{ message['content'] }}{% endif %}{% endfor %}\n\n\n"
)


def slic(folder: Path, prompt: Turns, first: str, second: str) -> float:
    """RLHFlow/RLHF-Reward-Modeling@fc39179f:pair-pm/README.md, of one order: logit of A less that of B."""
    from transformers import AutoModelForCausalLM

    tokenizer, plain = _tokenizer(folder), _tokenizer(folder)
    plain.chat_template = CONTEXT
    context = plain.apply_chat_template(list(prompt), tokenize=False)
    text = f"[CONTEXT] {context} [RESPONSE A] {first} [RESPONSE B] {second} \n"
    shown = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False)
    ids = tokenizer.encode(shown.replace(tokenizer.bos_token, ""), add_special_tokens=False, return_tensors="pt")
    a, b = (tokenizer.encode(letter, add_special_tokens=False) for letter in "AB")
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(folder).eval()(ids).logits[0, -1]
    return float(logits[a[0]] - logits[b[0]])


def steamshp(folder: Path, prompt: Turns, first: str, second: str, max_length: int = 2048) -> float:
    """allenai/reward-bench@05a90056:rewardbench/models/shp.py, without its unseeded order: what generate(max_new_tokens
    =1) chooses from, logit of A less that of B.
    """
    from transformers import T5ForConditionalGeneration

    tokenizer = _tokenizer(folder)
    post = " ".join(turn["content"] for turn in prompt)
    text = f"POST: {post}\n\n RESPONSE A: {first}\n\n RESPONSE B: {second}\n\n Which response is better? RESPONSE"
    ids = tokenizer([text], truncation=True, max_length=max_length, return_tensors="pt").input_ids
    model = T5ForConditionalGeneration.from_pretrained(folder).eval()
    with torch.inference_mode():
        written = model.generate(
            ids, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
    (a,), (b,) = (tokenizer.encode(letter, add_special_tokens=False) for letter in "AB")
    return float(written.logits[0][0, a] - written.logits[0][0, b])


def gpm(folder: Path, prompt: Turns, first: str, second: str, max_length: int = 4096) -> float:
    """general-preference/general-preference-model@a376d95e:gpm_example_usage.py, `GPMPipeline` and
    `generate_high_dim_result_with_prompt`, over tau.
    """
    from transformers import AutoModelForCausalLM

    tokenizer = _tokenizer(folder)
    tokenizer.truncation_side = "right"
    weights = load_file(folder / "model.safetensors")
    network = AutoModelForCausalLM.from_pretrained(folder).eval().base_model
    asked = [dict(turn) for turn in prompt]
    begins = tokenizer(tokenizer.apply_chat_template(asked[:1], tokenize=False), truncation=True, max_length=max_length)
    embeddings, blocks = [], None
    for text in (first, second):
        whole = tokenizer.apply_chat_template([*asked, {"role": "assistant", "content": text}], tokenize=False)
        ids = tokenizer(whole, truncation=True, max_length=max_length).input_ids
        length = len(ids) - len(begins.input_ids)
        ids[-1] = tokenizer.eos_token_id
        with torch.inference_mode():
            states = network(input_ids=torch.tensor([ids])).last_hidden_state[0]
        embeddings.append(torch.nn.functional.normalize(states[-1] @ weights["value_head.weight"].T, dim=-1))
        if blocks is None and "prompt_head.weight" in weights:
            blocks = (states[len(ids) - length - 1] @ weights["prompt_head.weight"].T).softmax(-1)
    dim = len(embeddings[0])
    form = torch.zeros(dim, dim)
    for i in range(0, dim, 2):
        size = 1.0 if blocks is None else float(blocks[i // 2])
        form[i, i + 1], form[i + 1, i] = -size, size
    return float(embeddings[0] @ form.T @ embeddings[1]) / 0.1


def sigmoid(number: float) -> float:
    return 1 / (1 + math.exp(-number))
