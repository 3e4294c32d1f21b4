"""`rmbench correlate --mismatch`: RewardMATH against RewardBench's math pairs, planted orders, and what is refused."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rewardbench_math
import scipy.stats

import rmbench
from rmbench.cli import main
from rmbench.compare.entrants import read_models
from rmbench.compare.report import compare
from rmbench.correlate.mismatch import MismatchReport, Slice, mismatch
from rmbench.correlate.sides import Judged, Side, judged_by, side_of
from rmbench.errors import ResultError
from rmbench.metrics import pick
from rmbench.metrics.interval import mean
from rmbench.metrics.paired import holm
from rmbench.plugins import load_task
from rmbench.results.schema import TaskResult

PAIRS, POOLS, MODELS, SAMPLES = 160, 90, 6, 4
STEPS = ("ReasonEval_7B", "Math_Shepherd")
REWARDMATH = {
    "internlm2": "internlm2",
    "skywork_llama3": "Skywork-Llama-3.1-8B",
    "ArmoRM": "ArmoRM",
    "beaver": "beaver",
    "oasst-rm": "oasst-rm",
    "ReasonEval_7B": "ReasonEval_7B",
    "Math_Shepherd": "Math_Shepherd",
}


# RewardMATH's own files.


@pytest.fixture(scope="module")
def rewardmath(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TaskResult]]:
    """Seven models on RewardMATH and on RewardBench's math pairs, by the official score files: a folder and what is in
    it.
    """
    if "RMBENCH_DATA" not in os.environ:
        pytest.skip("RMBENCH_DATA is not set")
    folder, out = Path(os.environ["RMBENCH_DATA"]) / "rewardmath", tmp_path_factory.mktemp("rewardmath")
    pairs = {"rewardbench_math": folder / "rewardbench_math" / "rewardbench_Math_Shepherd.json"}
    results: list[TaskResult] = []
    for model, name in REWARDMATH.items():
        scores = folder / "rewardbench_math" / f"rewardbench_{name}.json"
        if model in STEPS:
            scores = rewardbench_math.step_scores(scores, out / f"{model}.jsonl")
        official = folder / "scores" / f"{model}_reward.json"
        results += rmbench.evaluate(f"{model}=scores:{scores}", [rewardbench_math.TASK], data=pairs, out=out)
        results += rmbench.evaluate(
            f"{model}=scores:{official}", ["rewardmath"], data={"rewardmath": official}, out=out
        )
    return out, results


def test_rewardmath_against_rewardbench_math_is_what_its_authors_warn_of(
    rewardmath: tuple[Path, list[TaskResult]], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    folder, results = rewardmath
    report = mismatch(results, "rewardbench_math", find, {})
    headline, picked = report.slices
    assert (headline.task, headline.figure, picked.figure) == ("rewardmath", "accuracy", "picked")
    assert headline.pearson is not None
    assert headline.spearman is not None
    assert headline.pearson.value == pytest.approx(0.715, abs=0.005)
    assert headline.spearman.value == pytest.approx(0.649, abs=0.005)
    for found in (headline.pearson, headline.spearman):
        assert found.low < 0 < 0.9 < found.high  # seven models leave all but everything open
    assert next(iter(report.models)) == "skywork_llama3"
    assert headline.first == "internlm2"
    assert headline.cost.value == pytest.approx(0.3727 - 0.2215, abs=1e-4)
    assert (picked.chance, picked.oracle) == (pytest.approx(0.1), 1.0)
    given = ["correlate", "--mismatch", "python:rewardbench_math:TASK", "--results", str(folder)]
    assert main(given) == 0
    printed = capsys.readouterr().out
    assert "0.715 [-0.10, 0.96]" in printed
    assert "skywork_llama3 > internlm2 (p 0.0029)" in printed


def test_the_five_without_steps_go_together_more_and_tell_less(rewardmath: tuple[Path, list[TaskResult]]) -> None:
    results = [one for one in rewardmath[1] if one.subject.id not in STEPS]
    found = mismatch(results, "rewardbench_math", find, {}, at_least=5).slices[0]
    assert found.pearson is not None
    assert found.spearman is not None
    assert found.pearson.value == pytest.approx(0.823, abs=0.005)
    assert found.spearman.value == pytest.approx(0.718, abs=0.005)
    for one in (found.pearson, found.spearman):
        assert one.high - one.low > 1.2


def test_correlate_itself_gives_the_same_of_the_two_accuracies(
    rewardmath: tuple[Path, list[TaskResult]], tmp_path: Path, capsys: Any
) -> None:
    folder, results = rewardmath
    rows = ["rm,policy,method,benchmark,metric,value,low,high,n,source,unit"]
    for one in results:
        if one.task.name == "rewardmath":
            found = one.metric("accuracy")
            rows.append(
                f"{one.subject.id},ten systems,selection,RewardMATH,accuracy,{found.value},{found.ci_low},"
                f"{found.ci_high},{found.n},rmbench,fraction"
            )
    table = tmp_path / "rewardmath.csv"
    table.write_text("\n".join(rows) + "\n")
    assert main(["correlate", "--results", str(folder), "--policy-results", str(table), "--json"]) == 0
    pairs = {one["metric"]: one for one in json.loads(capsys.readouterr().out)}
    pair = pairs["rewardbench_math accuracy"]
    assert (pair["n"], round(pair["pearson"], 3), round(pair["spearman"], 3)) == (7, 0.715, 0.649)
    assert pair["ci_low"] < 0 < 0.9 < pair["ci_high"]
    assert {fit["form"] for fit in pair["fit"]["fits"]} == {"mean", "line", "probit", "parabola"}


def find(name: str) -> Any:
    return rewardbench_math.TASK if name == "rewardbench_math" else load_task(name)


# Planted orders: model i is right on more pairs the larger i; it picks better on slice `same`, worse on `turned`.


def model(i: int, count: int = MODELS) -> Callable[[str, str], float]:
    skill = 0.5 + 0.45 * i / (count - 1)

    def reward(prompt: str, response: str) -> float:
        (kind, number), slot = prompt.split(), int(response[-1])
        able = 1 - skill + 0.45 if kind == "turned" else skill
        rng = np.random.default_rng([i, int(number), ("pair", "same", "turned").index(kind)])
        right = bool(rng.random() < able)
        order = rng.permutation(9)
        return 20.0 if (slot == 0) == right and slot < 2 else float(order[slot])

    return reward


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> list[TaskResult]:
    folder = tmp_path_factory.mktemp("planted")
    pairs, pools = folder / "pairs.jsonl", folder / "pools.jsonl"
    pairs.write_text(
        "".join(
            json.dumps({"prompt": f"pair {i}", "chosen": "answer 0", "rejected": "answer 1"}) + "\n"
            for i in range(PAIRS)
        )
    )
    pools.write_text(
        "".join(
            json.dumps({
                "prompt": f"{kind} {i}", "subset": kind,
                "candidates": [f"answer {slot}" for slot in range(SAMPLES)], "labels": [1, 0, 0.25, 0.25],
            }) + "\n"
            for kind in ("same", "turned")
            for i in range(POOLS)
        )
    )  # fmt: skip
    results = []
    for i in range(MODELS):
        for task, data in (("preference", pairs), ("best_of_n", pools)):
            results += rmbench.evaluate(model(i), [task], data={task: data}, name=f"m{i}")
    return results


@pytest.fixture(scope="module")
def report(planted: list[TaskResult]) -> MismatchReport:
    return mismatch(planted, "preference", load_task, {})


def slice_of(report: MismatchReport, name: str, figure: str = "picked") -> Slice:
    (found,) = [one for one in report.slices if one.slice == name and one.figure == figure]
    return found


def test_planted_orders_are_found_slice_by_slice(report: MismatchReport) -> None:
    assert [one.slice for one in report.slices] == ["all", "all", "subset=same", "subset=turned"]
    same, turned = slice_of(report, "subset=same"), slice_of(report, "subset=turned")
    assert same.pearson is not None
    assert turned.pearson is not None
    assert same.pearson.value > 0.9
    assert same.pearson.low > 0
    assert turned.pearson.value < -0.8
    assert turned.pearson.high < same.pearson.value
    assert not any(swap.is_told for swap in same.swaps)
    assert sum(swap.is_told for swap in turned.swaps) > 4
    told = {(swap.above, swap.below) for swap in turned.swaps if swap.is_told}
    assert ("m5", "m0") in told
    assert all(int(above[1]) > int(below[1]) for above, below in told)


def test_what_is_picked_is_that_of_a_loop_over_the_pools(planted: list[TaskResult], report: MismatchReport) -> None:
    labels = np.array([1, 0, 0.25, 0.25])
    for kind in ("same", "turned"):
        found = slice_of(report, f"subset={kind}")
        for i in range(MODELS):
            rewards = [[model(i)(f"{kind} {n}", f"answer {slot}") for slot in range(SAMPLES)] for n in range(POOLS)]
            assert found.models[f"m{i}"].value == pytest.approx(np.mean([labels[np.argmax(row)] for row in rewards]))
        assert (found.examples, found.chance, found.oracle) == (POOLS, pytest.approx(labels.mean()), 1.0)


def test_correlations_and_ranks_are_those_of_the_figures(report: MismatchReport) -> None:
    for found in report.slices:
        x = [found.on_benchmark[f"m{i}"].value for i in range(MODELS)]
        y = [found.models[f"m{i}"].value for i in range(MODELS)]
        assert found.pearson is not None
        assert found.spearman is not None
        assert found.pearson.value == pytest.approx(scipy.stats.pearsonr(x, y)[0])
        assert found.spearman.value == pytest.approx(scipy.stats.spearmanr(x, y)[0])
        assert found.kendall == pytest.approx(scipy.stats.kendalltau(x, y)[0])
        assert found.pearson.low < found.pearson.value < found.pearson.high
        assert found.spearman.low < found.spearman.value < found.spearman.high
        swapped = [
            (a, b) if x[a] > x[b] else (b, a)
            for a, b in combinations(range(MODELS), 2)
            if (x[a] - x[b]) * (y[a] - y[b]) < 0
        ]
        assert {(swap.above, swap.below) for swap in found.swaps} == {(f"m{a}", f"m{b}") for a, b in swapped}
        assert found.pairs == MODELS * (MODELS - 1) // 2
        assert found.first == f"m{int(np.argmax(y))}"
        assert found.cost.value == pytest.approx(max(y) - y[int(np.argmax(x))])
        assert list(found.models) == sorted(found.models, key=lambda name: -found.models[name].value)


def test_differences_are_those_of_compare_and_a_swap_needs_both(
    planted: list[TaskResult], report: MismatchReport, tmp_path: Path
) -> None:
    from rmbench.results import files

    for one in planted:
        if one.task.name == "preference" and one.subject.id in ("m0", "m5"):
            files.write(one, tmp_path / one.subject.id)
    models = read_models([tmp_path / "m0", tmp_path / "m5"], {})
    (contrast,) = [one for one in compare(models, load_task).tasks[0].contrasts if one.headline]
    swap = next(one for one in slice_of(report, "subset=turned").swaps if (one.above, one.below) == ("m5", "m0"))
    assert contrast.difference is not None
    assert swap.benchmark.value == pytest.approx(contrast.difference.value)
    assert (swap.benchmark.low, swap.benchmark.high) == pytest.approx(
        (contrast.difference.ci_low, contrast.difference.ci_high)
    )
    for found in report.slices:
        for one in found.swaps:
            assert one.p == max(one.benchmark.p, one.slice.p)
            assert one.benchmark.value > 0 > one.slice.value
            assert one.p_holm >= one.p


def test_holm_is_over_every_pair_of_every_slice(report: MismatchReport) -> None:
    swaps = [swap for found in report.slices for swap in found.swaps]
    family = [*(swap.p for swap in swaps), *[1.0] * (sum(found.pairs for found in report.slices) - len(swaps))]
    ordered, floor = sorted(range(len(family)), key=lambda i: family[i]), 0.0
    for rank, place in enumerate(ordered):
        floor = max(floor, min(1.0, (len(family) - rank) * family[place]))
        if place < len(swaps):
            assert swaps[place].p_holm == pytest.approx(floor)


def test_less_that_is_better_ranks_first_and_is_apart_the_other_way(planted: list[TaskResult]) -> None:
    judged = judged_by([one for one in planted if one.task.name == "best_of_n"], {})
    more = side_of(judged, lambda one, outcomes: pick.statistics(outcomes, one.result.primary_view)[0], range(100), 0)
    assert more is not None
    less = replace(more, statistics=[replace(one, better="lower") for one in more.statistics])
    assert list(less.places()) == sorted(less.places(), key=lambda name: less.places()[name].value)
    ours, theirs = more.apart("m0", "m5"), less.apart("m0", "m5")
    assert (theirs.value, theirs.low, theirs.high, theirs.p) == (-ours.value, -ours.high, -ours.low, ours.p)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_what_is_printed_is_whole_at_any_width(
    planted: list[TaskResult], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    from rmbench.results import files

    for one in planted:
        files.write(one, tmp_path / one.task.name / one.subject.id)
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["correlate", "--mismatch", "preference", "--results", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= width
    assert "…" not in printed
    assert "subset=turned" in printed
    assert all(f" {name} " in printed for name in ("m0", "m5", "picked", "accuracy"))
    assert "m5 above m0 by" in " ".join(printed.split())


# What takes no part.


def test_names_of_one_model_are_joined_by_aliases(planted: list[TaskResult]) -> None:
    def renamed(result: TaskResult) -> TaskResult:
        name = f"org/{result.subject.id}"
        return result.model_copy(update={"subject": result.subject.model_copy(update={"id": name})})

    results = [renamed(one) if one.task.name == "best_of_n" else one for one in planted]
    with pytest.raises(ResultError, match="best_of_n is left out: of its models 0 have the benchmark"):
        mismatch(results, "preference", load_task, {})
    found = mismatch(results, "preference", load_task, {f"org/m{i}": f"m{i}" for i in range(MODELS)})
    assert len(found.slices[0].models) == MODELS


def test_small_slices_and_the_benchmarks_own_pools(planted: list[TaskResult]) -> None:
    own = mismatch(planted, "best_of_n", load_task, {})
    assert [(one.task, one.slice) for one in own.slices] == [
        ("preference", "all"), ("preference", "all"),
        ("best_of_n", "all"), ("best_of_n", "subset=same"), ("best_of_n", "subset=turned"),
    ]  # fmt: skip
    alone = mismatch([one for one in planted if one.task.name == "best_of_n"], "best_of_n", load_task, {})
    assert [one.slice for one in alone.slices] == ["all", "subset=same", "subset=turned"]


def test_two_models_have_swaps_and_no_correlation(planted: list[TaskResult]) -> None:
    found = mismatch([one for one in planted if one.subject.id in ("m0", "m5")], "preference", load_task, {})
    assert found.slices[0].reason == "2 common models, expected 6 or more"
    turned = slice_of(found, "subset=turned")
    assert (turned.pearson, turned.reason) == (None, "2 common models, expected 6 or more")
    assert [swap.is_told for swap in turned.swaps] == [True]
    json.loads(found.json())


@pytest.mark.parametrize(
    ("names", "task", "says"),
    [
        ((), "rewardmath", "no answered results of 'rewardmath'; there are some of preference, best_of_n"),
        (("best_of_n",), "preference", "nothing to hold preference against: it is the only task"),
    ],
)
def test_what_cannot_be_told_is_one_line(planted: list[TaskResult], names: Sequence[str], task: str, says: str) -> None:
    with pytest.raises(ResultError, match=says):
        mismatch([one for one in planted if one.task.name not in names], task, load_task, {})


def test_a_task_that_is_not_installed_has_its_pools_and_no_headline(planted: list[TaskResult]) -> None:
    def renamed(result: TaskResult) -> TaskResult:
        return result.model_copy(update={"task": result.task.model_copy(update={"name": "gone"})})

    results = [renamed(one) if one.task.name == "best_of_n" else one for one in planted]
    found = mismatch(results, "preference", load_task, {})
    assert [(one.task, one.figure) for one in found.slices] == [("gone", "picked")] * 3
    assert found.left_out == [
        "the headline of gone is left out: task 'gone' is not installed, and only its measure gives its figures"
    ]
    with pytest.raises(ResultError, match="task 'gone' is not installed"):
        mismatch(results, "gone", load_task, {})


def test_a_task_whose_headline_is_what_is_picked_has_it_once(planted: list[TaskResult]) -> None:
    def light(name: str) -> Any:
        return replace(load_task(name), measure=pick.PICK) if name == "best_of_n" else load_task(name)

    def measured(result: TaskResult) -> TaskResult:
        return result.model_copy(update={"task": result.task.model_copy(update={"measure": "pick"})})

    results = [measured(one) if one.task.name == "best_of_n" else one for one in planted]
    found = mismatch(results, "preference", light, {})
    assert [(one.slice, one.figure) for one in found.slices] == [
        ("all", "picked"), ("subset=same", "picked"), ("subset=turned", "picked"),
    ]  # fmt: skip


def test_aliases_that_make_two_results_one_model_are_refused(planted: list[TaskResult]) -> None:
    with pytest.raises(ResultError, match="two results on preference are of 'm0' by the aliases"):
        mismatch(planted, "preference", load_task, {"m1": "m0"})


def test_what_is_of_policy_results_is_refused_beside_it(tmp_path: Path, capsys: Any) -> None:
    given = ("--mismatch", "preference", "--downstream", "Arena", "--plots", str(tmp_path))
    assert main(["correlate", *given]) == 2
    line = capsys.readouterr().err
    assert "--downstream, --plots: of policy results, which --mismatch does without" in line


def test_no_results_are_one_line(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["correlate", "--mismatch", "preference"]) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "leaderboards/results" in line


def test_what_a_model_left_unanswered_takes_no_part_and_is_said(tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    data.write_text(
        "".join(json.dumps({"prompt": f"p {i}", "chosen": "a", "rejected": "bb"}) + "\n" for i in range(20))
    )
    results = [
        *rmbench.evaluate("length", ["preference", "best_of_n"], data={"preference": data}),
        *rmbench.evaluate("random", ["preference", "best_of_n"], data={"preference": data}),
        *rmbench.evaluate(
            lambda prompt, response: float("nan"), ["preference"], data={"preference": data}, name="none"
        ),
    ]
    found = mismatch(results, "preference", load_task, {})
    assert found.left_out[0] == "none on preference is left out: examples are unanswered"
    assert set(found.models) == {"rmbench/length", "rmbench/random"}


@pytest.mark.prove
def test_models_that_a_slice_does_not_tell_apart_are_not_said_to_swap() -> None:
    """The benchmark tells four models apart; on two slices they are equal: in at most 5 % of reports one is told."""
    told = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        benchmark = made_side([rng.random(200) < p for p in (0.95, 0.8, 0.6, 0.4)])
        slices = [made_side(list(rng.random((4, 80)) < 0.5)) for _ in range(2)]
        swaps = [max(benchmark.apart(one, other).p, side.apart(one, other).p)
                 for side in slices for one, other in combinations(benchmark.models, 2)]  # fmt: skip
        told += min(holm(swaps)) < 0.05
    assert told <= 300 * 0.05 + 2 * math.sqrt(300 * 0.05 * 0.95)


def made_side(right: Sequence[Any]) -> Side:
    """A figure of as many models: the share that each has right."""
    judged = [Judged(f"m{i}", None, []) for i in range(len(right))]  # type: ignore[arg-type]
    statistics = [mean(f"m{i}", np.asarray(one, float), "proportion") for i, one in enumerate(right)]
    return Side(judged, statistics, [], np.arange(len(right[0])), 0)
