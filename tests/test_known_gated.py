"""Known models whose reward a gate makes of several objectives, or a head of another kind than one linear row.

Each checkpoint here has the weights' names, the config's keys and the tokens of the real one, at a tiny width, and is
scored through rmbench and by a forward that is written down from the file its entry names.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import causal
import pytest
import torch
from ask_models import score
from gated_checkpoints import armorm, inform, ldl, qrm_gemma, qrm_llama, urm
from real_models import watched
from safetensors.torch import load_file, save_file

from rmbench.cli import main
from rmbench.errors import ModelError, UsageError
from rmbench.models.spec import open_model
from rmbench.types import Message, Request, Response

HEADER = [128009, 128006, 78191, 128007, 271]  # <|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n
GEMMA_HEADER = [107, 108, 106, 2516, 108]  # <end_of_turn>\n<start_of_turn>model\n
Chat = Sequence[tuple[str, str]]
CHATS: tuple[Chat, ...] = (
    (("user", "What is 7 + 5?"), ("assistant", "7 + 5 = 12.")),
    (("user", "What is 7 + 5?"), ("assistant", "No idea.\n")),
    (("user", "Hi"), ("assistant", "Hello!"), ("user", "Name a colour."), ("assistant", "Blue, or is it green?")),
)
# as their code searches it, a header in a text is a header, and nothing behind a pad is read
CONTROLS = (
    (("user", "Hi"), ("assistant", "Hello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nGoodbye")),
    (("user", "Hi"), ("assistant", "Hello [PAD] there")),
)


def request(chat: Chat) -> Request:
    *prompt, (_, response) = chat
    return Request("reward", tuple(Message(role, text) for role, text in prompt), (Response(response),))


def states_of(folder: Path, chat: Chat) -> tuple[list[int], torch.Tensor, dict[str, torch.Tensor], Any]:
    """The ids of a conversation by the tokenizer's own template, the backbone's states [n, h], heads and config."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template([{"role": role, "content": text} for role, text in chat], tokenize=False)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    model = AutoModel.from_config(AutoConfig.from_pretrained(folder), attn_implementation="eager")
    weights = load_file(folder / "model.safetensors")
    own = {name.removeprefix("model."): one for name, one in weights.items() if name.startswith("model.")}
    model.load_state_dict(own)
    with torch.inference_mode():
        states = model.eval()(torch.tensor([ids])).last_hidden_state[0]
    return ids, states, {name: one for name, one in weights.items() if not name.startswith("model.")}, model.config


def header_at(ids: list[int], header: list[int]) -> int:
    return max(i for i in range(len(ids)) if ids[i : i + len(header)] == header)


def end_of(ids: list[int], config: Any) -> int:
    return int(torch.eq(torch.tensor(ids), config.pad_token_id).int().argmax(-1) - 1) % len(ids)


def plain_armorm(folder: Path, chat: Chat) -> float:
    """RLHFlow/ArmoRM-Llama3-8B-v0.1@e0dce68:modeling_custom.py"""
    ids, states, heads, config = states_of(folder, chat)
    gate = states[header_at(ids, HEADER)]
    for i in range(3):
        gate = torch.relu(heads[f"gating.layers.{i}.weight"] @ gate + heads[f"gating.layers.{i}.bias"])
    gate = heads["gating.layers.3.weight"] @ gate + heads["gating.layers.3.bias"]
    weights = (gate / config.gating_temperature).softmax(0) * heads["gating.logit_scale"][0]
    rewards = heads["regression_layer.weight"] @ states[end_of(ids, config)]
    return float((weights * (rewards @ heads["reward_transform_matrix"])).sum())


