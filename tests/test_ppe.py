"""PPE: votes on pairs, and 32 checked responses a question; every figure as a plain loop counts it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import score_files
from fake_models import Scripted

import rmbench
from rmbench.data.cards import read_card
from rmbench.data.files import Row, Rows
from rmbench.errors import DataError
from rmbench.results.schema import TaskResult
from rmbench.results.verify import verify
from rmbench.tasks import ppe_correctness, ppe_preference
from rmbench.types import Example, Message, Outcome, Request, Reward

VOTE = {"question_id": "a", "prompt": "Hi?", "response_1": "One.", "response_2": "Two.", "model_a": "x", "model_b": "y",
        "winner": "model_b", "language": "Chinese", "is_code": True, "hard_prompt": False}  # fmt: skip
COLUMNS = {name: column for name, (_, _, column) in ppe_correctness.DOMAINS.items()}


def checked(right: Sequence[int], pairs: Sequence[Sequence[int]] = (), **fields: Any) -> dict[str, Any]:
    """A row of 32 responses of which these are right."""
    row = {"question_id": "q", "model_name": "gemma", "prompt": "How much?", "answer_index": 3}
    texts = {f"response_{i + 1}": f"{i}" for i in range(32)}
    labels = {"scores": [i in right for i in range(32)], "sampled_conflict_pairs": [*pairs]}
    return row | texts | labels | fields


def checked_rows(seed: int = 0, of_each: int = 3) -> list[dict[str, Any]]:
    """Rows of all five benchmarks; a response's text is its reward, of few values, so that many tie."""
    rng, rows = np.random.default_rng(seed), []
    for domain, column in COLUMNS.items():
        for n in range(of_each):
            right = rng.choice(32, int(rng.integers(1, 31)), replace=False).tolist()
            wrong = [i for i in range(32) if i not in right]
            pairs = [rng.permutation([rng.choice(right), rng.choice(wrong)]).tolist() for _ in range(5)]
            slant = -2 if domain == "math" else 1  # of one benchmark the reward prefers what is wrong
            worth = {f"response_{i + 1}": f"{rng.integers(0, 9) + slant * (i in right)}" for i in range(32)}
            row = checked(right, pairs, question_id=f"{n}", prompt=f"{domain} {n}?", model_name=f"m{n % 2}", **worth)
            row.pop("answer_index")
            rows.append(row | {column: 1})
    return rows


def read(task: Any, row: Mapping[str, Any]) -> Example:
    (example,) = task.TASK.read([Row(dict(row), "x.jsonl", 1)])
    assert isinstance(example, Example)
    return example


def judged(task: Any, rows: Sequence[Mapping[str, Any]], model: Any, folder: Path) -> TaskResult:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (result,) = rmbench.evaluate(model, [task.TASK.name], data={task.TASK.name: folder / "rows.jsonl"})
    verify(result, task.TASK)
    return result


def outcomes_of(rows: Sequence[Mapping[str, Any]], answer: Callable[[Request], Any]) -> list[Outcome]:
    """What the measure sees of rows and the answers to them."""
    task, outcomes = ppe_correctness.TASK, []
    for row in rows:
        example = read(ppe_correctness, row)
        questions = task.questions(example, frozenset({"reward"}), "")
        given = [answer(question.request) for question in questions]
        rewards = [one if isinstance(one, Reward) else Reward((one,)) for one in given]
        outcomes.append(task.outcome(example, questions, rewards))
    return outcomes


def value(result: TaskResult, name: str, subset: str = "all") -> float | None:
    return result.metric(name, subset=subset).value


def number(request: Request) -> float:
    return float(request.responses[0].text or "")


# preferences


def test_a_vote_is_a_pair_with_the_categories_it_is_in() -> None:
    example = read(ppe_preference, VOTE)
    assert (example.id, example.prompt) == ("a", (Message("user", "Hi?"),))
    assert [(one.text, one.label, one.tags) for one in example.candidates] == [
        ("One.", False, {"policy": "x"}),
        ("Two.", True, {"policy": "y"}),
    ]
    assert example.facets == {"language": "Chinese", "non_english_prompt": "yes", "is_code": "yes"}
    english = read(ppe_preference, VOTE | {"language": "English", "is_code": False, "math_prompt": True})
    assert english.facets == {"language": "English", "math_prompt": "yes"}
    assert read(ppe_preference, VOTE | {"language": "Polish"}).facets["language"] == "other"


@pytest.mark.parametrize("word", ["tie", "tie (bothbad)", "both_bad"])
def test_a_tie_is_data_of_equal_labels(word: str) -> None:
    assert [one.label for one in read(ppe_preference, VOTE | {"winner": word}).candidates] == [0.5, 0.5]


