"""`rmbench correlate`: which form a downstream figure has on a metric, how little few models tell, and units."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from rmbench.cli import main
from rmbench.correlate.report import CorrelationReport, Pair, correlate
from rmbench.correlate.tables import METRICS, POLICY_RESULTS, read_aliases, read_table, series, shipped
from rmbench.metrics import association, fits

NINE = [0.52, 0.55, 0.61, 0.64, 0.70, 0.74, 0.79, 0.86, 0.91]
FOLLOWS = [1.0, 1.4, 1.9, 2.0, 2.8, 3.0, 3.6, 4.4, 4.7]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without results, so that nothing is added unasked."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def published() -> CorrelationReport:
    return correlate(shipped("metrics"), shipped("policy results"), read_aliases())


def table(path: Path, columns: Sequence[str], values: Sequence[float], **more: object) -> Path:
    given = {"policy": "base", "method": "DPO", "benchmark": "Bench", "metric": "accuracy", "source": "made up"}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows([given | {"rm": f"m{i}", "value": value} | more for i, value in enumerate(values)])
    return path


def given(tmp_path: Path, x: Sequence[float], y: Sequence[float], unit: str = "", policy_unit: str = "") -> list[str]:
    metric = table(tmp_path / "m.csv", METRICS, x, unit=unit)
    policy = table(tmp_path / "p.csv", POLICY_RESULTS, y, benchmark="Arena", metric="score", unit=policy_unit)
    return ["correlate", "--metrics", str(metric), "--policy-results", str(policy)]


def as_json(capsys: Any, *arguments: str) -> list[dict[str, Any]]:
    assert main([*arguments, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def error_of(capsys: Any, *arguments: str) -> str:
    assert main(list(arguments)) in (1, 2)
    line: str = capsys.readouterr().err
    assert line.count("\n") == 1, line
    return line


def pair(report: CorrelationReport, metric: str, downstream: str) -> Pair:
    (found,) = [one for one in report.pairs if (one.metric, one.downstream) == (metric, downstream)]
    return found


def test_every_form_stands_in_the_json_with_what_chose(tmp_path: Path, capsys: Any) -> None:
    (found,) = as_json(capsys, *given(tmp_path, NINE, FOLLOWS, unit="fraction"))
    forms = {one["form"]: one for one in found["fit"]["fits"]}
    slope, intercept = np.polyfit(NINE, FOLLOWS, 1)
    assert forms["line"]["coefficients"] == pytest.approx([intercept, slope])
    assert set(forms) == {"mean", "line", "probit", "parabola"}
    assert found["fit"]["by_aicc"] == min(forms, key=lambda form: forms[form]["aicc"])
    assert found["fit"]["by_left_out"] == min(forms, key=lambda form: forms[form]["left_out_error"])
    assert set(forms["line"]) == {"form", "coefficients", "error", "left_out_error", "aicc", "weight", "moved"}


def test_shares_of_percent_are_fitted_as_shares_are(tmp_path: Path, capsys: Any) -> None:
    y = [100 * scipy.stats.norm.cdf(0.7 * scipy.stats.norm.ppf(x) + 0.3) for x in NINE]
    (found,) = as_json(capsys, *given(tmp_path, [100 * x for x in NINE], y, unit="percent", policy_unit="percent"))
    probit = next(one for one in found["fit"]["fits"] if one["form"] == "probit")
    assert found["fit"]["by_aicc"] == "probit"
    assert probit["coefficients"] == pytest.approx([0.3, 0.7])


def test_fractions_beside_percent_are_told_where_no_unit_says_which(tmp_path: Path) -> None:
    mixed = table(tmp_path / "m.csv", METRICS, [100 * NINE[0], *NINE[1:]])
    with pytest.warns(UserWarning, match="m.csv, row 2: Bench accuracy is 0.55, and 52 at m.csv, row 1: is one a frac"):
        series(read_table(mixed, "metrics"), {})
    percent = table(tmp_path / "p.csv", METRICS, [100 * x for x in NINE])
    series(read_table(percent, "metrics"), {})  # where a warning is an error


def test_a_figure_in_no_stated_unit_is_no_share(tmp_path: Path, capsys: Any) -> None:
    (found,) = as_json(capsys, *given(tmp_path, NINE, FOLLOWS))
    assert found["fit"]["reasons"] == {"probit": "the metric is no share"}


@pytest.mark.parametrize(("n", "fitted"), [("", False), ("400", True)])
def test_a_share_of_all_is_moved_where_its_trials_are_known(tmp_path: Path, capsys: Any, n: str, fitted: bool) -> None:
    arguments = given(tmp_path, NINE, FOLLOWS)
    table(tmp_path / "m.csv", METRICS, [*NINE[:-1], 1.0], unit="fraction", n=n)
    (found,) = as_json(capsys, *arguments)
    moved = [one["moved"] for one in found["fit"]["fits"] if one["form"] == "probit"]
    assert moved == ([1] if fitted else [])
    assert ("unknown number of trials" in str(found["fit"]["reasons"])) is not fitted


def test_what_is_published_of_ppe_is_told_from_the_mean_by_two_metrics_of_25(published: CorrelationReport) -> None:
    arena = [one for one in published.pairs if one.downstream == "Chatbot Arena score" and one.fit and one.n == 9]
    taken = [one.metric for one in arena if one.fit and one.fit.by_aicc != "mean" and one.metric.startswith("PPE")]
    assert taken == ["PPE MATH accuracy", "PPE human preference accuracy"]
    for one in arena:
        assert one.fit is not None
        assert (abs(one.pearson or 0) > fits.line_from(9)) == (one.fit.by_aicc in ("line", "probit")), one.metric


def test_prmbenchs_best_of_8_is_a_share_on_both_sides(published: CorrelationReport) -> None:
    found = pair(published, "PRMBench prmbench_score", "gsm8k accuracy")
    assert found.fit is not None
    assert {fit.form for fit in found.fit.fits} == {"mean", "line", "probit", "parabola"}
    assert found.foretold is not None
    assert found.foretold < 1


def test_rho_has_an_interval_of_its_own(tmp_path: Path, capsys: Any) -> None:
    y = [FOLLOWS[i] for i in (1, 0, 3, 2, 6, 4, 5, 8, 7)]
    (found,) = as_json(capsys, *given(tmp_path, NINE, y))
    assert found["spearman_low"] < found["spearman"] < found["spearman_high"] < 1
    assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(NINE, y)[0])
    perfect = association.rank_interval(np.arange(6.0), np.arange(6.0) ** 3, np.zeros(6), np.zeros(6))
    assert perfect[0] < 0.8  # six models in one order leave much open


@pytest.mark.parametrize(("n", "rho"), [(6, 0.0), (7, 0.9), (13, 0.5)])
def test_the_interval_of_rho_covers(n: int, rho: float) -> None:
    rng = np.random.default_rng(n)
    truth, held = 6 / np.pi * np.arcsin(rho / 2), 0
    for _ in range(300):
        x = rng.standard_normal(n)
        y = rho * x + np.sqrt(1 - rho * rho) * rng.standard_normal(n)
        low, high = association.drawn_rank_interval(x, y, x[None], y[None])
        held += low <= truth <= high
    assert held >= 0.94 * 300


@pytest.mark.parametrize("count", [4, 5])
def test_fewer_than_six_models_have_numbers_where_asked_for(tmp_path: Path, capsys: Any, count: int) -> None:
    arguments = [*given(tmp_path, NINE[:count], FOLLOWS), "--at-least", "5"]
    (found,) = as_json(capsys, *arguments)
    assert (found["pearson"] is None) == (count == 4)
    assert ("4 common models, expected 5 or more" in str(found["reason"])) == (count == 4)
    assert "x>=4" in error_of(capsys, *arguments[:-1], "3")


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (4, "of so few models: no form; a parabola never"),
        (5, "told from the mean: a line from |r| = 0.99 of 5 models; a parabola never"),
        (6, "a line from |r| = 0.90 of 6 models; a parabola where it leaves at most 0.67 % of 6 of a line's squares"),
        (9, "a line from |r| = 0.64 of 9 models; a parabola where it leaves at most 45 % of 9 of a line's squares"),
    ],
)
def test_how_little_few_models_tell_is_said(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, count: int, said: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*given(tmp_path, NINE[:count], FOLLOWS), "--at-least", "4"]) == 0
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(("width", "taken"), [(80, "mean*"), (100, "mean*"), (140, "mean/line")])
def test_the_form_is_in_the_table_at_any_width(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, width: int, taken: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    y = [2.0, 1.0, 3.4, 1.2, 2.9, 1.9, 4.0, 2.2, 3.6]
    assert main(given(tmp_path, NINE, y)) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= width
    assert "…" not in printed
    assert taken in printed


def test_what_has_no_number_is_a_line_unless_asked_for(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    arguments = given(tmp_path, NINE, FOLLOWS)
    few = table(tmp_path / "few.csv", POLICY_RESULTS, FOLLOWS[:3], benchmark="Few")
    arguments += ["--policy-results", str(few)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "no metric has models enough for: Few accuracy (3 of 3 models in common). --downstream shows one" in printed
    assert main([*arguments, "--downstream", "Few"]) == 0
    assert "3 common models, expected 6 or more: Bench accuracy" in capsys.readouterr().out


def test_a_plot_has_every_form_and_says_which_is_taken(tmp_path: Path) -> None:
    assert main([*given(tmp_path, NINE, FOLLOWS, unit="fraction"), "--plots", str(tmp_path / "plots")]) == 0
    (plot,) = (tmp_path / "plots").iterdir()
    svg = plot.read_text()
    assert "by AICc" in svg
    assert svg.count("steelblue") >= 4


@pytest.mark.parametrize(
    ("unit", "value", "says"),
    [
        ("share", 0.5, "row 1, `unit`: expected fraction or percent, or nothing, got 'share'"),
        ("fraction", 66.0, "row 1, `value`: expected a fraction, from 0 to 1, got 66"),
        ("percent", -1.0, "row 1, `value`: expected a percent, from 0 to 100, got -1"),
    ],
)
def test_a_figure_that_its_unit_cannot_have_is_named(
    tmp_path: Path, capsys: Any, unit: str, value: float, says: str
) -> None:
    arguments = given(tmp_path, NINE, FOLLOWS)
    table(tmp_path / "m.csv", METRICS, [value], unit=unit)
    assert f"m.csv, {says}" in error_of(capsys, *arguments)


def test_one_metric_in_two_units_is_refused(tmp_path: Path, capsys: Any) -> None:
    arguments = given(tmp_path, NINE, FOLLOWS, unit="fraction")
    other = table(tmp_path / "other.csv", METRICS, [55.0], unit="percent", rm="another")
    line = error_of(capsys, *arguments, "--metrics", str(other))
    assert "other.csv, row 1: Bench accuracy is in percent, but in fraction at m.csv, row 1; expected one unit" in line


def test_of_many_figures_each_has_a_line_unless_asked_for(
    capsys: Any, monkeypatch: pytest.MonkeyPatch, published: CorrelationReport
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("rmbench.correlate.report.correlate", lambda *_, **__: published)  # of the same: made once
    assert main(["correlate"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "(Qwen2.5-Math-7B-Instruct,\n" in re.sub(r" {2,}.*", "", printed)
    words = " ".join(printed.split())
    assert "gsm8k accuracy PRMBench prmbench_score 6 13 0.596 1.00" in words
    assert "--downstream BENCHMARK, such as 'Chatbot Arena', shows every metric of one" in words
    assert "ProcessBench MATH f1 7" not in words
