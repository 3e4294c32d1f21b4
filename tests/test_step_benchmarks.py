"""ProcessBench, PRMBench, MR-MATH and MR-GSM8K: their files; their figures against plain loops and published ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import rmbench
from rmbench.data.cards import read_card
from rmbench.data.dataset import Dataset
from rmbench.data.files import Row
from rmbench.errors import DataError
from rmbench.kinds.steps import Steps
from rmbench.metrics.interval import estimate
from rmbench.results.verify import verify
from rmbench.tasks import mr_gsm8k, mr_math, prmbench, processbench
from rmbench.types import Outcome, Reward

Given = Mapping[str, tuple[Sequence[float], Mapping[str, Sequence[float]]]]  # by example: rewards of steps, and heads


def outcomes_of(task: Steps, data: Dataset, given: Given) -> list[Outcome]:
    """What the measure of a task sees of a model that gave these rewards to the steps."""
    answered = []
    for example in data.examples:
        steps, heads = given[example.id]
        reward = Reward((np.nan,), steps=tuple(steps), step_heads={name: tuple(of) for name, of in heads.items()})
        answered.append(task.outcome(example, task.questions(example, frozenset({"steps"}), "data"), [reward]))
    return answered


def figures(task: Steps, outcomes: Sequence[Outcome], fitted: Any = None, view: str = "min") -> dict[str, float]:
    statistics = task.measure.statistics(outcomes, view, fitted)
    return {one.name: one.value for one in estimate(statistics, [one.cluster for one in outcomes], draws=2)}


def rewards(data: Dataset, heads: Sequence[str] = (), seed: int = 0) -> dict[str, Any]:
    """Rewards of steps that are mostly lower where a step is wrong, in tenths, so that some are equal."""
    rng = np.random.default_rng(seed)
    of_example = {}
    for example in data.examples:
        labels = np.array(example.candidates[0].step_labels)
        steps = np.round(np.clip(rng.normal(0.6 + 0.3 * labels, 0.3), 0, 1), 1)
        of_example[example.id] = (steps, {head: np.round(rng.random(len(labels)) * 0.4, 2) for head in heads})
    return of_example


def written(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def stated(task: Steps) -> dict[str, Any]:
    (reads,) = read_card(task.card).front["rmbench"]["reads"]
    return dict(reads)


@pytest.mark.parametrize(
    ("task", "facet"),
    [(processbench.TASK, "subset"), (prmbench.TASK, "subset"), (mr_math.TASK, "errors")],
    ids=lambda one: getattr(one, "name", one),
)
def test_the_counts_on_the_card_are_those_of_the_files(task: Steps, facet: str, rmbench_data: Path) -> None:
    reads = stated(task)
    data = task.load(rmbench_data / reads["data"])
    labels = [candidate.step_labels or () for example in data.examples for candidate in example.candidates]
    assert {
        "task": task.name,
        "data": reads["data"],
        "examples": len(data.examples),
        "candidates": len(labels),
        "steps": sum(map(len, labels)),
        "wrong_steps": sum(of.count(-1) for of in labels),
        facet: dict(Counter(example.facets[facet] for example in data.examples)),
    } == reads
    assert data.excluded == {}


# ProcessBench


def solutions(subset: str, count: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        steps = [f"{subset} {number}: part {at}" for at in range(int(rng.integers(2, 7)))]
        label = int(rng.integers(0, len(steps))) if rng.random() < 0.6 else -1
        rows.append({"id": f"{subset}-{number}", "generator": "m", "problem": f"{subset} {number}?", "steps": steps}
                    | {"final_answer_correct": label == -1, "label": label})  # fmt: skip
    return rows


def f1_by_loop(rows: Sequence[Mapping[str, Any]], given: Mapping[str, Any], cut: float) -> float:
    """As run_eval.py counts it, of predictions that are the first step below the threshold, else -1."""
    matches: dict[bool, list[bool]] = {True: [], False: []}
    for row in rows:
        prediction = -1
        for at, reward in enumerate(given[row["id"]][0]):
            if reward < cut:
                prediction = at
                break
        matches[row["label"] == -1].append(prediction == row["label"])
    wrong, right = (sum(matches[kind]) / len(matches[kind]) for kind in (False, True))
    return 2 * wrong * right / (wrong + right) if wrong + right else 0.0


def best_cut(rows: Sequence[Mapping[str, Any]], given: Mapping[str, Any]) -> float:
    cuts = [at / 100 for at in range(-5, 116, 5) if at % 10]
    return max(cuts, key=lambda cut: (f1_by_loop(rows, given, cut), -cut))


def test_the_average_is_that_of_the_four_subsets_by_the_threshold_of_gsm8k(tmp_path: Path) -> None:
    files = {name: solutions(name, 40, seed) for seed, name in enumerate(processbench.SUBSETS)}
    for name, rows in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    data = processbench.TASK.load(tmp_path)
    given = rewards(data)
    outcomes = outcomes_of(processbench.TASK, data, given)
    fitted = processbench.TASK.measure.fit(outcomes, "min")
    found = figures(processbench.TASK, outcomes, fitted)
    cut = best_cut(files["gsm8k"], given)
    assert fitted["gsm8k"]["threshold"] == pytest.approx(cut)
    for ending, at in (("", cut), ("_at_half", 0.5)):
        by_subset = [f1_by_loop(rows, given, at) for rows in files.values()]
        assert found[f"average_f1{ending}"] == pytest.approx(np.mean(by_subset))
        every = [row for rows in files.values() for row in rows]
        assert found[f"first_error_f1{ending}"] == pytest.approx(f1_by_loop(every, given, at))
    math = [one for one in outcomes if one.facets["subset"] == "math"]
    alone = figures(processbench.TASK, math, fitted)
    assert {"step_auc", "first_error_rank", "first_error_percentile"} <= set(alone)
    assert alone["first_error_f1"] == pytest.approx(f1_by_loop(files["math"], given, cut))
    assert np.isnan(alone["average_f1"])


def test_nobody_is_judged_out_of_fold_by_a_threshold_of_their_own(tmp_path: Path) -> None:
    data = processbench.TASK.load(written(tmp_path / "rows.jsonl", solutions("math", 60, 1)))
    outcomes = outcomes_of(processbench.TASK, data, rewards(data))
    fitted = processbench.TASK.measure.fit(outcomes, "min")
    assert fitted["gsm8k"] is None
    assert len(fitted["out_of_fold"]["thresholds"]) == 5
    found = figures(processbench.TASK, outcomes, fitted)
    assert np.isnan(found["first_error_f1"])
    assert 0 < found["first_error_f1_out_of_fold"] < 1
    assert processbench.TASK.measure.left_out(outcomes, "min") == {"no threshold": 60}


def test_the_real_files_by_a_plain_loop(rmbench_data: Path) -> None:
    data = processbench.TASK.load(rmbench_data / "processbench")
    given = rewards(data)
    outcomes = outcomes_of(processbench.TASK, data, given)
    fitted = processbench.TASK.measure.fit(outcomes, "min")
    cut = fitted["gsm8k"]["threshold"]
    rows = json.loads((rmbench_data / "processbench" / "math.json").read_text())
    mine = [one for one in outcomes if one.facets["subset"] == "math"]
    assert figures(processbench.TASK, mine, fitted)["first_error_f1"] == pytest.approx(f1_by_loop(rows, given, cut))


# PRMBench


def modified(number: int, kind: str, rng: np.random.Generator) -> dict[str, Any]:
    process = [f"{kind} {number}: {at}" for at in range(int(rng.integers(2, 7)))]
    errors = [] if kind == "multi_solutions" else sorted({int(rng.integers(1, len(process) + 1)) for _ in range(2)})
    return {
        "original_question": f"{number}?",
        "modified_question": f"{number}? ({kind})",
        "original_process": [f"{number}: {at}" for at in range(3)],
        "modified_process": process,
        "error_steps": errors,
        "classification": kind,
        "idx": f"p_{number}",
    }


def prmbench_rows() -> list[dict[str, Any]]:
    rng = np.random.default_rng(2)
    return [
        modified(number, kind, rng) for kinds in prmbench.SECTIONS.values() for kind in kinds for number in range(12)
    ]


def prm_score_by_loop(
    rows: Sequence[Mapping[str, Any]], given: Mapping[str, Any], *, redundancy: bool
) -> tuple[float, dict[str, float]]:
    """PRMScore of all steps and of each kind, as prmtest_classified/task.py and draw_radar.ipynb count it."""
    tallies: dict[str, Counter[str]] = {}
    for row in rows:
        kind = row["classification"]
        steps, heads = given[f"{kind}_{row['idx']}"]
        passes = [value > 0.5 for value in steps]
        if redundancy and kind in ("redundency", "circular"):
            passes = [not value > 0.15 for value in heads["redundancy"]]
        for at, passed in enumerate(passes, 1):
            cell = ("FP" if passed else "TN") if at in row["error_steps"] else ("TP" if passed else "FN")
            tallies.setdefault(kind, Counter())[cell] += 1

    def f1(hits: int, wrong: int, missed: int) -> float:
        precision, recall = hits / (hits + wrong), hits / (hits + missed)
        return 2 * precision * recall / (precision + recall)

    def score(tally: Counter[str]) -> float:
        return (f1(tally["TP"], tally["FP"], tally["FN"]) + f1(tally["TN"], tally["FN"], tally["FP"])) / 2

    of_kind = {
        kind: f1(tally["TP"], tally["FP"], tally["FN"]) if kind == "multi_solutions" else score(tally)
        for kind, tally in tallies.items()
    }
    return score(sum(tallies.values(), Counter())), of_kind


@pytest.mark.parametrize("redundancy", [False, True])
@pytest.mark.parametrize("real", [False, True])
def test_prm_score_is_that_of_a_plain_loop(
    redundancy: bool, real: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = written(tmp_path / "rows.jsonl", prmbench_rows())
    if real:
        path = request.getfixturevalue("rmbench_data") / "prmbench" / "target_data.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    data = prmbench.TASK.load(path)
    given = rewards(data, ["redundancy"] if redundancy else [])
    outcomes = outcomes_of(prmbench.TASK, data, given)
    found = figures(prmbench.TASK, outcomes)
    whole, of_kind = prm_score_by_loop(rows, given, redundancy=redundancy)
    assert found["prm_score"] == pytest.approx(whole)
    for section, kinds in prmbench.SECTIONS.items():
        assert found[f"prm_score_{section}"] == pytest.approx(np.mean([of_kind[kind] for kind in kinds]))
    for kind, score in of_kind.items():
        mine = [one for one in outcomes if one.facets["subset"] == kind]
        assert figures(prmbench.TASK, mine)["prm_score"] == pytest.approx(score)


def test_prmbench_also_goes_by_reward_without_a_threshold(tmp_path: Path) -> None:
    data = prmbench.TASK.load(written(tmp_path / "rows.jsonl", prmbench_rows()))
    given = rewards(data, ["redundancy"])
    pairs: list[tuple[bool, float]] = []
    ranks = []
    for example in data.examples:
        labels, scores = example.candidates[0].step_labels or (), list(given[example.id][0])
        if example.facets["subset"] == "correct":
            continue
        pairs += [(label == 1, score) for label, score in zip(labels, scores, strict=True)]
        if -1 in labels:
            own = scores[labels.index(-1)]
            ranks.append(np.mean([place for place, score in enumerate(sorted(scores), 1) if score == own]))
    found = figures(prmbench.TASK, outcomes_of(prmbench.TASK, data, given))
    assert found["step_auc"] == pytest.approx(roc_auc_score(*zip(*pairs, strict=True)))
    assert found["first_error_rank"] == pytest.approx(np.mean(ranks))
    assert found["first_error_percentile"] < 0.5


def test_solutions_without_an_error_are_asked_and_do_not_count() -> None:
    rows = [row for row in prmbench_rows() if row["classification"] in ("redundency", "multi_solutions")]
    examples = list(prmbench.TASK.read(Row(row, "x.jsonl", 1) for row in [*rows, rows[0]]))
    kinds = Counter(getattr(one, "facets", {}).get("subset", "left out") for one in examples)
    assert kinds == {"redundency": 12, "correct": 12, "multi_solutions": 12, "left out": 1}
    (first, second, *_) = examples
    assert (first.prompt[0].text, second.prompt[0].text) == ("0?", "0? (redundency)")
    assert first.cluster == second.cluster


def test_a_model_is_judged_by_its_own_verdicts_where_it_has_any(tmp_path: Path) -> None:
    rows = [row for row in prmbench_rows() if row["classification"] == "deception"]
    data = prmbench.TASK.load(written(tmp_path / "rows.jsonl", rows))
    given = {
        example.id: ([0.9] * len(labels), {"verdict": [float(label == 1) for label in labels]})
        for example in data.examples
        for labels in [example.candidates[0].step_labels or ()]
    }
    found = figures(prmbench.TASK, outcomes_of(prmbench.TASK, data, given))
    assert (found["prm_score"], found["first_error_accuracy"]) == (1, 1)


# MR-MATH

# macro F1 and AUC of solutions, then of steps, as codes/mr-math_eval.py prints them of the evaluators' files
MR_FIGURES = {
    ("reasoneval_wizardmath-7b-v1.1", "invalid"): (0.786, 0.875, 0.739, 0.895),
    ("reasoneval_wizardmath-7b-v1.1", "redundant"): (0.616, 0.648, 0.597, 0.722),
    ("reasoneval_abel-7b-002", "invalid"): (0.773, 0.862, 0.704, 0.905),
    ("reasoneval_abel-7b-002", "redundant"): (0.586, 0.636, 0.595, 0.718),
    ("math-shepherd_mistral-7b", "invalid"): (0.701, 0.773, 0.600, 0.772),
    ("math-shepherd_mistral-7b", "redundant"): (0.504, 0.545, 0.427, 0.530),
}


@pytest.mark.parametrize("evaluator", sorted({evaluator for evaluator, _ in MR_FIGURES}))
def test_the_published_figures_of_mr_math(evaluator: str, rmbench_data: Path) -> None:
    data = mr_math.TASK.load(rmbench_data / "reasoneval" / "dataset")
    given = {}
    for sort in ("invalid", "redundant"):
        path = rmbench_data / "reasoneval" / "eval_results" / f"mr-math_{sort}_errors"
        for line in (path / f"{evaluator}_eval_results.json").read_text().splitlines():
            row = json.loads(line)
            scores = row["scores"]
            classes = isinstance(scores[0], list)  # negative, neutral and positive
            steps = [one[1] + one[2] for one in scores] if classes else scores
            given[f"{sort}-{row['id']}"] = (steps, {"redundancy": [one[1] for one in scores]} if classes else {})
    found = figures(mr_math.TASK, outcomes_of(mr_math.TASK, data, given))
    for sort in ("invalid", "redundant"):
        names = [f"{sort}_{name}" for name in ("solution_f1_macro", "solution_auc", "step_f1_macro", "step_auc")]
        assert tuple(round(found[name], 3) for name in names) == MR_FIGURES[evaluator, sort]


def mr_math_rows() -> list[dict[str, Any]]:
    invalid = [
        {"id": number, "question": f"{number}?", "model_output": "a b c", "generator": "m"}
        | {"model_output_step_format": [["a", "b"], ["c"]], "model_output_solution_first_error_step": first}
        for number, first in enumerate(("N/A", 1, 2, "N/A"))
    ]
    redundant = [
        {"id": str(number), "question": f"{number}?", "model_output_step_format": [["a"], ["b"]], "rating": rating}
        for number, rating in enumerate(([1, 1], [1, 0], [0, 1]))
    ]
    return [*invalid, *redundant]


def test_the_first_wrong_step_stands_among_steps_and_not_among_their_parts(rmbench_data: Path) -> None:
    data = mr_math.TASK.load(rmbench_data / "reasoneval" / "dataset" / "mr-math_invalid_errors.json")
    given, percentiles = rewards_of_parts(data, ()), []
    for example in data.examples:
        (candidate,) = example.candidates
        labels, parts = candidate.step_labels or (), iter(given[example.id][0])
        scores = [min(next(parts) for _ in range(count)) for count in candidate.tags["sub_steps"]]
        if -1 in labels and len(labels) > 1:
            own = scores[labels.index(-1)]
            percentiles.append(sum(one < own for one in scores) / (len(scores) - 1))
    found = figures(mr_math.TASK, outcomes_of(mr_math.TASK, data, given))
    assert found["invalid_first_error_percentile"] == pytest.approx(np.mean(percentiles))


# MR-GSM8K


def mr_gsm8k_rows(count: int, seed: int = 5) -> list[dict[str, Any]]:
    """Solutions as dataset/MR-GSM8K.json has them, half of them wrong."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(count):
        steps = [f"Step {at}: part {at} of {number}" for at in range(1, int(rng.integers(2, 8)))]
        right = bool(rng.random() < 0.5)
        rows.append(
            {"uuid": f"u{number}", "question": f"How many are {number}?", "ground_truth_solution": "",
             "ground_truth_answer": number, "model_output_steps": steps, "model_output_answer_correctness": "wrong",
             "model_output_solution_correctness": "correct" if right else "wrong",
             "model_output_solution_first_error_step": "N/A" if right else int(rng.integers(1, len(steps) + 1)),
             "model_output_solution_first_error_reason": "N/A" if right else "It is not so.",
             "question_type": ("original", "POT", "reversed")[number % 3]}
        )  # fmt: skip
    return rows


