"""Sets for judges, of code and of long contexts: their rows as the authors' code reads them, their figures by loops."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from fake_models import Scripted
from score_files import figures as of_scores
from score_files import values
from test_benchmark_sources import on_disk

import rmbench
from rmbench.data.dataset import LeftOut
from rmbench.data.files import Row
from rmbench.errors import DataError
from rmbench.metrics import comparison
from rmbench.metrics.interval import whole_value
from rmbench.results.verify import verify
from rmbench.tasks import codejudgebench, contextualjudgebench, longjudgebench, longrewardbench
from rmbench.types import Ask, Example, Message, Outcome, Request, Reward, View

A, B, TIE, NONE = "A", "B", "tie", "none"  # what a judge says of the two that it is shown
SAID = [*product((A, B, TIE, NONE), repeat=2)]
_REWARDS = {A: (0.9, 0.1), B: (0.2, 0.8), TIE: (0.5, 0.5)}


def read(task: str, row: Mapping[str, Any], file: str = "rows.jsonl") -> Example | LeftOut:
    (item,) = rmbench.load_task(task).read([Row(dict(row), file, 7)])
    return item


def read_one(task: str, row: Mapping[str, Any], file: str = "rows.jsonl") -> Example:
    example = read(task, row, file)
    assert isinstance(example, Example)
    return example


def written(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def verdict(said: Sequence[tuple[str, str]]) -> Callable[[Request], Reward]:
    """A judge: the n-th pair of the data is of responses that end with "n first" and "n second", and `said` is what it
    says of them in the order of the data, then with both exchanged."""

    def answer(request: Request) -> Reward:
        number, place = (request.responses[0].text or "").split()[-2:]
        one = said[int(number)][place == "second"]
        if one == NONE:
            return Reward((math.nan, math.nan), status="refused", detail="no verdict")
        return Reward(_REWARDS[one])

    return answer


def outcomes_of(task: str, data: Path, ask: Ask, answer: Callable[[Request], Reward]) -> list[Outcome]:
    """What a model that answers so makes of the data of a task."""
    of, outcomes = rmbench.load_task(task), []
    loaded = of.load(data)
    assert loaded.excluded == {}
    for example in loaded.examples:
        questions = of.questions(example, frozenset({ask}), loaded.sha256)
        outcomes.append(of.outcome(example, questions, [answer(one.request) for one in questions]))
    return outcomes


def judged(task: str, data: Path, said: Sequence[tuple[str, str]]) -> list[Outcome]:
    return outcomes_of(task, data, "compare", verdict(said))


def rated(task: str, data: Path, rewards: Mapping[str, float]) -> list[Outcome]:
    """What a reward model makes of the data that gives a response what stands under its text."""
    return outcomes_of(task, data, "reward", lambda one: Reward((rewards[one.responses[0].text or ""],)))


def figures(task: str, outcomes: Sequence[Outcome], **facets: str) -> dict[str, float]:
    """Every figure of the outcomes that have these facets."""
    return values(rmbench.load_task(task), [one for one in outcomes if facets.items() <= one.facets.items()])


def parsed(answer: str, *, exchanged: bool) -> int:
    """What the code of both sets of Salesforce makes of a verdict: 1 or 2 for a response of the data, -1 for none."""
    return {A: 2 if exchanged else 1, B: 1 if exchanged else 2, TIE: 0, NONE: -1}[answer]


# ContextualJudgeBench

CONTEXT = {"question": "Who won?", "context": "Ann won.", "positive_response": "Ann.", "negative_response": "Bob."}


def test_a_pair_in_context() -> None:
    example = read_one("contextualjudgebench", CONTEXT, "data/faithfulness_qa-00000-of-00001.parquet")
    assert example.prompt == (Message("user", "Who won?\n\nAnn won."),)
    assert [(one.text, one.label) for one in example.candidates] == [("Ann.", True), ("Bob.", False)]
    assert example.facets == {"section": "faithfulness", "subset": "faithfulness_qa", "setting": "qa"}
    assert read_one("contextualjudgebench", CONTEXT, "refusal_answerable.jsonl").facets == {
        "section": "refusal", "subset": "refusal_answerable"
    }  # fmt: skip
    assert read_one("contextualjudgebench", CONTEXT).facets == {}


def in_context(folder: Path) -> tuple[Path, list[str]]:
    """A folder of the eight splits, two pairs of each, and the split of each pair in the order that it is read."""
    folder.mkdir()
    splits = [split for split in contextualjudgebench.SPLITS for _ in range(2)]
    for split in contextualjudgebench.SPLITS:
        rows = [
            {"question": f"{number}?", "context": "Read this.", "question_id": f"{number}"}
            | {"positive_response": f"{number} first", "negative_response": f"{number} second"}
            for number, own in enumerate(splits) if own == split
        ]  # fmt: skip
        written(folder / f"{split}.jsonl", rows)
    return folder, splits


def test_consistent_accuracy_is_that_of_a_plain_loop(tmp_path: Path) -> None:
    data, splits = in_context(tmp_path / "sets")
    outcomes = judged("contextualjudgebench", data, SAID)
    right: dict[str, list[bool]] = {split: [] for split in contextualjudgebench.SPLITS}
    singles, agree = [], []
    for split, (one, other) in zip(splits, SAID, strict=True):
        first, second = parsed(one, exchanged=False), parsed(other, exchanged=True)
        right[split].append(first == second and first == 1)
        singles += [first == 1, second == 1]
        agree.append(first == second != -1)
    measured = figures("contextualjudgebench", outcomes)
    assert measured["consistent_accuracy"] == pytest.approx(sum(map(sum, right.values())) / 16)
    assert measured["single_accuracy"] == pytest.approx(sum(singles) / 32)
    assert measured["pair_agreement"] == pytest.approx(sum(agree) / 16)
    means = {split: sum(wins) / len(wins) for split, wins in right.items()}
    assert measured["consistent_accuracy_macro"] == pytest.approx(sum(means.values()) / 8)
    for split, mean in means.items():
        of_split = figures("contextualjudgebench", outcomes, subset=split)
        assert of_split["consistent_accuracy"] == pytest.approx(mean)
        assert math.isnan(of_split["consistent_accuracy_macro"])


def test_consistent_accuracy_of_a_reward_model_is_its_accuracy(tmp_path: Path) -> None:
    data, _ = in_context(tmp_path / "sets")
    rewards = {f"{n} {place}": float((n + 2 * (place == "second")) % 3) for n in range(16) for place in
               ("first", "second")}  # fmt: skip
    won = [rewards[f"{number} first"] > rewards[f"{number} second"] for number in range(16)]
    measured = figures("contextualjudgebench", rated("contextualjudgebench", data, rewards))
    assert measured["consistent_accuracy"] == measured["accuracy"] == pytest.approx(sum(won) / 16)


# ReasoningJudgeBench

REASONED = {"instruction": "2 + 2?", "positive_response": "4", "negative_response": "5", "label": 1}


@pytest.mark.parametrize(("label", "right"), [(1, "4"), ("A>B", "4"), (2, "5"), ("B>A", "5")])
def test_the_label_says_which_answer_is_right(label: Any, right: str) -> None:
    example = read_one("reasoningjudgebench", REASONED | {"label": label}, "aime_4o_pairwise.parquet")
    assert [(one.text, one.label) for one in example.candidates] == [("4", right == "4"), ("5", right == "5")]
    assert example.facets == {"section": "math", "subset": "aime_4o_pairwise"}
    assert read_one("reasoningjudgebench", REASONED, "aime_pairwise.jsonl").facets["subset"] == "aime_pairwise"


def test_a_tie_in_one_order_yields_to_the_other(tmp_path: Path) -> None:
    """utils/utils.py: equal votes are right where they are the label; a tie and a clear vote are the clear one."""
    (tmp_path / "sets").mkdir()
    splits = ["folio_pairwise", "olympiadbench_pairwise"]
    for split, label in zip(splits, (1, 2), strict=True):
        rows = [REASONED | {"instruction": f"{number}?", "label": label, "positive_response": f"{number} first",
                            "negative_response": f"{number} second"} for number in range(16)]  # fmt: skip
        written(tmp_path / "sets" / f"{split}.jsonl", rows)
    outcomes = judged("reasoningjudgebench", tmp_path / "sets", SAID)
    right: dict[int, list[bool]] = {1: [], 2: []}
    for label, (one, other) in product((1, 2), SAID):
        first, second = parsed(one, exchanged=False), parsed(other, exchanged=True)
        if first == second:
            right[label].append(first == label)
        elif 0 in (first, second):
            right[label].append((first or second) == label)
        else:
            right[label].append(False)
    measured = figures("reasoningjudgebench", outcomes)["consistent_accuracy"]
    assert measured == pytest.approx(sum(map(sum, right.values())) / 32)
    for section, label in (("multihop", 1), ("math", 2)):
        of_section = figures("reasoningjudgebench", outcomes, section=section)
        assert of_section["consistent_accuracy"] == pytest.approx(sum(right[label]) / 16)
    assert sum(right[1]) == 3  # right in both, or in one with a tie in the other


# CodeJudgeBench

CODE = {"question_content": "Add.", "pos_response": "a + b", "neg_response": "a - b", "difficulty": "easy"}
REPAIR = CODE | {"wrong_code": "a * b", "wrong_meta": {"error_code": -2, "inputs": "2 3", "output": "6",
                                                       "expected": "5", "error": None}}  # fmt: skip
UNIT = CODE | {"pos_input": "1 2", "neg_input": "3 4", "pos_response": "3", "neg_response": "8"}


def test_code_a_repair_and_a_test() -> None:
    example = read_one("codejudgebench", CODE, "codegen/gemini_2.5_flash_lite-00000-of-00001.parquet")
    assert example.prompt == (Message("user", "Add."),)
    assert [(one.text, one.label) for one in example.candidates] == [("a + b", True), ("a - b", False)]
    assert example.facets == {"kind": "codegen", "difficulty": "easy", "subset": "gemini_2.5_flash_lite"}
    repair, unit = (read_one("codejudgebench", row) for row in (REPAIR, UNIT))
    asked = repair.prompt[0].text
    parts = ["Add.", "a * b", "Its answer is wrong.", "2 3", "6", "5"]
    assert sorted(map(asked.index, parts)) == [*map(asked.index, parts)]
    assert "None" not in asked
    assert [one.text for one in repair.candidates] == ["a + b", "a - b"]
    assert [one.text for one in unit.candidates] == [
        "Input:\n```\n1 2\n```\n\nOutput:\n```\n3\n```", "Input:\n```\n3 4\n```\n\nOutput:\n```\n8\n```"
    ]  # fmt: skip
    assert (repair.facets["kind"], unit.facets["kind"]) == ("coderepair", "testgen")


@pytest.mark.parametrize(
    ("meta", "told"),
    [
        ({"error_code": -1, "error": "no such name"}, "It does not compile.\n\nerror:\nno such name"),
        ({"error_code": -3, "error": "1 s", "inputs": "2"}, "It takes too long.\n\nerror:\n1 s\n\ninputs:\n2"),
        ({"error_code": -4, "error_message": "0 / 0"}, "It stops with an error.\n\nerror_message:\n0 / 0"),
        ({"error_code": -4, "inputs": "2", "expected": "5", "error": "0 / 0", "error_message": "Runtime Error"},
         "It stops with an error.\n\ninputs:\n2\n\nexpected:\n5\n\nerror:\n0 / 0"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_program_is_told(meta: dict[str, Any], told: str) -> None:
    assert read_one("codejudgebench", REPAIR | {"wrong_meta": meta}).prompt[0].text.endswith(told)


@pytest.mark.parametrize("task", ["codejudgebench", "codejudgebench_adversarial"])
def test_every_verdict_of_both_orders_counts(task: str, tmp_path: Path) -> None:
    """src/score.py: the share of predictions that are the label, A as given and B exchanged, over all and by sort."""
    rows = [CODE | {"question_content": f"{number}?", "difficulty": ("easy", "medium", "hard")[number % 3],
                    "pos_response": f"{number} first", "neg_response": f"{number} second"}
            for number in range(16)]  # fmt: skip
    outcomes = judged(task, written(tmp_path / "rows.jsonl", rows), SAID)
    scores = [(row["difficulty"], pred == label) for row, said in zip(rows, SAID, strict=True)
              for label, pred in zip((A, B), said, strict=True)]  # fmt: skip
    assert figures(task, outcomes)["single_accuracy"] == pytest.approx(sum(hit for _, hit in scores) / 32)
    for difficulty in ("easy", "medium", "hard"):
        hits = [hit for of, hit in scores if of == difficulty]
        measured = figures(task, outcomes, difficulty=difficulty)["single_accuracy"]
        assert measured == pytest.approx(sum(hits) / len(hits))


def test_every_split_of_a_hub_set_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "hub").mkdir()
    folder = on_disk(tmp_path / "hub", "coderepair", {"one_model": [REPAIR], "another": [REPAIR, REPAIR]})
    (source,) = [one for one in codejudgebench.TASK.sources if one.config == "coderepair"]
    data = replace(codejudgebench.TASK, sources=(replace(source, id=folder),)).load()
    assert [example.facets["kind"] for example in data.examples] == ["coderepair"] * 3


# CodeRewardBench

COMMIT = {"prompt": "Sort.", "chosen": "sorted(a)", "rejected": "a", "id": "ECCO_1", "aspect": "Security_Hardness",
          "language": "Go", "subset": "ECCO"}  # fmt: skip
ARMORM = {  # iNeil77/Themis@ddd7934:Evaluation/Evaluation_Runs/ArmoRM-Llama3-8B-v0.1/results.json
    "Functional_Correctness": (0.7959, 4778),
    "Memory_Efficiency": (0.5813, 289),
    "Readability_Maintainability": (0.6471, 1499),
    "Runtime_Efficiency": (0.6196, 1309),
    "Security_Hardness": (0.6155, 991),
}


def test_a_pair_of_code_has_three_facets() -> None:
    example = read_one("coderewardbench", COMMIT)
    assert (example.id, example.prompt) == ("ECCO_1", (Message("user", "Sort."),))
    assert [(one.text, one.label) for one in example.candidates] == [("sorted(a)", True), ("a", False)]
    assert example.facets == {"aspect": "Security_Hardness", "language": "Go", "subset": "ECCO"}


@pytest.mark.parametrize("sides", [("chosen_score", "rejected_score"), ("score_chosen", "score_rejected")])
def test_a_score_file_of_code_is_data_as_well(sides: tuple[str, str], tmp_path: Path) -> None:
    """run_code_reward_bench.py, compute_accuracy: overall, and the mean over the aspects that are there."""
    facets = {name: COMMIT[name] for name in ("language", "subset")}
    aspects = ("Functional_Correctness", "Memory_Efficiency", "Security_Hardness")
    rows = [
        facets | {"id": f"row {number}", "aspect": aspects[number * number % 3]}
        | {sides[0]: float(number % 4), sides[1]: float(number % 3), "correct": None}
        for number in range(20)
    ]  # fmt: skip
    file = written(tmp_path / "scores.jsonl", rows)
    flags: dict[str, list[bool]] = {}
    for row in rows:
        flags.setdefault(row["aspect"], []).append(row[sides[0]] > row[sides[1]])
    measured = of_scores(rmbench.load_task("coderewardbench"), file)
    assert measured["accuracy"] == pytest.approx(sum(map(sum, flags.values())) / 20)
    assert measured["accuracy_macro_aspect"] == pytest.approx(
        sum(sum(one) / len(one) for one in flags.values()) / len(flags)
    )
    assert len(flags) == 2


def test_the_published_accuracy_of_armorm_from_its_aspects() -> None:
    outcomes = []
    for aspect, (share, count) in ARMORM.items():
        for at in range(count):
            view = View(np.array([float(at < round(share * count)), 0.5]), None, ["ok", "ok"])
            name = f"{aspect} {at}"
            outcomes.append(Outcome(name, {"aspect": aspect}, name, np.array([1.0, 0.0]), {"default": view}))
    accuracy = comparison.alone(comparison.accuracy)(outcomes, "default", None)
    assert round(whole_value(accuracy, np.arange(8866)), 4) == 0.7176
    assert round(float(comparison.wins(outcomes, "default").sum())) == 6362


# MemRewardBench

MEMORY = {"question": "[Context] ... [Question] How many?", "chosen": "Step 1: two.", "rejected": "Step 1: none.",
          "task": "S-Drop", "subtask": "qa7-sequential-drop", "ctx_length": "64k"}  # fmt: skip


def test_a_trajectory_has_the_length_of_its_context() -> None:
    example = read_one("memrewardbench", MEMORY, "datas/Long-context_Reasoning.jsonl")
    assert example.prompt == (Message("user", "[Context] ... [Question] How many?"),)
    assert [(one.text, one.label) for one in example.candidates] == [("Step 1: two.", True), ("Step 1: none.", False)]
    assert example.facets == {"category": "Long-context_Reasoning", "subset": "S-Drop",
                              "setting": "qa7-sequential-drop", "length": "64k"}  # fmt: skip
    assert "category" not in read_one("memrewardbench", MEMORY).facets


def test_trajectories_are_judged_once_and_told_by_length(tmp_path: Path) -> None:
    """evaluator.py: a verdict is right where it is the order of the pair, else 0; a mean by length and over all."""
    lengths = ["8k", "16k", "32k", "64k", "128k"]
    said = [(one, {A: B, B: A, NONE: NONE}[one]) for one in [A, B, NONE, A, A] * 6]
    rows = [MEMORY | {"question": f"{number}?", "ctx_length": lengths[number * number % 5],
                      "chosen": f"{number} first", "rejected": f"{number} second"}
            for number in range(30)]  # fmt: skip
    data = written(tmp_path / "rows.jsonl", rows)
    outcomes = judged("memrewardbench", data, said)
    assert all(len(outcome.answers) == 1 for outcome in outcomes)
    right = [one == A for one, _ in said]
    assert figures("memrewardbench", outcomes)["accuracy"] == pytest.approx(sum(right) / 30)
    of_lengths: dict[str, list[bool]] = {}
    for row, hit in zip(rows, right, strict=True):
        of_lengths.setdefault(str(row["ctx_length"]), []).append(hit)
    for length, hits in of_lengths.items():
        measured = figures("memrewardbench", outcomes, length=length)["accuracy"]
        assert measured == pytest.approx(sum(hits) / len(hits))
    assert len(of_lengths) == 3


# LongRewardBench

LONG = {"prompt_template": [{"role": "user", "content": "Long. How?"}], "ctx_length_for_length": "4k",
        "source": "LongBench"}  # fmt: skip
PAIR = LONG | {"tasktype": "PairWise", "subtype": "same", "chosen": "So.", "rejected": "No.", "candidates": None}
RANKING = LONG | {"tasktype": "BestOfN", "subtype": 3, "candidates": ["Best.", "Good.", "Bad."], "chosen": None}


def test_a_pair_and_a_ranking_of_a_long_context() -> None:
    pair, ranking = (read_one("longrewardbench", row, "set/LongQA.jsonl") for row in (PAIR, RANKING))
    assert pair.prompt == (Message("user", "Long. How?"),)
    assert [(one.text, one.number) for one in pair.candidates] == [("So.", 1), ("No.", 0)]
    assert pair.facets == {"kind": "pairwise", "subtype": "same", "length": "4k", "subset": "LongQA"}
    assert [(one.text, one.number) for one in ranking.candidates] == [("Best.", 2), ("Good.", 1), ("Bad.", 0)]
    assert ranking.facets == {"kind": "ranking", "subtype": "3", "length": "4k", "subset": "LongQA"}
    assert read_one("longrewardbench", PAIR | {"subtype": None}).facets["subtype"] == "different"
    by_field = {"role": ["system", "user"], "content": ["Be brief.", "Long. How?"]}
    turns = read_one("longrewardbench", PAIR | {"prompt_template": by_field}).prompt
    assert turns == (Message("system", "Be brief."), Message("user", "Long. How?"))


def official_order(rewards: Sequence[float], order: Sequence[int]) -> float:
    """The share of responses, shown in this order, that are ranked as they should be: Python sorts stably."""
    placed = [rewards[index] for index in order]
    ranks = [at for at, _ in sorted(enumerate(placed), key=lambda one: one[1], reverse=True)]
    said = [ranks.index(at) for at in range(len(placed))]
    return sum(gold == one for gold, one in zip(order, said, strict=True)) / len(order)


def long_rows() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Pairs and rankings with rewards that often tie."""
    rng = np.random.default_rng(5)
    rows, rewards = [], {}
    for number in range(40):
        texts = [f"{number} {place}" for place in range([2, 2, 3, 4][number % 4])]
        rewards |= {text: float(rng.integers(-place, 4 - place)) for place, text in enumerate(texts)}
        of_kind = {"tasktype": "BestOfN", "subtype": str(len(texts)), "candidates": texts}
        if len(texts) == 2:
            of_kind = {"tasktype": "PairWise", "subtype": ["same", "x"][number % 2], "chosen": texts[0],
                       "rejected": texts[1]}  # fmt: skip
        prompt = [{"role": "user", "content": f"{number}?"}]
        rows.append(
            LONG | of_kind | {"prompt_template": prompt, "ctx_length_for_length": ["4k", "128k"][number % 3 > 0]}
        )
    return rows, rewards


