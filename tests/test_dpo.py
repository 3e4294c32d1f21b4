"""Implicit rewards against plain forwards, written as TRL's DPOTrainer and reward-bench have them.

The plain forward takes its tokens from the tokenizer's own `apply_chat_template` and runs the whole model on one
sequence at a time; nothing of rmbench is in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import causal
import pytest
import torch
from ask_models import score
from checkpoints import CHAT

import rmbench
from rmbench.cli import main
from rmbench.errors import ModelError, UsageError
from rmbench.models import likelihood
from rmbench.models.spec import open_model, parse
from rmbench.scoring import Store, Usage
from rmbench.types import Message, Request, Response

DUE = CHAT + "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
PROMPT = (Message("user", "What is 37 + 58?"),)
TEXTS = ("It is 95.", "Let us add the tens first: 30 + 50 = 80, so 93.", "It is 95. \n", "🙂 é", "")
ASKED = [Request("reward", PROMPT, (Response(text),)) for text in TEXTS]


def language_model(folder: Path, template: str = DUE, **values: Any) -> Path:
    causal.make(folder, **values)
    (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_model(tmp_path_factory.mktemp("dpo") / "policy")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_model(tmp_path_factory.mktemp("dpo") / "reference", initializer_range=0.05)


def plain_log_p(folder: Path, text: str, counts_end: bool = True, prompt: str = "What is 37 + 58?") -> torch.Tensor:
    """What each token of the response is worth, as trl/trainer/dpo_trainer.py @f2cd577 has it.

    `_prepare_dataset`: the prompt's ids with the generation prompt, the conversation's ids, and of these the ones
    behind; `_compute_loss`: logits shifted by one, log-softmax, gathered.
    """
    tokenizer, model = loaded(folder)
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
    before = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, return_dict=True)["input_ids"]
    ids = tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"]
    assert ids[: len(before)] == before
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0, :-1].float()
    each = logits.log_softmax(-1).gather(1, torch.tensor(ids)[1:, None])[:, 0]
    last = None if counts_end else ids.index(tokenizer.eos_token_id, len(before)) - 1
    return each[len(before) - 1 : last].double()


@cache
def loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()


def close(value: float, expected: float, scale: float = 100.0) -> bool:
    return abs(value - expected) <= 1e-5 * max(scale, abs(expected))


@pytest.mark.parametrize("end", ["all", "none"])
def test_a_likelihood_is_the_sum_over_the_tokens_of_the_response(policy: Path, end: str) -> None:
    model = open_model(f"likelihood:{policy}?end={end}&device=cpu")
    sums = score(model, [replace(request, ask="likelihood") for request in ASKED])
    each = score(model, [replace(request, ask="tokens") for request in ASKED])
    for one, tokens, text in zip(sums, each, TEXTS, strict=True):
        expected = plain_log_p(policy, text, end == "all")
        assert close(one.value, float(expected.sum()))
        assert one.heads["tokens"] == (len(expected),)
        assert close(one.heads["squares"][0], float(expected.square().sum()), 1000)
        assert (one.tokens, len(tokens.tokens), tokens.value) == ((), len(expected), one.value)
        assert all(close(a, b) for a, b in zip(tokens.tokens, expected.tolist(), strict=True))
    assert sums[-1].heads["tokens"][0] == (2 if end == "all" else 0), "the end of turn and a line break, or nothing"


def test_whether_the_end_of_turn_counts_is_in_the_fingerprint(policy: Path) -> None:
    prints = {
        end: likelihood.open(str(policy), parse(f"likelihood:{policy}?end={end}").options) for end in ("all", "none")
    }
    assert prints["all"].fingerprint != prints["none"].fingerprint
    assert prints["none"].subject.settings["rule"] == {"response": "behind the generation prompt", "end": "none"}


def test_an_implicit_reward_is_beta_times_the_difference_to_the_reference(
    policy: Path, reference: Path, tmp_path: Path
) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        rewards = score(open_model(f"dpo:{policy}?reference={reference}&beta=.3"), ASKED, store=store)
        assert store.count() >= 2 * len(set(TEXTS)) - 2
        kept = store.count()
        others = score(open_model(f"dpo:{policy}?reference={reference}&beta=.1"), ASKED, store=store)
        assert store.count() == kept, "another beta costs no forward"
    for text, one, other in zip(TEXTS, rewards, others, strict=True):
        ours, theirs = plain_log_p(policy, text), plain_log_p(reference, text)
        difference = float(ours.sum() - theirs.sum())
        assert close(one.value, 0.3 * difference)
        assert close(other.value, 0.1 * difference)
        heads = {"mean": 0.3 * difference / len(ours), "free_sum": float(ours.sum()), "free_mean": float(ours.mean()),
                 "free_norm": -float(ours.norm())}  # fmt: skip
        assert one.heads.keys() == heads.keys()
        assert all(close(one.heads[name][0], value) for name, value in heads.items())


@pytest.mark.parametrize("free", ["sum", "mean", "norm"])
def test_without_a_reference_it_is_as_the_incumbent_has_it(policy: Path, free: str) -> None:
    """rewardbench/dpo.py @05a9005, `get_batch_logps`: a sum, a mean over the tokens, or minus an L2 norm."""
    rewards = score(open_model(f"dpo:{policy}?free={free}"), ASKED)
    for text, reward in zip(TEXTS, rewards, strict=True):
        log_p = plain_log_p(policy, text)
        views = {"sum": log_p.sum(), "mean": log_p.sum() / len(log_p), "norm": -torch.norm(log_p, p=2)}
        assert close(reward.value, float(views[free]))
        assert all(close(reward.heads[f"free_{name}"][0], float(view)) for name, view in views.items())


def test_token_by_token_where_a_run_asks(policy: Path, reference: Path) -> None:
    asked = [replace(request, ask="tokens") for request in ASKED]
    rewards = score(open_model(f"dpo:{policy}?reference={reference}&beta=.1"), asked)
    for text, reward in zip(TEXTS, rewards, strict=True):
        expected = 0.1 * (plain_log_p(policy, text) - plain_log_p(reference, text))
        assert len(reward.tokens) == len(expected)
        assert all(close(a, b) for a, b in zip(reward.tokens, expected.tolist(), strict=True))
        assert reward.value == pytest.approx(sum(reward.tokens), abs=1e-4)


def test_sequences_that_share_their_prompt_in_one_row_have_the_likelihoods_that_they_have_alone(
    policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rmbench.forwards.fastpath._price", lambda *_: 0.0)  # the check of such rows pays at any size
    usage = Usage()
    prompt = "What is 37 + 58? " * 12
    asked = [Request("likelihood", (Message("user", prompt),), (Response(text),)) for text in TEXTS]
    rewards = score(open_model(f"likelihood:{policy}?device=cpu"), asked, usage=usage)
    assert usage.ways == {"shared": len(TEXTS)}
    for text, reward in zip(TEXTS, rewards, strict=True):
        assert close(reward.value, float(plain_log_p(policy, text, prompt=prompt).sum()))


def test_a_reference_may_have_options_of_its_own_and_takes_the_others_from_the_policy(
    policy: Path, reference: Path, tmp_path: Path
) -> None:
    file = tmp_path / "implicit.toml"
    file.write_text(
        f"family = 'dpo'\nsource = '{policy}'\n[options]\nend = 'none'\nreference = '{reference}?dtype=bfloat16'\n"
    )
    settings = open_model(str(file)).subject.settings
    assert (settings["dtype"], settings["end"]) == ("float32", "none")
    assert (settings["reference"]["dtype"], settings["reference"]["end"]) == ("bfloat16", "none")


# what stands before and behind a response


THINKS = (  # as Qwen3's: the thoughts of a text are taken out and written anew, and the generation prompt opens none
    "{% for message in messages %}<|{{ message.role }}|>\n{% if '</think>' in message.content %}"
    "<think>{{ message.content.split('</think>')[0].split('<think>')[-1] }}</think>"
    "{{ message.content.split('</think>')[-1] }}{% else %}{{ message.content }}{% endif %}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
OPENS = DUE.replace("<|assistant|>\n{% endif %}", "<|assistant|>\n<think>\n{% endif %}")  # as DeepSeek-R1's


@pytest.mark.parametrize(("template", "text"), [(THINKS, "<think>Tens first.</think>It is 95."), (OPENS, "It is 95.")])
def test_a_template_that_thinks_hides_no_token_of_the_response(tmp_path: Path, template: str, text: str) -> None:
    folder = language_model(tmp_path / "lm", template)
    (reward,) = score(open_model(f"likelihood:{folder}"), [Request("likelihood", PROMPT, (Response(text),))])
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(f"<|assistant|>\n{text}</s>\n", add_special_tokens=False)["input_ids"]
    header = tokenizer("<|assistant|>\n", add_special_tokens=False)["input_ids"]
    assert reward.heads["tokens"] == (len(ids) - len(header),)


def test_what_was_cut_is_counted_and_a_response_without_its_beginning_has_no_likelihood(policy: Path) -> None:
    long = Request("likelihood", (Message("user", "word " * 60),), (Response("It is 95."),))
    short = replace(long, prompt=PROMPT)
    whole, cut = score(open_model(f"likelihood:{policy}?max_length=40"), [short, long])
    assert (cut.status, whole.truncated) == ("ok", 0)
    assert cut.truncated > 0
    assert cut.heads["tokens"] == whole.heads["tokens"], "it is the prompt that was cut"
    (lost,) = score(open_model(f"likelihood:{policy}?max_length=8"), [long])
    assert (lost.status, lost.detail) == ("error", "the beginning of the response was cut")
    right = score(open_model(f"likelihood:{policy}?max_length=40&truncation_side=right"), [long])[0]
    assert (right.status, right.detail) == ("error", "the response was cut away")


def test_turns_that_the_policy_did_not_write_are_refused(policy: Path) -> None:
    turns = (Message("assistant", "Let me ask."), Message("user", "Well?"), Message("assistant", "95."))
    (reward,) = score(open_model(f"likelihood:{policy}"), [Request("likelihood", PROMPT, (Response(turns),))])
    assert (reward.status, reward.detail) == (
        "refused",
        "the response has a turn of user, which the model did not write",
    )


def test_a_template_that_writes_other_tokens_for_one_of_the_two_is_an_error_of_that_request(
    policy: Path, tmp_path: Path
) -> None:
    odd = DUE.replace("{{ message.content }}", "{{ message.content | replace('tens', 'TENS') }}")
    other = language_model(tmp_path / "other", odd)
    rewards = score(open_model(f"dpo:{policy}?reference={other}&beta=.1"), ASKED)
    assert [reward.status for reward in rewards] == ["ok", "error", "ok", "ok", "ok"]
    assert rewards[1].detail == "policy and reference read different tokens"


# what cannot be


def test_policy_and_reference_with_other_vocabularies_are_refused_before_anything_is_scored(
    policy: Path, tmp_path: Path
) -> None:
    moved = language_model(tmp_path / "moved")
    tokens = json.loads((moved / "tokenizer.json").read_text())
    vocabulary = tokens["model"]["vocab"]
    vocabulary["!"], vocabulary["#"] = vocabulary["#"], vocabulary["!"]
    (moved / "tokenizer.json").write_text(json.dumps(tokens))
    told = r"have different vocabularies \(500 and 500 tokens\): '!' is \d+, there \d+$"
    with pytest.raises(UsageError, match=f"^policy local/policy and reference local/moved {told}"):
        open_model(f"dpo:{policy}?reference={moved}")
    other = language_model(tmp_path / "other", DUE.replace("\n", " "))
    with pytest.raises(
        UsageError, match=r"write a conversation differently, .*: \?template=FILE has both write it alike"
    ):
        open_model(f"dpo:{policy}?reference={other}")
    template = tmp_path / "both.jinja"
    template.write_text(DUE)
    (reward, *_) = score(open_model(f"dpo:{policy}?reference={other}&template={template}"), ASKED[:1])
    assert reward.value == 0.0, "the same weights, and now the same tokens"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("beta=.5", r"beta=0.5: it multiplies the difference to a reference; expected \?reference="),
        ("beta=.1", r"beta=0.1: it multiplies the difference to a reference; expected \?reference="),
        ("free=total", "free='total' of family 'dpo': expected one of sum, mean, norm"),
        ("refrence=x", "unknown option 'refrence' of family 'dpo' .did you mean 'reference'"),
        ("reference=classifier:x", "expected a causal language model as ID@REV or folder, got a classifier"),
        ("reference=x&beta=0", "beta=0.0: expected a number above 0"),
        ("reference=x&beta=nan", "beta=nan: expected a number above 0"),
        ("template=pair", "a causal language model reads no pairs"),
    ],
)
def test_options_that_cannot_be_are_one_line(policy: Path, options: str, told: str) -> None:
    with pytest.raises((UsageError, ModelError), match=told):
        open_model(f"dpo:{policy}?{options}")


def test_a_reference_that_is_the_policy_gives_zeros_and_a_view_without_it_is_one_line(
    policy: Path, reference: Path
) -> None:
    with pytest.warns(
        UserWarning, match="^local/policy: its reference is the policy itself, so that every reward is 0"
    ):
        same = open_model(f"dpo:{policy}?reference={policy}")
    assert {reward.value for reward in score(same, ASKED)} == {0.0}
    with pytest.raises(UsageError, match="free=norm: it is of a policy without reference"):
        open_model(f"dpo:{policy}?reference={reference}&free=norm")


def test_what_is_no_language_model_is_one_line(tmp_path: Path) -> None:
    from checkpoints import make

    folder = make(tmp_path / "rm", "llama")
    with pytest.raises(ModelError, match=r"^local/rm: lm_head.weight is not in the checkpoint"):
        score(open_model(f"dpo:{folder}"), ASKED[:1])


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks for it
def test_an_adapter_is_scored_against_its_base(policy: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    peft = pytest.importorskip("peft")
    adapter, merged = tmp_path / "adapter", tmp_path / "merged"
    tuned = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(policy),
        peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "down_proj"]),
    )
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    tuned.save_pretrained(adapter)
    tuned.merge_and_unload().save_pretrained(merged)
    AutoTokenizer.from_pretrained(policy).save_pretrained(merged)
    rewards = score(open_model(f"dpo:{policy}?adapter={adapter}&reference={policy}&beta=1"), ASKED)
    for text, reward in zip(TEXTS, rewards, strict=True):
        assert close(reward.value, float(plain_log_p(merged, text).sum() - plain_log_p(policy, text).sum()))


# the command line


def rows(path: Path) -> Path:
    lines = [{"prompt": f"What is {i} + {i}?", "chosen": f"It is {2 * i}.", "rejected": "No."} for i in range(6)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_command_scores_a_policy_against_its_reference(
    policy: Path, reference: Path, tmp_path: Path, capsys: Any
) -> None:
    arguments: Sequence[object] = (
        "run", "-m", f"dpo:{policy}?reference={reference}&beta=.1", "-t", "preference",
        "--data", f"preference={rows(tmp_path / 'rows.jsonl')}", "--out", tmp_path / "out", "--dtype", "float32",
    )  # fmt: skip
    assert main([str(one) for one in arguments]) == 0, capsys.readouterr().err
    (file,) = (tmp_path / "out").rglob("preference-*.json")
    settings = json.loads(file.read_text())["config"]["model"]
    assert settings["reference"]["id"] == "local/reference"
    assert (settings["beta"], settings["dtype"], settings["reference"]["dtype"]) == (0.1, "float32", "float32")
    assert str(tmp_path) not in file.read_text()


def test_a_command_gives_a_value_a_token_where_it_asks(
    policy: Path, reference: Path, tmp_path: Path, capsys: Any
) -> None:
    file, out = tmp_path / "asked.jsonl", tmp_path / "scored.jsonl"
    file.write_text(json.dumps({"prompt": "What is 37 + 58?", "response": TEXTS[0]}) + "\n")
    arguments = ["score", file, "-m", f"dpo:{policy}?reference={reference}", "-o", out, "--tokens"]
    assert main([str(one) for one in arguments]) == 0, capsys.readouterr().err
    (row,) = map(json.loads, out.read_text().splitlines())
    expected = 0.1 * (plain_log_p(policy, TEXTS[0]) - plain_log_p(reference, TEXTS[0]))
    assert row["tokens"] == pytest.approx(expected.tolist(), abs=1e-5)
    assert main([str(one) for one in ["score", file, "-m", "length", "-o", out, "--tokens"]]) == 1
    assert "rmbench/length answers reward, not tokens" in capsys.readouterr().err
    (reward,) = rmbench.score(f"dpo:{policy}?reference={reference}", [("What is 37 + 58?", TEXTS[0])], ask="tokens")
    assert reward.tokens == pytest.approx(row["tokens"])