def mr_gsm8k_by_loop(rows: Sequence[Mapping[str, Any]], given: Mapping[str, Any]) -> tuple[float, ...]:
    """Macro F1 and AUC of solutions, then of steps, as codes/mr-gsm8k_eval.py counts them, row by row."""

    def macro_f1(cells: Counter[tuple[bool, bool]]) -> float:
        right = 2 * cells[True, True] / (2 * cells[True, True] + cells[False, True] + cells[True, False])
        wrong = 2 * cells[False, False] / (2 * cells[False, False] + cells[True, False] + cells[False, True])
        return (right + wrong) / 2

    of_solutions, of_steps = Counter[tuple[bool, bool]](), Counter[tuple[bool, bool]]()
    least: list[tuple[bool, float]] = []
    every: list[tuple[bool, float]] = []
    for row in rows:
        scores, right = given[row["uuid"]][0], row["model_output_solution_correctness"] == "correct"
        labels = [True] * len(scores)
        if not right:
            labels = [True] * (row["model_output_solution_first_error_step"] - 1) + [False]
        of_solutions[right, min(scores) > 0.5] += 1
        least.append((right, min(scores)))
        for label, score in zip(labels, scores, strict=False):
            of_steps[label, score > 0.5] += 1
            every.append((label, score))
    aucs = [roc_auc_score(*zip(*pairs, strict=True)) for pairs in (least, every)]
    return macro_f1(of_solutions), float(aucs[0]), macro_f1(of_steps), float(aucs[1])