def test_ranks_are_those_of_a_plain_loop_over_every_order_shown(tmp_path: Path) -> None:
    rows, rewards = long_rows()
    outcomes = rated("longrewardbench", written(tmp_path / "rows.jsonl", rows), rewards)
    shares = []
    for number, row in enumerate(rows):
        texts = row.get("candidates") or [row["chosen"], row["rejected"]]
        of_row = [rewards[text] for text in texts]
        orders = [*permutations(range(len(texts)))]
        due = sum(official_order(of_row, order) for order in orders) / len(orders)
        assert longrewardbench.in_rank(outcomes[number], "default") == pytest.approx(due)
        shares.append((row["tasktype"], row["ctx_length_for_length"], due))
    measured = figures("longrewardbench", outcomes)
    assert measured["average"] == pytest.approx(sum(due for *_, due in shares) / 40)
    for name, kind in (("pairwise", "PairWise"), ("ranking", "BestOfN")):
        of_kind = [due for one, _, due in shares if one == kind]
        assert measured[name] == pytest.approx(sum(of_kind) / len(of_kind))
    for length in ("4k", "128k"):
        pairs = [due for kind, one, due in shares if (kind, one) == ("PairWise", length)]
        assert figures("longrewardbench", outcomes, length=length)["pairwise"] == pytest.approx(sum(pairs) / len(pairs))


