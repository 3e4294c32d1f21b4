"""Metrics of steps, against loops over steps, scikit-learn, and what the definitions say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from fake_models import Scripted
from sklearn.metrics import f1_score, roc_auc_score

import rmbench
from rmbench.data.files import Row
from rmbench.errors import DataError
from rmbench.kinds.steps import Steps, until_first_error
from rmbench.metrics import steps, threshold
from rmbench.metrics.aggregate import VIEWS
from rmbench.metrics.interval import Statistic, estimate, whole_value
from rmbench.metrics.steps import Errors
from rmbench.results.figures import bootstrap, figures
from rmbench.types import Array, Candidate, Example, Json, Message, Outcome, Request, Response, Reward, ToolCall, View


def outcome(
    labels: Sequence[int],
    scores: Sequence[float],
    name: str = "e",
    verdicts: Sequence[float] | None = None,
    subset: str = "all of it",
) -> Outcome:
    """One solution with the labels of its steps."""
    view = View(np.array([min(scores, default=np.nan)]), None, ["ok"], steps=[np.array(scores, float)])
    heads = {} if verdicts is None else {"verdict": [np.array(verdicts, float)]}
    return Outcome(name, {"subset": subset}, name, np.array([float(-1 not in labels)]), {"min": view}, step_heads=heads,
                   step_labels=[np.array(labels, float)])  # fmt: skip


def values(outcomes: Sequence[Outcome], fitted: Json) -> dict[str, float]:
    made = steps.statistics(outcomes, "min", fitted)
    return {one.name: one.value for one in estimate(made, [each.cluster for each in outcomes], draws=50)}


def random_outcomes(rng: np.random.Generator, n: int = 60, levels: int = 8) -> list[Outcome]:
    """Solutions of up to six steps, half of them with a first error, rewards with ties."""
    found = []
    for i in range(n):
        length = int(rng.integers(1, 7))
        labels = until_first_error(length, int(rng.integers(length)) if rng.random() < 0.5 else None)
        scores = (rng.integers(0, levels, length) + 2 * np.array(labels)) / levels
        found.append(outcome(labels, scores.tolist(), f"e{i}", subset="ab"[i % 2]))
    return found


def first_error_f1(outcomes: Sequence[Outcome], cut: float) -> float:
    """ProcessBench's F1 by its definition, one solution after the other."""
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for one in outcomes:
        labels, scores = one.step_labels[0].tolist(), np.asarray(one.views["min"].steps)[0].tolist()  # type: ignore[index]
        truth = labels.index(-1) if -1 in labels else -1
        said = next((i for i, score in enumerate(scores) if score < cut), -1)
        hits[truth == -1].append(truth == said)
    a, b = (float(np.mean(each)) for each in hits.values())
    return 2 * a * b / (a + b) if a + b else 0.0


def test_first_errors_by_the_definition() -> None:
    outcomes = random_outcomes(np.random.default_rng(0))
    for cut in (0.0, 0.3, 0.5, 0.9):
        found = values(outcomes, {"threshold": cut})
        assert found["first_error_f1"] == pytest.approx(first_error_f1(outcomes, cut))


@pytest.mark.parametrize("seed", range(5))
def test_the_chosen_threshold_is_the_lowest_of_the_best(seed: int) -> None:
    outcomes = random_outcomes(np.random.default_rng(seed), n=30)
    every = threshold.candidates(np.concatenate([o.views["min"].steps[0] for o in outcomes]))  # type: ignore[index]
    worth = [first_error_f1(outcomes, cut) for cut in every]
    assert steps.choose(outcomes, "min") == every[int(np.argmax(np.array(worth) >= max(worth) - 1e-12))]


def test_a_threshold_is_chosen_on_the_facet_that_is_declared() -> None:
    outcomes = random_outcomes(np.random.default_rng(1))
    here = [one for one in outcomes if one.facets["subset"] == "a"]
    fitted = Errors(on={"subset": "a"}).fit(outcomes, "min")
    assert fitted == {"threshold": steps.choose(here, "min")}
    assert Errors(at=0.5).fit(outcomes, "min") == {"threshold": 0.5}
    assert Errors(on={"subset": "none"}).fit(outcomes, "min") is None


