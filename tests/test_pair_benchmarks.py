"""RewardBench 1 and 2 and Plan-RewardBench: their files, and their figures against plain loops and published ones."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rmbench
from rmbench.data.cards import read_card
from rmbench.data.dataset import collect
from rmbench.data.files import Row
from rmbench.errors import DataError
from rmbench.kinds.comparison import Comparison
from rmbench.metrics.interval import estimate
from rmbench.results.verify import verify
from rmbench.tasks import plan_rewardbench, rewardbench, rewardbench2
from rmbench.types import Candidate, Example, Outcome, Request, Reward, View


def figures(task: Comparison, outcomes: Sequence[Outcome]) -> dict[str, float]:
    statistics = task.measure.statistics(outcomes, "default", None)
    return {one.name: one.value for one in estimate(statistics, [one.cluster for one in outcomes], draws=2)}


def outcome(scores: Sequence[float], labels: Sequence[bool], cluster: str, **facets: str) -> Outcome:
    view = View(np.array(scores, float), None, ["ok"] * len(scores))
    return Outcome(cluster, facets, cluster, np.array(labels, float), {"default": view})


def written(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def of_result(result: Any, subset: str = "all") -> dict[str, float]:
    return {metric.name: metric.value for metric in result.metrics if metric.subset == subset}


# RewardBench

ROWS_OF = {"math-prm": 447}  # of the other subsets their weight is how many rows they have


def won(shares: Mapping[str, float]) -> list[Outcome]:
    """Pairs of which these shares are won, as many of each subset as it has."""
    outcomes = []
    for weights in rewardbench.SECTIONS.values():
        for subset, weight in weights.items():
            count = ROWS_OF.get(subset, weight)
            wins = round(shares[subset] * count)
            assert wins == pytest.approx(shares[subset] * count), subset
            outcomes += [
                outcome([float(at < wins), 0.5], [True, False], f"{subset} {at}", subset=subset) for at in range(count)
            ]
    return outcomes


def test_the_weights_are_the_rows_of_the_subsets_and_984_for_math_prm() -> None:
    weights = {subset: weight for of in rewardbench.SECTIONS.values() for subset, weight in of.items()}
    assert len(weights) == 23
    assert sum(ROWS_OF.get(subset, weight) for subset, weight in weights.items()) == 2985
    code = sum(weight for subset, weight in weights.items() if subset.startswith("hep-"))
    assert weights["math-prm"] == code == 984


def test_the_published_sections_of_rm_r1_from_its_subsets(rmbench_data: Path) -> None:
    folder = rmbench_data / "rm_r1_results" / "RM-R1-Qwen2.5-Instruct-32B" / "reward_bench" / "score_result"
    shares = json.loads((folder / "each_small_section_score.json").read_text())
    official = json.loads((folder / "main_score.json").read_text())
    outcomes = won(shares)
    found = figures(rewardbench.TASK, outcomes)
    sections = [found[name] for name in ("chat", "chat_hard", "safety", "reasoning")]
    assert sections == pytest.approx([official[name] for name in rewardbench.SECTIONS])
    assert [round(section, 4) for section in sections] == [0.9525, 0.8311, 0.9189, 0.9521]
    assert found["score"] == pytest.approx(official["avg_Result_each_section"])
    assert math.isnan(found["score_with_prior_sets"])
    lacking = figures(rewardbench.TASK, [one for one in outcomes if one.facets["subset"] != "hep-go"])
    assert math.isnan(lacking["score"])
    assert lacking["chat"] == pytest.approx(official["Chat"])


def test_published_scores_are_the_mean_of_four_sections_or_have_the_prior_sets_as_half_of_one(
    rmbench_data: Path,
) -> None:
    with (rmbench_data / "benchmark_matrices" / "rewardbench_v1.csv").open() as file:
        rows = list(csv.DictReader(file))
    counts: Counter[str] = Counter()
    for row in rows:
        cells = [row[name] for name in ("Score", *rewardbench.SECTIONS)]
        if all(cells):
            score, *sections = map(float, cells)
            prior = float(row["Prior Sets (0.5 weight)"] or 0)
            due = (sum(sections) + prior / 2) / (4.5 if prior else 4)
            counts["with" if prior else "without"] += score == pytest.approx(due, abs=1.1e-4)
    assert counts == {"without": 74, "with": 98}


def test_the_prior_sets_are_half_a_section() -> None:
    shares = {subset: 1.0 for of in rewardbench.SECTIONS.values() for subset in of}
    prior = [
        outcome([float(at < wins), 0.5], [True, False], f"{name} {at}", subset=name)
        for name, wins in zip(rewardbench.PRIOR_SETS, (1, 2, 3, 4), strict=True)
        for at in range(4)
    ]
    found = figures(rewardbench.TASK, [*won(shares), *prior])
    assert found["prior_sets"] == pytest.approx((0.25 + 0.5 + 0.75 + 1) / 4)
    assert found["score_with_prior_sets"] == pytest.approx((4 + 0.5 * 0.625) / 4.5)
    assert found["score"] == 1


def rewardbench_rows() -> list[dict[str, Any]]:
    subsets = [subset for of in rewardbench.SECTIONS.values() for subset in of]
    return [
        {"id": at, "prompt": f"Question {at}?", "chosen": "a" * (at % 3 + 1), "rejected": "bb", "subset": subset}
        | {"chosen_model": "strong", "rejected_model": "weak"}
        for at, subset in enumerate([*subsets, *subsets])
    ]


def test_rows_and_prior_sets_of_a_folder(tmp_path: Path) -> None:
    written(tmp_path / "filtered.jsonl", rewardbench_rows())
    turns = [{"role": role, "content": text} for role, text in (("user", "?"), ("assistant", "!"), ("user", "??"))]
    written(
        tmp_path / "anthropic_hhh-00000.jsonl",
        [{"prompt": turns, "chosen": "yes", "rejected": "no", "subset": "harmless"}],
    )
    written(tmp_path / "pku_better-00000.jsonl", [{"prompt": turns, "chosen": "yes", "rejected": "no"}])
    data = rewardbench.TASK.load(tmp_path)
    assert Counter(example.facets["section"] for example in data.examples) == {
        "Chat": 10,
        "Chat Hard": 12,
        "Safety": 10,
        "Reasoning": 14,
        "Prior Sets": 1,
    }
    prior = next(example for example in data.examples if example.facets["section"] == "Prior Sets")
    assert prior.facets["subset"] == "anthropic_hhh"
    assert [turn.role for turn in prior.prompt] == ["user", "assistant", "user"]
    assert data.examples[-1].candidates[0].tags == {"policy": "strong"}
    assert (data.noted, data.excluded) == ({}, {"of a prior set that no score counts": 1})


# RewardBench 2


def official_ties(rows: Sequence[tuple[str, Sequence[float], int]]) -> float:
    """The score of Ties, of ids, scores (right ones first) and how many are right, prompt by prompt."""
    stats: dict[str, dict[str, tuple[bool, float, float]]] = {"ref": {}, "tied": {}}
    for name, scores, right in rows:
        sort, number = name.split(":")
        gap = min(scores[:right]) - max(scores[right:])
        stats[sort][number] = (gap > 0, max(scores[:right]) - min(scores[:right]), gap)
    accuracies = [sum(one[0] for one in of.values()) / len(of) for of in (stats["tied"], stats["ref"])]
    preferred = hard = margin = 0.0
    both = [number for number in stats["tied"] if number in stats["ref"]]
    for number in both:
        (_, spread, gap), least = stats["tied"][number], stats["ref"][number][2]
        least = min(least, gap)
        preferred += gap > spread
        hard += least > spread
        if spread:
            margin += math.tanh(least / spread - 1)
        elif least:
            margin += math.copysign(1, least)
    n = len(both)
    return 0.3 * sum(accuracies) + 0.2 * preferred / n + 0.2 * hard / n + 0.01 * margin / n


def ties_of(rows: Sequence[tuple[str, Sequence[float], int]]) -> list[Outcome]:
    return [
        replace(
            outcome(scores, [at < right for at in range(len(scores))], f"ties {name.split(':')[1]}",
                    subset="Ties", kind=name.split(":")[0]),
            example_id=name,
        )
        for name, scores, right in rows
    ]  # fmt: skip


def some_ties(seed: int) -> list[tuple[str, list[float], int]]:
    """Scores in halves, so that spreads and gaps of nought occur; two prompts have no other."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(30):
        for name, right in ((f"ref:{number}", 1), (f"tied:{number}", int(rng.integers(2, 5)))):
            top, low = (np.round(rng.normal(at, 0.6, count) * 2) / 2 for at, count in ((1.2, right), (0, 4)))
            rows.append((name, [*top.tolist(), *low.tolist()], right))
    return rows[1:-1]