def test_a_judge_ranks_by_how_many_it_prefers_a_response_to(tmp_path: Path) -> None:
    data = written(tmp_path / "rows.jsonl", [PAIR, RANKING])

    def verdict(request: Request) -> Reward:
        first, second = (["No.", "So.", "Bad.", "Best.", "Good."].index(one.text or "") for one in request.responses)
        return Reward((float(first > second), float(first < second)))

    outcomes = outcomes_of("longrewardbench", data, "compare", verdict)
    assert [len(outcome.answers) for outcome in outcomes] == [1, 3]
    measured = figures("longrewardbench", outcomes)
    assert (measured["pairwise"], measured["ranking"]) == (1, pytest.approx(1 / 3))
    lost = outcomes_of("longrewardbench", data, "compare", lambda _: Reward((math.nan,) * 2, status="refused"))
    assert figures("longrewardbench", lost)["pairwise"] == 0
    failed = outcomes_of("longrewardbench", data, "compare", lambda _: Reward((math.nan,) * 2, status="error"))
    assert longrewardbench.left_out(failed, "default") == {"no answer": 2}


# LongJudgeBench

WRITING = {"dataset": "wp_bench", "id": "p1", "instruction": "Tell a tale.", "meta": {"language": "zh"},
           "responses": [{"model": "m", "content": "Once."}, {"model": "n", "content": "Twice."}],
           "ground_truth": {"chosen": {"model": "n", "score": 3}, "rejected": {"model": "m"}}}  # fmt: skip