def plain_qrm(
    folder: Path, chat: Chat, header: list[int], numbers: Sequence[int], temperature: float
) -> tuple[float, torch.Tensor]:
    """allenai/reward-bench@05a9005:rewardbench/models/qrm.py; the reward, and its quantiles"""
    ids, states, heads, config = states_of(folder, chat)
    gate = states[header_at(ids, header)]
    *layers, last = numbers
    for i in layers:
        norm = f"gating.layers.{i + 2}"
        gate = torch.relu(heads[f"gating.layers.{i}.weight"] @ gate)
        gate = (gate - heads[f"{norm}.running_mean"]) / (heads[f"{norm}.running_var"] + 1e-5).sqrt()
        gate = gate * heads[f"{norm}.weight"] + heads[f"{norm}.bias"]
    gate = heads[f"gating.layers.{last}.weight"] @ gate + heads[f"gating.layers.{last}.bias"]
    weights = (gate / temperature).softmax(0) * heads["gating.logit_scale"][0]
    quantiles = (heads["regression_layer.weight"] @ states[end_of(ids, config)]).reshape(5, 19)
    transform = heads.get("reward_transform_matrix", torch.eye(5))
    reward = (weights * (quantiles.mean(1) @ transform)).sum()
    return float(reward), (weights[:, None] * (quantiles.T @ transform).T).sum(0)


def plain_urm(folder: Path, chat: Chat) -> tuple[float, float]:
    """sgl-project/sglang@71bcc5f:python/sglang/srt/models/llama_reward.py; the reward, and its standard deviation"""
    ids, states, heads, config = states_of(folder, chat)
    layers = [(heads[f"weights.fc.{i}.weight"], heads[f"weights.fc.{i}.bias"]) for i in (0, 2, 4)]
    state = weights = states[end_of(ids, config)]
    for weight, bias in layers[:2]:
        weights = torch.nn.functional.selu(weight @ weights + bias)
    weights = layers[2][0] @ weights + layers[2][1]
    pairs = (heads["score.weight"] @ state).view(5, 2)
    return float((pairs[:, 0] * weights).sum()), float((pairs[:, 1].exp() * weights).square().sum().sqrt())


def plain_inform(folder: Path, chat: Chat) -> float:
    """allenai/reward-bench@05a9005:rewardbench/models/inform.py"""
    _, states, heads, _ = states_of(folder, chat)
    hidden = torch.relu(heads["score.0.weight"] @ states[-1] + heads["score.0.bias"])
    return float(heads["score.2.weight"] @ hidden + heads["score.2.bias"])


def plain_ldl(folder: Path, chat: Chat) -> float:
    """allenai/reward-bench@05a9005:rewardbench/models/ldlreward.py"""
    _, states, _, _ = states_of(folder, chat)
    heads = load_file(folder / "value_head.safetensors")

    def through(name: str, numbers: Sequence[int], state: torch.Tensor) -> torch.Tensor:
        for i in numbers:
            state = heads[f"{name}.network.{i}.weight"] @ state + heads[f"{name}.network.{i}.bias"]
            state = state if i == numbers[-1] else torch.nn.functional.leaky_relu(state)
        return state

    rewards = through("regression_layer", (0, 2, 4), states[-1]).view(3, 10).softmax(-1)
    weights = through("gating_layer", (0, 3, 6), states[-1])
    return float(((weights @ rewards) * torch.linspace(0, 1, 10)).sum())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    made = tmp_path_factory.mktemp("known")
    return {make.__name__: make(made / make.__name__) for make in (armorm, qrm_llama, qrm_gemma, urm, inform, ldl)}


def values(source: str, chats: Sequence[Chat] = CHATS) -> list[float]:
    with open_model(source).started("cpu") as model:
        return [reward.value for reward in score(model, [request(chat) for chat in chats])]