@pytest.mark.parametrize("seed", range(3))
def test_ties_are_scored_as_by_a_plain_loop(seed: int) -> None:
    rows = some_ties(seed)
    spreads = [max(scores[:right]) - min(scores[:right]) for name, scores, right in rows if right > 1]
    assert 0 in spreads
    assert figures(rewardbench2.TASK, ties_of(rows))["ties"] == pytest.approx(official_ties(rows))


@pytest.mark.parametrize(
    ("reference", "tied", "due"),
    [
        ([9, 0], [9, 9, 0], 1.01),  # D = 0: tanh of infinity
        ([9, 0], [9, 8, 0], 1 + 0.01 * math.tanh(7)),
        ([0, 9], [0, 0, 9], -0.01),
        ([1, 1], [1, 1, 1], 0),  # 0 / 0
        ([9, 0], [9, 3, 0], 0.6 + 0.01 * math.tanh(-0.5)),
    ],
)
def test_the_ends_of_the_score_of_ties(reference: list[float], tied: list[float], due: float) -> None:
    outcomes = ties_of([("ref:7", reference, 1), ("tied:7", tied, 2)])
    assert figures(rewardbench2.TASK, outcomes)["ties"] == pytest.approx(due)


def test_a_prompt_without_a_reward_leaves_its_pair_out_and_no_more() -> None:
    rows = some_ties(0)
    outcomes = ties_of([*rows, ("ref:90", [math.nan, 0.0], 1), ("tied:90", [2.0, 1.0, 0.5], 2)])
    values = rewardbench2.terms(outcomes, "default")
    assert np.isnan(values[-2]).all()
    assert values[-1].tolist() == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0]