REPORT = WRITING | {"dataset": "ma", "ground_truth": {"type": "pairwise_preference", "preferred": "tie"}}


def test_a_pair_of_long_texts_is_labelled_by_models_or_by_place() -> None:
    writing = read_one("longjudgebench", WRITING)
    assert [(one.text, one.label, one.tags) for one in writing.candidates] == [
        ("Once.", 0, {"policy": "m"}), ("Twice.", 1, {"policy": "n"})
    ]  # fmt: skip
    assert (writing.prompt[0].text, writing.facets) == ("Tell a tale.", {"subset": "wp_bench", "language": "zh"})
    for preferred, labels in (("A", [1, 0]), ("B", [0, 1]), ("tie", [0.5, 0.5])):
        report = read_one("longjudgebench", REPORT | {"ground_truth": {"preferred": preferred}})
        assert [one.label for one in report.candidates] == labels
    assert read("longjudgebench", WRITING | {"dataset": "surge"}) == LeftOut(longjudgebench.NO_PAIRS)
    assert read("longjudgebench", {"id": "1", "reference": "A text."}) == LeftOut(longjudgebench.AID)


def test_verdicts_that_can_be_read_count_by_themselves(tmp_path: Path) -> None:
    """src/evaluation/datasets/ma.py: a verdict is right where it is the label, a tie too; others are passed over."""
    gold = ["A", "B", "tie"]
    rows = [REPORT | {"id": f"{number}", "instruction": f"{number}?", "ground_truth": {"preferred": gold[number % 3]},
                      "responses": [{"model": place, "content": f"{number} {place}"} for place in ("first", "second")]}
            for number in range(48)]  # fmt: skip
    said = SAID * 3
    outcomes = judged("longjudgebench", written(tmp_path / "ma.jsonl", rows), said)
    turned = {A: B, B: A, TIE: TIE, NONE: NONE}
    hits = [
        answer == label
        for label, (one, other) in zip([gold[number % 3] for number in range(48)], said, strict=True)
        for answer in (one, turned[other])
        if answer != NONE
    ]
    assert len(hits) == 72
    measured = figures("longjudgebench", outcomes)
    assert measured["readable_accuracy"] == pytest.approx(sum(hits) / len(hits))
    assert measured["refused"] == pytest.approx(1 / 4)
    assert longjudgebench.left_out(outcomes, "default") == {"no readable verdict": 3}