@pytest.mark.parametrize("shape", ["a list", "lines"])
def test_mr_gsm8k_by_a_plain_loop(shape: str, tmp_path: Path) -> None:
    rows = mr_gsm8k_rows(90)
    path = written(tmp_path / "mr-gsm8k.json", rows)
    if shape == "a list":
        path.write_text(json.dumps(rows))
    data = mr_gsm8k.TASK.load(path)
    assert Counter(one.facets["subset"] for one in data.examples) == {"original": 30, "POT": 30, "reversed": 30}
    given = {name: (steps + 0.01, heads) for name, (steps, heads) in rewards(data).items()}  # none is .5
    assert [*given] == [row["uuid"] for row in rows]
    found = figures(mr_gsm8k.TASK, outcomes_of(mr_gsm8k.TASK, data, given))
    names = [f"invalid_{name}" for name in ("solution_f1_macro", "solution_auc", "step_f1_macro", "step_auc")]
    assert tuple(found[name] for name in names) == pytest.approx(mr_gsm8k_by_loop(rows, given))


def test_mr_gsm8k_believes_that_a_solution_is_right() -> None:
    (row,) = mr_gsm8k_rows(1)
    plain = {name: row[name] for name in ("question", "model_output_steps")}
    steps = len(plain["model_output_steps"])
    first, said = "model_output_solution_first_error_step", "model_output_solution_correctness"
    rows = [plain | {first: 1, said: "correct", "id": 7}, plain | {first: "N/A"}, plain | {first: "2", said: "wrong"}]
    examples = list(mr_gsm8k.TASK.read(Row(one, "x.json", 1) for one in rows))
    labels = [one.candidates[0].step_labels for one in examples]  # type: ignore[union-attr]
    assert labels == [(1,) * steps, (1,) * steps, (1, -1, *(0,) * (steps - 2))]
    assert [(one.id, one.facets) for one in examples] == [("7", {}), ("", {}), ("", {})]  # type: ignore[union-attr]


