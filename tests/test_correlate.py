"""`rmbench correlate`: PPE's and PRMBench's published figures, planted correlations, and what it refuses."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests

import rmbench
from rmbench.cli import main
from rmbench.correlate.report import CorrelationReport, Pair, _ranks, correlate
from rmbench.correlate.tables import (
    METRICS,
    POLICY_RESULTS,
    Reported,
    Series,
    near_matches,
    read_aliases,
    read_results,
    read_table,
    shipped,
)
from rmbench.results import files

PPE = {"MATH": 0.751, "MMLU-Pro": 0.488, "GPQA": 0.145, "MBPP-Plus": 0.408, "IFEval": 0.158, "correctness mean": 0.602}
KEYS = {"metric", "downstream", "n", "pearson", "spearman", "kendall", "somers_d", "ci_low", "ci_high", "p"}
Y = [1.0, 2, 3, 4, 5, 6, 7, 8]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without results, so that nothing is added unasked."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def published() -> CorrelationReport:
    return correlate(shipped("metrics"), shipped("policy results"), read_aliases())


def pair(report: CorrelationReport, metric: str, downstream: str) -> Pair:
    (found,) = [one for one in report.pairs if (one.metric, one.downstream) == (metric, downstream)]
    return found


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def rm(i: int) -> str:
    return f"model-{chr(97 + i)}"


def table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> Path:
    """A CSV of rows, in which what is not given is filled in."""
    given = {"policy": "base", "method": "DPO", "benchmark": "Bench", "metric": "accuracy", "source": "made up"}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows([given | dict(row) for row in rows])
    return path


def metrics(path: Path, values: Sequence[float], **more: object) -> Path:
    return table(path, METRICS, [{"rm": rm(i), "value": value, **more} for i, value in enumerate(values)])


def policies(path: Path, values: Sequence[float] = Y, **more: object) -> Path:
    rows = [{"rm": rm(i), "benchmark": "Arena", "metric": "score", "value": v, **more} for i, v in enumerate(values)]
    return table(path, POLICY_RESULTS, rows)


def run(*arguments: object) -> int:
    return main(["correlate", *map(str, arguments)])


def as_json(capsys: Any, *arguments: object) -> list[dict[str, Any]]:
    assert run("--json", *arguments) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def error_of(capsys: Any, *arguments: object) -> str:
    assert run(*arguments) in (1, 2)
    line: str = capsys.readouterr().err
    assert line.count("\n") == 1, line
    assert line.startswith("rmbench: error: ")
    return line


# What others published.


@pytest.mark.parametrize("benchmark", PPE)
def test_ppes_accuracies_against_arena_over_its_nine_models(published: CorrelationReport, benchmark: str) -> None:
    found = pair(published, f"PPE {benchmark} accuracy", "Chatbot Arena score")
    assert (found.n, round(found.pearson or 0, 3)) == (9, PPE[benchmark])


def test_without_the_aliases_ppe_has_seven_models_and_names_the_near_ones() -> None:
    report = correlate(shipped("metrics"), shipped("policy results"), {}, downstream=["Chatbot Arena"])
    found = pair(report, "PPE MATH accuracy", "Chatbot Arena score")
    assert (found.n, round(found.pearson or 0, 3)) == (7, 0.795)
    assert report.near["internLM2-7B-Reward"] == "InternLM2-7B-Reward"
    assert report.near["internLM2-20B-Reward"] == "InternLM2-20B-Reward"


def test_prmbench_has_both_of_somers_d(published: CorrelationReport) -> None:
    found = pair(published, "PRMBench prmbench_score", "gsm8k accuracy")
    assert found.n == 13
    assert round(found.somers_d or 0, 3) == 0.485
    assert round(found.somers_d_of_metric or 0, 3) == 0.429


def test_nothing_of_a_few_models_survives_holm(published: CorrelationReport) -> None:
    assert min(one.p_holm for one in published.pairs if one.p_holm is not None) > 0.05
    tested = [one for one in published.pairs if one.p is not None]
    expected = multipletests([one.p for one in tested], method="holm")[1]
    assert [one.p_holm for one in tested] == pytest.approx(list(expected))


def test_shipped_figures_are_those_of_the_sources(rmbench_data: Path) -> None:
    folder = rmbench_data / "policy_results"
    sources = ("lmarena.github.io", "github.com/ssmisya/PRMBench best-of-8 table")
    every = [*shipped("metrics"), *shipped("policy results")]
    ours = {(r.rm, r.benchmark, r.metric): r for r in every if r.source.startswith(sources)}
    theirs: dict[tuple[str, str, str], list[float]] = {}
    names = {"MMLU Pro": "MMLU-Pro", "Math": "MATH", "MBPP Plus": "MBPP-Plus", "IF Eval": "IFEval"}
    for file, metric in (("accuracy", "accuracy"), ("best_of_k_max_score", "max_score"), ("roc_auc", "roc_auc")):
        for row in rows_of(folder / f"correctness_{file}.csv"):
            for column, value in list(row.items())[1:]:
                benchmark = {"Mean": "correctness mean"}.get(column, names.get(column, column))
                theirs[row["Reward Model"], f"PPE {benchmark}", metric] = [float(value)]
    for row in rows_of(folder / "human_preference_metrics.csv"):
        short = {"R.W. Pearson": "row_wise_pearson", "Conf. Agree.": "confidence_agreement",
                 "Kendalltau": "kendall_tau", "Spearmanr": "spearman"}  # fmt: skip
        for column, value in list(row.items())[1:]:
            metric = short.get(column, column.lower().replace(" ", "_"))
            theirs[row["Reward Model"], "PPE human preference", metric] = [float(value)]
    theirs = {key: value for key, value in theirs.items() if "†" not in key[0]}
    for row in rows_of(folder / "post_rlhf_arena_scores.csv"):
        if row["is_unaltered_baseline"] == "0":
            ends = [float(row[name]) for name in ("arena_score", "ci95_low", "ci95_high")]
            theirs[row["model"], "Chatbot Arena", "score"] = ends
    for row in rows_of(folder / "prmbench" / "prm_bon8_vs_prmbench.csv"):
        if "@" not in row["model"]:
            for name in ("gsm8k", "math", "olympiadbench", "mmlu"):
                theirs[row["model"], name, "accuracy"] = [float(row[name])]
            theirs[row["model"], "PRMBench", "prmbench_score"] = [float(row["prmbench_score"])]
    found = {key: [x for x in (r.value, r.low, r.high) if x is not None] for key, r in ours.items()}
    assert found == theirs
    assert len(found) == 9 + 326 + 13 * 5


def test_the_readme_counts_what_is_shipped() -> None:
    arena = [row for row in shipped("policy results") if row.benchmark == "Chatbot Arena"]
    assert len(arena) == 9
    assert all(row.low is not None and row.high is not None and row.error > 0 for row in arena)
    assert {row.source for row in [*shipped("metrics"), *shipped("policy results")]} >= {arena[0].source}
    assert not any("†" in row.rm or "Instruct" in row.rm or "@" in row.rm for row in shipped("metrics") + arena)


# What is computed.


def test_numbers_are_those_of_scipy(tmp_path: Path, capsys: Any) -> None:
    x = [3.0, 1, 4, 1, 5, 9, 2, 6]
    (found,) = as_json(
        capsys, "--metrics", metrics(tmp_path / "m.csv", x), "--policy-results", policies(tmp_path / "p.csv")
    )
    assert set(found) >= KEYS
    assert (found["metric"], found["downstream"], found["n"]) == ("Bench accuracy", "Arena score", 8)
    assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(x, Y)[0])
    assert found["r_squared"] == pytest.approx(scipy.stats.pearsonr(x, Y)[0] ** 2)
    assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(x, Y)[0])
    assert found["kendall"] == pytest.approx(scipy.stats.kendalltau(x, Y)[0])
    assert found["somers_d"] == pytest.approx(scipy.stats.somersd(Y, x).statistic)
    assert found["somers_d_of_metric"] == pytest.approx(scipy.stats.somersd(x, Y).statistic)
    assert found["ci_low"] < found["pearson"] < found["ci_high"]
    assert found["p"] == found["p_holm"]


def test_an_interval_on_either_side_widens_that_of_the_correlation(tmp_path: Path, capsys: Any) -> None:
    x = [3.0, 1, 4, 1, 5, 9, 2, 6]
    metric, policy = metrics(tmp_path / "m.csv", x), policies(tmp_path / "p.csv")
    rows = [
        {"rm": rm(i), "value": v, "low": v - 3, "high": v + 3, "benchmark": "Arena", "metric": "score"}
        for i, v in enumerate(Y)
    ]
    noisy = table(tmp_path / "noisy.csv", POLICY_RESULTS, rows)
    noisy_metric = table(
        tmp_path / "nm.csv", METRICS, [{"rm": rm(i), "value": v, "low": v - 3, "high": v + 3} for i, v in enumerate(x)]
    )
    widths = []
    for m, p in ((metric, policy), (metric, noisy), (noisy_metric, policy)):
        (found,) = as_json(capsys, "--metrics", m, "--policy-results", p)
        widths.append(found["ci_high"] - found["ci_low"])
    assert widths[0] < min(widths[1:])


def test_metrics_are_ranked_and_a_loss_by_how_it_falls(tmp_path: Path, capsys: Any) -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal(25)
    rows = [
        {"rm": rm(i), "metric": name, "value": value, "better": "lower" if name == "loss" else ""}
        for name, values in (("noise", rng.standard_normal(25)), ("loss", -y + 0.1 * rng.standard_normal(25)),
                             ("accuracy", y + 0.4 * rng.standard_normal(25)))
        for i, value in enumerate(values)
    ]  # fmt: skip
    found = as_json(capsys, "--metrics", table(tmp_path / "m.csv", METRICS, rows),
                    "--policy-results", policies(tmp_path / "p.csv", y.tolist()))  # fmt: skip
    assert [(one["metric"], one["rank"]) for one in found] == [
        ("Bench loss", 1),
        ("Bench accuracy", 2),
        ("Bench noise", 3),
    ]
    assert found[0]["pearson"] < -0.9
    assert [one["rank_high"] for one in found] == [1, 2, 3]


@pytest.mark.parametrize(("count", "known"), [(5, False), (6, True)])
def test_below_six_common_models_there_is_a_dash_and_the_reason(
    tmp_path: Path, capsys: Any, count: int, known: bool
) -> None:
    given = ("--metrics", metrics(tmp_path / "m.csv", [3.0, 1, 4, 1, 5, 9][:count]),
             "--policy-results", policies(tmp_path / "p.csv"))  # fmt: skip
    (found,) = as_json(capsys, *given)
    numbers = [found[name] for name in KEYS - {"metric", "downstream", "n"}]
    assert all((number is not None) == known for number in numbers)
    assert found["n"] == count
    assert run(*given) == 0
    printed = capsys.readouterr().out
    assert ("5 common models, expected 6 or more: Bench accuracy" in printed) is not known


def test_a_constant_is_a_dash_and_the_reason(tmp_path: Path, capsys: Any) -> None:
    (found,) = as_json(
        capsys, "--metrics", metrics(tmp_path / "m.csv", [0.3] * 8), "--policy-results", policies(tmp_path / "p.csv")
    )
    assert found["pearson"] is None
    assert found["reason"] == "Bench accuracy is the same for all 8 common models"


def test_policies_made_in_two_ways_are_two_downstream_figures(tmp_path: Path, capsys: Any) -> None:
    both = [policies(tmp_path / f"{m}.csv", Y if m == "DPO" else Y[::-1], method=m) for m in ("DPO", "PPO")]
    found = as_json(
        capsys, "--metrics", metrics(tmp_path / "m.csv", Y), "--policy-results", both[0], "--policy-results", both[1]
    )
    assert {one["downstream"]: round(one["pearson"]) for one in found} == {
        "Arena score (base, DPO)": 1, "Arena score (base, PPO)": -1,
    }  # fmt: skip


def test_results_of_rmbench_are_metrics_of_their_task(tmp_path: Path, capsys: Any) -> None:
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"p{i}", "chosen": "a", "rejected": "b"}) + "\n" for i in range(20)))
    right = [3, 6, 14, 9, 12, 18]
    for i in range(6):

        def reward(prompt: str, response: str, i: int = i) -> float:
            return float((response == "a") == (int(prompt[1:]) < right[i]))

        out = tmp_path / "leaderboards" / "results"  # where they are looked for unasked
        rmbench.evaluate(reward, ["preference"], data={"preference": data}, out=out, name=rm(i))
    found = as_json(
        capsys, "--policy-results", policies(tmp_path / "p.csv"), "--metrics", metrics(tmp_path / "m.csv", Y)
    )
    (accuracy,) = [one for one in found if one["metric"] == "preference accuracy"]
    assert accuracy["n"] == 6
    assert accuracy["pearson"] == pytest.approx(scipy.stats.pearsonr(right, Y[:6])[0])
    assert accuracy["metric_source"] == "rmbench"


def test_results_over_other_examples_are_another_benchmark(tmp_path: Path, capsys: Any) -> None:
    for count in (10, 12):
        data = tmp_path / f"{count}.jsonl"
        data.write_text(
            "".join(json.dumps({"prompt": f"p{i}", "chosen": "aa", "rejected": "b"}) + "\n" for i in range(count))
        )
        (result,) = rmbench.evaluate(
            "length", ["preference"], data={"preference": data}, out=tmp_path / str(count) / "out"
        )
        files.write(result, tmp_path / "out" / str(count))
    found = as_json(capsys, "--results", tmp_path / "out", "--policy-results", policies(tmp_path / "p.csv"),
                    "--metrics", metrics(tmp_path / "m.csv", Y))  # fmt: skip
    names = {one["metric"] for one in found if one["metric"].endswith(" accuracy")}
    assert len(names) == 3
    assert sum(name.startswith("preference v") for name in names) == 2


def test_results_over_other_responses_are_another_benchmark(tmp_path: Path, capsys: Any) -> None:
    for longer in (2, 3):
        data = tmp_path / f"{longer}.jsonl"
        rows = ({"id": f"e{i}", "prompt": f"p{i}", "chosen": "a" * longer, "rejected": "b"} for i in range(10))
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        rmbench.evaluate("length", ["preference"], data={"preference": data}, out=tmp_path / "out")
    names = {row.benchmark for row in read_results(tmp_path / "out")[0]}
    assert len(names) == 2
    assert all(name.startswith("preference v2 both ") for name in names)


# What is printed and drawn.


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_is_whole_at_any_width(monkeypatch: pytest.MonkeyPatch, capsys: Any, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert run("--downstream", "Chatbot Arena") == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= width
    for piece in ("0.751", "[0.13, 0.95]", "[1, 45]", "PPE MATH accuracy", "0.81", "0.67", "0.66", "0.68", "probit"):
        assert piece in printed
    assert "…" not in printed
    assert printed.index("PPE MATH accuracy") < printed.index("PPE human preference")


def test_markup_and_control_characters_in_names_stay_text(tmp_path: Path, capsys: Any) -> None:
    given = metrics(tmp_path / "m.csv", Y, benchmark="[red]\x1b[31mB", source="[bold]")
    assert run("--metrics", given, "--policy-results", policies(tmp_path / "p.csv")) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "[red]" in printed


def test_every_pair_has_its_plot_with_every_model_named(tmp_path: Path, capsys: Any) -> None:
    assert run("--plots", tmp_path / "plots", "--downstream", "gsm8k") == 0
    plots = sorted((tmp_path / "plots").iterdir())
    assert len(plots) == 6
    svg = (tmp_path / "plots" / "gsm8k-accuracy--PRMBench-prmbench_score.svg").read_text()
    assert all(row.rm in svg for row in shipped("policy results") if row.benchmark == "gsm8k")
    assert "r = 0.596" in svg
    assert "6 plots" in capsys.readouterr().err


def test_names_that_look_alike_in_a_path_have_a_plot_each(tmp_path: Path) -> None:
    first, second = (metrics(tmp_path / f"{i}.csv", Y, benchmark=name) for i, name in enumerate(("a/b", "a b")))
    assert (
        run(
            "--metrics",
            first,
            "--metrics",
            second,
            "--policy-results",
            policies(tmp_path / "p.csv"),
            "--plots",
            tmp_path / "x",
        )
        == 0
    )
    assert len(list((tmp_path / "x").iterdir())) == 2


def test_plots_without_their_packages_are_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert "pip install 'rmbench[site]'" in error_of(
        capsys, "--plots", tmp_path / "plots", "--json", "--downstream", "mmlu"
    )


# What is refused.


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"value": "high"}, "row 2, `value`: expected a finite number, got 'high'"),
        ({"value": "nan"}, "row 2, `value`: expected a finite number, got 'nan'"),
        ({"value": "1e200"}, "row 2, `value`: expected a number up to 1e+100, got '1e200'"),
        ({"value": ""}, "row 2, `value`: empty"),
        ({"rm": " "}, "row 2, `rm`: empty"),
        ({"source": ""}, "row 2, `source`: empty"),
        ({"low": "1"}, "row 2, `high`: empty, but the other end is not"),
        ({"low": "3", "high": "4"}, "row 2, `low`: [3, 4] does not hold the value 2"),
        ({"low": "0", "high": "1"}, "row 2, `high`: [0, 1] does not hold the value 2"),
        ({"low": "inf", "high": "inf"}, "row 2, `low`: expected a finite number, got 'inf'"),
        ({"n": "1.5"}, "row 2, `n`: expected a whole number from 1, got '1.5'"),
        ({"better": "less"}, "row 2, `better`: expected higher or lower, got 'less'"),
        ({"n": "0"}, "row 2, `n`: expected a whole number from 1, got '0'"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, capsys: Any, row: dict[str, str], says: str) -> None:
    given = table(tmp_path / "m.csv", METRICS, [{"rm": "a", "value": 1}, {"rm": "b", "value": 2, **row}])
    assert f"m.csv, {says}" in error_of(capsys, "--metrics", given)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "m.csv: no column 'rm'"),
        (
            "rm,benchmark,metric,valeu,low,high,n,source\n",
            "m.csv: unknown column 'valeu'; value? the columns of metrics are",
        ),
        ("rm,benchmark,metric,value,low,high,n\n", "m.csv: no column 'source'"),
        ("rm,rm,benchmark,metric,value,low,high,n,source\n", "m.csv: column 'rm' twice"),
        ("rm,benchmark,metric,value,low,high,n,source\n", "m.csv: no rows in it"),
        (
            "rm,benchmark,metric,value,low,high,n,source\na,b,c,1,,\n",
            "m.csv, row 1: expected 8 cells, one a column, got 6",
        ),
        ('rm,benchmark,metric,value,low,high,n,source\na,"b"x,c,1,,,,s\n', "m.csv, line 2: invalid CSV"),
    ],
)
def test_a_malformed_table_is_named(tmp_path: Path, capsys: Any, text: str, says: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    assert says in error_of(capsys, "--metrics", tmp_path / "m.csv")


def test_a_metric_table_is_no_policy_table(tmp_path: Path, capsys: Any) -> None:
    given = table(tmp_path / "m.csv", METRICS[:-2], [{"rm": rm(0), "value": 1.0}])
    assert "no column 'policy'; the columns of policy results are" in error_of(capsys, "--policy-results", given)


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path: Path, capsys: Any) -> None:
    assert "none.csv: cannot be read (No such file" in error_of(capsys, "--metrics", tmp_path / "none.csv")
    assert "none.toml: cannot be read (No such file" in error_of(capsys, "--aliases", tmp_path / "none.toml")
    assert "no results" in error_of(capsys, "--results", tmp_path)


def test_one_model_with_two_figures_is_refused_and_the_same_figure_twice_is_not(tmp_path: Path, capsys: Any) -> None:
    rows = [{"rm": rm(i), "value": v} for i, v in enumerate(Y)]
    policy = policies(tmp_path / "p.csv")
    again = table(tmp_path / "again.csv", METRICS, [*rows, rows[0]])
    assert as_json(capsys, "--metrics", again, "--policy-results", policy)[0]["n"] == 8
    other = table(tmp_path / "other.csv", METRICS, [*rows, {"rm": rm(0), "value": 9}])
    line = error_of(capsys, "--metrics", other, "--policy-results", policy)
    assert "other.csv, row 9: Bench accuracy of 'model-a' is 9, but 1 at other.csv, row 1" in line


def test_two_names_of_one_model_with_two_figures_are_refused(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "a.toml").write_text('"model-a" = ["model-b"]\n')
    given = ("--metrics", metrics(tmp_path / "m.csv", Y), "--policy-results", policies(tmp_path / "p.csv"))
    line = error_of(capsys, *given, "--aliases", tmp_path / "a.toml")
    assert "'model-b', that is 'model-a', is 2, but 1 at" in line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('"x" = ["same"]\n"y" = ["same"]\n', "'same' stands for 'x' and for 'y'"),
        (
            '"other" = ["internLM2-7B-Reward"]\n',
            "'internLM2-7B-Reward' stands for 'InternLM2-7B-Reward' and for 'other'",
        ),
        ('"x" = ["y"]\n"y" = ["z"]\n', "'z' stands for 'y', which stands for 'x'"),
        ('"x" = "y"\n', "'x' = 'y'; expected a list"),
        ("x = [\n", "invalid TOML"),
    ],
)
def test_aliases_that_lead_to_two_names_are_refused(tmp_path: Path, capsys: Any, text: str, says: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    assert says in error_of(capsys, "--aliases", tmp_path / "a.toml")


def test_no_overlapping_names_is_one_line_with_the_near_ones(tmp_path: Path, capsys: Any) -> None:
    policy = policies(tmp_path / "p.csv")
    upper = [{"rm": rm(i).upper(), "value": v} for i, v in enumerate(Y)]
    line = error_of(capsys, "--metrics", table(tmp_path / "u.csv", METRICS, upper), "--policy-results", policy)
    assert "no model has both a metric and a policy result: 'MODEL-A' may be 'model-a'" in line
    others = [{"rm": f"qwerty{i}", "value": v} for i, v in enumerate(Y)]
    line = error_of(capsys, "--metrics", table(tmp_path / "o.csv", METRICS, others), "--policy-results", policy)
    assert "metrics are of 'qwerty0', 'qwerty1', 'qwerty2' and 5 more, policy results of 'model-a'" in line


def test_an_alias_of_ones_own_joins_two_names(tmp_path: Path, capsys: Any) -> None:
    upper = [{"rm": rm(i).upper() if i < 3 else rm(i), "value": v} for i, v in enumerate(Y)]
    given = ("--metrics", table(tmp_path / "u.csv", METRICS, upper), "--policy-results", policies(tmp_path / "p.csv"))
    assert as_json(capsys, *given)[0]["n"] == 5
    (tmp_path / "a.toml").write_text("".join(f'"{rm(i)}" = ["{rm(i).upper()}"]\n' for i in range(3)))
    assert as_json(capsys, *given, "--aliases", tmp_path / "a.toml")[0]["n"] == 8


def test_a_near_match_has_the_same_numbers(tmp_path: Path) -> None:
    known = ["InternLM2-7B-Reward", "Athene-RM-8B"]
    assert near_matches(["org/internlm2-7b-reward", "InternLM2-20B-Reward", "Athene-RM-8B"], known) == {
        "org/internlm2-7b-reward": "InternLM2-7B-Reward"
    }
    assert read_table(metrics(tmp_path / "m.csv", Y), "metrics")[0].place == "m.csv, row 1"


def test_an_unknown_downstream_benchmark_lists_those_that_there_are(capsys: Any) -> None:
    line = error_of(capsys, "--downstream", "Arena")
    assert "no policy results on 'Arena'; there are " in line
    assert "Chatbot Arena, gsm8k, math, olympiadbench, mmlu, " in line


def test_a_model_with_two_results_on_a_task_is_two_models(tmp_path: Path) -> None:
    for seed in (0, 1):
        rmbench.evaluate("random", ["best_of_n"], out=tmp_path / "out", seed=seed)
    rows, _ = read_results(tmp_path / "out")
    names = {row.rm for row in rows}
    assert len(names) == 2
    assert all(name.startswith("rmbench/random (local-") for name in names)


@pytest.mark.parametrize("answered", [0, 1, 19])
def test_what_a_model_left_unanswered_does_not_count(answered: int, tmp_path: Path, capsys: Any) -> None:
    def some(prompt: str, response: str) -> float:
        seen.setdefault(prompt, len(seen))
        return float(len(response)) if seen[prompt] < answered else float("nan")

    seen: dict[str, int] = {}
    rmbench.evaluate("random", ["best_of_n"], out=tmp_path / "out", limit=20)
    rmbench.evaluate(some, ["best_of_n"], name="some", out=tmp_path / "out", limit=20)
    rows, left_out = read_results(tmp_path / "out")
    assert {row.rm for row in rows} == {"rmbench/random"}
    assert left_out == ["some on best_of_n"]
    assert run("--results", tmp_path / "out", "--downstream", "gsm8k by critics") == 0
    assert "rmbench: some on best_of_n is left out: examples are unanswered\n" in capsys.readouterr().err


def test_a_metric_that_should_be_low_is_ranked_by_how_low() -> None:
    def made(metric: str, values: list[float], lower: bool = False) -> Series:
        figures = {
            f"m{i}": Reported(f"m{i}", "b", metric, v, None, None, None, "s", "p", lower_is_better=lower)
            for i, v in enumerate(values)
        }
        return Series(metric, "b", metric, "", "", figures)

    score = made("score", [float(i) for i in range(9)])
    good = made("flip_rate", [1 - i / 9 for i in range(9)], lower=True)
    noise = made("accuracy", [3.0, 1, 4, 1.5, 5, 9, 2, 6, 5.3])
    assert [rank.rank for rank in _ranks([noise, good], score)] == [2, 1]
