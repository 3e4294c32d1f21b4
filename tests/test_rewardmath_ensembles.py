"""Official scorers of RewardMATH as one ensemble: its views are its members, its rewards are numpy's on their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rmbench
from rmbench.cli import main
from rmbench.results.schema import TaskResult
from rmbench.scoring.combining import FOLDS, fold_of
from rmbench.types import Place, Question, Request

# Official accuracy in %, as in tests/test_rewardmath.py
OFFICIAL = {"ArmoRM": 20.50, "beaver": 7.25, "internlm2": 37.27, "oasst-rm": 7.04, "skywork_llama3": 22.15}
HOW = ("mean", "min", "uwo")  # WCO is the least


def ensemble(folder: Path, how: str) -> str:
    members = ",".join(f"{name}=scores:{folder}/{name}_reward.json" for name in OFFICIAL)
    return f"{how}=ensemble:{members}?how={how}&scale=z"


def evaluated(model: str, folder: Path, out: Path | None = None) -> TaskResult:
    data = {"rewardmath": folder / "ArmoRM_reward.json"}
    (result,) = rmbench.evaluate(model, ["rewardmath"], data=data, out=out)
    return result


def accuracy_of(result: TaskResult, view: str = "default") -> float:
    return round(
        100 * next(m.value for m in result.metrics if (m.name, m.view, m.subset) == ("accuracy", view, "all")), 2
    )


def test_a_result_of_an_ensemble_holds_the_official_figures_of_every_member(rmbench_data: Path) -> None:
    result = evaluated(ensemble(rmbench_data / "rewardmath" / "scores", "uwo"), rmbench_data / "rewardmath" / "scores")
    assert {name: accuracy_of(result, name) for name in OFFICIAL} == OFFICIAL
    rows = result.records.to_pylist()
    raw = np.array([[dict(row["heads"])[name] for row in rows] for name in OFFICIAL])
    places = [Question(Request("reward", (), ()), Place("", row["example_id"], (0,), row["cluster"])) for row in rows]
    folds = np.array([fold_of(place, 0) for place in places])
    scaled = np.empty_like(raw)
    for fold in range(FOLDS):
        rest = raw[:, folds != fold]
        scaled[:, folds == fold] = (raw[:, folds == fold] - rest.mean(1)[:, None]) / rest.std(1)[:, None]
    np.testing.assert_allclose([row["reward"] for row in rows], scaled.mean(0) - 0.5 * scaled.var(0), atol=1e-9)
    np.testing.assert_allclose([row["spread"] for row in rows], scaled.std(0), atol=1e-9)


@pytest.mark.prove
def test_mean_wco_and_uwo_stand_beside_their_members_in_one_table_with_paired_intervals(
    rmbench_data: Path, tmp_path: Path, capsys: Any
) -> None:
    folder = rmbench_data / "rewardmath" / "scores"
    models = [
        *(ensemble(folder, how) for how in HOW),
        *(f"{name}=scores:{folder}/{name}_reward.json" for name in OFFICIAL),
    ]
    results = {model.partition("=")[0]: evaluated(model, folder, tmp_path) for model in models}
    right = {}
    for name, result in results.items():
        rewards = np.array(result.records.column("reward").to_pylist()).reshape(-1, 10)
        right[name] = rewards[:, 0] > rewards[:, 1:].max(axis=1)  # candidate 0 is the right one
        assert accuracy_of(result) == round(100 * right[name].mean(), 2)
    for how in HOW:
        others = [tmp_path / name for name in results if name != how]
        assert main(["compare", str(tmp_path / how), *map(str, others), "--json"]) == 0
        (task,) = json.loads(capsys.readouterr().out)["tasks"]
        contrasts = [one for one in task["contrasts"] if one["headline"] and one["subset"] == "all"]
        assert [one["model"] for one in contrasts] == [name for name in results if name != how]
        for one in contrasts:
            apart = one["difference"]
            assert apart["value"] == pytest.approx(right[one["model"]].mean() - right[how].mean())
            assert apart["ci_low"] <= apart["value"] <= apart["ci_high"]
            assert apart["clusters"] == 483
    print({name: accuracy_of(result) for name, result in results.items()})
