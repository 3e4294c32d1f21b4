"""Known sequence classifiers: what their authors put into them, and which label is the reward.

Each is scored through rmbench as the entry says, and by the lines of the file that the entry names, over a tiny
checkpoint of the same architecture.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ask_models import score
from checkpoints import make

from rmbench.checkpoints.fingerprint import Checkpoint
from rmbench.checkpoints.notes import NOT_TRAINED_WITH_SYSTEM
from rmbench.models import known
from rmbench.models.spec import open_model
from rmbench.types import Message, Request, Response

CHAT = [
    {"role": "user", "content": "What is 37 + 58?"},
    {"role": "assistant", "content": "It is 95."},
    {"role": "user", "content": "Are you sure?"},
    {"role": "assistant", "content": "Yes: 30 + 50 = 80, then 7 + 8 = 15."},
]
ASKED = Request(
    "reward", tuple(Message(one["role"], one["content"]) for one in CHAT[:-1]), (Response(CHAT[-1]["content"]),)
)
WITHOUT_BOS = "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}{{ eos_token }}\n{% endfor %}"


def as_written(tokenizer: Any) -> list[int]:
    """SkyworkAI/Skywork-Reward@03c205f:README.md, iNeil77/Themis@ddd7934:Artifacts/Themis-RM-Readmes/Themis-RM-8B.md"""
    ids: list[int] = tokenizer(tokenizer.apply_chat_template(CHAT, tokenize=False))["input_ids"]
    return ids


def begun_once(tokenizer: Any) -> list[int]:
    """SkyworkAI/Skywork-Reward-V2@4f380f4:README.md"""
    text = tokenizer.apply_chat_template(CHAT, tokenize=False)
    if tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token):
        text = text[len(tokenizer.bos_token) :]
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids


def without_bos_text(tokenizer: Any) -> list[int]:
    """RLHFlow/RLHF-Reward-Modeling@fc39179:useful_code/eval_reward_bench_bt.py and odin/serving_two_head.py"""
    text = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=False)
    ids: list[int] = tokenizer(text.replace(tokenizer.bos_token, ""))["input_ids"]
    return ids


def masked_once(tokenizer: Any) -> list[int]:
    """allenai/reward-bench@05a9005:rewardbench/models/pipeline.py: of two BOS the first is seen by nobody"""
    ids: list[int] = tokenizer(tokenizer.apply_chat_template(CHAT, tokenize=False))["input_ids"]
    return ids[1:] if tokenizer.bos_token and ids[0] == ids[1] == tokenizer.bos_token_id else ids


def retold(folder: Path, template: str | None, adds_bos: bool) -> None:
    """The checkpoint with another template, and a tokenizer that puts no BOS before a text."""
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    if not adds_bos:
        file = folder / "tokenizer.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "post_processor": None}))


CASES = [
    ("skywork-reward", "gemma2", 0, as_written, WITHOUT_BOS, True),
    ("skywork-reward", "llama", 0, as_written, WITHOUT_BOS, True),
    ("skywork-reward-v2", "qwen3", 0, begun_once, None, False),
    ("skywork-reward-v2", "llama", 0, begun_once, None, True),
    ("rlhflow-bt", "mistral", 0, without_bos_text, None, True),
    ("rlhflow-bt", "llama", 0, without_bos_text, None, False),
    ("offsetbias", "llama", 0, without_bos_text, None, True),
    ("tulu-olmo", "olmo2", 0, masked_once, None, True),
    ("tulu-olmo", "llama", 0, masked_once, None, False),
    ("themis", "qwen3", 0, as_written, None, False),
    ("odin", "gemma2", 1, without_bos_text, None, True),
]


@pytest.mark.parametrize(("entry", "architecture", "label", "tokenise", "template", "adds_bos"), CASES)
def test_a_known_classifier_is_read_as_its_authors_do(
    tmp_path: Path, entry: str, architecture: str, label: int, tokenise: Callable[[Any], list[int]],
    template: str | None, adds_bos: bool,
) -> None:  # fmt: skip
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = make(tmp_path / "rm", architecture, num_labels=label + 1)
    retold(folder, template, adds_bos or architecture == "qwen3")
    ids = tokenise(AutoTokenizer.from_pretrained(folder))
    own = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager")
    with torch.inference_mode():
        expected = float(own(torch.tensor([ids])).logits[0][label])
    opened = open_model(f"{folder}?entry={entry}")
    assert opened.subject.settings["known"] == {"entry": entry, "verified": True}
    with opened.started("cpu") as model:
        assert list(model.encode([ASKED])[0].ids) == ids
        (reward,) = score(model, [ASKED])
    assert reward.value == pytest.approx(expected, abs=1e-5)


def test_every_verified_classifier_of_this_section_is_among_the_cases() -> None:
    sources = ("Skywork", "RLHFlow", "NCSOFT", "allenai", "iNeil77")
    listed = {
        one.name
        for one in known.entries().values()
        if one.family == "classifier" and one.verified and one.sources.get("head", "").startswith(sources)
    }
    assert listed == {case[0] for case in CASES}


def test_odin_without_its_entry_has_two_labels_that_nobody_names(tmp_path: Path) -> None:
    from rmbench.errors import UsageError

    folder = make(tmp_path / "rm", "gemma2", num_labels=2)
    with (
        pytest.raises(UsageError, match="has 2 labels .*, and none is called reward"),
        open_model(f"{folder}?entry=none").started("cpu"),
    ):
        pass
    with open_model(f"{folder}?entry=odin").started("cpu") as model:
        (quality,) = score(model, [ASKED])
    with open_model(f"{folder}?entry=none&head=0").started("cpu") as model:
        (length,) = score(model, [ASKED])
    assert quality.heads["LABEL_0"] == (pytest.approx(length.value, abs=1e-4),)
    assert quality.value != pytest.approx(length.value)


def test_a_system_turn_is_noted_where_the_authors_give_none(tmp_path: Path) -> None:
    folder = make(tmp_path / "rm", "llama")
    asked = Request("reward", (Message("system", "Be brief."), *ASKED.prompt), ASKED.responses)
    with open_model(f"{folder}?entry=skywork-reward-v2").started("cpu") as model:
        noted, plain = model.encode([asked, ASKED])
    assert NOT_TRAINED_WITH_SYSTEM in noted.noted
    assert NOT_TRAINED_WITH_SYSTEM not in plain.noted


@pytest.mark.filterwarnings("ignore:.*an entry that was not verified")
def test_the_instruction_not_to_think_stands_behind_the_last_question(tmp_path: Path) -> None:
    folder = make(tmp_path / "rm", "qwen3")
    with open_model(f"{folder}?entry=qwen3-nemotron-reward&allow_unverified=true").started("cpu") as model:
        (encoded,) = model.encode([ASKED])
    first, answer, second, last = (one["content"] for one in CHAT)
    assert model.rendering.tokenizer.decode(encoded.ids) == (
        f"<|im_start|>user\n{first}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
        f"<|im_start|>user\n{second} /nothink<|im_end|>\n"
        f"<|im_start|>assistant\n<think>\n\n</think>\n\n{last}<|im_end|>\n"
    )


@pytest.mark.parametrize(
    ("model", "entry"),
    [
        ("Skywork/Skywork-Reward-Gemma-2-27B-v0.2", "skywork-reward"),
        ("Skywork/Skywork-Reward-Llama-3.1-8B", "skywork-reward"),
        ("Skywork/Skywork-Reward-V2-Llama-3.1-8B-40M", "skywork-reward-v2"),
        ("Skywork/Skywork-Reward-V2-Qwen3-0.6B", "skywork-reward-v2"),
        ("sfairXC/FsfairX-LLaMA3-RM-v0.1", "rlhflow-bt"),
        ("weqweasdas/RM-Mistral-7B", "rlhflow-bt"),
        ("NCSOFT/Llama-3-OffsetBias-RM-8B", "offsetbias"),
        ("allenai/Llama-3.1-8B-Instruct-RM-RB2", "tulu-olmo"),
        ("allenai/Llama-3.1-Tulu-3-8B-RM", "tulu-olmo"),
        ("allenai/OLMo-2-1124-7B-RM", "tulu-olmo"),
        ("project-themis/Themis-RM-8B", "themis"),
        ("Lichang-Chen/gemma_9b_odin_v2", "odin"),
        ("nvidia/Qwen-2.5-Nemotron-32B-Reward", "qwen25-nemotron-reward"),
        ("RLHFlow/ArmoRM-Llama3-8B-v0.1", "armorm"),
        ("nicolinho/QRM-Llama3.1-8B", "qrm-llama3"),
        ("nicolinho/QRM-Gemma-2-27B", "qrm-gemma2"),
        ("LxzGordon/URM-LLaMa-3.1-8B", "urm"),
        ("LxzGordon/URM-LLaMa-3-8B", "urm"),
        ("infly/INF-ORM-Llama3.1-70B", "inf-orm"),
        ("nvidia/Llama-3.1-Nemotron-70B-Reward-HF", "nemotron-reward"),
        ("ShikaiChen/LDL-Reward-Gemma-2-27B-v0.1", "ldl"),
        ("RLHFlow/Decision-Tree-Reward-Gemma-2-27B", "decision-tree"),
        # reads a principle, writes a verdict, judges pairs: other models of the same people
        ("nvidia/Llama-3.3-Nemotron-70B-Reward-Principle", None),
        ("nvidia/Llama-3_3-Nemotron-Super-49B-GenRM", None),
        ("NCSOFT/Llama-3-OffsetBias-8B", None),
        ("Skywork/Skywork-Critic-Llama-3.1-8B", None),
    ],
)
def test_a_model_of_the_hub_is_known_by_its_id(model: str, entry: str | None) -> None:
    named = [one.name for one in known.entries().values() if one.names(Checkpoint(model, "c0ffee"))]
    assert named == ([] if entry is None else [entry])
