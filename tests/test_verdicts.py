"""Verdicts order by order, and the tasks that measure them: EvalBiasBench, HHH, Auto-J's pairs and PandaLM's."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import Scripted
from sklearn.metrics import accuracy_score, cohen_kappa_score, precision_recall_fscore_support

import rmbench
from rmbench.data.dataset import LeftOut
from rmbench.data.files import Row
from rmbench.errors import DataError
from rmbench.metrics import verdicts
from rmbench.results.schema import TaskResult
from rmbench.results.verify import verify
from rmbench.types import Answer, Array, Example, Message, Outcome, Request, Reward, View

GOLDEN = Path(__file__).parent / "golden"
NULL = verdicts.NO_VERDICT


def read_one(task: str, row: Mapping[str, Any]) -> Example:
    (example,) = rmbench.load_task(task).read([Row(dict(row), "x.json", 1)])
    assert isinstance(example, Example)
    return example


# the measure, against a plain loop


def outcome(name: str, gold: float, *said: float) -> Outcome:
    """An example that a model compared: what it said of the first candidate in each order."""
    answers = [
        Answer(order, (one, 1 - one) if order == (0, 1) else (1 - one, one), "ok")
        if one >= 0
        else Answer(order, (np.nan, np.nan), "refused")
        for one, order in zip(said, ((0, 1), (1, 0)), strict=False)
    ]
    beats: Array = np.full((2, 2), np.nan)
    view = View(None, beats, ["ok", "ok"])
    return Outcome(name, {}, name, np.array([gold, 1 - gold]), {"default": view}, answers=answers)


def value(statistic: Any) -> float:
    columns = statistic.columns[np.isfinite(statistic.columns).all(axis=1)]
    return float(statistic.value(columns.sum(axis=0)))


def test_the_figures_of_both_orders_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    rows = [(rng.choice([0, 0.5, 1]), [*rng.choice([0, 0.5, 1, NULL], 2, p=[0.4, 0.1, 0.4, 0.1])]) for _ in range(300)]
    found = verdicts.verdicts([outcome(f"{i}", g, *s) for i, (g, s) in enumerate(rows)], "default", null_is_wrong=True)
    singles = sum(one == gold for gold, said in rows for one in said)
    both = sum(all(one == gold for one in said) for gold, said in rows)
    agree = sum(said[0] == said[1] != NULL for _, said in rows)
    assert value(verdicts.single_accuracy(found)) == pytest.approx(singles / 600)
    assert value(verdicts.pair_accuracy(found)) == pytest.approx(both / 300)
    assert value(verdicts.pair_agreement(found)) == pytest.approx(agree / 300)


@pytest.mark.parametrize("classes", [[0, 0.5, 1], [0, 1]])
def test_precision_recall_and_f1_are_those_of_scikit_learn(classes: list[float]) -> None:
    rng = np.random.default_rng(1)
    gold, said = rng.choice(classes, 200), rng.choice([0, 1], 200)
    some = [outcome(f"{i}", float(g), float(s)) for i, (g, s) in enumerate(zip(gold, said, strict=True))]
    made = {one.name: value(one) for one in verdicts.by_class(verdicts.verdicts(some, "default"))}
    y, z = (gold * 2).astype(int), (said * 2).astype(int)
    expected = precision_recall_fscore_support(y, z, average="macro", zero_division=0)[:3]
    assert [made[f"{name}_macro"] for name in ("precision", "recall", "f1")] == pytest.approx(expected)


def test_a_verdict_that_cannot_be_read_is_wrong_or_left_out_and_one_order_does_not_agree_with_itself() -> None:
    some = [outcome("a", 1, 1, NULL), outcome("b", 1, 1, 1), outcome("c", 1, 1)]
    assert verdicts.left_out(some, "default") == {"no answer": 1}
    assert verdicts.left_out(some, "default", null_is_wrong=True) == {}
    found = verdicts.verdicts(some, "default", null_is_wrong=True)
    assert found.agree.tolist()[:2] == [0, 1]
    assert np.isnan(found.agree[2])


# what the files become


ROW = {
    "evalbiasbench": {"bias": "length", "instruction": "?", "response1": "good", "response2": "bad", "label": 1},
    "autoj": {"scenario": "chitchat", "label": 0, "prompt": "?", "response 1": "good", "response 2": "bad"},
    "pandalm": {"idx": 7, "instruction": "?", "input": "", "response1": "good", "response2": "bad",
                "annotator1": 1, "annotator2": 1, "annotator3": 0, "cmp_key": "llama_opt"},
}  # fmt: skip


@pytest.mark.parametrize("task", ROW)
def test_a_row_is_a_pair_in_the_order_of_the_data(task: str) -> None:
    example = read_one(task, ROW[task])
    assert example.prompt == (Message("user", "?"),)
    assert [(one.text, one.number) for one in example.candidates] == [("good", 1), ("bad", 0)]


def written(instruction: str, response: str) -> str:
    parts = ("The instruction to evaluate:", instruction), ("Response to evaluate:", response), ("Score Rubrics:", "R")
    return "###Task Description:\nGrade.\n\n" + "".join(f"###{a}\n{b}\n\n" for a, b in parts) + "###Feedback: "


def test_both_shapes_of_hhh_are_one_example_and_a_dialogue_has_turns() -> None:
    dialogue = "Hi.\n\nAssistant: Hello.\n\nHuman: What now?"
    file = {"source": "honest", "chosen_instruction": written(dialogue, "good"),
            "rejected_instruction": written(dialogue, "bad")}  # fmt: skip
    hub = {"input": f"{dialogue}\n", "targets": {"choices": [" good", "bad"], "labels": [1, 0]}}
    one, other = read_one("hhh_alignment", file), read_one("hhh_alignment", hub)
    assert one.prompt == other.prompt
    assert [(turn.role, turn.text) for turn in one.prompt] == [
        ("user", "Hi."),
        ("assistant", "Hello."),
        ("user", "What now?"),
    ]
    assert [(c.text, c.label) for c in one.candidates] == [(c.text, c.label) for c in other.candidates]
    assert (one.facets, [c.text for c in one.criteria]) == ({"subset": "honest"}, ["R"])


def test_every_row_of_hhh_comes_apart_as_its_authors_take_it_apart(rmbench_data: Path) -> None:
    """prometheus-eval/prometheus-eval@dcfb442:eval/utils.py `extract_sections`: what stands behind each ### heading."""
    headings = ("The instruction to evaluate:\n", "Response to evaluate:\n", "Score Rubrics:\n")
    file = rmbench_data / "prometheus_eval" / "hhh_alignment_eval.json"
    rows, examples = json.loads(file.read_text()), rmbench.load_task("hhh_alignment").load(file).examples
    for row, example in zip(rows, examples, strict=True):
        sides = [
            [part.partition(one)[2].strip() for one in headings for part in row[name].split("###") if one in part]
            for name in ("chosen_instruction", "rejected_instruction")
        ]
        assert [one.text for one in example.candidates] == [response for _, response, _ in sides]
        assert [one.text for one in example.criteria] == [sides[0][2]]
        told = "".join(turn.text for turn in example.prompt)
        assert re.sub(r"\s|Human:|Assistant:", "", sides[0][0]) == re.sub(r"\s|Human:|Assistant:", "", told)
    assert len(examples) == 221


