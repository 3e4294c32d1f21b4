"""Known reward models with a head of their own: each is read as its authors read it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import checkpoints
import plain_heads
import pytest
import torch
from ask_models import score
from plain_heads import CASES
from safetensors.torch import save_file

from rmbench.checkpoints.fingerprint import Checkpoint
from rmbench.checkpoints.kin import check_words
from rmbench.cli import main
from rmbench.errors import ModelError, UsageError
from rmbench.models.known import entries
from rmbench.models.spec import open_model
from rmbench.types import Message, Request, Response

TURNS = (
    (("user", "What is 37 + 58?"), ("assistant", "Let us add the tens first: 80, so it is 95.")),
    (("user", "Hi"), ("assistant", "Hello! 👋 How can I help?"), ("user", "Sort these words"), ("assistant", "No.")),
    (("user", "def area(width):"), ("assistant", "    return width * <pad>height  # מלבן <s>")),
)
CONVERSATIONS = [[{"role": role, "content": text} for role, text in turns] for turns in TURNS]
REQUESTS = [
    Request("reward", tuple(Message(role, text) for role, text in turns[:-1]), (Response(turns[-1][1]),))
    for turns in TURNS
]
UNNAMED = {"worldpm"}  # known by hub ids alone: a folder is read as the other model of its architecture


def entry_named(case: str) -> str:
    return case.partition("/")[0]


def spec_of(folder: Path, name: str, **options: str) -> str:
    if name in UNNAMED:
        options["entry"] = name
    if not entries()[name].verified:
        options["allow_unverified"] = "true"
    return f"{folder}?{'&'.join(f'{key}={value}' for key, value in options.items())}" if options else str(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, list[float]]]:
    """The folder of a case, which nobody changes, and the rewards of the conversations by the plain forward."""

    @cache
    def make(case: str) -> tuple[Path, list[float]]:
        folder = plain_heads.make(tmp_path_factory.mktemp("case") / "rm", CASES[case])
        return folder, [CASES[case].reward(folder, turns) for turns in CONVERSATIONS]

    return make


@pytest.mark.filterwarnings("ignore:.*an entry that was not verified")
@pytest.mark.parametrize("case", CASES)
def test_a_known_head_gives_what_its_authors_code_gives(made: Any, case: str, one_thread: None) -> None:
    name = entry_named(case)
    folder, expected = made(case)
    opened = open_model(spec_of(folder, name))
    assert opened.subject.settings["known"] == {"entry": name, "verified": entries()[name].verified}
    rewards = [reward.value for reward in score(opened, REQUESTS)]
    scale = max(map(abs, expected))
    assert rewards == pytest.approx(expected, abs=1e-5 * scale)
    assert max(rewards) - min(rewards) > 0.01 * scale


@pytest.mark.filterwarnings("ignore:.*code that comes with the checkpoint")
@pytest.mark.parametrize("case", CASES)
def test_read_as_if_it_were_unknown_it_is_refused_or_another(made: Any, case: str, one_thread: None) -> None:
    folder, expected = made(case)
    with pytest.raises((ModelError, UsageError)):
        open_model(f"classifier:{folder}?entry=none").start("cpu")
    try:
        unknown = open_model(f"{folder}?entry=none")
        rewards = [reward.value for reward in score(unknown, REQUESTS)]
    except (ModelError, UsageError):
        return
    # TRL's own head is what value_head reads without an entry
    assert (rewards == pytest.approx(expected, rel=1e-3)) == (case == "acecode-rm")


IDS = {
    "Ray2333/GRM-llama3.2-3B-sftreg": "grm-sftreg",
    "Ray2333/GRM-Gemma2-2B-sftreg": "grm-sftreg",
    "TIGER-Lab/AceCodeRM-32B": "acecode-rm",
    "Nexusflow/Athene-RM-70B": "athene-rm",
    "internlm/internlm2-1_8b-reward": "internlm2-reward",
    "openbmb/Eurus-RM-7b": "eurus-rm",
    "openbmb/UltraRM-13b": "ultrarm",
    "berkeley-nest/Starling-RM-7B-alpha": "starling-rm-7b",
    "Nexusflow/Starling-RM-34B": "starling-rm-34b",
    "PKU-Alignment/beaver-7b-v1.0-reward": "beaver",
    "PKU-Alignment/beaver-7b-unified-cost": "beaver",
    "OpenAssistant/oasst-rm-2.1-pythia-1.4b-epoch-2.5": "oasst-pythia",
    "OpenAssistant/reward-model-deberta-v3-large-v2": "oasst-deberta",
    "Qwen/WorldPM-72B-RLHFLow": "worldpm",
    "Qwen/Qwen2.5-Math-RM-72B": "qwen-math-rm",
}


@pytest.mark.parametrize("name", IDS)
def test_a_hub_id_is_known_whatever_its_case(name: str) -> None:
    for called in (name, name.lower()):
        checkpoint = Checkpoint(called, "0" * 40)
        assert [entry.name for entry in entries().values() if entry.names(checkpoint)] == [IDS[name]]


def test_a_pickled_head_is_refused_with_the_way_to_save_it(tmp_path: Path) -> None:
    """The way is followed: a state dict by torch.load that runs no code becomes a checkpoint that is read."""
    folder = plain_heads.make(tmp_path / "rm", CASES["starling-rm-34b"])
    with pytest.raises(ModelError, match=r"is starling-rm-7b, which cannot be read: .*weights_only=True"):
        open_model(f"value_head:{folder}?entry=starling-rm-7b")
    torch.save(plain_heads.tensors_of(folder), tmp_path / "pytorch_model.bin")
    state = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    state = {name.replace("transformer.", "model."): tensor for name, tensor in state.items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaModel"]}))
    ids = plain_heads.tokenizer_of(folder).apply_chat_template(CONVERSATIONS[0], tokenize=True, return_dict=True)
    expected = plain_heads.states(folder, ids["input_ids"])[-1] @ state["v_head.weight"][0]
    assert score(open_model(f"value_head:{folder}"), REQUESTS[:1])[0].value == pytest.approx(float(expected), rel=1e-5)


def test_question_and_answer_are_a_pair_for_open_assistants_encoder(tmp_path: Path) -> None:
    """LAION-AI/Open-Assistant@020b91a5bcae03801e12ed33fb6cdd41ff44c6a8:model/reward/instructor/rank_datasets.py"""
    from transformers import AutoModelForSequenceClassification

    folder = checkpoints.make(tmp_path / "rm", "deberta-v2")
    own, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), plain_heads.tokenizer_of(folder)
    question, answer = (text for _, text in TURNS[0])
    with torch.inference_mode():
        expected = own(**tokenizer(question, answer, return_tensors="pt")).logits.item()
    rewards = [
        score(open_model(f"{folder}?entry={entry}"), REQUESTS[:1])[0].value for entry in ("oasst-deberta", "none")
    ]
    assert rewards[0] == pytest.approx(expected, abs=1e-5)
    assert abs(rewards[1] - expected) > 1e-3


@pytest.mark.parametrize("case", ["grm-sftreg", "athene-rm", "internlm2-reward"])
def test_what_is_cut_keeps_its_special_tokens_and_its_last(made: Any, case: str) -> None:
    folder, _ = made(case)
    (whole,) = open_model(str(folder)).start("cpu").encode(REQUESTS[:1])
    (cut,) = open_model(f"{folder}?max_length=20").start("cpu").encode(REQUESTS[:1])
    doubled = 1 + (case != "internlm2-reward")
    assert (len(cut.ids), cut.cut) == (20, len(whole.ids) - 20)
    assert list(cut.ids) == [*whole.ids[:doubled], *whole.ids[doubled - 20 :]]
    (short,) = open_model(f"{folder}?max_length={len(whole.ids)}").start("cpu").encode(REQUESTS[:1])
    assert (short.ids, short.cut) == (whole.ids, 0)


def test_what_ends_with_the_reward_token_gets_no_second(tmp_path: Path) -> None:
    """allenai/reward-bench@05a9005efb607249822c193590c8ecab87c77052:rewardbench/models/internlm.py"""
    chat = "{% for message in messages %}{{ message.content }}{% endfor %}<|user|>"
    case = replace(CASES["internlm2-reward"], chat=chat)
    token = checkpoints.bytes_bpe().convert_tokens_to_ids("<|user|>")
    folder = plain_heads.make(tmp_path / "rm", replace(case, config={**case.config, "reward_token_id": token}))
    (one,) = open_model(str(folder)).start("cpu").encode(REQUESTS[:1])
    assert list(one.ids).count(token) == 1
    assert score(open_model(str(folder)), REQUESTS[:1])[0].value == pytest.approx(
        case.reward(folder, CONVERSATIONS[0]), rel=1e-5
    )


@pytest.mark.parametrize("prefix", [False, True])
def test_a_tokenizer_that_splits_otherwise_than_its_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: bool
) -> None:
    """As sentencepiece 0.2 measured: without its own code nothing puts a space before a text where the file does."""
    folder = plain_heads.make(tmp_path / "rm", CASES["internlm2-reward"])
    words = plain_heads.tokenizer_of(folder)

    class Pieces:
        def __init__(self, model_file: str) -> None:
            assert Path(model_file).name == "tokenizer.model"

        def encode(self, text: str) -> list[int]:
            ids: list[int] = words(f" {text}" if prefix else text, add_special_tokens=False)["input_ids"]
            return ids

    monkeypatch.setitem(sys.modules, "sentencepiece", SimpleNamespace(SentencePieceProcessor=Pieces))
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    checkpoint = Checkpoint(str(folder), None)
    told = "splits text otherwise than that file does; .* --trust-remote-code runs"
    with pytest.raises(ModelError, match=told) if prefix else nullcontext():
        check_words(checkpoint, words)


def changed(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **values}))

    return change


def headless(folder: Path) -> None:
    tensors = {name: tensor for name, tensor in plain_heads.tensors_of(folder).items() if "head" not in name}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("case", "change", "words"),
    [
        ("internlm2-reward", changed(reward_token_id=5000), r"config.json has reward_token_id 5000; expected a token"),
        ("athene-rm", changed(hidden_size=32), r"has the shape"),
        ("athene-rm", headless, r"no v_head.weight in the checkpoint"),
        ("beaver/cost", headless, r"no score_head.weight in the checkpoint"),
        ("oasst-pythia/last", changed(pooling="max"), r"config.json has pooling 'max'; expected one of last,"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_said_in_one_line(
    tmp_path: Path, case: str, change: Callable[[Path], None], words: str
) -> None:
    folder = plain_heads.make(tmp_path / "rm", CASES[case])
    change(folder)
    with pytest.raises(ModelError, match=words) as raised:
        open_model(f"value_head:{folder}?entry={entry_named(case)}").start("cpu")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ('head = "linear"\nweights = ["v_head"]\npool = "last"', "unknown key 'pool' in the rule of its entry"),
        ('head = "linear"\nweights = ["v_head"]\nread = "max"', "read = 'max' in the rule of its entry; expected last"),
        ('head = "linear"\nweights = ["v_head"]\nappend = "cls"', "append = 'cls' in the rule of its entry; expected"),
        ('head = "line"\nweights = ["v_head"]', "a head 'line' in the rule of its entry; expected one of linear,"),
    ],
)
def test_a_rule_of_ones_own_table_is_checked(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, words: str
) -> None:
    folder, _ = made("athene-rm")
    table = f'[mine]\nfamily = "value_head"\nweights = ["v_head.weight"]\nverified = true\n[mine.rule]\n{rule}\n'
    (tmp_path / "own.toml").write_text(table)
    monkeypatch.setenv("RMBENCH_KNOWN", str(tmp_path / "own.toml"))
    with pytest.raises(UsageError, match=words):
        open_model(str(folder))


def test_a_known_head_is_scored_from_the_command_line(made: Any, tmp_path: Path) -> None:
    folder, expected = made("beaver/cost")
    turns = CONVERSATIONS[0]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": turns[0]["content"], "response": turns[1]["content"]}) + "\n")
    assert main(["score", str(rows), "-m", f"value_head:{folder}", "-o", str(tmp_path / "out.jsonl")]) == 0
    (line,) = [json.loads(one) for one in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert line["reward"] == pytest.approx(expected[0], rel=1e-5)