def test_without_a_facet_nobody_is_judged_by_a_threshold_of_their_own() -> None:
    outcomes = random_outcomes(np.random.default_rng(2))
    fitted = Errors().fit(outcomes, "min")
    folds = [threshold.fold_of(one.cluster) for one in outcomes]
    assert set(folds) == set(range(5))
    for fold in range(5):
        others = [one for one, at in zip(outcomes, folds, strict=True) if at != fold]
        assert fitted["thresholds"][fold] == steps.choose(others, "min")
    assert list(threshold.thresholds(outcomes, fitted)) == [fitted["thresholds"][fold] for fold in folds]


def test_steps_against_scikit_learn() -> None:
    outcomes = random_outcomes(np.random.default_rng(3))
    labels = np.concatenate([one.step_labels[0] for one in outcomes])
    scores = np.concatenate([one.views["min"].steps[0] for one in outcomes])  # type: ignore[index]
    known = labels != 0
    found = values(outcomes, {"threshold": 0.4})
    assert found["step_auc"] == pytest.approx(roc_auc_score(labels[known] == 1, scores[known]))
    assert found["step_f1_right"] == pytest.approx(f1_score(labels[known] == 1, scores[known] >= 0.4))
    assert found["step_f1_wrong"] == pytest.approx(f1_score(labels[known] == -1, scores[known] < 0.4))


def test_solutions_against_scikit_learn() -> None:
    outcomes = random_outcomes(np.random.default_rng(4))
    right = np.array([-1 not in one.step_labels[0] for one in outcomes])
    least = np.array([one.views["min"].steps[0].min() for one in outcomes])  # type: ignore[index]
    found = values(outcomes, {"threshold": 0.4})
    assert found["solution_f1_macro"] == pytest.approx(f1_score(right, least >= 0.4, average="macro"))
    assert found["solution_auc"] == pytest.approx(roc_auc_score(right, least))


def places_by_loop(outcomes: Sequence[Outcome]) -> tuple[list[float], list[float]]:
    """Of each first wrong step its place and its percentile, from the steps of its solution in the order of reward."""
    ranks, percentiles = [], []
    for one in outcomes:
        for labels, scores in zip(one.step_labels, one.views["min"].steps or (), strict=True):
            if -1 not in labels:
                continue
            in_order, own = sorted(scores.tolist()), scores[labels.tolist().index(-1)]
            places = [place for place, score in enumerate(in_order, 1) if score == own]
            ranks.append(float(np.mean(places)))
            if len(scores) > 1:
                percentiles.append((ranks[-1] - 1) / (len(scores) - 1))
    return ranks, percentiles


@pytest.mark.parametrize("seed", range(3))
def test_the_place_of_the_first_wrong_step_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = [[int(label) for label in one.step_labels[0]] for one in random_outcomes(rng)]
    outcomes = [outcome(of, rng.integers(0, 4, len(of)).tolist(), f"e{i}") for i, of in enumerate(labels)]
    ranks, percentiles = places_by_loop(outcomes)
    assert len(set(ranks)) > 4
    assert len(percentiles) < len(ranks) < len(outcomes)
    found = values(outcomes, None)
    assert found["first_error_rank"] == pytest.approx(np.mean(ranks))
    assert found["first_error_percentile"] == pytest.approx(np.mean(percentiles))


def test_an_example_of_several_solutions_has_the_places_of_all_of_them() -> None:
    labels, scores = [(1, -1, 0), (1, 1), (-1, 0)], [(0.5, 0.2, 0.1), (0.4, 0.6), (0.7, 0.7)]
    view = View(np.zeros(3), None, ["ok"] * 3, steps=[np.array(one) for one in scores])
    one = Outcome("e", {}, "e", np.array([0.0, 1.0, 0.0]), {"min": view}, step_labels=[np.array(of) for of in labels])
    ranks, percentiles = places_by_loop([one])
    assert (ranks, percentiles) == ([2, 1.5], [0.5, 0.5])
    found = values([one], None)
    assert (found["first_error_rank"], found["first_error_percentile"]) == (1.75, 0.5)


def test_what_goes_by_reward_needs_no_threshold_and_heeds_no_verdict() -> None:
    outcomes = [outcome((1, -1, 0), (0.9, 0.3, 0.1), "a", verdicts=(1, 1, 1)), outcome((1, 1), (0.6, 0.7), "b")]
    found = {one.name: one for one in estimate(steps.by_reward(outcomes, "min"), "ab")}
    assert {name: one.value for name, one in found.items()} == {
        "step_auc": 1,
        "first_error_rank": 2,
        "first_error_percentile": 0.5,
    }
    assert [one.n for one in found.values()] == [2, 1, 1]
    assert {name: values(outcomes, None)[name] for name in found} == {name: one.value for name, one in found.items()}