def test_a_tie_of_annotators_is_a_class_and_three_opinions_are_none() -> None:
    tie = read_one("pandalm", ROW["pandalm"] | {"annotator1": 0})
    assert [one.number for one in tie.candidates] == [0.5, 0.5]
    assert tie.candidates[0].annotations == (0.5, 1, 0.5)
    assert tie.candidates[1].tags["policy"] == "opt"
    rows = [Row(ROW["pandalm"] | {"annotator1": 2}, "x.json", 1)]
    assert [*rmbench.load_task("pandalm").read(rows)] == [LeftOut("three annotators of three opinions")]
    assert read_one("pandalm", ROW["pandalm"] | {"response1": True}).candidates[0].text == "True"


HHH = {"input": "?", "targets": {"choices": ["a", "b"], "labels": [1, 0]}}


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("evalbiasbench", ROW["evalbiasbench"] | {"label": 3}, "row 1, `label`: expected 1 or 2, got 3"),
        ("evalbiasbench", ROW["evalbiasbench"] | {"response2": None}, "row 1, `response2`: expected a text, got None"),
        ("evalbiasbench", ROW["autoj"], "row 1: no `bias`; found `scenario`, .*; an EvalBiasBench row has `bias`"),
        ("autoj", ROW["autoj"] | {"label": True}, "row 1, `label`: expected 0, 1 or 2, got True"),
        ("autoj", ROW["autoj"] | {"scenario": "x"}, "row 1, `scenario`: expected one of 58 scenarios, got 'x'"),
        ("autoj", ROW["pandalm"], "row 1: no `prompt`; found .*; an Auto-J row has `scenario`"),
        ("pandalm", ROW["pandalm"] | {"annotator2": "3"}, "row 1, `annotator2`: expected 0, 1 or 2, got '3'"),
        ("pandalm", ROW["pandalm"] | {"label": [1]}, r"row 1, `label`: expected 0, 1 or 2, got \[1\]"),
        ("pandalm", ROW["pandalm"] | {"label": 2}, "row 1, `label`: expected the majority of annotator1, .*, got 2"),
        ("hhh_alignment", HHH | {"targets": {"choices": ["a"]}}, "`targets`: expected two texts in `choices`, got "),
        ("hhh_alignment", HHH | {"targets": HHH["targets"] | {"labels": [1, 1]}}, r"expected `labels` \[1, 0\] or"),
        ("hhh_alignment", {"input": "?"}, "no `targets`; found `input`; an HHH row has"),
        ("hhh_alignment", {"source": "x", "chosen_instruction": "a"}, "`chosen_instruction`: expected a text with"),
        ("hhh_alignment", {"source": "x", "chosen_instruction": written("a", "b"), "rejected_instruction":
                           written("c", "b")}, "`rejected_instruction`: expected the instruction of `chosen_"),
    ],
)  # fmt: skip
def test_a_broken_row_is_one_line_with_file_row_and_field(task: str, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=r"x\.json, row 1.*" + message.removeprefix("row 1")) as error:
        read_one(task, row)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("task", "fields"), [("evalbiasbench", ["label"]), ("autoj", ["label"]),
                                              ("pandalm", ["annotator1", "annotator2", "annotator3"])])  # fmt: skip
