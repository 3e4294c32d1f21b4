"""IF-RewardBench: what its rows become, and its figures as plain loops over rows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import Scripted

import rmbench
from rmbench.data.dataset import LeftOut, collect
from rmbench.data.files import Row
from rmbench.errors import DataError
from rmbench.metrics.interval import estimate
from rmbench.results.verify import verify
from rmbench.tasks import if_rewardbench, if_rewardbench_constraints
from rmbench.types import Example, Message, Outcome, Reward


def row(number: int, *met: Sequence[int], **changes: Any) -> dict[str, Any]:
    """A row of the official shape, with a response for each list of constraints met; one that meets all that another
    does, and more, is preferred to it."""
    texts = [{"response_id": at, "response": f"{number} {at}"} for at in range(len(met))]
    pairs = [(a, b) for a, one in enumerate(met) for b, other in enumerate(met) if dominates(one, other)]
    checklist = [f"Constraint {at}." for at in range(len(met[0]))]
    kinds = {"constraint_categories": ["Format"], "constraint_composition_types": ["And"]}
    of_pairs = [text | {"label": [*labels]} for text, labels in zip(texts, met, strict=True)]  # not `labels` there
    return {
        "id": number,
        "response_generation_model": "Qwen3-8B",
        "instruction_type": "Single_Turn",
        "messages": [{"role": "user", "content": f"Do {number}."}],
        "checklist": checklist,
        "constraint_type": [{"item_id": at, "item": one} | kinds for at, one in enumerate(checklist)],
        "responses": [text | {"labels": [*labels]} for text, labels in zip(texts, met, strict=True)],
        "preference_graph": [
            {"pair_id": at, "chosen": of_pairs[a], "rejected": of_pairs[b]} for at, (a, b) in enumerate(pairs)
        ],
    } | changes


def dominates(one: Sequence[int], other: Sequence[int]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


ROW = row(7, (1, 1), (1, 0), (0, 1))


def read(task: str, *rows: Mapping[str, Any]) -> list[Example | LeftOut]:
    return list(rmbench.load_task(task).read(Row(dict(one), "x.json", at) for at, one in enumerate(rows, 1)))


def rows_of(rng: np.random.Generator, count: int) -> list[dict[str, Any]]:
    """Rows of all three types, with three to five responses to two to four constraints."""
    return [
        row(
            at,
            *[rng.integers(0, 2, 2 + at % 3).tolist() for _ in range(3 + at % 3)],
            instruction_type=if_rewardbench.TYPES[int(rng.integers(0, 3))],
        )
        for at in range(count)
    ]


def outcomes_of(task: Any, rows: Sequence[Mapping[str, Any]], reward: Any) -> Iterator[Outcome]:
    """What the measure sees where `reward` answers each request."""
    for example in collect(read(task.name, *rows), []).examples:
        questions = task.questions(example, frozenset({"reward"}), "data")
        yield task.outcome(example, questions, [reward(question.request) for question in questions])


def figures(task: Any, outcomes: Sequence[Outcome]) -> dict[str, float]:
    statistics = task.measure.statistics(outcomes, "default", task.measure.fit(outcomes, "default"))
    assert len({statistic.name for statistic in statistics}) == len(statistics)
    return {one.name: one.value for one in estimate(statistics, [one.cluster for one in outcomes], draws=2)}


# rankings


def test_a_row_is_an_example_with_its_graph() -> None:
    (example,) = read("if_rewardbench", ROW)
    assert isinstance(example, Example)
    assert (example.id, example.prompt) == ("7", (Message("user", "Do 7."),))
    assert [(one.text, one.label) for one in example.candidates] == [("7 0", 1.0), ("7 1", 0.5), ("7 2", 0.5)]
    assert [one.tags["preferred_to"] for one in example.candidates] == [[1, 2], [], []]
    assert {one.tags["policy"] for one in example.candidates} == {"Qwen3-8B"}
    assert example.facets == {
        "instruction_type": "Single_Turn",
        "turn": "1",
        "constraint_count": "up to 3",
        "model_type": "Small",
    }


@pytest.mark.parametrize(
    ("turns", "constraints", "model", "facets"),
    [
        (["system", "user"], 4, "GLM-4.5", ("1", "4", "Large")),
        (["user", "assistant", "user"], 6, "GPT-5", ("2", "6", "API")),
        (["system", *["user", "assistant"] * 6, "user"], 7, "GLM-4.5-Air", ("5", "7 or more", "Middle")),
        (["user"], 3, "another", ("1", "up to 3", "Unknown")),
    ],
)
def test_the_groups_are_the_official_ones(
    turns: list[str], constraints: int, model: str, facets: tuple[str, str, str]
) -> None:
    messages = [{"role": role, "content": f"{at}"} for at, role in enumerate(turns)]
    one = row(1, [1] * constraints, [0] * constraints, messages=messages, response_generation_model=model)
    (example,) = read("if_rewardbench", one)
    assert isinstance(example, Example)
    assert tuple(example.facets[name] for name in ("turn", "constraint_count", "model_type")) == facets


def official(pairs: Sequence[tuple[int, int]], scores: Sequence[float]) -> tuple[float, float]:
    """Accuracy and tau-b of one row, as thu-coai/IF-RewardBench@c192fe9:metrics/analysis_overall_assessment.py."""
    agreeing = apart = tied = 0
    for better, worse in pairs:
        if scores[better] > scores[worse]:
            agreeing += 1
        elif scores[better] < scores[worse]:
            apart += 1
        else:
            tied += 1
    denominator = max(1, math.sqrt((agreeing + apart) * (agreeing + apart + tied)))
    return agreeing / max(agreeing + apart + tied, 1), (agreeing - apart) / denominator


def pairs_of(one: Mapping[str, Any]) -> list[tuple[int, int]]:
    return [(pair["chosen"]["response_id"], pair["rejected"]["response_id"]) for pair in one["preference_graph"]]


def over_types(rows: Sequence[Mapping[str, Any]], values: Sequence[float]) -> float:
    means = []
    for sort in if_rewardbench.TYPES:
        mine = [value for one, value in zip(rows, values, strict=True) if one["instruction_type"] == sort]
        means.append(sum(mine) / len(mine))
    return sum(means) / 3


def test_rankings_are_means_over_examples_then_over_types() -> None:
    rng = np.random.default_rng(0)
    rows = [*rows_of(rng, 40), row(90, (1, 0), (0, 1), (1, 0)), row(91, (1, 1), (0, 0), (0, 1))]
    rows[-1]["preference_graph"] *= 2  # a pair that stands twice counts twice
    scores = {one["id"]: (rng.integers(0, 4, len(one["responses"])) / 2).tolist() for one in rows}

    def reward(request: Any) -> Reward:
        number, place = map(int, request.responses[0].text.split())
        return Reward((scores[number][place],))

    outcomes = list(outcomes_of(if_rewardbench.TASK, rows, reward))
    values = [official(pairs_of(one), scores[one["id"]]) for one in rows]
    whole = figures(if_rewardbench.TASK, outcomes)
    for place, name in enumerate(("pair_accuracy", "tau_b")):
        of_rows = [value[place] for value in values]
        assert whole[name] == pytest.approx(over_types(rows, of_rows))
        assert whole[f"example_{name}"] == pytest.approx(sum(of_rows) / len(of_rows))
    assert values[-2] == (0, 0)  # nothing is preferred: 0, and no gap
    ties = sum(any(scores[one["id"]][a] == scores[one["id"]][b] for a, b in pairs_of(one)) for one in rows)
    assert if_rewardbench.TASK.measure.ties(outcomes, "default") == ties
    some = [one for one in outcomes if one.facets["instruction_type"] != "Multi_Turn"]
    assert math.isnan(figures(if_rewardbench.TASK, some)["tau_b"])


def test_an_example_without_an_answer_to_a_pair_does_not_count() -> None:
    def reward(request: Any) -> Reward:
        number, place = map(int, request.responses[0].text.split())
        lost = (number, place) in {(0, 1), (1, 2)}
        return Reward((math.nan if lost else float(place),), status="error" if lost else "ok")

    rows = [row(0, (1, 1), (1, 0), (0, 0)), row(1, (1, 1), (1, 0), (0, 1)), row(2, (1, 0), (1, 1))]
    rows[1]["preference_graph"] = rows[1]["preference_graph"][:1]  # nothing is asked of the last response
    outcomes = list(outcomes_of(if_rewardbench.TASK, rows, reward))
    assert if_rewardbench.ranks(outcomes, "default")[1:].tolist() == [[0, -1], [1, 1]]
    assert if_rewardbench.TASK.measure.left_out(outcomes, "default") == {"no answer": 1}


def test_a_model_that_compares_is_shown_every_pair_once() -> None:
    (example,) = collect(read("if_rewardbench", ROW), []).examples
    task = if_rewardbench.TASK
    questions = task.questions(example, frozenset({"compare"}), "data")
    shown = [question.place.candidates for question in questions if question.place]
    assert sorted(map(sorted, shown)) == [[0, 1], [0, 2], [1, 2]]
    outcome = task.outcome(example, questions, [Reward((float(a < b), float(b < a))) for a, b in shown])
    assert if_rewardbench.ranks([outcome], "default").tolist() == [[1, 1]]


def test_the_records_give_every_figure_again(tmp_path: Path) -> None:
    rows = [row(at, (1, 1), (1, 0), (0, 1), instruction_type=sort) for at, sort in enumerate(if_rewardbench.TYPES)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    model = Scripted(lambda request: float(request.responses[0].text[-1] != "1"))
    for task, headline in ((if_rewardbench.TASK, "tau_b"), (if_rewardbench_constraints.TASK, "negative_f1")):
        (result,) = rmbench.evaluate(model, [task], data={task.name: tmp_path / "rows.json"})
        verify(result, task)
        assert result.task.headline == headline
        assert result.metric(headline).value is not None


# constraints


def test_each_constraint_is_an_example_of_all_responses() -> None:
    first, second = read("if_rewardbench_constraints", ROW)
    assert isinstance(first, Example)
    assert isinstance(second, Example)
    assert (first.id, second.id) == ("7.1", "7.2")
    assert [one.label for one in first.candidates] == [True, True, False]
    assert [one.label for one in second.candidates] == [True, False, True]
    assert (first.criteria[0].text, second.criteria[0].text) == ("Constraint 0.", "Constraint 1.")


def official_f1(said: Sequence[int], gold: Sequence[int], kind: int) -> float:
    """thu-coai/IF-RewardBench@c192fe9:metrics/analysis_constraint_assessment.py `calculate_pointwise_metrics`."""
    both = [*zip(said, gold, strict=True)]
    hit = sum(a == kind == b for a, b in both)
    wrong, missed = sum(a == kind != b for a, b in both), sum(a != kind == b for a, b in both)
    precision = hit / (hit + wrong) if hit + wrong else 0
    recall = hit / (hit + missed) if hit + missed else 0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0


def test_constraints_have_f1_row_by_row_and_verdicts_added_up_rank() -> None:
    rng = np.random.default_rng(2)
    rows = [*rows_of(rng, 40), row(90, (1, 1), (1, 1), (1, 1))]
    rows[0]["preference_graph"] *= 2  # a pair that stands twice counts once here
    said = {one["id"]: rng.integers(-1, 2, (len(one["responses"]), len(one["checklist"]))) for one in rows}

    def verdict(request: Any) -> Reward:
        number, place = map(int, request.responses[0].text.split())
        one = int(said[number][place][int(request.criteria[0].text[-2])])
        if one < 0:
            return Reward((math.nan,), status="refused", detail="no verdict")
        return Reward((float(one),), heads={"verdict": (float(one),)})

    outcomes = list(outcomes_of(if_rewardbench_constraints.TASK, rows, verdict))
    whole = figures(if_rewardbench_constraints.TASK, outcomes)
    values = []
    for one in rows:
        read_as = [[1 if verdict < 0 else int(verdict) for verdict in given] for given in said[one["id"]]]
        labels = [label for response in one["responses"] for label in response["labels"]]
        flat = [verdict for given in read_as for verdict in given]
        ranking = official(sorted(set(pairs_of(one))), [float(np.mean(given)) for given in read_as])
        values.append((official_f1(flat, labels, 1), official_f1(flat, labels, 0), *ranking))
    for place, name in enumerate(("positive_f1", "negative_f1", "ranking_accuracy", "ranking_tau_b")):
        of_rows = [value[place] for value in values]
        assert whole[name] == pytest.approx(over_types(rows, of_rows))
        assert whole[f"example_{name}"] == pytest.approx(sum(of_rows) / len(of_rows))
    assert values[-1][1:] == (0, 0, 0)  # nothing there to be found wrong is 0, and so is an empty graph


def test_a_reward_is_cut_and_a_row_with_an_error_does_not_count() -> None:
    rows = [row(at, (1, 1), (1, 0), (0, 0)) for at in range(40)]
    labels = {(one["id"], at): one["responses"][at]["labels"] for one in rows for at in range(3)}

    def reward(request: Any) -> Reward:
        number, place = map(int, request.responses[0].text.split())
        if (number, place) == (3, 1):
            return Reward((math.nan,), status="error")
        return Reward((5.0 + labels[number, place][int(request.criteria[0].text[-2])],))

    outcomes = list(outcomes_of(if_rewardbench_constraints.TASK, rows, reward))
    whole = figures(if_rewardbench_constraints.TASK, outcomes)
    assert [whole[f"example_{name}"] for name in ("positive_f1", "negative_f1", "ranking_tau_b")] == [1, 1, 1]
    measure = if_rewardbench_constraints.TASK.measure
    values = if_rewardbench_constraints.of_instructions(outcomes, "default", measure.fit(outcomes, "default"))
    assert np.isfinite(values[:, 0]).sum() == 39
    assert measure.left_out(outcomes, "default") == {"no answer": 2}


# broken rows


def other(name: str, value: Any) -> dict[str, Any]:
    """The row with something else in its first response."""
    first, *others = ROW["responses"]
    return ROW | {"responses": [first | {name: value}, *others]}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"prompt": "?"}, "row 1: no `id`; found `prompt`; a row of IF-RewardBench has"),
        (ROW | {"instruction_type": "Other"}, "`instruction_type`: expected Single_Turn, .*, got 'Other'"),
        (ROW | {"messages": "?"}, r"row 1, `messages`: expected a text or a list of messages, got '\?'"),
        (ROW | {"checklist": []}, r"row 1, `checklist`: expected a list of texts, got \[\]"),
        (ROW | {"responses": "x"}, "row 1, `responses`: expected a list of objects, got 'x'"),
        (other("labels", [1]), r"`responses`: expected `labels` of 1 or 0, one for each of 2 constraints, got \[1\]"),
        (other("labels", [1, 2]), r"`responses`: expected `labels` of 1 or 0, .*, got \[1, 2\]"),
        (other("response", None), "`responses`: expected objects with a text `response`, got None"),
        (other("response_id", 1), r"`responses`: expected a `response_id` of its own .*, got \[1, 1, 2\]"),
        (ROW | {"preference_graph": [{"chosen": {"response_id": 9}, "rejected": {"response_id": 0}}]},
         "`preference_graph`: expected `chosen` and `rejected`, the `response_id` of two of the responses"),
        (ROW | {"preference_graph": [{"chosen": 0, "rejected": 1}]}, "`preference_graph`: expected .*{'chosen': 0"),
    ],
)  # fmt: skip
def test_a_broken_row_is_one_line_with_file_row_and_field(broken: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read("if_rewardbench", broken)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("x.json, row 1")


def test_an_id_stands_once_and_one_response_is_no_choice() -> None:
    with pytest.raises(DataError, match="row 2, `id`: expected an id of its own, got 7 a second time"):
        read("if_rewardbench", ROW, ROW)
    for task in ("if_rewardbench", "if_rewardbench_constraints"):
        assert read(task, row(1, (1, 0))) == [LeftOut("fewer than two responses")]