def test_armorm_is_its_gated_rewards(folders: Mapping[str, Path]) -> None:
    chats = (*CHATS, *CONTROLS)
    opened = open_model(str(folders["armorm"]))
    assert opened.subject.settings["known"] == {"entry": "armorm", "verified": True}
    with opened.started("cpu") as model:
        rewards = score(model, [request(chat) for chat in chats])
    expected = [plain_armorm(folders["armorm"], chat) for chat in chats]
    assert [reward.value for reward in rewards] == pytest.approx(expected, abs=1e-5)
    assert list(rewards[0].heads)[:2] == ["helpsteer-helpfulness", "helpsteer-correctness"]
    assert rewards[0].spread is None


def test_without_its_header_a_request_is_an_error_of_its_own(folders: Mapping[str, Path]) -> None:
    with open_model(f"{folders['armorm']}?max_length=24").started("cpu") as model:
        cut, whole = score(model, [request((("user", "Hi"), ("assistant", text))) for text in ("Hello! " * 9, "No.")])
    assert (cut.status, whole.status) == ("error", "ok")
    assert cut.detail == f"the gate is read at the tokens {HEADER}, which are not in what is read"


@pytest.mark.parametrize(
    ("name", "header", "numbers", "temperature"),
    [("qrm_llama", HEADER, (0, 3, 6, 9), 10.0), ("qrm_gemma", GEMMA_HEADER, (0, 4, 8, 11), 1.0)],
)
@pytest.mark.filterwarnings("ignore:.*an entry that was not verified")
def test_qrm_is_the_mean_of_its_quantiles(
    folders: Mapping[str, Path], name: str, header: list[int], numbers: Sequence[int], temperature: float
) -> None:
    with open_model(f"{folders[name]}?allow_unverified=true").started("cpu") as model:
        rewards = score(model, [request(chat) for chat in CHATS])
    for chat, reward in zip(CHATS, rewards, strict=True):
        expected, quantiles = plain_qrm(folders[name], chat, header, numbers, temperature)
        assert reward.value == pytest.approx(expected, abs=1e-5)
        read = [one for head, (one,) in reward.heads.items() if head.startswith("quantile")]
        assert read == pytest.approx(quantiles.tolist(), abs=1e-5)
        assert reward.spread == pytest.approx((float(quantiles.std(correction=0)),), rel=1e-4)


@pytest.mark.filterwarnings("ignore:.*an entry that was not verified")
def test_urm_is_the_weighted_sum_of_its_means(folders: Mapping[str, Path]) -> None:
    with open_model(f"{folders['urm']}?allow_unverified=true").started("cpu") as model:
        rewards = score(model, [request(chat) for chat in CHATS])
    expected = [plain_urm(folders["urm"], chat) for chat in CHATS]
    assert [reward.value for reward in rewards] == pytest.approx([value for value, _ in expected], abs=1e-5)
    assert [reward.spread[0] for reward in rewards] == pytest.approx([sd for _, sd in expected], rel=1e-4)
    assert list(rewards[0].heads) == ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]


@pytest.mark.parametrize(("name", "plain"), [("inform", plain_inform), ("ldl", plain_ldl)])
def test_a_network_is_read_as_its_authors_do(
    folders: Mapping[str, Path], name: str, plain: Callable[[Path, Chat], float]
) -> None:
    assert values(str(folders[name])) == pytest.approx([plain(folders[name], chat) for chat in CHATS], abs=1e-5)


@pytest.mark.filterwarnings("ignore:.*an entry that was not verified")
def test_nemotron_is_the_logit_of_a_token_at_the_next_position(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = causal.make(tmp_path / "nemotron")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    expected = []
    for chat in CHATS:
        text = tokenizer.apply_chat_template([{"role": role, "content": said} for role, said in chat], tokenize=False)
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        how = {"max_new_tokens": 1, "return_dict_in_generate": True, "output_scores": True, "do_sample": False}
        expected.append(float(model.generate(ids, attention_mask=torch.ones_like(ids), **how)["scores"][0][0][0]))
    read = values(f"value_head:{folder}?entry=nemotron-reward&allow_unverified=true")
    assert read == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["armorm", "qrm_llama", "qrm_gemma", "urm", "inform", "ldl"])
