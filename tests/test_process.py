"""The family `process`: what it is shown, where it reads, what it makes of steps, and what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from ask_models import score
from checkpoints import make
from process_models import (
    ASKED,
    HIDDEN,
    QUESTION,
    SOLUTIONS,
    byte_level,
    drawn,
    pieces,
    quiet,
    saved,
    trl_ids,
)
from safetensors.torch import load_file, save_file

import rmbench
from rmbench.cli import main
from rmbench.errors import ModelError, UsageError
from rmbench.metrics.aggregate import VIEWS
from rmbench.models import process
from rmbench.models.spec import open_model
from rmbench.scoring import Usage
from rmbench.types import Message, Request, Response

SPECIALS = ("<pad>", "<s>", "</s>", "<tag>")
NAMES = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model whose tokenizer has the tag `<tag>`, as special as Qwen's <extra_0> is."""
    folder = tmp_path_factory.mktemp("lm") / "prm"
    chat = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    tokenizer = byte_level(SPECIALS, ")\n\n", adds="<s>", chat=chat, **NAMES)
    return saved(folder, tokenizer, "LlamaConfig", "LlamaForCausalLM")


def plain_steps(folder: Path, text: str, tag: str = "<tag>", signs: str = "+-") -> np.ndarray[Any, Any]:
    """The log-odds of the first sign against the second at every tag of a text."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    (at,), (good,), (bad,) = (tokenizer(one, add_special_tokens=False)["input_ids"] for one in (tag, *signs))
    ids = torch.tensor(tokenizer(text)["input_ids"])
    with torch.no_grad():
        logits = model(ids[None]).logits[0][ids == at].double()
    odds: np.ndarray[Any, Any] = (logits[:, good] - logits[:, bad]).numpy()
    return odds


def text_of(steps: Sequence[str], tag: str = "<tag>") -> str:
    return f"{QUESTION} " + "".join(f"{step} {tag}\n" for step in steps)


# what is made of steps


def test_a_model_without_an_entry_is_read_by_its_tag_and_the_tokens_that_judge_it(language_model: Path) -> None:
    for reward, steps in zip(
        score(open_model(f"process:{language_model}?step_tag=<tag>"), ASKED), SOLUTIONS, strict=True
    ):
        odds = plain_steps(language_model, text_of(steps))
        assert reward.steps == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-5)
        assert math.isnan(reward.value), "nobody says what is made of the steps"
        assert (reward.status, dict(reward.step_heads), reward.noted) == ("ok", {}, ())
    turned = score(process.open(str(language_model), {"step_tag": "<tag>", "good": "-", "bad": "+"}), ASKED)
    assert turned[0].steps == pytest.approx(
        1 / (1 + np.exp(plain_steps(language_model, text_of(SOLUTIONS[0])))), abs=1e-5
    )


@pytest.mark.parametrize(
    ("scale", "made"),
    [("probability", lambda z: 1 / (1 + np.exp(-z))), ("difference", lambda z: np.tanh(z / 2)), ("logit", lambda z: z)],
)
def test_the_scale_of_a_step_its_verdict_and_the_aggregate_are_options(
    language_model: Path, scale: str, made: Any
) -> None:
    odds = plain_steps(language_model, text_of(SOLUTIONS[1]))
    expected = made(odds)
    cut = float((expected[0] + expected[1]) / 2)  # between two of the steps
    given = {"step_tag": "<tag>", "scale": scale, "threshold": cut, "aggregate": "softmin"}
    (reward,) = score(process.open(str(language_model), given), ASKED[1:2])
    assert reward.steps == pytest.approx(expected, abs=1e-5)
    assert reward.step_heads["verdict"] == tuple((expected > cut).astype(float))
    weights = np.exp(-expected / 0.1) / np.exp(-expected / 0.1).sum()
    assert reward.value == pytest.approx(weights @ expected, abs=1e-5)


LOOPS = {
    "prod": math.prod,
    "geometric_mean": lambda steps: math.prod(steps) ** (1 / len(steps)),
    "mean": lambda steps: math.fsum(steps) / len(steps),
    "min": min,
    "max": max,
    "last": lambda steps: steps[-1],
    "mean_logit": lambda steps: math.fsum(math.log(p / (1 - p)) for p in steps) / len(steps),
    "mean_odds": lambda steps: math.fsum(p / (1 - p) for p in steps) / len(steps),
}


@pytest.mark.parametrize("name", LOOPS)
def test_every_aggregate_can_be_the_reward(language_model: Path, name: str) -> None:
    assert LOOPS.keys() == VIEWS.keys()
    (reward,) = score(process.open(str(language_model), {"step_tag": "<tag>", "aggregate": name}), ASKED[:1])
    assert reward.value == pytest.approx(LOOPS[name](reward.steps), rel=1e-9)


def test_a_saturated_step_is_a_zero_in_its_place(language_model: Path, tmp_path: Path) -> None:
    weights = load_file(language_model / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"] * 1e5
    sharp = tmp_path / "sharp"
    transformers.AutoTokenizer.from_pretrained(language_model).save_pretrained(sharp)
    (sharp / "config.json").write_text((language_model / "config.json").read_text())
    save_file(weights, sharp / "model.safetensors", metadata={"format": "pt"})
    for reward, steps in zip(score(process.open(str(sharp), {"step_tag": "<tag>"}), ASKED), SOLUTIONS, strict=True):
        right = plain_steps(sharp, text_of(steps)) > 0
        assert reward.steps == tuple(right.astype(float)), "each is an exact 0 or 1, and none is dropped"


def test_a_step_that_was_cut_is_nan_alone(language_model: Path) -> None:
    whole = process.open(str(language_model), {"step_tag": "<tag>"})
    with whole.started("cpu") as model:
        length = len(model.encode(ASKED[:1])[0].ids)
    given = {"step_tag": "<tag>", "threshold": 0.5, "aggregate": "last"}
    for kept, missing in ((20, 1), (3, 2), (length - 1, 0)):
        opened = process.open(str(language_model), {**given, "max_length": kept})
        (reward,) = score(opened, ASKED[:1])
        assert [math.isnan(step) for step in reward.steps] == [True] * missing + [False] * (3 - missing)
        assert [math.isnan(step) for step in reward.step_heads["verdict"]] == [math.isnan(s) for s in reward.steps]
        assert (reward.status, reward.truncated) == ("ok", length - kept)
        assert reward.value == reward.steps[-1], "the last step is there"
    (none,) = score(
        process.open(str(language_model), {**given, "max_length": 4, "truncation_side": "right"}), ASKED[:1]
    )
    assert all(map(math.isnan, none.steps))
    assert none.status == "nan"


# how it is asked


def test_all_steps_of_a_solution_are_read_in_one_forward_and_prompts_are_shared(language_model: Path) -> None:
    opened = process.open(str(language_model), {"step_tag": "<tag>"})
    long = (Message("user", QUESTION * 25),)
    asked = [Request("steps", long, (Response("", (f"{n} is it.", *SOLUTIONS[1])),)) for n in range(8)]
    with opened.started("cpu") as model:
        lengths = [len(one.ids) for one in model.encode(asked)]
    alone, together = Usage(), Usage()
    (one,) = score(opened, asked[:1], usage=alone)
    several = score(opened, asked, usage=together)
    assert (alone.tokens, alone.batches) == (lengths[0], 1)
    assert together.ways == {"shared": 8}, "what solutions begin with alike is computed once"
    assert together.tokens == sum(lengths)
    assert one.steps == pytest.approx(several[0].steps, abs=1e-5)


def test_a_solution_is_rated_the_same_alone_and_among_others(language_model: Path) -> None:
    opened = process.open(str(language_model), {"step_tag": "<tag>"})
    together = score(opened, [*ASKED, *reversed(ASKED)])
    alone = [score(opened, [request])[0] for request in ASKED]
    for one, other, again in zip(alone, together, reversed(together), strict=False):
        assert one.steps == pytest.approx(other.steps, abs=1e-6)
        assert one.steps == pytest.approx(again.steps, abs=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_step_a_turn_is_read_before_its_answer_and_only_what_was_cut_is_missing(
    language_model: Path, side: str
) -> None:
    given = {"form": "turns", "truncation_side": side}
    whole = score(process.open(str(language_model), given), ASKED[1:2])[0]
    for kept in range(20, whole.n_tokens, 3):
        (cut,) = score(process.open(str(language_model), {**given, "max_length": kept}), ASKED[1:2])
        there = [not math.isnan(step) for step in cut.steps]
        assert cut.status == ("ok" if any(there) else "nan")
        assert there == sorted(there, reverse=side == "right")
        if side == "right":
            assert cut.steps == pytest.approx([s if t else math.nan for s, t in zip(whole.steps, there, strict=True)],
                                              abs=1e-5, nan_ok=True)  # fmt: skip


def test_a_chat_has_the_steps_in_the_answer_and_tools_in_the_prompt(language_model: Path) -> None:
    opened = process.open(str(language_model), {"step_tag": "<tag>", "form": "chat"})
    (reward,) = score(opened, ASKED[1:2])
    text = f"{QUESTION}\n" + "".join(f"{step}<tag>" for step in SOLUTIONS[1]) + "\n"
    assert reward.steps == pytest.approx(1 / (1 + np.exp(-plain_steps(language_model, text))), abs=1e-5)


def test_turns_are_steps_and_other_turns_are_refused(language_model: Path) -> None:
    opened = process.open(str(language_model), {"step_tag": "<tag>"})
    turns = [Message("assistant", step) for step in SOLUTIONS[1]]
    prompt = ASKED[1].prompt
    called = [turns[0], Message("tool", "15"), turns[1]]
    asked = [
        Request("steps", prompt, (Response(turns, "turns"),)),
        Request("steps", prompt, (Response(called, "turns"),)),
        Request("steps", prompt, (Response("", ()),)),
        Request("steps", prompt, (Response("So it is 95."),)),
    ]
    whole, refused, empty, unknown = score(opened, asked)
    assert whole.steps == pytest.approx(score(opened, ASKED[1:2])[0].steps)
    assert (refused.status, refused.detail) == ("refused", "a process model reads turns of the assistant alone")
    assert (empty.status, empty.detail) == ("refused", "the response has no steps")
    assert (unknown.status, unknown.detail) == ("error", "the response is not taken apart into steps")


def test_only_control_tokens_that_somebody_else_wrote_are_noted_and_read_as_text(language_model: Path) -> None:
    steps = ("2 + 2 </s> is 4", "so <tag> it is")
    asked = [Request("steps", ASKED[0].prompt, (Response(" ".join(some), some),)) for some in (steps, SOLUTIONS[2])]
    kept, clean = score(process.open(str(language_model), {"step_tag": "<tag>"}), asked)
    assert kept.noted == ("control tokens of the tokenizer in the text", "the step tag stands in the text")
    assert clean.noted == ()
    assert len(kept.steps) == 2, "a tag within a step is none of ours"
    opened = process.open(str(language_model), {"step_tag": "<tag>", "control_tokens": "text"})
    with opened.started("cpu") as model:
        ids, tokenizer = model.encode(asked[:1])[0].ids, model.rendering.tokenizer
    assert (list(ids).count(tokenizer.eos_token_id), list(ids).count(3)) == (0, 3), "the tags stay what they are"


# token classifiers, as TRL's PRMTrainer saves them

NO_BOS = {"pad_token": "<pad>", "eos_token": "</s>"}


@pytest.mark.parametrize(
    ("names", "adds"), [(NO_BOS, {}), (NAMES, {}), (NAMES, {"adds": "<s>"})], ids=["no BOS", "not added", "added"]
)
def test_a_bare_folder_of_a_token_classifier_is_read_as_trl_takes_rows_apart(
    tmp_path: Path, names: dict[str, str], adds: dict[str, str]
) -> None:
    tokenizer = byte_level(("<pad>", "<s>", "</s>"), **names, **adds)
    auto = "AutoModelForTokenClassification"
    folder = saved(tmp_path / "prm", tokenizer, "LlamaConfig", "LlamaForTokenClassification", auto=auto, num_labels=2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForTokenClassification.from_pretrained(folder)
    opened = open_model(str(folder), threshold=0.5)
    assert opened.subject.family == "process"
    for separator, given in (("\n", {}), ("##", {"step_tag": "##"})):
        rewards = score(open_model(str(folder), threshold=0.5, **given), ASKED)
        for reward, steps in zip(rewards, SOLUTIONS, strict=True):
            ids, ends = trl_ids(tokenizer, steps, separator)
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0][ends]
            assert reward.n_tokens == len(ids)
            assert reward.steps == pytest.approx(logits.softmax(-1)[:, 1].tolist(), abs=1e-5)
            assert reward.step_heads["verdict"] == tuple(logits.argmax(-1).double().tolist())


def test_an_adapter_of_a_token_classifier_brings_its_head(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    auto = "AutoModelForTokenClassification"
    base = saved(tmp_path / "base", byte_level(("<pad>", "</s>"), **NO_BOS), "Qwen2Config", "Qwen2ForCausalLM")
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(2)
        own = getattr(transformers, auto).from_pretrained(base, num_labels=2)
        lora = LoraConfig(task_type="TOKEN_CLS", r=4, target_modules=["q_proj"], init_lora_weights=False)
        model = get_peft_model(own, lora).eval()
        model.save_pretrained(tmp_path / "prm")
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    for reward, steps in zip(score(open_model(str(tmp_path / "prm")), ASKED), SOLUTIONS, strict=True):
        ids, ends = trl_ids(tokenizer, steps)
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([ids])).logits[0][ends].softmax(-1)[:, 1]
        assert reward.steps == pytest.approx(expected.tolist(), abs=1e-5)


def classifier(folder: Path, labels: dict[int, str], seed: int = 0) -> Path:
    auto, names = "AutoModelForTokenClassification", {str(at): name for at, name in labels.items()}
    tokenizer = byte_level(("<pad>", "</s>"), **NO_BOS)
    return saved(
        folder,
        tokenizer,
        "Qwen2Config",
        "Qwen2ForTokenClassification",
        auto=auto,
        num_labels=len(names),
        id2label=names,
    )


def test_labels_of_a_right_step_are_chosen_by_name_or_number(tmp_path: Path) -> None:
    folder = classifier(tmp_path / "prm", {0: "bad", 1: "neutral", 2: "good"})
    with pytest.raises(UsageError, match=r"has 3 labels \(bad, neutral, good\): \?good=NAME says which are of a right"):
        score(open_model(str(folder)), ASKED)
    rewards = [score(open_model(str(folder), good=good), ASKED[:1])[0] for good in ("neutral,good", "1,2", "good", "0")]
    assert rewards[0].steps == rewards[1].steps
    assert np.add(rewards[0].steps, rewards[3].steps) == pytest.approx(1)
    assert all(np.less(rewards[2].steps, rewards[0].steps))
    with pytest.raises(UsageError, match="good='fine': .* has the labels bad, neutral, good"):
        score(open_model(str(folder), good="fine"), ASKED)


def test_one_label_is_the_logit_of_a_right_step(tmp_path: Path) -> None:
    folder = classifier(tmp_path / "prm", {0: "right"})
    model = transformers.AutoModelForTokenClassification.from_pretrained(folder)
    ids, ends = trl_ids(transformers.AutoTokenizer.from_pretrained(folder), SOLUTIONS[0])
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0][ends, 0]
    (reward,) = score(open_model(str(folder), scale="logit"), ASKED[:1])
    assert reward.steps == pytest.approx(logits.tolist(), abs=1e-4)


def test_an_encoder_that_classifies_tokens_is_read_whole(tmp_path: Path) -> None:
    make(tmp_path / "bert", "bert")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "bert", num_labels=2)
    model = transformers.AutoModelForTokenClassification.from_config(config).eval()
    model.save_pretrained(tmp_path / "bert")
    opened = open_model(str(tmp_path / "bert"), step_tag="!", step="{step} {tag} ", apart=False)
    with opened.started("cpu") as started:
        assert started.layout == "encoder"
        (one,) = started.encode(ASKED[:1])
    (reward,) = score(opened, ASKED[:1])
    with torch.no_grad():
        logits = model(torch.tensor([list(one.ids)])).logits[0][list(one.reads)]
    assert reward.steps == pytest.approx(logits.softmax(-1)[:, 1].tolist(), abs=1e-5)


# other heads


def test_logits_that_a_model_caps_are_capped(tmp_path: Path) -> None:
    tokenizer = byte_level(SPECIALS, adds="<s>", **NAMES)
    own = {"head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 16, "final_logit_softcapping": 0.5}
    folder = saved(tmp_path / "prm", tokenizer, "Gemma2Config", "Gemma2ForCausalLM", **own)
    (reward,) = score(process.open(str(folder), {"step_tag": "<tag>"}), ASKED[:1])
    odds = plain_steps(folder, text_of(SOLUTIONS[0]))
    assert reward.steps == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-5)
    assert max(abs(odds)) < 1.0


def test_logits_that_a_model_scales_are_scaled(tmp_path: Path) -> None:
    tokenizer = byte_level(SPECIALS, adds="<s>", **NAMES)
    folder = saved(tmp_path / "prm", tokenizer, "CohereConfig", "CohereForCausalLM", logit_scale=0.1)
    (reward,) = score(process.open(str(folder), {"step_tag": "<tag>", "scale": "logit"}), ASKED[:1])
    assert reward.steps == pytest.approx(plain_steps(folder, text_of(SOLUTIONS[0])), abs=1e-5)


@pytest.mark.parametrize("weight", ["score.weight", "model.norm.weight"])
def test_weights_that_are_no_numbers_make_rewards_that_are_none(tmp_path: Path, weight: str) -> None:
    folder = classifier(tmp_path / "prm", {0: "bad", 1: "good"})
    weights = load_file(folder / "model.safetensors")
    weights[weight] = weights[weight] * math.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert [reward.status for reward in score(open_model(str(folder)), ASKED)] == ["nan"] * 3


def test_a_value_head_without_an_entry_and_an_average_of_two(tmp_path: Path) -> None:
    folders = []
    for seed in (3, 4):
        head = {"v_head.summary.weight": drawn(1, HIDDEN, seed=seed), "v_head.summary.bias": drawn(1, seed=seed)}
        tokenizer = byte_level(("<pad>", "</s>"), **NO_BOS)
        folders.append(saved(tmp_path / str(seed), tokenizer, "Qwen2Config", "Qwen2ForCausalLM", tensors=head))
    one, other, mean = (
        score(process.open(str(folder), {"reading": "value", "scale": "logit", **given}), ASKED[:1])[0].steps
        for folder, given in ((folders[0], {}), (folders[1], {}), (folders[0], {"average": (str(folders[1]),)}))
    )
    assert mean == pytest.approx(np.add(one, other) / 2, abs=1e-4), "of the same backbone the heads are averaged"


# what is refused, in one line each


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, r"where its steps are read nobody says: \?step_tag=TEXT"),
        ({"step_tag": "<tag>", "good": "right away"}, r"good='right away': \d+ tokens of .* \(.*\); expected one"),
        ({"step_tag": "<tag>", "bad": "wrong step"}, r"bad='wrong step': \d+ tokens of"),
        ({"step_tag": "<tag>", "step": "{step}"}, r"step='{step}': no {tag} in it; expected {number}, {step}, {tag}"),
        ({"step_tag": "<tag>", "prompt": "{problem}"}, r"prompt='{problem}': unknown field {problem}; expected"),
        ({"step_tag": "<tag>", "threshold": 1.5}, "threshold=1.5: expected a number between 0 and 1, as a probability"),
        ({"step_tag": "<tag>", "form": "turns"}, "step_tag='<tag>' has no effect where form=turns"),
        ({"step_tag": "<tag>", "form": "chat", "prompt": "{question}"}, "'{question}' has no effect where form=chat"),
        ({"step_tag": "<tag>", "template": "plain"}, "template='plain' has no effect where form=text"),
        ({"step_tag": "<tag>", "prompt": "Solve it."}, "prompt='Solve it.': no {question} in it; expected"),
        ({"step_tag": "<tag>", "steptag": "!"}, "process has no option 'steptag'"),
        ({"step_tag": "<tag>", "scale": "odds"}, "scale='odds': expected one of probability, difference, logit"),
        ({"step_tag": "<tag>", "aggregate": "median"}, "aggregate='median': expected one of prod, geometric_mean"),
        ({"reading": "value"}, "no v_head.summary.weight in the checkpoint"),
        ({"step_tag": "<tag>", "good": "+", "bad": "+"}, r"good='\+', bad='\+': .* has one token for both"),
        ({"reading": "labels"}, "score.bias and score.weight are not in the checkpoint|score"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(language_model: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises((UsageError, ModelError), match=reason) as raised:
        process.open(str(language_model), options).start("cpu")
    assert "\n" not in str(raised.value)


def test_a_tag_that_the_tokenizer_splits_is_read_at_its_last_token_or_refused_by_an_entry_that_reads_one(
    language_model: Path, tmp_path: Path
) -> None:
    (reward,) = score(process.open(str(language_model), {"step_tag": "ки"}), ASKED[:1])
    tokenizer = transformers.AutoTokenizer.from_pretrained(language_model)
    tag = tokenizer("ки", add_special_tokens=False)["input_ids"]
    assert len(tag) > 1
    ids = tokenizer(text_of(SOLUTIONS[0], "ки"))["input_ids"]
    ends = [at + len(tag) - 1 for at in range(len(ids)) if ids[at : at + len(tag)] == tag]
    with torch.no_grad():
        logits = transformers.AutoModelForCausalLM.from_pretrained(language_model)(torch.tensor([ids])).logits[0][ends]
    good, bad = (tokenizer(sign, add_special_tokens=False)["input_ids"][0] for sign in "+-")
    assert reward.steps == pytest.approx((logits[:, good] - logits[:, bad]).sigmoid().tolist(), abs=1e-5)
    with pytest.raises(UsageError, match=rf"step_tag='ки': {len(tag)} tokens of .*'s tokenizer \(.*\); expected one"):
        process.open(str(language_model), {"entry": "math-shepherd"}).start("cpu")


def test_a_tag_that_the_tokenizer_joins_to_the_text_is_refused_or_an_error_of_that_solution(
    language_model: Path, tmp_path: Path
) -> None:
    given = {"step_tag": "\n\n", "step": "{step}{tag}"}
    both = [("7 + 8 = 15.", "So it is 95."), ("7 + 8 (which is 15)", "So it is 95.")]
    asked = [Request("steps", ASKED[0].prompt, (Response(" ".join(some), some),)) for some in both]
    apart, joined = score(process.open(str(language_model), given), asked)
    assert apart.status == "ok"
    assert (joined.status, joined.detail) == (
        "error",
        r"the tokenizer joins the step tag '\n\n' to the text beside it",
    )
    assert score(process.open(str(language_model), {**given, "apart": True}), asked)[1].status == "ok"
    tokenizer = byte_level(SPECIALS, ".\n\n", adds="<s>", **NAMES)
    folder = saved(tmp_path / "prm", tokenizer, "LlamaConfig", "LlamaForCausalLM")
    with pytest.raises(UsageError, match=r"step_tag='\\n\\n': the tokenizer of .* joins it to .*; \?apart=true token"):
        process.open(str(folder), given).start("cpu")


def test_a_checkpoint_without_a_head_of_steps_is_told(tmp_path: Path) -> None:
    make(tmp_path / "rm", "qwen2")
    with pytest.raises(
        ModelError, match="a Qwen2ForSequenceClassification, which has no head of steps; expected a token"
    ):
        process.open(str(tmp_path / "rm"), {})
    folder = saved(tmp_path / "prm", pieces("<pad>"), "MistralConfig", "ReasonEval_7B", auto="AutoModel",
                   tensors={"score_head.weight": drawn(2, HIDDEN)})  # fmt: skip
    with pytest.raises(ModelError, match=r"score_head.weight has 2 rows; expected one more than 2"):
        open_model(str(folder)).start("cpu")


# identity, views and commands


def test_what_a_user_says_stands_before_what_an_entry_says(tmp_path: Path) -> None:
    folder = classifier(tmp_path / "prm", {0: "bad", 1: "good"})
    own, likely = (
        score(open_model(f"process:{folder}?entry=pure{said}"), ASKED[:1])[0]
        for said in ("", "&scale=probability&threshold=.5")
    )
    assert own.steps == pytest.approx([2 * step - 1 for step in likely.steps])
    assert own.step_heads == likely.step_heads
    tagged = open_model(f"process:{folder}?entry=pure&step_tag=\\n\\n")
    assert tagged.subject.settings["rule"]["tag"] == "\n\n", "as PRMBench reads it, written on a command line"


def test_the_fingerprint_changes_where_what_is_read_or_made_changes_and_not_with_how_it_is_run(
    language_model: Path,
) -> None:
    given = {"step_tag": "<tag>"}
    own = process.open(str(language_model), given).fingerprint
    others = [
        {"step_tag": "!"}, {**given, "good": "1"}, {**given, "scale": "logit"}, {**given, "aggregate": "min"},
        {**given, "threshold": 0.5}, {**given, "step": "{number}. {step}{tag}"}, {**given, "form": "chat"},
        {**given, "apart": True}, {**given, "prompt": "{question}"},
    ]  # fmt: skip
    prints = [process.open(str(language_model), some).fingerprint for some in others]
    assert len({own, *prints}) == len(others) + 1
    assert process.open(str(language_model), {**given, "device": "cpu"}).fingerprint == own


def test_a_command_line_runs_it_and_every_aggregate_is_a_view(language_model: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": QUESTION, "chosen": "30 + 50 = 80.\n\nSo it is 95.", "rejected": "30 + 50 = 90.\n\nSo it is 105."},
        {"prompt": "What is 1 + 1?", "chosen": "It is 2.", "rejected": "It is 3.\n\nIndeed."},
    ]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = f"tiny/prm=process:{language_model}?step_tag=<tag>&good=+&bad=-&aggregate=min"
    assert (
        main(["run", "-m", spec, "-t", "preference", "--data", f"preference={data}", "--out", str(tmp_path / "out")])
        == 0
    )
    (file,) = (tmp_path / "out").glob("*/*/preference*.json")
    assert {metric["view"] for metric in json.loads(file.read_text())["metrics"]} == {"default", *VIEWS}
    assert main(["score", "-m", spec, str(data), "-o", str(tmp_path / "scores.jsonl")]) == 0
    given = [json.loads(line)["reward"] for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    conversations = [(row["prompt"], row[key]) for row in rows for key in ("chosen", "rejected")]
    asked = rmbench.score(f"process:{language_model}?step_tag=<tag>&aggregate=min", conversations)
    assert given == pytest.approx([min(reward.steps) for reward in asked])


def test_score_says_that_a_model_of_steps_without_an_aggregate_has_no_reward_of_a_response(
    language_model: Path, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": QUESTION, "response": "30 + 50 = 80.\n\nSo it is 95."}))
    spec = f"process:{language_model}?step_tag=<tag>"
    main(["score", "-m", spec, str(tmp_path / "rows.jsonl"), "-o", str(tmp_path / "s.jsonl")])
    printed = " ".join("".join(capsys.readouterr()).split())
    assert "1 of 1 rewards are of steps alone; the option aggregate makes one" in printed
