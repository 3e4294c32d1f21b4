"""The published figures that come with rmbench: each as its source has it, each with its source, and what they say."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import rmbench
from rmbench.correlate.tables import METRICS, POLICY_RESULTS, Reported, read_aliases, read_table, series, shipped
from rmbench.metrics import association
from rmbench.types import Array

FOLDER = Path(__file__).parents[1] / "leaderboards" / "policy_results"
TABLES = sorted(FOLDER.glob("*.csv"))
README = (FOLDER / "README.md").read_text()
FIVE = (
    "InternLM2-7B-Reward", "Skywork-Reward-Llama-3.1-8B", "ArmoRM-Llama3-8B-v0.1", "beaver-7b-v2.0-reward",
    "oasst-rm-2.1-pythia-1.4b",
)  # fmt: skip
SEVEN = (*FIVE, "ReasonEval-7B", "MathShepherd-Mistral-7B")

# the means that stand beside the cells in the papers, in the order of the rows
PAIRWISE = {
    "MATH-500": [64.2, 65.1, 66.1, 62.7, 63.6, 66.0, 66.3],
    "OlympiadBench": [28.7, 29.4, 30.0, 24.6, 25.9, 27.8, 28.1],
}
ACEMATH = [66.24, 68.46, 67.41, 69.53]
R_PRM = {"best-of-8": [42.3, 47.0, 47.7, 48.0, 49.6], "guided greedy search": [42.8, 44.9, 43.8, 46.8, 49.4]}
CONTRADICTED = {
    ("OlympiadBench", "ArmoRM-Llama3-8B"), ("OlympiadBench", "SkyworkRM-Llama3.1-8B"),
    ("best-of-8", "Qwen2.5-Math-7B-PRM800K"),
}  # fmt: skip


def rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((FOLDER / name).read_text().splitlines()))


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_every_row_has_a_source_and_a_column_of_its_own(table: Path) -> None:
    kind = "metrics" if table.stem.endswith("_metrics") else "policy results"
    read = read_table(table, kind)
    assert all(re.search(r"arXiv:\d{4}\.\d{5}v\d|github\.com/|lmarena|every_eval_ever", row.source) for row in read)
    assert len({(row.rm, row.benchmark, row.metric, row.policy, row.method) for row in read}) == len(read)
    assert list(rows(table.name)[0]) == [name for name in (METRICS if kind == "metrics" else POLICY_RESULTS)
                                         if name in rows(table.name)[0]]  # fmt: skip
    assert {row.unit for row in read if row.metric in ("accuracy", "f1")} <= {"fraction", "percent"}


def test_the_readme_counts_the_rows_of_every_file() -> None:
    for line in README.splitlines():
        names = re.findall(r"`(\w+\.csv)`", line.split("|")[1]) if line.startswith("| `") else []
        if names:
            assert int(line.split("|")[3]) == sum(len(rows(name)) for name in names), names
    assert all(f"`{table.name}`" in README for table in TABLES)


def test_cells_give_the_means_that_the_papers_print_beside_them() -> None:
    """What was read was read rightly; three means contradict their own cells, and README says which."""
    for name, mean in (
        ("qwen_prm_best_of_8.csv", "mean of seven math sets"),
        ("processbench_metrics.csv", "ProcessBench mean"),
    ):
        table = rows(name)
        for rm in {row["rm"] for row in table}:
            cells = [float(row["value"]) for row in table if row["rm"] == rm and row["benchmark"] != mean]
            (printed,) = [float(row["value"]) for row in table if row["rm"] == rm and row["benchmark"] == mean]
            assert abs(np.mean(cells) - printed) <= 0.051, (name, rm)
    table = rows("acemath_best_of_8.csv")
    for rm, mean_of_seven in zip(dict.fromkeys(row["rm"] for row in table), ACEMATH, strict=True):
        cells = [float(row["value"]) for row in table if row["rm"] == rm]
        assert np.mean(cells) == pytest.approx(mean_of_seven, abs=0.0051)
    off = set()
    for name, column, printed_means in (
        ("pairwise_rm_best_of_n.csv", "benchmark", PAIRWISE), ("r_prm_policies.csv", "method", R_PRM),
    ):  # fmt: skip
        for part, means in printed_means.items():
            table = [row for row in rows(name) if row[column] == part]
            for rm, printed in zip(dict.fromkeys(row["rm"] for row in table), means, strict=True):
                cells = [float(row["value"]) for row in table if row["rm"] == rm]
                if abs(np.mean(cells) - printed) > 0.051:
                    off.add((part, rm))
                    assert f"({np.mean(cells):.2f}, {printed} printed)" in README.replace("\n", " ")
    assert off == CONTRADICTED


def test_files_of_others_say_the_same(rmbench_data: Path) -> None:
    def given(path: str) -> list[dict[str, str]]:
        return list(csv.DictReader((rmbench_data / path).read_text().splitlines()))

    strict = {
        (row["prm"], row["benchmark"]): float(row["Pass_official"])
        for row in given("strictprmbench/results/primary_table.csv")
    }
    names = dict(zip(strict, rows("strictprmbench_best_of_32.csv"), strict=True))
    assert {key: float(row["value"]) for key, row in names.items()} == strict
    critics = {
        (row["model"], f"{name} by critics"): float(row[name])
        for row in given("policy_results/prmbench/llm_critic_bon8_vs_prmbench.csv")
        if row["prmbench_score"] != "-" and not row["model"].startswith(("Standard", "Somers"))
        for name in ("gsm8k", "math", "olympiadbench", "mmlu")
    }
    assert {(row["rm"], row["benchmark"]): float(row["value"])
            for row in rows("prmbench_critics_best_of_8.csv")} == critics  # fmt: skip
    for file, benchmark in (("rewardbench_v1", "RewardBench"), ("rewardbench_v2", "RewardBench 2")):
        board = {row["model"]: row for row in given(f"benchmark_matrices/{file}.csv")}
        for row in rows("benchmarks_metrics.csv"):
            part = row["benchmark"].removeprefix(f"{benchmark} ") if row["benchmark"] != benchmark else "Score"
            if row["rm"] in board and part in board[row["rm"]] and row["benchmark"].startswith(benchmark):
                assert float(row["value"]) == float(board[row["rm"]][part])
    leaderboard = {row["Model Name"]: row for row in given("benchmark_matrices/rm_bench_leaderboard.csv")}
    rm_bench = [row for row in rows("benchmarks_metrics.csv") if row["benchmark"].startswith("RM-Bench")]
    assert len(rm_bench) == 6 * 8
    for row in rm_bench:
        part = row["benchmark"].removeprefix("RM-Bench").strip() or "Overall"
        assert float(row["value"]) == float(leaderboard[row["rm"]][part])
        assert leaderboard[row["rm"]]["Potentially Score Mismatch"] == "False"


@pytest.mark.parametrize(
    ("file", "name"), [("internlm2", "internlm2-7b-reward"), ("Math_Shepherd", "math-shepherd-mistral-7b-prm")]
)
def test_rewardmath_figures_are_those_of_its_score_files(rmbench_data: Path, file: str, name: str) -> None:
    scores = rmbench_data / "rewardmath" / "scores" / f"{file}_reward.json"
    (result,) = rmbench.evaluate(f"scores:{scores}", ["rewardmath"], data={"rewardmath": scores})
    table = [row for row in rows("rewardmath_metrics.csv") if row["rm"] == name and row["benchmark"] == "RewardMATH"]
    for row in table:
        found = result.metric(row["metric"])
        assert [float(row[key]) for key in ("value", "low", "high")] == pytest.approx(
            [found.value, found.ci_low, found.ci_high], abs=6e-5
        )
    assert len(table) == 2


def test_pairs_of_the_seven_are_those_of_their_files(rmbench_data: Path) -> None:
    folder = rmbench_data / "rewardmath" / "rewardbench_math"
    published = {
        row["rm"]: float(row["value"])
        for row in rows("rewardmath_metrics.csv")
        if row["benchmark"] == "RewardBench math-prm"
    }
    names = {
        "internlm2": "internlm2-7b-reward", "Skywork-Llama-3.1-8B": "Skywork-Reward-Llama-3.1-8B",
        "ArmoRM": "ArmoRM-Llama3-8B-v0.1", "beaver": "beaver-7b-v2.0-reward", "oasst-rm": "oasst-rm-2.1-pythia-1.4b",
        "ReasonEval_7B": "ReasonEval-7B", "Math_Shepherd": "math-shepherd-mistral-7b-prm",
    }  # fmt: skip
    for file, name in names.items():
        pairs: dict[str, dict[str, float]] = {}
        for row in json.loads((folder / f"rewardbench_{file}.json").read_text()):
            if "score" in row:
                pairs[row["problem"]] = dict(zip(("chosen", "rejected"), row["score"], strict=True))
            else:
                product = math.prod(row["output"]["step_scores"])
                pairs.setdefault(row["problem"], {})[row["solution_type"]] = product
        assert np.mean([pair["chosen"] > pair["rejected"] for pair in pairs.values()]) == pytest.approx(
            published[name], abs=6e-5
        )


def rewardmath(models: tuple[str, ...]) -> tuple[Array, Array, Array, Array]:
    """Accuracy on RewardBench's pairs and on RewardMATH, with their standard errors."""
    found = {one.name: one.figures for one in series(shipped("metrics"), read_aliases())}
    pairs, problems = found["RewardBench math-prm accuracy"], found["RewardMATH accuracy"]
    names = models or tuple(problems)

    def columns(figures: dict[str, Reported]) -> tuple[Array, Array]:
        return (
            np.array([figures[name].value for name in names]),
            np.array([figures[name].error for name in names]),
        )

    (x, x_error), (y, y_error) = columns(dict(pairs)), columns(dict(problems))
    return x, y, x_error, y_error