def fours(seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)

    def text() -> str:
        return "a" * int(rng.integers(1, 4))

    rows = [
        {
            "id": f"{subset} {at}",
            "prompt": f"{subset} {at}?",
            "chosen": [text()],
            "rejected": [text() for _ in range(3)],
        }
        | {"num_correct": 1, "total_completions": 4, "subset": subset}
        for subset in rewardbench2.BEST_OF
        for at in range(int(rng.integers(3, 9)))
    ]
    ties = [
        {"id": f"{sort}:{at}", "prompt": f"{sort} {at}?", "chosen": [text() for _ in range(right)]}
        | {"rejected": [text(), text()], "num_correct": right, "total_completions": right + 2, "subset": "Ties"}
        for at in range(5)
        for sort, right in (("ref", 1), ("tied", 3))
    ]
    return [*rows, *ties]


def test_the_score_is_the_mean_of_six_subsets(tmp_path: Path) -> None:
    rows = fours(0)
    (result,) = rmbench.evaluate("length", ["rewardbench2"], data={"rewardbench2": written(tmp_path / "r.jsonl", rows)})
    verify(result, rewardbench2.TASK)
    by_subset: dict[str, list[float]] = {}
    ties = []
    for row in rows:
        scores = [float(len(text)) for text in (*row["chosen"], *row["rejected"])]
        if row["subset"] == "Ties":
            ties.append((row["id"], scores, row["num_correct"]))
        else:
            of = by_subset.setdefault(row["subset"], [])
            of.append(1 / scores.count(max(scores)) if scores[0] == max(scores) else 0.0)
    means = {subset: sum(of) / len(of) for subset, of in by_subset.items()}
    found = of_result(result)
    assert found["ties"] == pytest.approx(official_ties(ties))
    assert found["score_without_ties"] == pytest.approx(sum(means.values()) / 5)
    assert found["score"] == pytest.approx((sum(means.values()) + official_ties(ties)) / 6)
    for subset, mean in means.items():
        assert of_result(result, f"subset={subset}")["accuracy_expected"] == pytest.approx(mean)
        assert of_result(result, f"subset={subset}")["score"] is None


# Plan-RewardBench