def problems(rng: np.random.Generator, count: int) -> list[Outcome]:
    """Two solutions a problem, alike in how long and how hard they are, most with an error that is seen in part."""
    outcomes = []
    for problem in range(count):
        length, hard = int(rng.integers(2, 7)), rng.normal(0, 0.5)
        for _ in range(2):
            labels = until_first_error(length, int(rng.integers(length)) if rng.random() < 0.8 else None)
            scores = rng.normal(hard, 1, length) + (1 + hard) * np.array(labels)
            outcomes.append(replace(outcome(labels, scores.tolist()), cluster=str(problem)))
    return outcomes


def test_the_intervals_of_what_goes_by_reward_cover_the_truth() -> None:
    rng, repeats = np.random.default_rng(11), 100
    truth = {one.name: whole_value(one, np.arange(4000)) for one in steps.by_reward(problems(rng, 2000), "min")}
    held: Counter[str] = Counter()
    for repeat in range(repeats):
        outcomes = problems(rng, 40)
        made = steps.by_reward(outcomes, "min")
        for one in estimate(made, [each.cluster for each in outcomes], draws=100, seed=repeat):
            held[one.name] += one.ci_low <= truth[one.name] <= one.ci_high
    least = repeats * 0.95 - 3 * math.sqrt(repeats * 0.05 * 0.95)  # at least 95 % but for chance
    assert set(held) == {"step_auc", "first_error_rank", "first_error_percentile"}
    assert min(held.values()) >= least, held


def test_a_model_s_own_verdicts_need_no_threshold() -> None:
    outcomes = [
        outcome((1, -1, 0), (0.9, 0.8, 0.1), "a", verdicts=(1, 0, 0)),
        outcome((1, 1), (0.1, 0.2), "b", verdicts=(1, 1)),
        outcome((-1, 0), (0.1, 0.2), "c", verdicts=(1, 0)),
    ]
    assert Errors().fit(outcomes, "min") is None
    found = values(outcomes, None)
    assert (found["first_error_accuracy"], found["no_error_accuracy"]) == (0.5, 1.0)
    assert found["first_error_f1"] == pytest.approx(2 / 3)


def test_a_task_that_prescribes_the_threshold_has_it_for_a_model_with_verdicts_too() -> None:
    outcomes = [
        outcome((1, -1, 0), (0.9, 0.3, 0.1), "a", verdicts=(1, 1, 1)),
        outcome((1, 1), (0.6, 0.7), "b", verdicts=(0, 0)),
    ]
    prescribed = Errors(verdicts=False)
    at = replace(prescribed, at=0.5)
    assert prescribed.fit(outcomes, "min") is not None
    assert at.fit(outcomes, "min") == {"threshold": 0.5}
    found = {one.name: one.value for one in estimate(at.statistics(outcomes, "min", at.fit(outcomes, "min")), "ab")}
    assert (found["first_error_accuracy"], found["no_error_accuracy"]) == (1, 1)
    assert at.left_out(outcomes, "min") == {}
    assert Errors(verdicts=False, on={"subset": "none"}).left_out(outcomes, "min") == {"no threshold": 2}


def test_a_solution_without_all_of_its_answers_does_not_count_and_is_counted() -> None:
    outcomes = [
        outcome((1, -1), (0.9, 0.1), "a"),
        outcome((1, 1), (0.9, np.nan), "b"),
        outcome((1, 1), (0.9,), "c"),
        outcome((), (0.9,), "d"),
        outcome((1,), (0.9,), "e"),
        outcome((1,), (), "f"),
    ]
    assert values(outcomes, {"threshold": 0.5})["no_error_accuracy"] == 1.0
    left_out = Errors(at=0.5).left_out(outcomes, "min")
    assert left_out == {"no labels of steps": 1, "no answer": 2, "other steps than labelled": 1}
    assert steps.ERRORS.left_out(outcomes[:1], "min") == {"no threshold": 1}


def test_intervals_draw_whole_clusters() -> None:
    outcomes = random_outcomes(np.random.default_rng(4))
    made = steps.statistics(outcomes, "min", {"threshold": 0.4})
    for one in estimate(made, [each.cluster for each in outcomes]):
        assert one.ci_low < one.value < one.ci_high, one.name