@pytest.mark.parametrize(
    ("models", "r", "rho"), [(SEVEN, 0.715, 0.649), (FIVE, 0.823, 0.718), ((), 0.547, 0.523)], ids=["7", "5", "13"]
)
def test_rewardmath_against_rewardbenchs_math_pairs_is_what_the_readme_says(
    models: tuple[str, ...], r: float, rho: float
) -> None:
    x, y, x_error, y_error = rewardmath(models)
    assert association.pearson(x, y) == pytest.approx(r, abs=0.005)
    assert association.spearman(x, y) == pytest.approx(rho, abs=0.005)
    said = " ".join(README.split())
    for value, (low, high) in (
        (association.pearson(x, y), association.correlation_interval(x, y, x_error, y_error)),
        (association.spearman(x, y), association.rank_interval(x, y, x_error, y_error)),
    ):
        assert low < 0.2
        assert high - low > 0.9
        printed = f"{value:.3f} [{low:.2f}, {high:.2f}]".replace("0.", ".")
        assert printed in said


def test_names_that_are_one_model_are_joined_across_tables() -> None:
    aliases = read_aliases()
    joined = Counter(aliases.get(row.rm, row.rm) for row in shipped("policy results"))
    assert joined["MathShepherd-Mistral-7B"] == 4 + 8 + 18 + 12 + 2
    assert joined["Qwen2.5-Math-PRM-7B"] == 4 + 8 + 12 + 2
    assert joined["InternLM2-7B-Reward"] == 1 + 2