def test_the_counts_of_plan_rewardbench_on_its_card(rmbench_data: Path) -> None:
    (reads,) = read_card("plan_rewardbench").front["rmbench"]["reads"]
    data = plan_rewardbench.TASK.load(rmbench_data / reads["data"])
    assert {
        "task": "plan_rewardbench",
        "data": reads["data"],
        "examples": len(data.examples),
        "candidates": sum(len(example.candidates) for example in data.examples),
        "subset": dict(Counter(example.facets["subset"] for example in data.examples)),
    } == reads
    assert data.excluded == {}
    assert all(example.tools for example in data.examples)


def trajectories(split: str, count: int) -> list[dict[str, Any]]:
    def turns(at: int, said: str) -> dict[str, Any]:
        call = repr({"name": "look", "arguments": json.dumps({"at": at})})
        roles = (("user", f"{split} {at}?"), ("assistant", "I look."), ("tool_call", call))
        said_last = (("tool_response", "seen"), ("assistant", said))
        return {"messages": [{"role": role, "content": content} for role, content in (*roles, *said_last)]}

    tool = {"type": "function", "function": {"name": "look", "description": "", "parameters": {}}}
    return [
        {"query": f"{split} {at}?", "tools": [tool], "uuid": f"u{at // 2}", "_lcp_bucket": split}
        | {"chosen": turns(at, "done"), "reject": turns(at, "no")}
        for at in range(count)
    ]


class Told:
    """Rewards by a list, in the order asked."""

    answers, uses, fingerprint = frozenset({"reward"}), frozenset({"tools"}), "told"

    def __init__(self, given: Sequence[float]) -> None:
        self.given = given

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
        assert len(requests) == len(self.given)
        for index, value in enumerate(self.given):
            yield index, Reward((value,))


def test_rewards_within_a_ten_thousandth_are_worth_half_and_splits_count_alike(tmp_path: Path) -> None:
    for at, split in enumerate(plan_rewardbench.SPLITS):
        written(tmp_path / f"{split}.jsonl", trajectories(split, at + 2))
    data = plan_rewardbench.TASK.load(tmp_path)
    rng = np.random.default_rng(0)
    edges = rng.choice([1.0, 2e-4, 1e-4, 5e-5, 0.0, -5e-5, -2e-4, -1.0], len(data.examples))
    given = {example.id: (edge, 0.0) for example, edge in zip(data.examples, edges.tolist(), strict=True)}
    outcomes = [
        outcome(given[example.id], [True, False], example.cluster or "", **example.facets) for example in data.examples
    ]
    worths: dict[str, list[float]] = {}
    for example in data.examples:
        chosen, rejected = given[example.id]
        worth = 0.5 if abs(chosen - rejected) <= 1e-4 else 1.0 if chosen > rejected else 0.0
        worths.setdefault(example.facets["subset"], []).append(worth)
    found = figures(plan_rewardbench.TASK, outcomes)
    assert set(worths) == set(plan_rewardbench.SPLITS)
    assert found["score"] == pytest.approx(np.mean([np.mean(of) for of in worths.values()]))
    assert found["pair_accuracy"] == pytest.approx(np.mean([worth for of in worths.values() for worth in of]))
    assert plan_rewardbench.TASK.measure.ties(outcomes, "default") == sum(of.count(0.5) for of in worths.values())
    unknown = [replace(outcomes[0], views={}), *outcomes[1:]]
    assert math.isnan(plan_rewardbench.pair_score(unknown[0], "default"))
    assert plan_rewardbench.pair_score(outcome([math.inf, math.inf], [True, False], "x"), "default") == 0.5


def test_a_judge_is_worth_the_mean_of_both_orders_and_nothing_where_it_gave_no_verdict() -> None:
    candidates = (Candidate("yes", True), Candidate("no", False))
    (example,) = collect([Example("e", (), candidates, facets={"subset": "robust_recovery"})], []).examples
    questions = plan_rewardbench.TASK.questions(example, frozenset({"compare"}), "data")
    assert [question.place.candidates for question in questions if question.place] == [(0, 1), (1, 0)]
    for first, second, worth in (
        (Reward((1.0, 0.0)), Reward((0.0, 1.0)), 1.0),
        (Reward((1.0, 0.0)), Reward((1.0, 0.0)), 0.5),
        (Reward((0.5, 0.5)), Reward((0.0, 1.0)), 0.75),
        (Reward((0.0, 1.0)), Reward((0.0, 1.0)), 0.5),
        (Reward((math.nan, math.nan), status="refused"), Reward((0.0, 1.0)), 0.5),
        (Reward((math.nan, math.nan), status="refused"), Reward((math.nan, math.nan), status="refused"), 0.0),
    ):
        judged = plan_rewardbench.TASK.outcome(example, questions, [first, second])
        assert plan_rewardbench.pair_score(judged, "default") == worth
    lost = plan_rewardbench.TASK.outcome(
        example, questions, [Reward((1.0, 0.0)), Reward((np.nan,) * 2, status="error")]
    )
    assert math.isnan(plan_rewardbench.pair_score(lost, "default"))