# views


class Anew(Errors):
    """Measures each view anew, and counts how often it measures."""

    steps_alone: ClassVar[bool] = False
    times: ClassVar[Counter[str]] = Counter()

    def statistics(self, outcomes: Sequence[Outcome], view: str, fitted: Json) -> list[Statistic]:
        self.times[view] += 1
        return super().statistics(outcomes, view, fitted)


class Once(Anew):
    """The same, of steps alone."""

    steps_alone: ClassVar[bool] = True
    times: ClassVar[Counter[str]] = Counter()


def outcomes_with_heads(n: int = 40) -> list[Outcome]:
    """Solutions in two subsets with rewards of steps by two heads, and a reward of its own for most of them."""
    rng, outcomes = np.random.default_rng(7), []
    for i, of in enumerate(random_outcomes(rng, n)):
        labels = tuple(int(label) for label in of.step_labels[0])
        candidate = Candidate(Response("x" * len(labels), ["x"] * len(labels)), -1 not in labels, step_labels=labels)
        example = Example(f"e{i}", (Message("user", "?"),), (candidate,), facets={"subset": "ab"[i % 2]})
        own, head = (np.round(rng.random(len(labels)), 1).tolist() for _ in range(2))
        reward = Reward((math.nan if i % 5 == 0 else 0.5,), steps=tuple(own), step_heads={"other": tuple(head)})
        declared = task(example)
        outcomes.append(declared.outcome(example, declared.questions(example, frozenset({"steps"}), "data"), [reward]))
    return outcomes


def test_views_of_the_same_steps_are_measured_once_and_have_what_each_would_have_had() -> None:
    outcomes, drawn = outcomes_with_heads(), bootstrap(0).model_copy(update={"draws": 50})
    once, anew = (figures(task(measure=measure), outcomes, drawn).fields for measure in (Once(), Anew()))
    assert once == anew
    assert [*once["ties"]] == [*VIEWS, *(f"other/{view}" for view in VIEWS), "default"]
    of_view = {view: {one.name: one.value for one in once["metrics"] if (one.view, one.subset) == (view, "all")}
               for view in ("default", "prod", "min", "other/min")}  # fmt: skip
    assert of_view["prod"] == of_view["min"]
    assert len({one["step_auc"] for one in of_view.values()}) == 3, "not all have a reward of their own"
    assert Once.times == dict.fromkeys(("prod", "default", "other/prod"), 3)
    assert Anew.times == dict.fromkeys(once["ties"], 3)


def test_a_view_with_a_threshold_of_its_own_is_measured_by_that() -> None:
    outcomes = [one for one in outcomes_with_heads() if "default" in one.views]
    stated = {"max": {"threshold": 0.9}}
    found = figures(task(measure=Errors(at=0.5)), outcomes, bootstrap(0), fitted=stated).fields["metrics"]
    of_view = {one.view: one.value for one in found if (one.name, one.subset) == ("first_error_f1", "all")}
    assert of_view["max"] == first_error_f1(outcomes, 0.9) != of_view["min"] == first_error_f1(outcomes, 0.5)
    assert of_view["prod"] == of_view["default"] == of_view["min"]


# the kind


def processbench(rows: Iterable[Row]) -> Iterator[Example]:
    for row in rows:
        steps, first = row.value["steps"], row.value["label"]
        labels = until_first_error(len(steps), None if first == -1 else first)
        candidate = Candidate(Response("\n\n".join(steps), steps), first == -1, step_labels=labels)
        yield Example(row.text("id"), (Message("user", row.text("problem")),), (candidate,),
                      facets={"subset": row.file.removesuffix(".json")})  # fmt: skip


def rated(request: Request) -> Reward:
    """Rewards of steps by their length: of no use, but no two models could agree more on them."""
    rewards = tuple(1 / (1 + len(step)) for step in request.responses[0].steps or ())
    return Reward(rewards[-1:], steps=rewards)