def test_mr_gsm8k_leaves_out_a_wrong_solution_of_which_no_step_is_named(tmp_path: Path) -> None:
    rows = mr_gsm8k_rows(8)
    wrong = next(row for row in rows if row["model_output_solution_correctness"] == "wrong")
    wrong["model_output_solution_first_error_step"] = "N/A"
    data = mr_gsm8k.TASK.load(written(tmp_path / "mr-gsm8k.json", rows))
    assert [one.id for one in data.examples] == [row["uuid"] for row in rows if row is not wrong]
    assert data.excluded == {"wrong without a first wrong step": 1}


# a whole run of each


def tiny(task: Steps) -> list[dict[str, Any]]:
    few = ("redundency", "deception", "multi_solutions")
    made: Mapping[str, Callable[[], list[dict[str, Any]]]] = {
        "processbench": lambda: [row for name in ("gsm8k", "math") for row in solutions(name, 4, 3)],
        "prmbench": lambda: [row for row in prmbench_rows() if row["classification"] in few][::4],
        "mr_math": mr_math_rows,
        "mr_gsm8k": lambda: mr_gsm8k_rows(8),
    }
    return made[task.name]()


EVERY = [processbench.TASK, prmbench.TASK, mr_math.TASK, mr_gsm8k.TASK]


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_a_run_whose_records_give_every_figure_again(task: Steps, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", tiny(task))
    given = rewards_of_parts(task.load(path), () if task is processbench.TASK else ("redundancy",))
    scores = [
        {"example_id": name, "candidate": 0, "steps": steps, "step_heads": heads}
        for name, (steps, heads) in given.items()
    ]
    model = f"scores:{written(tmp_path / 'scores.jsonl', scores)}?aggregate=min"
    (result,) = rmbench.evaluate(model, [task], data={task.name: path})
    verify(result, task)
    assert result.statuses == {"ok": len(given)}


def rewards_of_parts(data: Dataset, heads: Sequence[str]) -> dict[str, Any]:
    """Rewards of every part that a model is shown."""
    rng = np.random.default_rng(4)
    return {
        example.id: (rng.random(count).tolist(), {head: rng.random(count).tolist() for head in heads})
        for example in data.examples
        for count in [example.candidates[0].response.step_count]  # type: ignore[union-attr]
    }


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("processbench", {"steps": "one"}, "`steps`: expected a list of texts, got 'one'"),
        ("processbench", {"label": 9}, r"`label`: expected -1 or the index of one of \d steps, got 9"),
        ("processbench", {"label": True}, r"`label`: expected -1 or the index of one of \d steps, got True"),
        ("processbench", {"id": "aime-1"}, "`id`: expected SUBSET-NUMBER with one of gsm8k, math, .*, got 'aime-1'"),
        ("processbench", {"label": ...}, "no `label`; found `id`, .*; a row of ProcessBench has"),
        ("prmbench", {"classification": "other"}, "`classification`: expected one of redundency, .*, got 'other'"),
        ("prmbench", {"error_steps": [0]}, r"`error_steps`: expected a list of whole numbers from 1, got \[0\]"),
        ("prmbench", {"modified_process": []}, r"`modified_process`: expected a list of texts, got \[\]"),
        ("prmbench", {"idx": ...}, "no `idx`; found .*; a row of PRMBench has"),
        ("mr_math", {"model_output": ["a"]}, r"`model_output`: expected a text, got \[.a.\]"),
        ("mr_math", {"model_output_step_format": ["a"]}, "`model_output_step_format`: expected a list of steps, each"),
        ("mr_math", {"model_output_solution_first_error_step": 3},
         "`model_output_solution_first_error_step`: expected 'N/A' or the number of one of 2 steps, got 3"),
        ("mr_math", {"model_output_solution_first_error_step": ..., "rating": [1]},
         r"`rating`: expected a list of 1 or 0, one for each of 2 steps, got \[1\]"),
        ("mr_math", {"model_output_solution_first_error_step": ...},
         "no `model_output_solution_first_error_step`; found .*; a row of MR-MATH has"),
        ("mr_gsm8k", {"model_output_steps": "one"}, "`model_output_steps`: expected a list of texts, got 'one'"),
        ("mr_gsm8k", {"model_output_solution_correctness": "so so"},
         "`model_output_solution_correctness`: expected 'correct' or 'wrong', got 'so so'"),
        ("mr_gsm8k", {"model_output_solution_correctness": "wrong", "model_output_solution_first_error_step": 0},
         r"`model_output_solution_first_error_step`: expected 'N/A' or the number of one of \d steps, got 0"),
        ("mr_gsm8k", {"model_output_steps": ...}, "no `model_output_steps`; found .*; a row of MR-GSM8K has"),
    ],
)  # fmt: skip
def test_a_broken_row_is_one_line(task: str, change: dict[str, Any], message: str) -> None:
    of = next(one for one in EVERY if one.name == task)
    row = {name: value for name, value in {**tiny(of)[0], **change}.items() if value is not ...}
    with pytest.raises(DataError, match=rf"^rows\.jsonl, row 7(, |: ){message}"):
        list(of.read([Row(row, "rows.jsonl", 7)]))