def test_as_an_unknown_classifier_it_is_refused(folders: Mapping[str, Path], name: str) -> None:
    """Read by its architecture alone it would have a head of random numbers, or one label of ten."""
    with pytest.raises((ModelError, UsageError)):
        open_model(f"classifier:{folders[name]}?entry=none").start("cpu")


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("regression_layer.weight", "no regression_layer.weight in the checkpoint"),
        ("gating.layers.3", "regression_layer.weight has 19 rows; expected a multiple of 8, the objectives of its"),
        ("gating", "no gating.layers.0.weight in the checkpoint"),
    ],
)
def test_a_head_that_lacks_a_part_is_said_in_a_line(
    folders: Mapping[str, Path], tmp_path: Path, gone: str, said: str
) -> None:
    folder = tmp_path / "part"
    shutil.copytree(folders["armorm"], folder)
    weights = load_file(folder / "model.safetensors")
    left = {name: weight for name, weight in weights.items() if not name.startswith(gone)}
    save_file(left, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=re.escape(said)) as error:
        open_model(f"value_head:{folder}?entry=armorm").start("cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "said"), [("ldl", "load(FILE, weights_only=True)"), ("decision-tree", "pickled")])
def test_a_pickled_head_is_refused_with_the_reason(folders: Mapping[str, Path], name: str, said: str) -> None:
    with pytest.raises(ModelError, match=re.escape(said)):
        open_model(f"value_head:{folders['inform']}?entry={name}")


def test_a_folder_on_the_command_line_is_found_in_the_table(folders: Mapping[str, Path], tmp_path: Path) -> None:
    row = {"prompt": "What is 7 + 5?", "response": "7 + 5 = 12."}
    (tmp_path / "row.jsonl").write_text(json.dumps(row))
    out = tmp_path / "out.jsonl"
    arguments = ["score", tmp_path / "row.jsonl", "-m", folders["qrm_llama"], "--device", "cpu", "-o", out]
    assert main([str(one) for one in arguments]) == 0
    scored = json.loads(out.read_text())
    expected, quantiles = plain_qrm(folders["qrm_llama"], CHATS[0], HEADER, (0, 3, 6, 9), 10.0)
    assert scored["reward"] == pytest.approx(expected, abs=1e-5)
    assert scored["heads"]["quantile 0.95"] == pytest.approx(float(quantiles[-1]), abs=1e-5)


def test_answers_that_share_a_prompt_are_gated_as_they_are_alone(folders: Mapping[str, Path]) -> None:
    prompt = ("user", "Name a colour, please. " * 4)
    chats = [(prompt, ("assistant", text)) for text in ("Red.", "Green, as most leaves.", "No", "Red, I think.")]
    with watched() as forwards:
        shared = values(str(folders["armorm"]), chats)
    assert forwards["shared"] > 0
    assert shared == pytest.approx([plain_armorm(folders["armorm"], chat) for chat in chats], abs=1e-5)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"gate": [1]}, "no 'temperature' in the rule of its entry, which needs one; expected a number above 0"),
        (
            {"gate": [1], "temprature": 1},
            "unknown key 'temprature' in the rule of its entry (did you mean 'temperature'?)",
        ),
    ],
)
def test_a_rule_that_cannot_be_is_told_before_the_weights_are_read(
    folders: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: Mapping[str, Any], said: str
) -> None:
    begin = ["[mine]", 'family = "value_head"', 'ids = ["me/mine"]', "verified = true"]
    lines = [*begin, "[mine.rule]", 'head = "gated"']
    (tmp_path / "own.toml").write_text("\n".join([*lines, *(f"{key} = {value}" for key, value in rule.items())]))
    monkeypatch.setenv("RMBENCH_KNOWN", str(tmp_path / "own.toml"))
    with pytest.raises(UsageError, match=re.escape(said)):
        open_model(f"value_head:{folders['armorm']}?entry=mine")