def test_processbench_with_the_threshold_of_its_gsm8k_part(rmbench_data: Path) -> None:
    declared = Steps("pb", 1, "", "pb", processbench, measure=Errors(on={"subset": "gsm8k"}))
    data = declared.load(rmbench_data / "processbench")
    assert Counter(one.facets["subset"] for one in data.examples) == {"gsm8k": 400, "math": 1000}
    outcomes = []
    for one in data.examples:
        questions = declared.questions(one, frozenset({"steps"}), "data")
        outcomes.append(declared.outcome(one, questions, [rated(question.request) for question in questions]))
    fitted = declared.measure.fit(outcomes, "min")
    for subset in ("gsm8k", "math"):
        part = [one for one in outcomes if one.facets["subset"] == subset]
        assert values(part, fitted)["first_error_f1"] == pytest.approx(first_error_f1(part, fitted["threshold"]))
    here = [one for one in outcomes if one.facets["subset"] == "gsm8k"]
    grid = np.quantile(np.concatenate([one.views["min"].steps[0] for one in here]), np.linspace(0, 1, 60))
    assert first_error_f1(here, fitted["threshold"]) >= max(first_error_f1(here, cut) for cut in grid)


def task(*examples: Example, **settings: object) -> Steps:
    return Steps("t", 1, "", "t", lambda rows: iter(examples), **settings)  # type: ignore[arg-type]


def test_a_turn_of_a_trajectory_may_be_a_step() -> None:
    turns = [
        Message("assistant", "", [ToolCall("f", "{}")]),
        Message("tool", "1"),
        Message("assistant", "It is 1."),
    ]
    candidate = Candidate(Response(turns, "turns"), step_labels=(1, -1))
    example = Example("e", (Message("user", "?"),), (candidate,))
    (question,) = task(example).questions(example, frozenset({"steps", "reward"}), "data")
    assert (question.request.ask, question.request.responses[0].step_count) == ("steps", 2)
    made = task(example).outcome(example, [question], [Reward((0.5,), steps=(0.9, 0.2))])
    assert values_of(made.views["min"].steps) == [[0.9, 0.2]]
    assert values_of(made.step_labels) == [[1.0, -1.0]]


def values_of(arrays: Sequence[Array] | None) -> list[list[float]]:
    return [array.tolist() for array in arrays or ()]


def test_labels_until_the_first_error() -> None:
    assert until_first_error(3, None) == (1, 1, 1)
    assert until_first_error(4, 1) == (1, -1, 0, 0)
    with pytest.raises(ValueError, match="first=3: expected the index of one of 3 steps"):
        until_first_error(3, 3)


def test_labels_have_to_be_as_many_as_steps(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("{}\n")
    candidate = Candidate(Response("a\nb", ("a", "b")), step_labels=(1,))
    with pytest.raises(DataError, match="example 1, candidate 0: expected 2 step labels, one a step, got 1"):
        task(Example("1", (), (candidate,))).load(tmp_path / "x.jsonl")
    with pytest.raises(DataError, match="none of 1 has a response whose steps are labelled"):
        task(Example("1", (), (Candidate("a", True),))).load(tmp_path / "x.jsonl")


def test_steps_are_run_end_to_end(tmp_path: Path) -> None:
    def numbered(rows: Iterable[Row]) -> Iterator[Example]:
        for row in rows:
            steps = [f"{row.number} {i}" for i in range(4)]
            labels = until_first_error(4, row.number % 4 if row.number % 2 else None)
            candidate = Candidate(Response("\n".join(steps), steps), -1 not in labels, step_labels=labels)
            yield Example(str(row.number), (Message("user", f"{row.number}?"),), (candidate,),
                          facets={"half": "ab"[row.number > 20]})  # fmt: skip

    def finds_most(request: Request) -> Reward:
        number, at = int((request.responses[0].steps or ("0 0",))[0].split()[0]), range(4)
        wrong = number % 4 if number % 2 and number % 5 else 4
        return Reward((math.nan,), steps=tuple(0.9 if i < wrong else 0.1 for i in at))

    (tmp_path / "x.jsonl").write_text("{}\n" * 40)
    declared = Steps("numbered", 1, "", "numbered", numbered)
    model = Scripted(finds_most, answers=["steps"])
    (result,) = rmbench.evaluate(model, [declared], data={"numbered": tmp_path / "x.jsonl"})
    found = {metric.name: metric for metric in result.metrics if (metric.view, metric.subset) == ("prod", "all")}
    assert result.primary_view == "prod"
    assert (found["first_error_accuracy"].value, found["no_error_accuracy"].value) == (0.8, 1.0)
    assert found["first_error_f1"].value == pytest.approx(2 * 0.8 / 1.8)
    assert found["first_error_f1"].n == 40
    assert result.left_out == {}
    assert result.calibration is not None
