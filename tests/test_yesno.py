"""Verifiers against a plain forward: the logits behind the last token of a question, and of these those of yes and no.

The plain forward writes the question itself, takes its tokens from the tokenizer's own `apply_chat_template`, and has
nothing of rmbench in it.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import causal
import pytest
import torch
from ask_models import score
from checkpoints import CHAT

from rmbench.cli import main
from rmbench.errors import ModelError, UsageError
from rmbench.models.spec import open_model
from rmbench.types import Message, Request, Response

DUE = CHAT + "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
PROMPT = (Message("user", "What is 37 + 58?"),)
TEXTS = ("It is 95.", "It is 93, {{ response }}.", "🙂", "")
ASKED = [Request("reward", PROMPT, (Response(text),), reference="95") for text in TEXTS]
WORDS = "yes=Y&no=N"  # of the tiny tokenizer's, in which Yes is three
OURS = (
    "A user wrote:\nWhat is 37 + 58?\n\nThe response was:\n{}\n\nIs the response correct? Say Y or N and nothing else."
)
WITH_REFERENCE = (
    "A user wrote:\nWhat is 37 + 58?\n\nA correct answer is:\n95\n\nThe response was:\n{}\n\n"
    "Does the response come to the same answer? Say Y or N and nothing else."
)


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = causal.make(tmp_path_factory.mktemp("yesno") / "verifier")
    (folder / "chat_template.jinja").write_text(DUE)
    return folder


@cache
def loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()


def plain_logits(folder: Path, question: str, *, due: bool = True, chat: bool = True) -> dict[str, float]:
    """The logit of every word behind the question, by the word."""
    tokenizer, model = loaded(folder)
    turns = [{"role": "user", "content": question}]
    ids = tokenizer.apply_chat_template(turns, add_generation_prompt=due, return_dict=True)["input_ids"]
    ids = ids if chat else tokenizer(question)["input_ids"]
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0, -1]
    return {tokenizer.convert_ids_to_tokens(i): float(logit) for i, logit in enumerate(logits)}


def close(value: float, expected: float) -> bool:
    return abs(value - expected) <= 1e-5 * max(1.0, abs(expected))


@pytest.mark.parametrize(
    ("options", "question", "how"),
    [
        ("", OURS, {}),
        ("&due=false", OURS, {"due": False}),
        ("&template=plain", OURS, {"chat": False}),
        ("&template=plain&due=false", OURS, {"chat": False}),
        ("&question=reference", WITH_REFERENCE, {}),
    ],
)
def test_it_is_the_share_of_yes_among_yes_and_no(
    verifier: Path, options: str, question: str, how: dict[str, Any]
) -> None:
    rewards = score(open_model(f"yesno:{verifier}?{WORDS}{options}"), ASKED)
    for text, reward in zip(TEXTS, rewards, strict=True):
        logits = plain_logits(verifier, question.format(text), **how)
        margin = logits["Y"] - logits["N"]
        assert close(reward.value, 1 / (1 + math.exp(-margin)))
        assert close(reward.heads["margin"][0], margin)
        assert reward.heads["verdict"] == (float(margin > 0),)
    assert len({reward.value for reward in rewards}) == len(TEXTS)


def test_several_forms_of_a_word_are_added_up(verifier: Path) -> None:
    (reward,) = score(open_model(f"yesno:{verifier}?yes=Y,y&no=N,n,no"), ASKED[:1])
    logits = plain_logits(verifier, OURS.format(TEXTS[0]))
    yes, no = (sum(math.exp(logits[form]) for form in forms) for forms in (("Y", "y"), ("N", "n", "no")))
    assert close(reward.value, yes / (yes + no))
    assert close(reward.heads["margin"][0], math.log(yes / no))


def test_a_question_of_the_users_own_has_what_it_takes_and_no_more(verifier: Path, tmp_path: Path) -> None:
    """Written again by hand for a prompt of several turns; only a question that takes the reference is handed it."""
    file = tmp_path / "mine.jinja"
    file.write_text(
        "Q: {{ prompt }}\n{% if reference %}R: {{ reference }}\n{% endif %}A: {{ response }}\n{{ yes }}/{{ no }}?"
    )
    turns = (Message("system", "Be brief."), Message("user", "37 + 58?"))
    opened = open_model(f"yesno:{verifier}?{WORDS}&question={file}")
    assert opened.uses == {"reference"}
    assert open_model(f"yesno:{verifier}?{WORDS}").uses == frozenset()
    (reward,) = score(opened, [Request("reward", turns, (Response("95"),), reference="95")])
    logits = plain_logits(verifier, "Q: System: Be brief.\n\nUser: 37 + 58?\nR: 95\nA: 95\nY/N?")
    assert close(reward.heads["margin"][0], logits["Y"] - logits["N"])


def test_an_example_without_what_the_question_takes_and_one_it_fails_on_lose_nothing_of_the_others(
    verifier: Path, tmp_path: Path
) -> None:
    file = tmp_path / "odd.jinja"
    file.write_text("{{ reference }} {{ response }} {{ 1 // (response | length) }}")
    asked = [*ASKED[:1], Request("reward", PROMPT, (Response("95"),)), ASKED[3]]
    one, without, failing = score(open_model(f"yesno:{verifier}?{WORDS}&question={file}"), asked)
    assert one.status == "ok"
    assert (without.status, without.detail) == ("refused", "the example has no reference, which the question takes")
    assert failing.status == "error"
    assert failing.detail is not None
    assert failing.detail.startswith("the question fails: ")


def test_what_is_asked_is_in_the_fingerprint_and_where_it_stands_is_not(verifier: Path, tmp_path: Path) -> None:
    def fingerprint(options: str) -> str | None:
        return open_model(f"yesno:{verifier}?{options}").fingerprint

    one, same = tmp_path / "one.jinja", tmp_path / "same.jinja"
    one.write_text("{{ response }}?")
    same.write_text("{{ response }}?")
    asked = [
        f"{WORDS}&question={one}",
        WORDS,
        f"{WORDS}&due=false",
        "yes=Y&no=n",
        "yes=Y,y&no=N",
        f"{WORDS}&question=reference",
    ]
    assert len({fingerprint(options) for options in asked}) == len(asked)
    assert fingerprint(f"{WORDS}&question={one}") == fingerprint(f"{WORDS}&question={same}")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("", r"^yes='Yes': the tokenizer of local/verifier makes 'Y', 'es' of it; expected a word of one token$"),
        ("yes=Y&no=Y", "^yes=Y, no=Y: both are the token 'Y'$"),
        ("yes=Y,&no=N", "yes='Y,' of family 'yesno': expected a word, or forms of it between commas"),
        ("yse=Y", "unknown option 'yse' of family 'yesno' .did you mean 'yes'"),
        (
            f"{WORDS}&question=corect",
            "^question='corect': no such file; expected correct, reference, a Jinja file or a text",
        ),
        (f"{WORDS}&template=pair", "a causal language model reads no pairs"),
    ],
)
def test_options_that_cannot_be_are_one_line(verifier: Path, options: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        open_model(f"yesno:{verifier}{'?' if options else ''}{options}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "{{ question }} {{ response }}",
            "^question: the variable 'question'; expected prompt, response, reference, yes, no$",
        ),
        ("{{ prompt }} is it so", "^question: it leaves the response out"),
        ("{{ response }} {% for %}", "^question: no Jinja template: "),
    ],
)
def test_a_question_that_cannot_be_is_one_line(verifier: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        open_model("yesno:" + str(verifier), yes="Y", no="N", question=text)


def test_a_question_runs_in_the_box_that_templates_run_in(verifier: Path) -> None:
    text = "{{ response }}{% for i in range(10 ** 9) %}{{ i }}{% endfor %}"
    (reward,) = score(open_model(f"yesno:{verifier}", yes="Y", no="N", question=text), ASKED[:1])
    assert reward.status == "error"


def test_what_is_no_language_model_is_one_line(tmp_path: Path) -> None:
    from checkpoints import make

    folder = make(tmp_path / "rm", "llama")
    with pytest.raises(ModelError, match=r"^local/rm: lm_head.weight is not in the checkpoint"):
        score(open_model(f"yesno:{folder}?{WORDS}"), ASKED[:1])


def test_a_command_asks_a_verifier(verifier: Path, tmp_path: Path, capsys: Any) -> None:
    lines = [{"prompt": f"What is {i} + {i}?", "chosen": f"It is {2 * i}.", "rejected": "No."} for i in range(6)]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    question = tmp_path / "mine.jinja"
    question.write_text("{{ prompt }} {{ response }}")
    arguments = ["run", "-m", f"yesno:{verifier}?{WORDS}&question={question}", "-t", "preference",
                 "--data", f"preference={rows}", "--out", tmp_path / "out"]  # fmt: skip
    assert main([str(one) for one in arguments]) == 0, capsys.readouterr().err
    (file,) = (tmp_path / "out").rglob("preference-*.json")
    assert json.loads(file.read_text())["config"]["model"]["rule"]["yes"] == ["Y"]
    assert str(tmp_path) not in file.read_text()