# every set


@pytest.mark.parametrize(
    ("task", "rows"),
    [
        ("contextualjudgebench", [CONTEXT]),
        ("longjudgebench", [WRITING, REPORT]),
        ("longrewardbench", [PAIR, RANKING]),
    ],
)
def test_a_run_whose_records_give_every_figure_again(task: str, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    def longer(request: Request) -> Reward:
        first, second = (len(one.text or "") for one in request.responses)
        return Reward((float(first > second), float(first <= second)))

    data = {task: written(tmp_path / "rows.jsonl", rows)}
    (result,) = rmbench.evaluate(Scripted(longer, ("compare",)), [task], data=data)
    verify(result, rmbench.load_task(task))
    assert result.metric(rmbench.load_task(task).measure.headline).value is not None


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("contextualjudgebench", CONTEXT | {"context": None}, ", `context`: expected a text, got None"),
        ("contextualjudgebench", CONTEXT | {"negative_response": 3}, ", `negative_response`: expected a text, got 3"),
        ("reasoningjudgebench", REASONED | {"label": True}, ", `label`: expected 1, 2, 'A>B' or 'B>A', got True"),
        ("reasoningjudgebench", REASONED | {"label": None}, ", `label`: expected 1, 2, 'A>B' or 'B>A', got None"),
        ("codejudgebench", REPAIR | {"wrong_meta": {"error_code": 0}}, ", `wrong_meta`: expected an object with"),
        ("codejudgebench", UNIT | {"neg_input": None}, ", `neg_input`: expected a text, got None"),
        ("codejudgebench", CODE | {"pos_input": "1"}, ": no `neg_input`; found .*; a CodeJudgeBench row has"),
        ("coderewardbench", COMMIT | {"aspect": None}, ", `aspect`: expected a text, got None"),
        ("coderewardbench", COMMIT | {"chosen": ["a"]}, r", `chosen`: expected a text, got \['a'\]"),
        ("longjudgebench", WRITING | {"dataset": "mt"}, ", `dataset`: expected one of wp_bench, .*, got 'mt'"),
        ("longjudgebench", WRITING | {"responses": "a"}, ", `responses`: expected a list of objects, got 'a'"),
        ("longjudgebench", WRITING | {"responses": [{}]}, ", `responses`: expected two objects with the texts"),
        ("longjudgebench", WRITING | {"ground_truth": {}}, ", `ground_truth`: expected `chosen` and `rejected` of"),
        ("longjudgebench", REPORT | {"ground_truth": {}}, ", `ground_truth`: expected `preferred`, A, B or tie, got"),
        ("memrewardbench", MEMORY | {"ctx_length": "9k"}, ", `ctx_length`: expected one of 8k, .*, got '9k'"),
        ("memrewardbench", MEMORY | {"task": None}, ", `task`: expected a text, got None"),
        ("longrewardbench", PAIR | {"tasktype": "pair"}, ", `tasktype`: expected PairWise or BestOfN, got 'pair'"),
        ("longrewardbench", PAIR | {"prompt_template": "?"}, ", `prompt_template`: expected a list of messages, got"),
        ("longrewardbench", RANKING | {"candidates": ["a"]}, ", `candidates`: expected two responses at least, got 1"),
        ("longrewardbench", RANKING | {"candidates": None}, ", `candidates`: expected a list of texts, got None"),
        ("contextualjudgebench", {"question": "?"}, ": no `context`; found `question`; a ContextualJudgeBench row has"),
    ],
)
def test_a_broken_row_is_one_line_with_file_row_and_field(task: str, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"^rows\.jsonl, row 7{message}") as error:
        read(task, row)
    assert "\n" not in str(error.value)
