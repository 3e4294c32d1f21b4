"""Pairwise models: each known one against its authors' own reading, and what all of them have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import causal
import pair_models
import plain_pairs
import pytest
from ask_models import score

import rmbench
from rmbench.checkpoints.notes import NOT_TRAINED_WITH_SYSTEM
from rmbench.cli import main
from rmbench.errors import ModelError, UsageError
from rmbench.models.spec import open_model
from rmbench.plugins import load_task
from rmbench.results.verify import verify
from rmbench.runs.loading import load_tasks
from rmbench.scoring import Store, Usage
from rmbench.types import Message, Question, Request, Response, Reward

ONE = ({"role": "user", "content": "What is 37 + 58?"},)
SEVERAL = (
    {"role": "user", "content": "How long is the journey in minutes?"},
    {"role": "assistant", "content": "Which one?\n"},
    {"role": "user", "content": "A train leaves at 14:05 and arrives at 16:50."},
)
ANSWERS = ("It is 95, because 80 and 15 are 95.", " I cannot say.")
LONG = "two hours are 120 minutes and 45 more are left. " * 12


def request(prompt: Sequence[Mapping[str, str]], *responses: str) -> Request:
    turns = tuple(Message(turn["role"], turn["content"]) for turn in prompt)
    return Request("compare", turns, tuple(map(Response, responses)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pairs")
    return {
        "pairrm": pair_models.pairrm(root / "pairrm"),
        "letters": pair_models.letters(root / "letters"),
        "steamshp": pair_models.steamshp(root / "steamshp"),
        "gpm": pair_models.gpm(root / "gpm"),
        "flat": pair_models.gpm(root / "flat", dim=4, blocks=False),
    }


def conversation(folder: Path, prompt: Any, *responses: str) -> float:
    texts = (prompt[0]["content"], *responses)
    texts = texts if len(prompt) == 1 else plain_pairs.conversation_pair(prompt, *responses)
    return plain_pairs.pairrm(folder, plain_pairs.pairrm_ids(folder, *texts))


def better(folder: Path, prompt: Any, *responses: str) -> float:
    return plain_pairs.pairrm(folder, plain_pairs.better_pairrm_ids(folder, prompt, *responses))


# name of the checkpoint, options of the spec, and its authors' reading
KNOWN: Mapping[str, tuple[str, str, Any]] = {
    "pairrm": ("pairrm", "", conversation),
    "better-pairrm": ("pairrm", "?entry=better-pairrm", better),
    "pair-preference-model": ("letters", "?entry=pair-preference-model", plain_pairs.slic),
    "steamshp": ("steamshp", "?entry=steamshp", plain_pairs.steamshp),
    "general-preference-model": ("gpm", "", plain_pairs.gpm),
    "a general preference model without blocks": ("flat", "?entry=general-preference-model", plain_pairs.gpm),
}


@pytest.mark.parametrize("entry", KNOWN)
def test_a_known_model_compares_as_its_authors_have_it(entry: str, folders: Mapping[str, Path]) -> None:
    name, options, lead = KNOWN[entry]
    pairs = [(prompt, *order) for prompt in (ONE, SEVERAL) for order in (ANSWERS, ANSWERS[::-1])]
    rewards = score(open_model(f"pairwise:{folders[name]}{options}"), [request(*pair) for pair in pairs])
    leads = [lead(folders[name], *pair) for pair in pairs]
    assert [reward.status for reward in rewards] == ["ok"] * 4
    for reward, due in zip(rewards, leads, strict=True):
        assert reward.values == pytest.approx((plain_pairs.sigmoid(due), plain_pairs.sigmoid(-due)), abs=1e-5)
        assert sum(reward.values) == pytest.approx(1, abs=1e-12)
    assert max(map(abs, leads)) > 0.01, "a head that says nothing would pass"


@pytest.mark.parametrize(
    ("entry", "options", "lead"),
    [
        ("pairrm", "?source_length=40&candidate_length=16",
         lambda folder, prompt, *responses: plain_pairs.pairrm(
             folder, plain_pairs.pairrm_ids(folder, prompt[0]["content"], *responses, most=40, each=16))),
        ("pairrm", "?entry=better-pairrm&source_length=40&candidate_length=16",
         lambda folder, prompt, *responses: plain_pairs.pairrm(
             folder, plain_pairs.better_pairrm_ids(folder, prompt, *responses, most=40, each=16))),
        ("steamshp", "?entry=steamshp&max_length=60",
         lambda *given: plain_pairs.steamshp(*given, max_length=60)),
        ("gpm", "?max_length=60", lambda *given: plain_pairs.gpm(*given, max_length=60)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prompt", [ONE, ({"role": "user", "content": LONG},)], ids=["short", "long"])
def test_what_is_too_long_is_cut_where_its_authors_cut_it(
    entry: str, options: str, lead: Any, prompt: Any, folders: Mapping[str, Path]
) -> None:
    pair = prompt, f"It is 95. {LONG}", "No."
    (reward,) = score(open_model(f"pairwise:{folders[entry]}{options}"), [request(*pair)])
    assert reward.values[0] == pytest.approx(plain_pairs.sigmoid(lead(folders[entry], *pair)), abs=1e-5)
    assert reward.truncated > 0
    assert any("cut" in reason for reason in reward.noted)


@pytest.mark.parametrize("options", ["", "?entry=better-pairrm"])
def test_a_limit_of_all_pieces_together_is_shared_out(options: str, folders: Mapping[str, Path]) -> None:
    spec = f"pairwise:{folders['pairrm']}{options}"
    pair = request(({"role": "user", "content": LONG},), LONG, LONG)
    (whole,) = score(open_model(spec), [pair])
    (cut,) = score(open_model(f"{spec}{'&' if options else '?'}max_length=60"), [pair])
    assert cut.n_tokens <= 60
    assert cut.n_tokens + cut.truncated == whole.n_tokens + whole.truncated


@pytest.mark.parametrize(("folder", "family"), [("pairrm", "pairwise"), ("gpm", "pairwise")])
def test_a_folder_is_known_again_by_what_it_holds(folder: str, family: str, folders: Mapping[str, Path]) -> None:
    opened = open_model(str(folders[folder]))
    assert (opened.subject.family, opened.answers) == (family, {"compare"})
    assert opened.subject.settings["known"]["verified"] is True


COMPARISON = "{{ messages[-1].content }}\nFirst: {{ responses[0] }}\nSecond: {{ responses[1] }}\nBetter:"


def asked_once(spec: str) -> None:
    """Whatever the model answers is asked of it."""
    opened = open_model(spec)
    score(opened, [replace(request(ONE, *ANSWERS), ask=min(opened.answers))])


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("pairwise:{letters}", "nobody says how it compares; expected template=FILE, .* or entry=NAME, one of pairrm,"),
        ("pairwise:{pairrm}?entry=none", "nobody says how it compares"),
        ("classifier:{pairrm}?entry=none", "not in the checkpoint"),
        ("classifier:{letters}", "a LlamaForCausalLM, which has no reward head"),
        ("value_head:{flat}", r"value_head.weight has the shape \[4, 64\]; expected \[1, 64\]"),
        ("classifier:{steamshp}", "T5ForConditionalGeneration, which has no reward head"),
        ("pairwise:{headless}", "no head_layer.4.weight in the checkpoint, which has head_layer.1.bias"),
        ("pairwise:{odd}", "value_head.weight has 5 rows; expected an even number"),
        ("pairwise:{letters}?entry=pair-preference-model&a=Answer A", "a='Answer A': local/letters has [0-9]+ tokens"),
        ("pairwise:{letters}?entry=pair-preference-model&b=A", "local/letters has one token for both"),
        ("pairwise:{letters}?entry=pair-preference-model&letter=A", "unknown option 'letter' of family 'pairwise'"),
        ("pairwise:{pairrm}?max_length=20", "11 tokens of a prompt and 4 of each response; expected 8 or more"),
        ("pairwise:{pairrm}?ask=embedding", "ask='embedding': local/pairrm compares by a head over three texts"),
        ("pairwise:{pairrm}?a=1", "a='1': local/pairrm compares by a head over three texts"),
        ("pairwise:{gpm}?as_text=true", "as_text=True: local/gpm compares embeddings"),
        ("pairwise:{letters}?entry=pair-preference-model&source_length=9", "source_length=9: .* two tokens behind one"),
        ("pairwise:{letters}?template={broken}", "what writes the comparison is no template"),
        ("pairwise:{letters}?template={one}", "leaves the second response out; it is given messages, responses"),
        ("pairwise:{letters}?template={named}", "leaves the first response out"),
        ("pairwise:{letters}?template={promptless}", "leaves the prompt out"),
        ("pairwise:{letters}?template={raising}", "fails on a plain one: no"),
        ("pairwise:{bare}?template={whole}", "no chat template to make a turn of the comparison; as_text=true reads"),
        ("pairwise:{letters}?template=nowhere.jinja", "template 'nowhere.jinja': no such file"),
    ],
)
def test_what_cannot_be_read_as_a_pair_is_one_line(
    spec: str, told: str, folders: Mapping[str, Path], tmp_path: Path
) -> None:
    made = dict(folders)
    texts = {
        "broken": "{% for",
        "one": "{{ messages[0].content }} {{ responses[0] }}",
        "named": "{{ messages[0].content }} {{ response_a }} {{ responses[1] }}",
        "promptless": "{{ responses[0] }} {{ responses[1] }}",
        "raising": "{{ raise_exception('no') }}",
        "whole": COMPARISON,
    }
    for name, text in texts.items():
        made[name] = tmp_path / f"{name}.jinja"
        made[name].write_text(text)
    if "{bare}" in spec:
        made["bare"] = causal.make(tmp_path / "bare", chat=False)
    if "{headless}" in spec:
        made["headless"] = pair_models.pairrm(tmp_path / "headless", without="head_layer.4.weight")
        spec += "?entry=pairrm"
    if "{odd}" in spec:
        made["odd"] = pair_models.gpm(tmp_path / "odd", dim=5, blocks=False)
        spec += "?entry=general-preference-model"
    with pytest.raises((ModelError, UsageError), match=told) as raised:
        asked_once(spec.format(**made))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "as_text"), [("letters", False), ("letters", True), ("soft capped", False), ("bart", False)]
)
def test_a_language_model_without_an_entry_compares_by_a_template_of_the_users(
    name: str, as_text: bool, folders: Mapping[str, Path], tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    folder = {"soft capped": pair_models.soft_capped, "bart": pair_models.bart}.get(name, lambda _: folders[name])(
        tmp_path / name.replace(" ", "-")
    )
    (tmp_path / "pair.jinja").write_text(COMPARISON)
    spec = f"pairwise:{folder}?template={tmp_path / 'pair.jinja'}&a=1&b=2&as_text={str(as_text).lower()}"
    reward, _ = score(open_model(spec), [request(ONE, *ANSWERS), request(ONE, LONG, "95")])
    text = f"{ONE[0]['content']}\nFirst: {ANSWERS[0]}\nSecond: {ANSWERS[1]}\nBetter:"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if as_text or name == "bart":
        ids = tokenizer(text).input_ids
    else:
        turns = [{"role": "user", "content": text}]
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    with torch.inference_mode():
        if name == "bart":
            model = AutoModelForSeq2SeqLM.from_pretrained(folder)
            logits = model(torch.tensor([ids]), decoder_input_ids=torch.tensor([[2]])).logits[0, 0]
        else:
            logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([ids])).logits[0, -1]
    a, b = (tokenizer(number, add_special_tokens=False).input_ids[0] for number in "12")
    assert reward.values[0] == pytest.approx(float(torch.softmax(logits[[a, b]], 0)[0]), abs=1e-5)
    assert abs(reward.values[0] - 0.5) > 1e-3
    assert reward.n_tokens == len(ids)


def test_another_template_or_another_letter_is_another_model(folders: Mapping[str, Path], tmp_path: Path) -> None:
    for name, text in (("one", COMPARISON), ("same", COMPARISON), ("other", COMPARISON.replace("Better", "Best"))):
        (tmp_path / f"{name}.jinja").write_text(text)
    base = f"pairwise:{folders['letters']}?template={tmp_path}/"
    one, same, other, letter = (
        open_model(base + rest).fingerprint for rest in ("one.jinja", "same.jinja", "other.jinja", "one.jinja&a=1")
    )
    assert one == same
    assert len({one, other, letter}) == 3
    known = [open_model(f"pairwise:{folders['pairrm']}{rest}").fingerprint
             for rest in ("", "?entry=pairrm", "?entry=better-pairrm", "?candidate_length=100")]  # fmt: skip
    assert known[0] == known[1]
    assert len(set(known)) == 3


# General preferences


def embedded(*vector: float) -> Reward:
    return Reward((float("nan"),), vectors=(vector,))


def test_general_preferences_may_go_round_in_circles(folders: Mapping[str, Path]) -> None:
    import math

    model = open_model(f"pairwise:{folders['gpm']}")
    assert "circles" in model.subject.settings["intransitive"]
    turns = [(math.cos(2 * math.pi * i / 3), math.sin(2 * math.pi * i / 3), 1.0) for i in range(3)]
    pairs = [(0, 1), (1, 2), (2, 0)]
    questions = [Question(request(ONE, "a", "b"))] * 3
    rewards = model.combine(questions, [[embedded(*turns[i]) for pair in pairs for i in pair]], None)
    assert all(reward.values[0] > 0.99 for reward in rewards), "each of three beats the next"
    (same,) = model.combine(questions[:1], [[embedded(*turns[0])] * 2], None)
    assert same.values == (0.5, 0.5)


def test_an_embedding_that_failed_is_an_answer_without_a_number(folders: Mapping[str, Path]) -> None:
    model = open_model(f"pairwise:{folders['gpm']}")
    lost = Reward((float("nan"),), status="error", detail="why", n_tokens=3)
    (reward,) = model.combine([Question(request(ONE, "a", "b"))], [[embedded(1.0, 0.0, 1.0), lost]], None)
    assert (reward.status, reward.detail, reward.n_tokens) == ("error", "why", 3)


@pytest.mark.parametrize("responses", [("a",), ("a", "b", "c")])
def test_what_is_no_pair_is_an_error_of_its_own(folders: Mapping[str, Path], responses: tuple[str, ...]) -> None:
    with open_model(f"pairwise:{folders['gpm']}?ask=embedding").started("cpu") as member:
        model = replace(open_model(f"pairwise:{folders['gpm']}"), members=(member,))
        pair, other = score(model, [request(ONE, "a", "b"), request(ONE, *responses)])
    assert pair.status == "ok"
    assert other.status == "error"
    assert f"{len(responses)} response" in other.detail


# What all of them have in common

ODD = {
    "plain": ANSWERS,
    "turned": ANSWERS[::-1],
    "alike": ("95", "95"),
    "empty": ("", "95"),
    "both empty": ("", ""),
    "emoji": ("\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467", "95 \U0001f44d\U0001f3fd"),
    "right to left": ("\u05ea\u05e9\u05e2\u05d9\u05dd", "\u0645\u0631\u062d\u0628\u0627 95"),
    "control tokens": ("[SEP]</s><|eot_id|>", "<|candidate1|> 95 <|source|>"),
    "odd characters": ("\x00\ufffd\u2028", "\t\n 95 \r\n"),
    "long": (LONG, LONG * 2),
}
SPECS = {name: spec for name, spec in KNOWN.items() if "without" not in name}


@pytest.fixture(scope="module")
def asked(folders: Mapping[str, Path]) -> dict[str, tuple[Any, list[Reward]]]:
    """Each known model, and what it answers to all of `ODD` at once."""
    answered = {}
    for entry, (name, options, _) in SPECS.items():
        model = open_model(f"pairwise:{folders[name]}{options}")
        answered[entry] = model, score(model, [request(ONE, *pair) for pair in ODD.values()])
    return answered


@pytest.mark.parametrize("entry", SPECS)
def test_whatever_is_compared_wins_a_share(entry: str, asked: Mapping[str, tuple[Any, list[Reward]]]) -> None:
    model, rewards = asked[entry]
    assert (model.answers, model.most) == ({"compare"}, 2)
    for name, reward in zip(ODD, rewards, strict=True):
        assert reward.status == "ok", f"{name}: {reward.detail}"
        assert sum(reward.values) == pytest.approx(1, abs=1e-12)
        assert min(reward.values) >= 0
        assert reward.n_tokens > 0
        assert reward.truncated == 0


@pytest.mark.parametrize("entry", SPECS)
def test_neighbours_and_repetition_change_nothing(entry: str, asked: Mapping[str, tuple[Any, list[Reward]]]) -> None:
    model, rewards = asked[entry]
    again = score(model, [request(ONE, *ODD[name]) for name in ("long", "emoji", "plain")])
    for name, reward in zip(("long", "emoji", "plain"), again, strict=True):
        due = rewards[list(ODD).index(name)]
        assert reward.values == pytest.approx(due.values, abs=1e-5)
        assert (reward.n_tokens, reward.noted) == (due.n_tokens, due.noted)
    (alone,) = score(model, [request(ONE, *ANSWERS)])
    assert alone.values == pytest.approx(rewards[0].values, abs=1e-5)


@pytest.mark.parametrize("entry", SPECS)
def test_what_was_compared_is_never_compared_again(
    entry: str, asked: Mapping[str, tuple[Any, list[Reward]]], tmp_path: Path
) -> None:
    model, rewards = asked[entry]
    pairs = [request(ONE, *pair) for pair in ODD.values()]
    with Store(tmp_path / "store.sqlite") as store:
        score(model, pairs[:4], store=store)
        usage = Usage()
        resumed = score(model, pairs, store=store, usage=usage)
        assert 0 < usage.scored < usage.unique
        usage = Usage()
        assert score(model, pairs, store=store, usage=usage) == resumed
        assert usage.scored == 0
    assert [one.values[0] for one in resumed] == pytest.approx([one.values[0] for one in rewards], abs=1e-5)


def test_alike_responses_tie_over_both_orders(asked: Mapping[str, tuple[Any, list[Reward]]]) -> None:
    for entry, (_, rewards) in asked.items():
        first, second = rewards[list(ODD).index("alike")].values
        if entry == "general-preference-model":
            assert first == second == 0.5
        # both orders are one request: what stands first gains in one what it loses in the other
        assert (first - second) + (second - first) == 0


def test_a_conversation_that_its_authors_cannot_show_is_refused(folders: Mapping[str, Path]) -> None:
    system = ({"role": "system", "content": "Be brief."}, *ONE)
    model = f"pairwise:{folders['pairrm']}"
    (reward,) = score(open_model(model), [request(system, *ANSWERS)])
    assert (reward.status, reward.detail) == (
        "refused",
        "the comparison cannot be written: PairRM takes turns of user and assistant in turn, the last of them of the"
        " user",
    )
    for spec in (f"{model}?fold_system=true", f"pairwise:{folders['letters']}?entry=pair-preference-model"):
        (shown,) = score(open_model(spec), [request(system, *ANSWERS)])
        assert (shown.status, NOT_TRAINED_WITH_SYSTEM in shown.noted) == ("ok", "letters" in spec)


# On the command line


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = [{"prompt": "What is 2 + 2?", "chosen": "4", "rejected": "It is 5."},
            {"prompt": "What is 3 + 3?", "chosen": "It is 6.", "rejected": "7"}]  # fmt: skip
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "pairs.jsonl"


@pytest.mark.parametrize("entry", ["pairrm", "pair-preference-model", "general-preference-model"])
def test_a_command_compares_in_both_orders(
    entry: str, folders: Mapping[str, Path], pairs: Path, tmp_path: Path, capsys: Any
) -> None:
    name, options, _ = SPECS[entry]
    out = tmp_path / "out"
    code = run("run", "-m", f"pairwise:{folders[name]}{options}", "-t", "preference", "--data", f"preference={pairs}",
               "--out", out)  # fmt: skip
    printed = capsys.readouterr()
    assert code == 0, printed.err
    (result,) = (json.loads(path.read_text()) for path in out.rglob("preference-*.json"))
    assert result["task"]["orders"] == "both"
    assert result["config"]["model"]["known"] == {"entry": entry, "verified": True}
    assert "consistency" in {metric["name"] for metric in result["metrics"]}
    assert ("intransitive" in result["config"]["model"]) == (name == "gpm")


@pytest.mark.parametrize("command", ["score", "select"])
@pytest.mark.parametrize("name", ["pairrm", "gpm"])
def test_where_a_reward_of_each_response_is_asked_for_it_is_told_what_compares(
    name: str, command: str, folders: Mapping[str, Path], pairs: Path, capsys: Any
) -> None:
    assert run(command, pairs, "-m", f"pairwise:{folders[name]}", "-o", pairs.with_name("out.csv")) == 1
    assert "answers compare, not reward; what compares responses is run on tasks of pairs" in capsys.readouterr().err


def test_a_run_may_show_pairs_in_orders_that_are_not_the_tasks_own(folders: Mapping[str, Path], tmp_path: Path) -> None:
    model = f"pairwise:{folders['pairrm']}"
    (both,) = rmbench.evaluate(model, ["best_of_n"], limit=2, orders="both", out=tmp_path)
    told = r"best_of_n shows each pair in one order \(round_robin\), .*--orders both does"
    with pytest.warns(UserWarning, match=told):
        (once,) = rmbench.evaluate(model, ["best_of_n"], limit=2, orders="round_robin", out=tmp_path)
    assert [dict(result.config.task) for result in (both, once)] == [{}, {"orders": "round_robin"}]
    assert both.requests.num_rows == 2 * once.requests.num_rows
    assert {len(shown) for shown in both.requests["candidates"].to_pylist()} == {2}, "four responses, pair by pair"
    assert both.metric("consistency").n > 0
    for result in (both, once):
        verify(result, load_task("best_of_n"))
    names = sorted(path.name for path in tmp_path.rglob("best_of_n*.json"))
    assert names[1] == "best_of_n.json", "what is the task's own keeps its name"
    assert names[0].startswith("best_of_n-")


def test_orders_that_no_task_has_are_one_line(tmp_path: Path, capsys: Any) -> None:
    assert run("run", "-m", "length", "-t", "best_of_n", "--orders", "twice", "--out", tmp_path) == 2
    assert "orders='twice'; expected official, both, round_robin or permutations:N" in capsys.readouterr().err
    assert run("run", "-m", "length", "-t", "length_bias", "--orders", "both", "--out", tmp_path) == 2
    assert "orders='both': length_bias shows every response by itself" in capsys.readouterr().err


@pytest.mark.prove
@pytest.mark.parametrize("entry", SPECS)
def test_real_conversations_are_compared_as_its_authors_have_it(
    entry: str, folders: Mapping[str, Path], rmbench_data: Path
) -> None:
    data = rmbench_data / "hh_rlhf" / "test.jsonl.gz"
    (loaded,) = load_tasks(["preference"], data={"preference": data}, limit=20)
    name, options, lead = SPECS[entry]
    pairs = [
        (
            [{"role": turn.role, "content": turn.text} for turn in example.prompt],
            *(one.text for one in example.candidates),
        )
        for example in loaded.data.examples
    ]
    assert any(len(prompt) > 1 for prompt, *_ in pairs)
    rewards = score(open_model(f"pairwise:{folders[name]}{options}"), [request(*pair) for pair in pairs])
    due = [plain_pairs.sigmoid(lead(folders[name], *pair)) for pair in pairs]
    assert [reward.values[0] for reward in rewards] == pytest.approx(due, abs=1e-5)
