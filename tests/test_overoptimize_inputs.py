"""What `rmbench overoptimize` is given and cannot be right: one line each, and before a model is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rmbench
from rmbench.cli import main
from rmbench.errors import DataError
from rmbench.metrics.curve import are_shares, curve, figure
from rmbench.optimise.measured import read_measured

DRAWS = 100
Rows = list[dict[str, Any]]


def samples(prompts: int = 6, each: int = 4, **more: Any) -> Rows:
    return [
        {"prompt": f"p{p}", "problem_id": f"p{p}", "response": "x" * (n * n + p + 1), "gold": (n * 7 + p) % 5, **more}
        for p in range(prompts)
        for n in range(each)
    ]


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked_nobody(prompt: str, response: str) -> float:
    raise AssertionError("a model was asked")


def scores(path: Path, rewards: Sequence[float], **more: Any) -> Path:
    rows = [{"example_id": f"p{at // 4}", "candidate": at % 4, "reward": one, **more} for at, one in enumerate(rewards)]
    return write(path, rows)


@pytest.mark.parametrize(
    ("change", "given", "message"),
    [
        ({"gold": None}, {}, "no gold: no sample has a label; --gold names"),
        ({"gold": float("nan")}, {}, "no gold: no sample has a label; --gold names"),
        ({"policy": None}, {}, "best-of-n is of one policy"),
        ({}, {"gold": ""}, "gold: no name; expected a column, a model"),
        ({}, {"gold": "prompt"}, "no `prompt`, which is read as `gold`"),
        ({}, {"draws": 0}, "draws=0: expected a whole number from 100"),
        ({}, {"up_to": 0}, "up_to=0: expected a whole number from 2"),
        ({}, {"up_to": 2.5}, "up_to=2.5: expected a whole number from 2"),
        ({}, {"label_noise": -1}, "label_noise=-1: expected 0 or more"),
        ({}, {"label_noise": float("nan")}, "label_noise=nan: expected a number"),
        ({}, {"good": float("nan")}, "good=nan: expected a number"),
    ],
)
def test_it_is_said_before_a_model_is_asked(change: Rows, given: dict[str, Any], message: str) -> None:
    rows = samples(**change)
    if "policy" in change:
        rows = [row | {"policy": f"by {at % 2}"} for at, row in enumerate(rows)]
    with pytest.raises(rmbench.RmbenchError) as error:
        rmbench.overoptimize(models=[asked_nobody], samples=rows, **given)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_cannot_be_written_is_said_before_a_model_is_asked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(rmbench.ResultError, match="cannot write results here .*--out names another folder"):
        rmbench.overoptimize(models=[asked_nobody], samples=samples(), out=tmp_path / "file" / "out")


def test_tables_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "overoptimize.json").mkdir()
    with pytest.raises(rmbench.ResultError, match="cannot write the tables"):
        rmbench.overoptimize(models=["length"], samples=samples(), out=tmp_path, draws=DRAWS)


def test_a_model_does_not_judge_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "s.jsonl", samples())
    assert main(["overoptimize", str(path), "-m", "length", "-m", "random", "--gold", "length"]) == 2
    assert "gold 'length' is a model that is asked too" in capsys.readouterr().err
    out = tmp_path / "out"
    rmbench.evaluate("length", ["samples"], data={"samples": path}, out=out)
    with pytest.raises(rmbench.ResultError, match="the gold is all that is given"):
        rmbench.overoptimize(out, gold=out)


@pytest.mark.parametrize(
    "spec",
    ["scores:{}", "transform:scores:{}?how=length", "transform:scores:{}?how=zscore", "ensemble:scores:{},length"],
)
def test_numbers_whose_squares_are_infinite_are_refused(tmp_path: Path, spec: str) -> None:
    path = scores(tmp_path / "huge.jsonl", [1e308 * (-1) ** at for at in range(24)])
    with pytest.raises(rmbench.RmbenchError, match=r"scores/huge: a reward of 1e\+308; expected -1e\+100 to 1e\+100"):
        rmbench.overoptimize(models=[spec.format(path)], samples=samples(), draws=DRAWS)


def test_gold_whose_squares_are_infinite_is_refused() -> None:
    rows = samples()
    rows[3]["gold"] = -1e200
    with pytest.raises(rmbench.ResultError, match=r"gold of -1e\+200; expected -1e\+100 to 1e\+100"):
        rmbench.overoptimize(models=["length"], samples=rows, draws=DRAWS)


@pytest.mark.parametrize("spread", [-1.0, float("inf")])
def test_a_spread_is_a_standard_deviation(tmp_path: Path, spread: float) -> None:
    path = scores(tmp_path / "spread.jsonl", range(24), spread=spread)
    with pytest.raises(DataError, match="row 1, `spread`: expected a standard deviation, finite and not below 0"):
        rmbench.overoptimize(models=[f"scores:{path}"], samples=samples(), draws=DRAWS)


def test_samples_stand_by_their_number_and_none_stands_twice(tmp_path: Path) -> None:
    numbered = [row | {"candidate_index": at % 4} for at, row in enumerate(samples())]
    by_gold = scores(tmp_path / "gold.jsonl", [row["gold"] for row in numbered])
    models = [f"scores:{by_gold}"]
    for rows in (numbered, numbered[::-1]):
        report = rmbench.overoptimize(models=models, samples=rows, draws=DRAWS)
        assert report.entrants[0].gold.value == pytest.approx(report.oracle.value)
    with pytest.raises(DataError, match="row 25, `candidate_index`: 0 stands in row 1 of the same prompt already"):
        rmbench.overoptimize(models=models, samples=numbered * 2, draws=DRAWS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reward,method,kl,gold\na,ppo,1,.5,.4\n", "row 1: 1 more than the columns of the heading; the first is '.4'"),
        (
            "reward,method,kl,gold,low\na,ppo,1,.5,.9\n",
            "row 1, `low`: expected an interval around 0.5, got 0.9 to nothing",
        ),
        ("reward,method,kl,gold,high\na,ppo,1,.5,.4\n", "expected an interval around 0.5, got nothing to 0.4"),
        ("reward,reward,method,kl,gold\na,b,ppo,1,.5\n", "two columns 'reward'; expected one"),
    ],
)
def test_a_table_of_policies_loses_nothing(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(DataError) as error:
        read_measured(tmp_path / "m.csv")
    assert message in str(error.value)


def test_what_may_lie_outside_has_no_interval_of_a_share() -> None:
    """Means of scores that happen to be between 0 and 1 are no shares: their intervals may leave [0, 1]."""
    rng = np.random.default_rng(0)
    gold = rng.normal(0.05, 1, (8, 400))
    means = np.clip(gold.mean(axis=1), 0.001, 1)
    assert not are_shares(gold)
    assert are_shares(means, np.array([np.nan, 1.0]))
    clusters = np.arange(8)
    told, guessed = (figure(means, clusters, shares=shares) for shares in (False, None))
    assert told.high < 0.2 < guessed.high
    of_one = figure(means[:1], clusters[:1], shares=False)
    assert np.isnan(of_one.low)
    drawn = curve([1.0], [0.0], means[:, None], clusters, shares=False)
    assert (drawn.low[0], drawn.high[0]) == (told.low, told.high)


def test_one_prompt_of_scores_has_no_interval() -> None:
    rows = [row | {"gold": float(row["gold"]) - 1.4} for row in samples(1, 8)]
    report = rmbench.overoptimize(models=["length"], samples=rows, draws=DRAWS)
    assert 0 < report.random.value < 1
    assert np.isnan([report.random.low, report.random.high]).all()


def test_members_without_end_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.toml").write_text('family = "ensemble"\nmembers = ["own.toml", "length"]\n')
    deep = "length"
    for _ in range(400):
        deep = f"transform:{deep}?how=sigmoid"
    for spec in ("own.toml", deep):
        with pytest.raises(rmbench.UsageError, match="members of members, more than 32 deep"):
            rmbench.load_model(spec)
    fine = "length"
    for _ in range(30):
        fine = f"transform:{fine}?how=sigmoid"
    assert rmbench.load_model(fine).subject.settings["how"] == "sigmoid"