def test_accuracy_is_over_votes_that_are_no_ties(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows = [
        VOTE
        | {"question_id": f"{n}", "prompt": f"{n}?", "winner": rng.choice(["model_a", "model_b", "tie"])}
        | {"language": str(rng.choice(["English", "Chinese", "Polish"])), "is_code": bool(rng.random() < 0.5)}
        | {f"response_{side}": "a" * int(rng.integers(1, 4)) for side in (1, 2)}
        for n in range(60)
    ]
    result = judged(ppe_preference, rows, "length", tmp_path)

    def by_definition(some: Sequence[Mapping[str, Any]]) -> float:
        won = [
            len(row["response_1"]) > len(row["response_2"])
            if row["winner"] == "model_a"
            else len(row["response_2"]) > len(row["response_1"])
            for row in some
            if row["winner"] != "tie"
        ]
        return sum(won) / len(won)

    assert value(result, "accuracy") == pytest.approx(by_definition(rows))
    code = [row for row in rows if row["is_code"]]
    assert value(result, "accuracy", "is_code=yes") == pytest.approx(by_definition(code))
    foreign = [row for row in rows if row["language"] != "English"]
    assert value(result, "accuracy", "non_english_prompt=yes") == pytest.approx(by_definition(foreign))
    assert result.left_out["default"] == {"candidates rated alike": sum(row["winner"] == "tie" for row in rows)}


# correctness


@pytest.mark.parametrize("domain", COLUMNS)
def test_a_row_is_known_by_its_columns(domain: str) -> None:
    row = checked([0, 5], [[0, 7], [9, 5], [0, 3]])
    row.pop("answer_index")
    example = read(ppe_correctness, row | {COLUMNS[domain]: [1]})
    assert (example.id, example.prompt) == (f"{domain}:q:gemma", (Message("user", "How much?"),))
    assert example.facets == {"domain": domain, "policy": "gemma"}
    assert [i for i, one in enumerate(example.candidates) if one.label is True] == [0, 5]
    assert [one.text for one in example.candidates] == [f"{i}" for i in range(32)]
    assert {i: one.tags["conflicts_with"] for i, one in enumerate(example.candidates) if len(one.tags) > 1} == {
        0: [7, 3],
        5: [9],
    }
    assert read(ppe_correctness, row | {"domain": domain}).facets["domain"] == domain


def test_a_row_of_a_hub_set_is_known_by_the_name_of_the_set_whatever_its_columns() -> None:
    row = checked([0], [[0, 7]], domain="Physics", test_list=["assert"])
    for file, domain in (("PPE-GPQA-Best-of-K", "gpqa"), ("PPE-MBPP-Plus-Best-of-K.parquet", "mbpp_plus")):
        (example,) = ppe_correctness.read([Row(row, file, 1)])
        assert isinstance(example, Example)
        assert (example.facets["domain"], example.id) == (domain, f"{domain}:q:gemma")


def test_hub_sets_are_read_at_their_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    sources = ppe_correctness.TASK.sources
    assert [source.id.removeprefix("lmarena-ai/PPE-") for source in sources] == [
        f"{name}-Best-of-K" for name in ("MMLU-Pro", "MATH", "GPQA", "IFEval", "MBPP-Plus")
    ]
    assert all(source.split == "train" and len(source.revision or "") == 40 for source in sources)
    for row in checked_rows(of_each=1):
        (tmp_path / row["prompt"].split()[0]).mkdir()
        (tmp_path / row["prompt"].split()[0] / "train.jsonl").write_text(json.dumps(row))
    folders = tuple(replace(one, id=str(tmp_path / name)) for name, one in zip(COLUMNS, sources, strict=True))
    data = replace(ppe_correctness.TASK, sources=folders).load()
    assert [example.facets["domain"] for example in data.examples] == [*COLUMNS]


def best_of(k: int, worth: Sequence[float], right: Sequence[bool]) -> float:
    """How often one of the largest reward among k is right: by how many sets of k have each reward as their largest."""
    share = 0.0
    for top in set(worth):
        of_top = [label for label, w in zip(right, worth, strict=True) if w == top]
        below = sum(w < top for w in worth)
        sets = math.comb(below + len(of_top), k) - math.comb(below, k)
        share += sets / math.comb(len(worth), k) * sum(of_top) / len(of_top)
    return share


def by_definition(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The figures of one benchmark, of a model that says what is written."""
    won, pooled, curve, oracle = [], [], [0.0] * 32, [0.0] * 32
    for row in rows:
        worth, right = [float(row[f"response_{i + 1}"]) for i in range(32)], row["scores"]
        won += [
            worth[i if right[i] else j] > worth[j if right[i] else i] for i, j in row["sampled_conflict_pairs"]
        ]  # five a row, so that all of them weigh alike
        low, high = min(worth), max(worth)
        pooled += [((w - low) / (high - low), label) for w, label in zip(worth, right, strict=True)]
        for k in range(1, 33):
            curve[k - 1] += best_of(k, worth, right) / len(rows)
            oracle[k - 1] += (1 - math.comb(right.count(False), k) / math.comb(32, k)) / len(rows)
    ahead = [(a > b) + (a == b) / 2 for a, of_a in pooled if of_a for b, of_b in pooled if not of_b]
    return {
        "accuracy": sum(won) / len(won),
        "auc": sum(ahead) / len(ahead),
        "max_score": max(curve),
        "end_score": curve[-1],
        "loss": sum((a - b) ** 2 for a, b in zip(curve, oracle, strict=True)) / 32,
        **{f"best_of_{k}": curve[k - 1] for k in (1, 2, 4, 8, 16, 32)},
        **{f"best_of_{k}_oracle": oracle[k - 1] for k in (2, 4, 8, 16, 32)},
        "share_right": sum(sum(row["scores"]) for row in rows) / 32 / len(rows),
    }


def test_figures_are_those_of_a_plain_loop_and_their_means(tmp_path: Path) -> None:
    rows = checked_rows()
    result = judged(ppe_correctness, rows, Scripted(number), tmp_path)
    due = {name: by_definition([row for row in rows if column in row]) for name, column in COLUMNS.items()}
    for domain, figures in due.items():
        for name, figure in figures.items():
            assert value(result, name, f"domain={domain}") == pytest.approx(figure), (domain, name)
        assert value(result, "overall", f"domain={domain}") is None
    for name in ("accuracy", "auc", "max_score", "end_score", "loss"):
        overall = "overall" if name == "accuracy" else f"{name}_overall"
        assert value(result, overall) == pytest.approx(np.mean([figures[name] for figures in due.values()]))
    assert due["math"]["max_score"] == due["math"]["best_of_1"] > due["math"]["end_score"]
    raw = [(float(row[f"response_{i + 1}"]), row["scores"][i]) for row in rows for i in range(32)]
    ahead = [(a > b) + (a == b) / 2 for a, of_a in raw if of_a for b, of_b in raw if not of_b]
    assert value(result, "auc_raw") == pytest.approx(sum(ahead) / len(ahead))


def test_the_curve_is_the_mean_of_all_choices_and_what_drawn_orders_approach() -> None:
    (row, *_) = checked_rows(5)
    worth, right = [float(row[f"response_{i + 1}"]) for i in range(32)], np.array(row["scores"], float)
    each = [
        right[i] if worth[i] > worth[j] else right[j] if worth[i] < worth[j] else (right[i] + right[j]) / 2
        for i, j in combinations(range(32), 2)
    ]
    assert best_of(2, worth, row["scores"]) == pytest.approx(np.mean(each))
    rng, drawn = np.random.default_rng(0), np.zeros(32)
    for _ in range(2000):  # as the authors': a random order, and of the first k the first of the largest reward
        order = rng.permutation(32)
        rewards, labels = np.array(worth)[order], right[order]
        drawn += [labels[rewards[: k + 1].argmax()] for k in range(32)]
    assert drawn / 2000 == pytest.approx([best_of(k, worth, row["scores"]) for k in range(1, 33)], abs=0.04)


def test_a_model_that_compares_is_asked_the_sampled_pairs_alone(tmp_path: Path) -> None:
    def larger(request: Request) -> Reward:
        first, second = (float(response.text or "") for response in request.responses)
        return Reward((0.5, 0.5) if first == second else (float(first > second), float(second > first)))

    rows, model = checked_rows(), Scripted(larger, ("compare",))
    pairs = {tuple(sorted(pair)) for pair in rows[0]["sampled_conflict_pairs"]}
    asked = ppe_correctness.TASK.questions(read(ppe_correctness, rows[0]), frozenset({"compare"}), "")
    assert sorted(place.candidates for _, place in asked if place) == sorted(
        order for a, b in pairs for order in ((a, b), (b, a))
    )
    result = judged(ppe_correctness, rows, model, tmp_path)
    due = [by_definition([row for row in rows if column in row])["accuracy"] for column in COLUMNS.values()]
    assert value(result, "overall") == pytest.approx(np.mean(due))
    assert [value(result, name) for name in ("auc", "max_score", "end_score", "best_of_2")] == [None] * 4
    assert result.left_out == {}


def test_what_a_model_sees_says_nothing_of_what_is_right() -> None:
    rows, seen = checked_rows(of_each=1), list[Request]()
    outcomes_of(rows, lambda request: seen.append(request) or 0.0)
    assert {message.text for request in seen for message in request.prompt} == {row["prompt"] for row in rows}
    assert [request.responses[0].text for request in seen[:32]] == [rows[0][f"response_{i + 1}"] for i in range(32)]
    assert all((one.reference, one.criteria, one.tools) == (None, (), ()) for one in seen)


def test_a_row_that_lacks_an_answer_counts_nowhere() -> None:
    rows = checked_rows()[:6]
    rows[0]["response_9"] = "-100"
    rows[4]["sampled_conflict_pairs"] = []
    lost = Reward((math.nan,), status="error", detail="broken")
    outcomes = outcomes_of(rows, lambda request: lost if number(request) == -100 else number(request))
    measure = ppe_correctness.TASK.measure
    assert measure.left_out(outcomes, "default") == {
        "no answer": 1,
        "no sampled pair, which accuracy alone needs": 1,
    }
    measured, due = score_files.values(ppe_correctness.TASK, outcomes[:3]), by_definition(rows[1:3])
    assert {name: measured[name] for name in due} == pytest.approx(due)
    by_name = {one.name: one for one in measure.statistics(outcomes[3:], "default", None)}
    assert by_name["end_score"].counts(3).tolist() == [True, True, True]
    assert by_name["accuracy"].counts(3).tolist() == [True, False, True]


def test_a_reward_that_is_infinite_is_the_largest_and_in_no_stretched_row() -> None:
    rows = checked_rows()[:3]
    rows[0]["response_1"] = "inf"
    measured, due = score_files.values(ppe_correctness.TASK, outcomes_of(rows, number)), by_definition(rows[1:])
    assert measured["auc"] == pytest.approx(due["auc"])
    assert measured["end_score"] == pytest.approx(np.mean([due["end_score"], due["end_score"], rows[0]["scores"][0]]))


def test_rows_are_stretched_one_by_one() -> None:
    table = np.zeros((5, 32))
    table[0, :3], table[1], table[2, :2], table[3, 0], table[4, 0] = (2, 4, -4), 7, (1e308, -1e308), np.inf, np.nan
    rewards = ppe_correctness.stretched(table)
    assert rewards[0, :4].tolist() == [0.75, 1, 0, 0.5]
    assert (rewards[1] == 0.5).all()
    assert np.isnan(rewards[2:]).all()


def test_ties_are_of_sampled_pairs() -> None:
    rows = [checked([1], [[1, 2]], response_2="5", response_3="5"), checked([1], [[1, 3]], response_3="1")]
    outcomes = outcomes_of(rows, number)
    assert ppe_correctness.TASK.measure.ties(outcomes, "default") == 1
    assert [ppe_correctness.pairs_won(outcome, "default") for outcome in outcomes] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        (ppe_preference, VOTE | {"winner": "c"}, "`winner`: expected 'model_a', 'model_b' or a tie, got 'c'"),
        (ppe_preference, VOTE | {"is_code": "yes"}, "`is_code`: expected true or false, got 'yes'"),
        (ppe_preference, VOTE | {"response_2": None}, "`response_2`: expected a text, got None"),
        (ppe_preference, {"prompt": "Hi?"}, "no `response_1`; found `prompt`; a row of PPE's human preferences has"),
        (ppe_correctness, checked([1], scores=[True]), "`scores`: expected a list of 32, one a response, got 1 values"),
        (ppe_correctness, checked([1], scores=["x"] * 32), "`scores`: expected true or false of each .*, got 'x' at 0"),
        (ppe_correctness, checked([1], [[1, 32]]), r"`sampled_conflict_pairs`: expected pairs .*, got \[1, 32\]"),
        (ppe_correctness, checked([1], [[2, 3]]), r"expected pairs of a right and a wrong response, got \[2, 3\]"),
        (ppe_correctness, checked([1], response_9=4), "`response_9`: expected a text, got 4"),
        (ppe_correctness, checked([1], domain="law"), "`domain`: expected one of mmlu_pro, .*, got 'law'"),
        (ppe_correctness, checked([1], answer_index=None), "no `domain`; found .*; a row is of one of mmlu_pro"),
        (ppe_correctness, VOTE, "no `scores`; found .*; a row of PPE's correctness sets has `prompt`, `response_1` to"),
    ],
)  # fmt: skip
def test_a_broken_row_is_one_line_with_file_row_and_field(task: Any, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"x\.jsonl, row 1.*{message}") as error:
        read(task, row)
    assert "\n" not in str(error.value)


def test_a_bad_row_may_be_skipped() -> None:
    rows = Rows([checked([1], [[1, 2]]), checked([1], [[2, 3]])], skip_bad_rows=True)
    data = ppe_correctness.TASK.load(rows)
    assert (len(data.examples), len(data.excluded)) == (1, 1)


@pytest.mark.parametrize("task", [ppe_preference, ppe_correctness])
def test_cards_and_summaries_say_that_they_are_unverified(task: Any) -> None:
    card = read_card(task.TASK.card)
    assert card.front["rmbench"]["unverified"]
    assert "unverified" in task.TASK.summary
