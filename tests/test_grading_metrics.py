"""Metrics of graded responses against scikit-learn, and calibration against the class that is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

import rmbench
from rmbench.data.files import Row
from rmbench.errors import DataError
from rmbench.kinds.grading import Grading
from rmbench.metrics import grading
from rmbench.metrics.grading import Grades
from rmbench.metrics.interval import estimate
from rmbench.types import Candidate, Example, Message, Outcome, Request, Reward, View

CLASSES = ("correct", "incorrect", "invalid")


def outcome(
    name: str,
    labels: Sequence[float | None],
    views: Mapping[str, Sequence[float]],
    classes: Sequence[str | None] = (),
) -> Outcome:
    made = {view: View(np.array(scores, float), None, ["ok"] * len(scores)) for view, scores in views.items()}
    return Outcome(name, {}, name, np.array(labels, float), made, classes=classes)


def values(outcomes: Sequence[Outcome], measure: Grades, view: str = "default") -> dict[str, float]:
    made = measure.statistics(outcomes, view, measure.fit(outcomes, view))
    return {one.name: one.value for one in estimate(made, [each.cluster for each in outcomes], draws=50)}


def random_outcomes(seed: int, heads: bool = False) -> list[Outcome]:
    rng = np.random.default_rng(seed)
    found = []
    for i in range(40):
        k = int(rng.integers(1, 4))
        right = rng.random(k) < 0.4
        if heads:
            names = [CLASSES[0] if one else CLASSES[int(rng.integers(1, 3))] for one in right]
            views = {name: rng.random(k) + 0.3 * np.array([one == name for one in names]) for name in CLASSES}
            found.append(outcome(f"e{i}", [None] * k, {"default": rng.random(k)} | views, names))
        else:
            found.append(outcome(f"e{i}", right.astype(float), {"default": rng.integers(0, 6, k) + 2.0 * right}))
    return found


def test_right_and_wrong_against_scikit_learn() -> None:
    outcomes = random_outcomes(0)
    labels = np.concatenate([one.labels for one in outcomes])
    scores = np.concatenate([one.views["default"].scores for one in outcomes])  # type: ignore[arg-type]
    found = values(outcomes, Grades(at=3.0))
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, scores >= 3))
    assert found["f1"] == pytest.approx(f1_score(labels, scores >= 3))
    assert found["auc"] == pytest.approx(roc_auc_score(labels, scores))
    best = max(accuracy_score(labels, scores >= cut) for cut in np.arange(0, 9, 0.5))
    assert values(outcomes, Grades(on={}))["accuracy"] == pytest.approx(best)
    assert found["accuracy"] <= best


def test_classes_are_those_of_the_highest_head() -> None:
    outcomes = random_outcomes(1, heads=True)
    truth = [name for one in outcomes for name in one.classes]
    heads = np.concatenate([np.stack([one.views[name].scores for name in CLASSES]) for one in outcomes], axis=1)  # type: ignore[misc, arg-type]
    said = [CLASSES[i] for i in heads.argmax(axis=0)]
    found = values(outcomes, Grades(positive="correct"), "correct")
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, said))
    assert found["f1"] == pytest.approx(f1_score(truth, said, labels=["correct"], average="macro"))
    assert found["f1_macro"] == pytest.approx(f1_score(truth, said, average="macro"))
    assert found["auc"] == pytest.approx(roc_auc_score([name == "correct" for name in truth], heads[0]))


def test_equal_heads_are_a_tie_and_no_class() -> None:
    views = {"default": [0.0], "correct": [0.5], "incorrect": [0.5]}
    outcomes = [
        outcome("a", [None], views, ["correct"]),
        outcome("b", [None], views | {"correct": [0.7]}, ["correct"]),
        outcome("c", [None], views | {"correct": [0.7]}, ["incorrect"]),
        outcome("d", [None], views | {"correct": [0.2]}, ["incorrect"]),
    ]
    measure = Grades(positive="correct")
    assert values(outcomes, measure)["accuracy"] == 0.5
    fitted = measure.fit(outcomes, "default")
    (accuracy, *_) = estimate(measure.statistics(outcomes[:2], "default", fitted), ["a", "b"])
    assert (fitted, accuracy.value) == ({"heads": ["correct", "incorrect"]}, 0.5)
    assert measure.ties(outcomes, "default") == 1


def test_a_verdict_of_the_model_s_own_needs_no_threshold() -> None:
    outcomes = [outcome(str(i), [i % 2], {"default": [0.0], "verdict": [float(i % 2 or i == 0)]}) for i in range(4)]
    assert Grades().fit(outcomes, "default") is None
    assert values(outcomes, Grades())["accuracy"] == 0.75


def test_missing_labels_and_answers_are_left_out_and_counted() -> None:
    outcomes = [
        outcome("a", [1, None], {"default": [0.9, 0.1]}),
        outcome("b", [0, 1], {"default": [0.2, np.nan]}),
        outcome("c", [None], {"default": [0.2]}),
    ]
    assert values(outcomes, Grades(at=0.5))["accuracy"] == 1.0
    assert Grades(at=0.5).left_out(outcomes, "default") == {"no label": 1, "no answer": 1}
    assert Grades().left_out(outcomes[:1], "default") == {"no threshold": 1}


def test_scores_as_labels_are_correlated_and_not_calibrated() -> None:
    outcomes = [outcome(str(i), [i], {"default": [i**3]}) for i in range(9)]
    measure = Grades(positive=None)
    found = values(outcomes, measure)
    assert (found["spearman"], found["kendall"]) == (pytest.approx(1.0), pytest.approx(1.0))
    assert 0.8 < found["pearson"] < 1
    assert (measure.headline, measure.uncalibrated) == ("spearman", "no class or score is declared right")


# the kind, run


def task(examples: Sequence[Example], **settings: Any) -> Grading:
    return Grading("graded", 1, "", "graded", lambda rows: iter(examples), **settings)


class Verdicts:
    """Says one of three classes, right four times of five."""

    answers = frozenset({"reward"})
    fingerprint = "verdicts:1"

    def rewards(self, requests: Sequence[Request]) -> Any:
        for index, request in enumerate(requests):
            number, name = (request.responses[0].text or "").split()
            heads = {one: (float(one == name) + 0.001 * int(number),) for one in CLASSES}
            if int(number) % 5 == 0:
                heads = {one: (0.3 + i,) for i, one in enumerate(CLASSES)}
            yield index, Reward((0.0,), heads=heads)


def test_classes_are_run_and_calibrated_against_the_right_one(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("{}\n")
    examples = [
        Example(f"{i}", (Message("user", f"{i}?"),), (Candidate(f"{i} {CLASSES[i % 3]}", CLASSES[i % 3]),))
        for i in range(30)
    ]
    graded = task([*examples, Example("x", (), (Candidate("31 correct"),))], measure=Grades(positive="correct"))
    (result,) = rmbench.evaluate(Verdicts(), [graded], data={"graded": tmp_path / "x.jsonl"})
    found = {metric.name: metric for metric in result.metrics if metric.view == "correct" and metric.subset == "all"}
    assert result.primary_view == "correct"
    assert found["accuracy"].value == pytest.approx(26 / 30)
    assert result.left_out["correct"] == {"no label": 1}
    assert result.calibration is not None
    assert result.calibration.view == "correct"


@pytest.mark.parametrize(
    ("label", "measure", "expected"),
    [
        ("right", grading.GRADES, "true or false, got 'right'"),
        (0.5, grading.GRADES, "true or false, got 0.5"),
        (True, Grades(positive="correct"), "the name of a class, got True"),
        ("good", Grades(positive=None), "a number, got 'good'"),
    ],
)
def test_labels_of_another_sort_are_an_error(label: Any, measure: Grades, expected: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=f"example 1, candidate 0: expected a label that is {expected}"):
        task([Example("1", (), (Candidate("a", label),))], measure=measure).load(tmp_path / "x.jsonl")


def test_a_row_is_not_needed_to_declare_a_task() -> None:
    assert list(task([]).read([Row({}, "x", 1)])) == []
