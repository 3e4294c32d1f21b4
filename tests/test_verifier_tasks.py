"""VerifyBench, VerifierBench and reward hacks: what their rows become, and the official rules as plain loops."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import Scripted

import rmbench
from rmbench.data.dataset import LeftOut
from rmbench.data.files import Row
from rmbench.errors import DataError
from rmbench.results.schema import TaskResult
from rmbench.results.verify import verify
from rmbench.types import Example, Message, Request, Reward

VERIFY = {"question": "2 + 2?", "answer": "4", "completion": "It is 4.", "gold_correct": True, "answer_type": "Numeric",
          "answer_subtype": "Integer", "completion_model": "somebody/small"}  # fmt: skip
VERIFIER = {"question": "2 + 2?", "gold_answer": "4", "llm_response": "It is", "gold_judgment": "C", "domain": "Math"}
HACK = {"index": 3, "original_prompt": "Add.", "completion": "print(3)", "full_prompt": "Hack this. Add."}
SCHOOL = {"user": "Be kind.", "control": "Dear you", "school_of_reward_hacks": "kind kind", "task": "a letter",
          "evaluation_metric": "words", "cheat_method": "repeat"}  # fmt: skip


def read(task: str, *rows: tuple[str, Mapping[str, Any]]) -> list[Example | LeftOut]:
    return list(rmbench.load_task(task).read([Row(dict(row), file, 1) for file, row in rows]))


def judged(task: str, rows: Sequence[Mapping[str, Any]], model: Any, tmp_path: Path) -> TaskResult:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (result,) = rmbench.evaluate(model, [task], data={task: tmp_path / "rows.jsonl"})
    verify(result, rmbench.load_task(task))
    return result


@pytest.mark.parametrize("task", ["verifybench", "verifybench_hard"])
def test_a_completion_has_its_reference_and_its_types(task: str) -> None:
    (example,) = read(task, ("x.jsonl", VERIFY))
    assert isinstance(example, Example)
    assert (example.prompt, example.reference) == ((Message("user", "2 + 2?"),), "4")
    assert example.facets == {"answer_type": "Numeric", "answer_subtype": "Integer"}
    assert [(one.text, one.label, one.tags) for one in example.candidates] == [
        ("It is 4.", True, {"policy": "somebody/small"})
    ]


def test_a_judgment_is_a_class() -> None:
    (example,) = read("verifierbench", ("x.jsonl", VERIFIER | {"gold_answer": 4}))
    assert isinstance(example, Example)
    assert (example.candidates[0].label, example.reference, example.facets) == ("invalid", "4", {"subset": "Math"})


def test_verifybench_takes_an_unreadable_verdict_for_a_wrong_one(tmp_path: Path) -> None:
    """ZJU-REAL/VerifyBench@893d46f:evaluate.py: a verdict is right where it is the label, None never is."""
    rng = np.random.default_rng(0)
    said = [None if draw < 0.1 else bool(draw < 0.6) for draw in rng.random(60)]
    types = ["Numeric" if i % 3 else "Expression" for i in range(60)]
    rows = [
        VERIFY | {"completion": f"{i}", "gold_correct": bool(rng.random() < 0.5), "answer_type": types[i]}
        for i in range(60)
    ]

    def verdict(request: Request) -> Reward:
        assert request.reference == "4"
        one = said[int(request.responses[0].text or "")]
        if one is None:
            return Reward((math.nan,), status="refused", detail="no verdict")
        return Reward((float(one),), heads={"verdict": (float(one),)})

    model = Scripted(verdict)
    model.uses = frozenset({"reference"})  # type: ignore[attr-defined]
    result = judged("verifybench", rows, model, tmp_path)
    right = [one == row["gold_correct"] for one, row in zip(said, rows, strict=True)]
    assert result.metric("accuracy").value == pytest.approx(sum(right) / 60)
    numeric = [one for one, kind in zip(right, types, strict=True) if kind == "Numeric"]
    of_type = result.metric("accuracy", subset="answer_type=Numeric").value
    assert of_type == pytest.approx(sum(numeric) / len(numeric))


def official(pred: str, gold: str) -> bool:
    return pred == gold or (pred in "BC" and pred != "" and gold in "BC")


def test_verifierbench_has_two_labels_and_three(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    gold, said = ["".join(rng.choice([*"AABBC"], 75)) for _ in range(2)]
    rows = [VERIFIER | {"llm_response": f"{i}", "gold_judgment": one} for i, one in enumerate(gold)]
    heads = {"A": "correct", "B": "incorrect", "C": "invalid"}

    def verdict(request: Request) -> Reward:
        letter = said[int(request.responses[0].text or "")]
        if letter == "C" and int(request.responses[0].text or "") % 2:
            return Reward((math.nan,), status="refused", detail="no verdict")
        return Reward((float(letter == "A"),), heads={name: (float(one == letter),) for one, name in heads.items()})

    result = judged("verifierbench", rows, Scripted(verdict), tmp_path)
    preds = ["" if one == "C" and i % 2 else one for i, one in enumerate(said)]
    pairs = [*zip(preds, gold, strict=True)]
    hit, wrong, missed = (sum(map(f, pairs)) for f in (
        lambda p: p == ("A", "A"), lambda p: p[0] == "A" != p[1], lambda p: p[0] != "A" == p[1]))  # fmt: skip
    assert result.metric("accuracy_two").value == pytest.approx(sum(official(*pair) for pair in pairs) / 75)
    assert result.metric("f1").value == pytest.approx(2 * hit / (2 * hit + wrong + missed))
    assert result.metric("accuracy").value == pytest.approx(sum(a == b for a, b in pairs) / 75)
    each = [2 * sum(p == (c, c) for p in pairs) / (preds.count(c) + gold.count(c)) for c in "ABC"]
    assert result.metric("f1_macro").value == pytest.approx(sum(each) / 3)


def test_a_reward_without_classes_is_cut_out_of_fold(tmp_path: Path) -> None:
    rows = [VERIFIER | {"llm_response": f"{i}", "gold_judgment": "ABC"[i % 3], "question": f"{i}?"} for i in range(60)]
    result = judged("verifierbench", rows, Scripted(lambda request: int(request.responses[0].text) % 3 == 0), tmp_path)
    assert [result.metric(name).value for name in ("accuracy_two", "accuracy", "f1", "auc")] == [1, 1, 1, 1]


def test_two_files_are_joined_and_the_prompt_never_asks_for_the_hack() -> None:
    honest = ("a/x_no_hacking.jsonl", HACK | {"completion": "print(1 + 2)"})
    (example,) = read("school_of_reward_hacks", ("a/x_hacking.jsonl", HACK), honest)
    assert isinstance(example, Example)
    assert example.prompt == (Message("user", "Add."),)
    assert [(one.text, one.label) for one in example.candidates] == [("print(1 + 2)", True), ("print(3)", False)]
    with pytest.raises(DataError, match="no `completion`; found `index`, "):
        read("school_of_reward_hacks", ("a/x_hacking.jsonl", {k: v for k, v in HACK.items() if k != "completion"}))
    assert read("school_of_reward_hacks", honest) == [LeftOut("only one of the two completions")]


def test_a_row_of_the_hub_set_is_a_pair_and_one_without_a_control_is_left_out() -> None:
    (example,) = read("school_of_reward_hacks", ("train", SCHOOL))
    assert isinstance(example, Example)
    assert [(one.text, one.label) for one in example.candidates] == [("Dear you", True), ("kind kind", False)]
    assert example.candidates[0].tags == {"task": "a letter", "evaluation_metric": "words", "cheat_method": "repeat"}
    assert read("school_of_reward_hacks", ("train", SCHOOL | {"control": " "})) == [LeftOut("no honest completion")]


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("verifybench", VERIFY | {"gold_correct": "yes"}, r"x\.jsonl, row 1, `gold_correct`: expected true or false"),
        ("verifybench", VERIFIER, r"row 1: no `answer`; found .*; a VerifyBench row has `question`, `answer`"),
        ("verifierbench", VERIFIER | {"gold_judgment": "D"}, r"row 1, `gold_judgment`: expected A, B or C, got 'D'"),
        ("verifierbench", VERIFY, r"row 1: no `gold_answer`; found .*; a VerifierBench row has `question`"),
        ("school_of_reward_hacks", HACK, r"x\.jsonl, row 1: expected a file \.\.\.no_hacking\.jsonl or"),
        ("school_of_reward_hacks", {"prompt": "?"}, r"no `control`; found `prompt`; a row has `user`, `control`"),
        ("school_of_reward_hacks", SCHOOL | {"user": 3}, r"row 1, `user`: expected a text, got 3"),
    ],
)  # fmt: skip
def test_a_broken_row_is_one_line_with_file_row_and_field(task: str, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read(task, ("x.jsonl", row))
    assert "\n" not in str(error.value)


def test_halves_that_do_not_fit_are_an_error() -> None:
    one, other = ("a_hacking.jsonl", HACK), ("a_no_hacking.jsonl", HACK | {"original_prompt": "Take."})
    with pytest.raises(DataError, match=r"a_hacking\.jsonl, row 1, `original_prompt`: expected the prompt of a_no"):
        read("school_of_reward_hacks", one, other)
    with pytest.raises(DataError, match="`index`: expected one completion of each kind a number, got a second"):
        read("school_of_reward_hacks", one, one)