def test_the_split_of_a_trajectory_is_its_file_or_else_what_it_says(tmp_path: Path) -> None:
    rows = trajectories("irrelevance_unavailable", 2)
    for name, split in (("all", "tool_irrelevance"), ("safety_refusal_unified", "safety_refusal")):
        (first, second) = plan_rewardbench.TASK.load(written(tmp_path / f"{name}.jsonl", rows)).examples
        assert (first.id, second.id) == (f"{split}-u0", f"{split}-u0#2")
        assert first.facets == {"subset": split}
        assert first.tools
        assert [turn.role for turn in first.candidates[0].response.messages] == ["assistant", "tool", "assistant"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("task", "rows"), [("rewardbench", rewardbench_rows()), ("plan_rewardbench", trajectories("robust_recovery", 6))]
)
def test_a_run_whose_records_give_every_figure_again(task: str, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    of: Comparison = {"rewardbench": rewardbench, "plan_rewardbench": plan_rewardbench}[task].TASK
    path = written(tmp_path / "rows.jsonl", rows)
    model = Told([float(at % 5) for at in range(len(rows) * 2)])
    (result,) = rmbench.evaluate(model, [of], data={task: path})
    verify(result, of)
    assert result.statuses == {"ok": len(rows) * 2}


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("rewardbench", {"subset": "chat"}, "`subset`: expected one of alpacaeval-easy, .*, got 'chat'"),
        ("rewardbench", {"chosen": None}, "`chosen`: expected a text, got None"),
        ("rewardbench", {"prompt": 3}, "`prompt`: expected a text or a list of messages, got 3"),
        ("rewardbench", {"rejected": ...}, "no `rejected`; found .*; a row of RewardBench has"),
        ("rewardbench2", {"chosen": ["a", "b"]}, r"`num_correct`: expected 2, as many as `chosen` has, got 1"),
        ("rewardbench2", {"chosen": ["a", "b"], "num_correct": 2}, r"`chosen`: expected one text, got \['a', 'b'\]"),
        ("rewardbench2", {"rejected": "a"}, "`rejected`: expected a list of texts, got 'a'"),
        ("rewardbench2", {"subset": "Ties"}, "`id`: expected ref:NUMBER or tied:NUMBER, got 'Factuality 0'"),
        ("rewardbench2", {"subset": "Ties", "id": "tied:1"}, "`chosen`: expected two texts or more of a tied prompt"),
        ("rewardbench2", {"subset": "ties"}, "`subset`: expected one of Factuality, .*, got 'ties'"),
        (
            "plan_rewardbench",
            {"_lcp_bucket": None},
            "`_lcp_bucket`: expected a file named planning_multi_easy, .*, got",
        ),
        ("plan_rewardbench", {"reject": ...}, "no `reject`; found .*; a row of Plan-RewardBench has"),
        ("plan_rewardbench", {"chosen": {"messages": []}}, "`chosen`: no response"),
    ],
)
def test_a_broken_row_is_one_line(task: str, change: dict[str, Any], message: str) -> None:
    of, rows = {
        "rewardbench": (rewardbench.TASK, rewardbench_rows()),
        "rewardbench2": (rewardbench2.TASK, fours(0)),
        "plan_rewardbench": (plan_rewardbench.TASK, trajectories("robust_recovery", 1)),
    }[task]
    row = {name: value for name, value in {**rows[0], **change}.items() if value is not ...}
    with pytest.raises(DataError, match=rf"^rows\.jsonl, row 7(, |: ){message}"):
        list(of.read([Row(row, "rows.jsonl", 7)]))