def test_a_label_is_the_same_in_csv_and_in_parquet_with_gaps(task: str, fields: list[str]) -> None:
    due = read_one(task, ROW[task])
    for kind in (str, float):
        assert read_one(task, ROW[task] | {field: kind(ROW[task][field]) for field in fields}) == due


# the files themselves


FILES = {"autoj": "autoj/testdata_pairwise.jsonl", "pandalm": "pandalm/testset-v1.json"}


def test_the_labels_of_autoj_and_pandalm_are_those_that_their_authors_count(rmbench_data: Path) -> None:
    labels = {}
    for task in ("autoj", "pandalm"):
        data = rmbench.load_task(task).load(rmbench_data / FILES[task])
        labels[task] = Counter(one.candidates[0].number for one in data.examples)
    assert labels["autoj"] == {1: 520, 0: 499, 0.5: 373}
    assert labels["pandalm"] == {1: 422, 0: 472, 0.5: 105}
    votes = np.array([one.candidates[0].annotations for one in data.examples]) * 2
    assert votes.shape == (999, 3)
    kappas = [cohen_kappa_score(votes[:, i].astype(int), votes[:, j].astype(int)) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert [round(kappa, 2) for kappa in kappas] == [0.85, 0.88, 0.86], "the table of PandaLM's README"


# official figures


def judged(task: str, data: Path, tmp_path: Path, rows: Sequence[Mapping[str, Any]]) -> TaskResult:
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (result,) = rmbench.evaluate(f"scores:{tmp_path / 'scores.jsonl'}", [task], data={task: data})
    verify(result, rmbench.load_task(task))
    return result


def test_autojs_own_verdicts_give_the_figures_of_its_leaderboard(rmbench_data: Path) -> None:
    """GAIR-NLP/auto-j@2ae17a3:codes/leaderboard/README.md, type "pairwise" and, over one order, "single"."""
    golden = json.loads((GOLDEN / "autoj_verdicts.json").read_text())
    task: Any = rmbench.load_task("autoj")
    wins = {"0": (1.0, 0.0), "1": (0.0, 1.0), "2": (0.5, 0.5)}
    outcomes: dict[str, list[Outcome]] = {"all": [], "single": []}
    examples = task.load(rmbench_data / FILES["autoj"]).examples
    for example, one, other in zip(examples, golden["order"], golden["exchanged"], strict=True):
        asked = task.questions(example, frozenset({"compare"}), "")
        assert [question.place.candidates for question in asked] == [(0, 1), (1, 0)]
        both = task.outcome(example, asked, [Reward(wins[one]), Reward(wins[other])])
        outcomes["all"].append(both)
        outcomes.setdefault(example.facets["subset"], []).append(both)
        outcomes["single"].append(task.outcome(example, asked[:1], [Reward(wins[one])]))

    def percent(group: str, name: str) -> float:
        made = task.measure.statistics(outcomes[group], "default", None)
        return round(100 * value(next(one for one in made if one.name == name)), 2)

    published = {
        "all": (54.96, 83.41),
        "Summarization": (45.83, 73.61),
        "Exam Questions": (38.89, 69.44),
        "Code": (47.5, 75.83),
        "Rewriting": (49.17, 74.17),
        "Creative Writing": (59.72, 87.04),
        "Functional Writing": (61.67, 81.67),
        "General Communication": (55.21, 92.36),
        "NLP Tasks": (57.58, 86.36),
    }
    assert {name: (percent(name, "agreement"), percent(name, "consistency")) for name in published} == published
    assert percent("single", "agreement") == 59.99


def test_pandalms_own_verdicts_give_what_scikit_learn_makes_of_them(rmbench_data: Path, tmp_path: Path) -> None:
    golden = json.loads((GOLDEN / "pandalm_7b_verdicts.json").read_text())["verdicts"]
    file = rmbench_data / FILES["pandalm"]
    examples = rmbench.load_task("pandalm").load(file).examples
    wins = {"1": 1.0, "2": 0.0, "0": 0.5}
    rows = [
        {"example_id": one.id, "first": 0, "second": 1, "win_first": wins[said]}
        for one, said in zip(examples, golden, strict=True)
    ]
    result = judged("pandalm", file, tmp_path, rows)
    gold, said = [int(2 * one.candidates[0].number) for one in examples], [int(2 * wins[one]) for one in golden]
    expected = [accuracy_score(gold, said), *precision_recall_fscore_support(gold, said, average="macro")[:3]]
    names = ("accuracy_three", "precision_macro", "recall_macro", "f1_macro")
    assert [result.metric(name).value for name in names] == pytest.approx(expected)
    assert round(expected[0], 4) == 0.6677
    assert round(result.metric("unanimous").value, 3) == 0.88


def test_a_pair_of_pandalm_is_shown_as_it_stands_and_biases_in_both_orders(tmp_path: Path) -> None:
    seen: list[tuple[str | None, ...]] = []

    def first(request: Request) -> Reward:
        seen.append(tuple(one.text for one in request.responses))
        return Reward((1.0, 0.0))

    def run(task: str, rows: Sequence[Mapping[str, Any]]) -> TaskResult:
        (tmp_path / "x.json").write_text(json.dumps(rows))
        (result,) = rmbench.evaluate(Scripted(first, ["compare"]), [task], data={task: tmp_path / "x.json"})
        return result

    row = ROW["pandalm"]
    rows = [row | {"idx": i, f"annotator{i}": 1, "response1": f"one {i}"} for i in (1, 2, 3)]
    rows.append(row | {"idx": 4, "annotator1": 2, "annotator2": 2, "response1": "one 4"})
    rows.append(row | {"idx": 5, "annotator1": 0, "annotator2": 0, "response1": "one 5"})
    assert run("pandalm", rows).metric("accuracy_three").value == 0.6
    assert sorted(seen) == [(f"one {i}", "bad") for i in (1, 2, 3, 4, 5)]

    bias = [ROW["evalbiasbench"] | {"instruction": f"{i}?", "label": 1 + i % 2} for i in range(6)]
    result = run("evalbiasbench", bias)
    figures = [result.metric(name).value for name in ("single_accuracy", "pair_accuracy", "pair_agreement")]
    assert figures == [0.5, 0.0, 0.0], "whoever takes the first is right once in two"
