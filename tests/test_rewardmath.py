"""RewardMATH: what its files become, and official score files in, official figures out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import rmbench
from rmbench.data.dataset import Dataset, LeftOut
from rmbench.data.files import Row
from rmbench.errors import DataError
from rmbench.results.schema import TaskResult
from rmbench.types import Example

GOLDEN = Path(__file__).parent / "golden"
TASK = rmbench.load_task("rewardmath")


def read(rows: Iterable[dict[str, Any]]) -> list[Example | LeftOut]:
    return list(TASK.read(Row(row, "x.json", number) for number, row in enumerate(rows, 1)))


def direct(problem: str, wrong: int = 9, right_at: int = 0) -> list[dict[str, Any]]:
    rows = [
        {
            "problem": problem,
            "answer": "4",
            "eval_solution": ["Two and two", f"make {5 + index}."],
            "solution_reference": f"model {index}",
            "solution_type": "rejected",
            "subject": "Algebra",
            "level": 2,
        }
        for index in range(wrong)
    ]
    right = {**rows[0], "eval_solution": ["It is 4."], "solution_reference": "human", "solution_type": "chosen"}
    return [*rows[:right_at], right, *rows[right_at:]]


def pairwise(problem: str) -> list[dict[str, Any]]:
    right, *wrong = direct(problem)
    rows = []
    for index, row in enumerate(wrong):
        sides = (right, row) if index % 2 else (row, right)
        solutions = {f"eval_solution_{at}": side["eval_solution"] for at, side in zip("AB", sides, strict=True)}
        position = "A" if index % 2 else "B"
        rows.append({**row, "answer": problem, "chosen_position": position, **solutions})
    for row in rows:
        del row["eval_solution"], row["solution_type"]
    return rows


def test_ten_direct_rows_are_one_example_with_the_right_solution_first() -> None:
    (example,) = read(direct("2 + 2?", right_at=3))
    assert isinstance(example, Example)
    assert [c.label for c in example.candidates] == [True] + [False] * 9
    assert (example.candidates[0].text, example.candidates[1].text) == ("It is 4.", "Two and two\nmake 5.")
    assert example.candidates[1].steps == ("Two and two", "make 5.")
    assert example.candidates[1].tags == {"source": "model 0", "level": 2}
    assert (example.facets["subset"], example.reference, example.prompt[0].text) == ("Algebra", "4", "2 + 2?")


def test_direct_pairwise_and_score_rows_of_a_problem_are_the_same_example() -> None:
    scores = {"problem": "2 + 2?", "solution_reference": ["s"] * 10, "score": [1] * 10}
    verdicts = {"problem": "2 + 2?", "score": ["A"] * 9, "chosen_position": ["B", "A"] * 4 + ["B"]}
    examples = [read(rows)[0] for rows in (direct("2 + 2?"), pairwise("2 + 2?"), [scores], [verdicts])]
    assert {example.id for example in examples if isinstance(example, Example)} == {"70b499c547e0"}
    one, two, _, four = examples
    assert isinstance(one, Example)
    assert isinstance(two, Example)
    assert isinstance(four, Example)
    assert [c.text for c in one.candidates] == [c.text for c in two.candidates]
    assert [c.tags.get("chosen_position") for c in two.candidates] == [None, *["B", "A"] * 4, "B"]
    assert [c.tags.get("chosen_position") for c in four.candidates] == [None, *["B", "A"] * 4, "B"]
    assert two.reference is None  # the pairwise file's answer repeats the problem


def test_rows_of_a_problem_may_stand_anywhere_and_a_problem_may_come_again() -> None:
    one, two = direct("one"), direct("two")
    mixed = [row for pair in zip(one, two, strict=True) for row in pair] + direct("one")
    ids = [item.id for item in read(mixed) if isinstance(item, Example)]
    assert len(ids) == 3
    assert sorted(name.partition("#")[2] for name in ids) == ["", "", "2"]


def test_judges_see_the_order_that_the_data_state() -> None:
    (example,) = read(pairwise("2 + 2?"))
    assert isinstance(example, Example)
    shown = [place.candidates for _, place in TASK.questions(example, frozenset({"compare"}), "") if place]
    assert shown == [(j, 0) if j % 2 else (0, j) for j in range(1, 10)]


def test_incomplete_and_ambiguous_problems_are_left_out() -> None:
    both_chosen = [{**row, "solution_type": "chosen"} for row in direct("two")]
    scores = {"problem": "three", "score": [1] * 9}
    assert read([*direct("one", wrong=6), *both_chosen, scores]) == [
        LeftOut("fewer than ten solutions"),
        LeftOut("fewer than ten solutions"),
        LeftOut("not exactly one right solution"),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": 3}, r"row 10, `problem`: expected a text, got 3"),
        ({"solution_type": "best"}, r"row 10, `solution_type`: expected 'chosen' or 'rejected', got 'best'"),
        (
            {"eval_solution": "one step"},
            r"row 10, `eval_solution`: expected a list of steps, each a text, got 'one step'",
        ),
    ],
)
def test_a_row_of_another_shape_is_an_error(change: dict[str, Any], message: str) -> None:
    rows = direct("2 + 2?")
    with pytest.raises(DataError, match=r"x\.json, " + message):
        read([*rows[:-1], {**rows[-1], **change}])


def test_a_file_of_another_kind_is_told_what_would_do() -> None:
    with pytest.raises(DataError, match=r"row 1: no `problem`; found `prompt`; RewardMATH has rows with `problem`"):
        read([{"prompt": "?"}])
    with pytest.raises(DataError, match=r"row 1: no `eval_solution`; found `problem`, `answer`; RewardMATH has rows"):
        read([{"problem": "?", "answer": "4"}])


def figures(result: TaskResult, view: str) -> dict[str, float | None]:
    return {m.name: m.value for m in result.metrics if m.view == view and m.subset == "all"}


def evaluated(scores: Path, data: Path | None = None, **options: Any) -> TaskResult:
    (result,) = rmbench.evaluate(f"scores:{scores}", ["rewardmath"], data={"rewardmath": data or scores}, **options)
    return result


@pytest.mark.parametrize("name", sorted(json.loads((GOLDEN / "expected.json").read_text())))
def test_golden_score_files_give_the_figures_of_the_definitions(name: str) -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text())[name]
    result = evaluated(GOLDEN / f"{name}.json")
    assert result.dataset.examples == 60
    for view, values in expected.items():
        found = figures(result, view)
        assert {metric: found[metric] for metric in values} == pytest.approx(values, abs=1e-12)


# in %: accuracy, MRR; from the paper's tables and its repository's own evaluation of these files
OFFICIAL = [
    ("internlm2_reward", "default", 37.27, 55.17),
    ("skywork_llama3_reward", "default", 22.15, 44.69),
    ("ArmoRM_reward", "default", 20.50, 42.18),
    ("beaver_reward", "default", 7.25, 26.59),
    ("oasst-rm_reward", "default", 7.04, 27.03),
    ("ReasonEval_7B_reward", "prod", 18.22, 38.49),
    ("ReasonEval_7B_reward", "geometric_mean", 20.29, 39.26),
    ("Math_Shepherd_reward", "prod", 17.18, 34.68),
    ("Math_Shepherd_reward", "geometric_mean", 15.73, 33.61),
    ("gpt4o_pairwise_reward", "default", 24.64, 48.92),
    ("llama3_8B_pairwise_reward", "default", 0.62, 19.06),
    ("prometheus_7B_pairwise_reward", "default", 2.28, 21.64),
]


@pytest.mark.parametrize(("name", "view", "accuracy", "mrr"), OFFICIAL)
def test_official_score_files_give_the_official_figures(
    rmbench_data: Path, name: str, view: str, accuracy: float, mrr: float
) -> None:
    found = figures(evaluated(rmbench_data / "rewardmath" / "scores" / f"{name}.json"), view)
    assert [round(100 * (found[metric] or 0), 2) for metric in ("accuracy", "mrr")] == [accuracy, mrr]


def test_ties_are_reported_apart_and_repeated_problems_stay_unless_asked(rmbench_data: Path) -> None:
    scores = rmbench_data / "rewardmath" / "scores" / "gpt4o_reward.json"
    found = figures(evaluated(scores), "default")
    values = [round(100 * (found[m] or 0), 2) for m in ("accuracy", "accuracy_ties", "accuracy_expected")]
    assert values == [25.98, 51.75, 35.71]
    once = evaluated(scores, deduplicate=True)
    assert (once.dataset.examples, once.dataset.excluded) == (483, {"duplicate": 2})


def test_null_verdicts_are_counted_as_refused(rmbench_data: Path) -> None:
    scores = rmbench_data / "rewardmath" / "scores" / "llama3_8B_pairwise_reward.json"
    result = evaluated(scores)
    assert result.statuses["refused"] == 621
    assert result.left_out == {}  # a verdict that could not be read is a loss, as RewardMATH's own evaluation has it


def test_scores_join_direct_data_with_texts(rmbench_data: Path) -> None:
    folder = rmbench_data / "rewardmath"
    alone: Dataset = TASK.load(folder / "RewardMATH_direct.json")
    judged: Dataset = TASK.load(folder / "RewardMATH_pairwise.json")
    assert [e.id for e in alone.examples] == [e.id for e in judged.examples]
    assert [[c.text for c in e.candidates] for e in alone.examples] == [
        [c.text for c in e.candidates] for e in judged.examples
    ]
    for scores in ("internlm2_reward", "ReasonEval_7B_reward"):
        result = evaluated(folder / "scores" / f"{scores}.json", data=folder / "RewardMATH_direct.json")
        assert (result.dataset.examples, result.statuses) == (2, {"ok": 20})
    pairs = evaluated(folder / "scores" / "gpt4o_pairwise_reward.json", data=folder / "RewardMATH_pairwise.json")
    assert (pairs.dataset.examples, pairs.statuses) == (2, {"ok": 18})


def test_the_excerpt_is_what_its_script_makes(
    rmbench_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import runpy

    made = runpy.run_path(str(GOLDEN / "excerpt.py"))
    monkeypatch.setitem(made["main"].__globals__, "HERE", tmp_path)
    made["main"](rmbench_data / "rewardmath" / "scores")
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (GOLDEN / file.name).read_bytes()
