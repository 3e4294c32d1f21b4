"""Known process reward models: a tiny checkpoint of each against a plain forward, as its authors' code runs one.

The plain forwards import nothing of rmbench and take their own tokens. Each is written from the file that its entry in
known.toml names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from ask_models import score
from process_models import ASKED, HIDDEN, QUESTION, SOLUTIONS, byte_level, drawn, pieces, quiet, saved, trl_ids
from safetensors.torch import load_file

from rmbench.errors import ModelError, UsageError
from rmbench.models.known import entries
from rmbench.models.spec import open_model
from rmbench.types import Reward

CHATML = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
    "{{ message.content | trim }}<|eot_id|>{% endfor %}"
)


# tiny checkpoints: names of weights, keys of the config and special tokens as the real ones have them


def math_shepherd(folder: Path) -> Path:
    return saved(folder, pieces("<pad>"), "MistralConfig", "MistralForCausalLM")


def qwen_math_prm(folder: Path) -> Path:
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<extra_0>"]
    tokenizer = byte_level(specials, chat=CHATML, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    head = {
        "score.0.weight": drawn(HIDDEN, HIDDEN),
        "score.0.bias": drawn(HIDDEN, seed=4),
        "score.2.weight": drawn(2, HIDDEN, seed=5),
        "score.2.bias": drawn(2, seed=6),
    }
    return saved(folder, tokenizer, "Qwen2Config", "Qwen2ForProcessRewardModel", tensors=head)


def skywork_o1_prm(folder: Path) -> Path:
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    names = {"pad_token": "<|endoftext|>", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    head = {"v_head.summary.weight": drawn(1, HIDDEN), "v_head.summary.bias": drawn(1, seed=4)}
    return saved(folder, byte_level(specials, **names), "Qwen2Config", "Qwen2ForPrmModel", tensors=head)


def rlhflow_prm(folder: Path) -> Path:
    specials = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    names = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "<|eot_id|>"}
    tokenizer = byte_level(specials, "\n\n", chat=LLAMA3, adds="<|begin_of_text|>", **names)
    return saved(folder, tokenizer, "LlamaConfig", "LlamaForCausalLM")


def reasoneval_7b(folder: Path) -> Path:
    head = {"score_head.weight": drawn(3, HIDDEN)}
    own = {"score_dimension": 3, "use_bias": False}
    return saved(folder, pieces("<s>"), "MistralConfig", "ReasonEval_7B", auto="AutoModel", tensors=head, **own)


def reasoneval_34b(folder: Path) -> Path:
    head = {"score_head.weight": drawn(3, HIDDEN), "score_head.bias": drawn(3, seed=4)}
    own = {"score_dim": 3, "bias": True}
    return saved(folder, pieces("<pad>"), "LlamaConfig", "ReasonEval_34B", auto="AutoModel", tensors=head, **own)


def math_psa(folder: Path) -> Path:
    """An adapter beside its base, as its authors publish it."""
    from peft import LoraConfig, TaskType, get_peft_model

    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = byte_level(
        specials, " \n\n\n\n\n", " +", " -", chat=CHATML, pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )
    base = saved(folder / "base", tokenizer, "Qwen2Config", "Qwen2ForCausalLM")
    lora = LoraConfig(task_type=TaskType.CAUSAL_LM, r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(1)
        get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(folder / "psa")
    return folder / "psa"


def versaprm(folder: Path) -> Path:
    specials = ["<|begin_of_text|>", "<|eot_id|>"]
    names = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "<|eot_id|>"}
    tokenizer = byte_level(specials, " \n\n\n\n", " \n\n", adds="<|begin_of_text|>", **names)
    return saved(folder, tokenizer, "LlamaConfig", "LlamaForCausalLM")


def easy_to_hard(folder: Path) -> Path:
    return saved(folder, pieces("</s>"), "LlamaConfig", "LlamaForCausalLM")


def pure(folder: Path) -> Path:
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = byte_level(specials, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    auto = "AutoModelForTokenClassification"
    return saved(folder, tokenizer, "Qwen2Config", "Qwen2ForTokenClassification", auto=auto, num_labels=2)


# plain forwards: the official rule, one solution at a time


@dataclass
class Plain:
    """What the official code gives for one solution."""

    steps: list[float]
    whole: float = math.nan
    verdicts: list[bool] = field(default_factory=list)
    named: dict[str, list[float]] = field(default_factory=dict)


def logits_of(model: Any, ids: Sequence[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([list(ids)])).logits[0].float()


def tokens_and_model(folder: Path, auto: str = "AutoModelForCausalLM") -> tuple[Any, Any]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return tokenizer, getattr(transformers, auto).from_pretrained(folder).eval()


def plain_math_shepherd(folder: Path, steps: Sequence[str]) -> Plain:
    tokenizer, model = tokens_and_model(folder)
    good, bad = tokenizer.encode("+ -")[1:]
    tag = tokenizer.encode("ки")[-1]
    lines = "".join(f"Step {number}: {step.strip()} ки\n" for number, step in enumerate(steps, 1))
    ids = tokenizer.encode(f"{QUESTION} {lines}")
    shares = logits_of(model, ids)[:, [good, bad]].softmax(-1)[:, 0]
    made = [float(share) for share, token in zip(shares, ids, strict=True) if token == tag]
    return Plain(made, min(made), [one > 0.5 for one in made])


def plain_qwen_math_prm(folder: Path, steps: Sequence[str]) -> Plain:
    tokenizer, model = tokens_and_model(folder, "AutoModel")
    messages = [
        {"role": "system", "content": "Please reason step by step, and put your final answer within \\boxed{}."},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": "<extra_0>".join(steps) + "<extra_0>"},
    ]
    ids = tokenizer.encode(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False))
    head = load_file(folder / "model.safetensors")
    with torch.no_grad():
        states = model(torch.tensor([ids])).last_hidden_state[0]
    between = torch.relu(states @ head["score.0.weight"].T + head["score.0.bias"])
    shares = (between @ head["score.2.weight"].T + head["score.2.bias"]).softmax(-1)
    tag = tokenizer.encode("<extra_0>")[0]
    made = [float(share[1]) for share, token in zip(shares, ids, strict=True) if token == tag]
    return Plain(made, verdicts=[one > 0.5 for one in made])


def plain_skywork_o1_prm(folder: Path, steps: Sequence[str]) -> Plain:
    tokenizer, model = tokens_and_model(folder, "AutoModel")
    ids = tokenizer.encode(tokenizer.bos_token + QUESTION + "\n")
    tag, ends = tokenizer.encode("\n")[-1], []
    for step in steps:
        for line in step.split("\n"):
            ids += [*(tokenizer.encode(line) if line else []), tag]
        ends.append(len(ids) - 1)
    head = load_file(folder / "model.safetensors")
    with torch.no_grad():
        states = model(torch.tensor([ids])).last_hidden_state[0]
    values = states @ head["v_head.summary.weight"].T + head["v_head.summary.bias"]
    made = [float(value) for value in values[ends, 0].sigmoid()]
    falls = [made[0], *(b - a for a, b in pairwise(made))]
    return Plain(made, verdicts=[one > -0.05 for one in falls])


def plain_rlhflow_prm(folder: Path, steps: Sequence[str]) -> Plain:
    tokenizer, model = tokens_and_model(folder)
    good, bad = tokenizer.encode("+")[-1], tokenizer.encode("-")[-1]
    conversation: list[dict[str, str]] = []
    made, whole = [], []
    for number, step in enumerate(steps):
        text = f"{QUESTION} {step.strip()}" if number == 0 else step.strip()
        conversation += [{"content": text, "role": "user"}, {"content": "+", "role": "assistant"}]
        written = tokenizer.apply_chat_template(conversation, tokenize=False)
        logits = logits_of(model, tokenizer(written, add_special_tokens=False)["input_ids"])[-3]
        made.append(float(logits[[good, bad]].softmax(-1)[0]))
        whole.append(float(logits.softmax(-1)[good]))
    return Plain(made, sum(made) / len(made), [one > 0.5 for one in made], {"whole_vocabulary": whole})


def plain_reasoneval(folder: Path, steps: Sequence[str]) -> Plain:
    tokenizer, model = tokens_and_model(folder, "AutoModel")
    separator = tokenizer.pad_token
    prompt = f"Question:\n{QUESTION}\nAnswer:\nLet's think step by step.\n"
    given = tokenizer(prompt + separator + "".join(step + separator for step in steps))["input_ids"]
    separator_id = tokenizer(separator)["input_ids"][-1]
    labelled: list[int] = []
    ids: list[int] = []
    for at, token in enumerate(given):
        if token == separator_id:
            labelled.append(at - 1 - len(labelled))
        else:
            ids.append(token)
    if json.loads((folder / "config.json").read_text())["architectures"] == ["ReasonEval_7B"]:
        ids, labelled = [1, *ids], labelled[2:]
    else:
        labelled = labelled[1:]
    assert len(labelled) == len(steps)
    head = load_file(folder / "model.safetensors")
    with torch.no_grad():
        states = model(torch.tensor([ids])).last_hidden_state[0]
    shares = (states @ head["score_head.weight"].T + head.get("score_head.bias", 0)).softmax(-1)[labelled]
    valid = [float(one[1] + one[2]) for one in shares]
    return Plain(valid, min(valid), [one > 0.5 for one in valid], {"redundancy": [float(one[1]) for one in shares]})


def plain_math_psa(folder: Path, steps: Sequence[str]) -> Plain:
    from peft import PeftModel

    tokenizer, base = tokens_and_model(folder.parent / "base")
    with quiet():
        model = PeftModel.from_pretrained(base, folder).eval()
    good, bad = tokenizer.encode(" + -")
    tag = tokenizer.encode(" \n\n\n\n\n")[-1]
    text = "".join(f"Step {number}: {step} \n\n\n\n\n " for number, step in enumerate(steps, 1))
    ids = tokenizer.encode(f"{QUESTION} {text}")
    with torch.no_grad():
        shares = model(input_ids=torch.tensor([ids])).logits[0][:, [good, bad]].softmax(-1)[:, 0]
    made = [float(share) for share, token in zip(shares, ids, strict=True) if token == tag]
    return Plain(made, verdicts=[one > 0.5 for one in made])


def plain_versaprm(folder: Path, steps: Sequence[str]) -> Plain:
    tokenizer, model = tokens_and_model(folder)
    good, bad = tokenizer.encode("+")[-1], tokenizer.encode("-")[-1]
    tag = tokenizer.encode(" \n\n\n\n")[-1]
    ids = tokenizer.encode(f"{QUESTION} \n\n" + "".join(f"{step.strip()} \n\n\n\n" for step in steps))
    shares = logits_of(model, ids)[:, [bad, good]].softmax(-1)[:, 1]
    made = [float(share) for share, token in zip(shares, ids, strict=True) if token == tag]
    return Plain(made, min(made))


def plain_easy_to_hard(folder: Path, steps: Sequence[str]) -> Plain:
    tokenizer, model = tokens_and_model(folder)
    prompt = f"# Question\n\n{QUESTION}\n\n# Solution\n\n"
    ids = tokenizer.encode(prompt + "".join(f"{step.strip()}\n\n" for step in steps))
    newline = tokenizer.encode("\n\n", add_special_tokens=False)[-1]
    places = [at for at in range(len(ids)) if ids[at : at + 2] == [newline, newline]]
    made = [float(one) for one in logits_of(model, ids).mean(-1)[places[prompt.count("\n\n") :]].sigmoid()]
    return Plain(made, verdicts=[one > 0.5 for one in made])


def plain_pure(folder: Path, steps: Sequence[str]) -> Plain:
    tokenizer, model = tokens_and_model(folder, "AutoModelForTokenClassification")
    ids, ends = trl_ids(tokenizer, steps)
    shares = logits_of(model, ids)[ends].softmax(-1)
    rewards = shares[:, 1] - shares[:, 0]
    weights = torch.softmax(-rewards / 0.1, -1)
    return Plain(rewards.tolist(), float(weights @ rewards), [bool(one > 0) for one in rewards])


# An entry is found by the folder alone, where weights or an architecture tell, else by its name
CASES: dict[str, tuple[Callable[[Path], Path], Callable[[Path, Sequence[str]], Plain], str]] = {
    "math-shepherd": (math_shepherd, plain_math_shepherd, "process:{}?entry=math-shepherd"),
    "qwen-math-prm": (qwen_math_prm, plain_qwen_math_prm, "{}"),
    "skywork-o1-prm": (skywork_o1_prm, plain_skywork_o1_prm, "{}"),
    "rlhflow-prm": (rlhflow_prm, plain_rlhflow_prm, "process:{}?entry=rlhflow-prm"),
    "reasoneval 7B": (reasoneval_7b, plain_reasoneval, "{}"),
    "reasoneval 34B": (reasoneval_34b, plain_reasoneval, "{}"),
    "math-psa": (math_psa, plain_math_psa, "process:{}?entry=math-psa"),
    "versaprm": (versaprm, plain_versaprm, "process:{}?entry=versaprm"),
    "easy-to-hard": (easy_to_hard, plain_easy_to_hard, "process:{}?entry=easy-to-hard"),
    "pure": (pure, plain_pure, "process:{}?entry=pure"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_known_process_model_is_read_as_its_authors_read_it(case: str, tmp_path: Path) -> None:
    make, plain, spec = CASES[case]
    folder = make(tmp_path / "prm")
    opened = open_model(spec.format(folder))
    name = case.partition(" ")[0]
    assert opened.subject.family == "process"
    assert opened.subject.settings["known"] == {"entry": name, "verified": True}
    for reward, steps in zip(score(opened, ASKED), SOLUTIONS, strict=True):
        expected = plain(folder, steps)
        assert len(expected.steps) == len(steps)
        assert reward.steps == pytest.approx(expected.steps, abs=1e-5)
        assert reward.value == pytest.approx(expected.whole, abs=1e-5, nan_ok=True)
        named = {head: values for head, values in reward.step_heads.items() if head != "verdict"}
        assert named.keys() == expected.named.keys()
        for head, values in named.items():
            assert values == pytest.approx(expected.named[head], abs=1e-5)
        verdicts = [bool(one) for one in reward.step_heads.get("verdict", ())]
        assert verdicts == expected.verdicts
        assert reward.noted == ()


def test_every_entry_of_the_family_is_verified_by_a_case() -> None:
    ours = {name for name, entry in entries().items() if entry.family == "process"}
    assert ours == {case.partition(" ")[0] for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_read_as_if_it_were_unknown_it_is_refused_or_gives_something_else(case: str, tmp_path: Path) -> None:
    make, plain, _ = CASES[case]
    folder = make(tmp_path / "prm")
    try:
        rewards: list[Reward] = score(open_model(f"process:{folder}?entry=none"), ASKED)
    except (ModelError, UsageError):
        return
    for reward, steps in zip(rewards, SOLUTIONS, strict=True):
        assert reward.steps != pytest.approx(plain(folder, steps).steps, abs=1e-3)
