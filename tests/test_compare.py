"""`rmbench compare` through the command line: what it says, what it refuses, and that it finds nothing in noise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rmbench
from rmbench.cli import main
from rmbench.results import files, provenance
from rmbench.results.schema import TaskResult

Reward = Callable[[str, str], float]


def pairs(count: int, *, start: int = 0) -> list[dict[str, str]]:
    """Pairs in two subsets, of which `right` is the better one."""
    return [
        {"id": f"e{i}", "prompt": f"p{i}", "chosen": "right", "rejected": "wrong", "subset": "ab"[i % 2]}
        for i in range(start, start + count)
    ]


def right_on(*prompts: int) -> Reward:
    """A model that prefers the better response to these prompts, and the other one elsewhere."""
    return lambda prompt, response: float((response == "right") == (int(prompt[1:]) in prompts))


def evaluate(out: Path, model: Any, name: str, *, rows: list[dict[str, str]] | None = None, **options: Any) -> Path:
    """Evaluates on preference pairs and returns the result's path."""
    data = out.parent / f"{out.name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows or pairs(40)))
    (result,) = rmbench.evaluate(model, ["preference"], data={"preference": data}, out=out, name=name, **options)
    return out / files.result_path(result)


def edit(path: Path, target: Path, **changes: dict[str, Any]) -> Path:
    """A copy of a result, with its records, in which parts of its JSON are changed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for table in path.parent.glob("*.parquet"):
        shutil.copy(table, target.with_suffix(".parquet"))
    content = json.loads(path.read_text())
    target.write_text(json.dumps({name: value | changes.get(name, {}) if name in changes else value
                                  for name, value in content.items()}))  # fmt: skip
    return target


def run(*arguments: object) -> int:
    return main(["compare", *map(str, arguments)])


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """A is right on 30 of 40 examples, B on 12, 10 of them A's."""
    a = evaluate(tmp_path / "a", right_on(*range(30)), "org/a")
    return a, evaluate(tmp_path / "b", right_on(*range(20, 32)), "org/b")


def document(capsys: Any, *arguments: object) -> Any:
    capsys.readouterr()
    assert run(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: Any, *arguments: object, code: int = 1) -> str:
    """The one line that it says."""
    capsys.readouterr()
    assert run(*arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return str(printed.err)


def test_the_difference_its_test_and_who_is_wrong(two: tuple[Path, Path], capsys: Any) -> None:
    (task,) = document(capsys, *two)["tasks"]
    whole, subset_a, subset_b = task["contrasts"]
    assert (whole["baseline_value"], whole["model_value"], whole["n"], whole["dropped"]) == (0.75, 0.3, 40, 0)
    found = whole["difference"]
    assert found["value"] == pytest.approx(-0.45)
    assert found["ci_low"] < -0.45 < found["ci_high"] < 0
    # 20 are A's alone and 2 are B's: twice the chance of at most 2 heads in 22
    assert found["p"] == pytest.approx(2 * (1 + 22 + 231) / 2**22)
    assert found["mcnemar_p"] == pytest.approx(found["p"])
    assert whole["p_holm"] == found["p"]
    assert whole["overlap"] == {
        "only_theirs": 2, "only_ours": 20, "both": 8, "neither": 10,
        "common": pytest.approx(8 / 30), "common_if_independent": pytest.approx(7 / 31),
    }  # fmt: skip
    assert [c["subset"] for c in (whole, subset_a, subset_b)] == ["all", "subset=a", "subset=b"]
    assert (subset_a["n"], subset_a["headline"], subset_a["p_holm"]) == (20, False, None)


def test_the_sentence_names_the_higher_model_first(two: tuple[Path, Path], capsys: Any) -> None:
    assert run(*two) == 0
    forward = capsys.readouterr().out
    assert run(*reversed(two)) == 0
    backward = capsys.readouterr().out
    for printed in (forward, backward):
        assert "org/a is 45.0 points above org/b in accuracy [" in " ".join(printed.split())
        assert "p = 0.0001: a difference" in " ".join(printed.split())
    assert "-45.0 [" in forward
    assert "-45.0 [" not in backward


def test_no_more_is_said_than_the_numbers_do(tmp_path: Path, capsys: Any) -> None:
    a = evaluate(tmp_path / "a", right_on(*range(20)), "a")
    b = evaluate(tmp_path / "b", right_on(*range(1, 22)), "b")
    same = evaluate(tmp_path / "same", right_on(*range(20)), "same")
    assert run(a, b) == 0
    assert "b is 2.5 points above a in accuracy [-8.9, 13.9], p = 1.00: no difference shown" in capsys.readouterr().out
    assert run(a, same) == 0
    assert "same is level with a in accuracy [-7.2, 7.2], p = 1.00: no difference shown" in capsys.readouterr().out


def test_more_than_two_are_ranked(two: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    c = evaluate(tmp_path / "c", right_on(*range(29)), "org/c")
    (task,) = document(capsys, *two, c)["tasks"]
    headlines = [c for c in task["contrasts"] if c["headline"]]
    assert [(c["baseline"], c["model"]) for c in headlines] == [("org/a", "org/b"), ("org/a", "org/c")]
    assert headlines[0]["p_holm"] == pytest.approx(2 * headlines[0]["difference"]["p"])
    places = [(place["model"], *place["rank"].values()) for place in task["ranking"]]
    assert places == [("org/a", 1, 1, 2), ("org/c", 2, 1, 2), ("org/b", 3, 3, 3)]
    assert run(*two, c) == 0
    assert "rank 1 [1 to 2]  A  75.0 %  org/a" in capsys.readouterr().out


@pytest.mark.parametrize("answered", [0, 1, 39])
@pytest.mark.parametrize("metric", ["accuracy", "mrr", "auc"])
def test_what_a_model_left_unanswered_ranks_it_nowhere_and_moves_nobody(
    answered: int, metric: str, two: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    c = evaluate(tmp_path / "c", right_on(*range(29)), "org/c")
    some = evaluate(
        tmp_path / "d",
        lambda prompt, text: float(text == "right") if int(prompt[1:]) < answered else float("nan"),
        "some",
    )
    before, after = (document(capsys, *paths, "--metric", metric)["tasks"][0] for paths in ([*two, c], [*two, c, some]))
    assert len(before["ranking"]) == 3
    assert after["ranking"] == before["ranking"]
    assert after["notes"] == [f"not ranked, because not every example counts for it: some ({answered} of 40)"]


def test_the_lowest_mean_rank_is_the_best(two: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    c = evaluate(tmp_path / "c", right_on(*range(29)), "org/c")
    report = document(capsys, *two, c, "--metric", "mean_rank")
    assert report["tasks"][0]["lower_is_better"]
    assert [place["model"] for place in report["tasks"][0]["ranking"]] == ["org/a", "org/c", "org/b"]
    assert [c["overlap"] for c in report["tasks"][0]["contrasts"] if c["headline"]] == [None, None]
    assert run(*two, "--metric", "mean_rank") == 0
    assert "org/b is 0.45 above org/a in mean_rank, where less is better [0." in capsys.readouterr().out


def test_a_folder_is_the_models_under_it(two: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    evaluate(tmp_path / "many", right_on(1), "c")
    evaluate(tmp_path / "many", right_on(2), "d")
    assert list(document(capsys, tmp_path / "a", tmp_path / "b")["models"]) == ["org/a", "org/b"]
    assert list(document(capsys, two[0], tmp_path / "many")["models"]) == ["org/a", "c", "d"]
    assert list(document(capsys, tmp_path / "many")["models"]) == ["c", "d"]


def test_two_configurations_of_one_model_have_two_names(tmp_path: Path, capsys: Any) -> None:
    for seed in (0, 1):
        evaluate(tmp_path / "out", "random", "r", seed=seed)
    names = list(document(capsys, tmp_path / "out")["models"])
    assert len(set(names)) == 2
    assert all(name.startswith("r (") for name in names)


def test_tasks_are_a_family_of_tests(tmp_path: Path, capsys: Any) -> None:
    for model in ("length", "random"):
        evaluate(tmp_path / "out", model, model)
        rmbench.evaluate(model, ["best_of_n"], out=tmp_path / "out", name=model)
    report = document(capsys, tmp_path / "out")
    assert [task["task"] for task in report["tasks"]] == ["best_of_n", "preference"]
    found = [c for task in report["tasks"] for c in task["contrasts"] if c["headline"]]
    p = [c["difference"]["p"] for c in found]
    least = int(np.argmin(p))
    assert found[least]["p_holm"] == pytest.approx(min(1, 2 * p[least]))
    (only,) = document(capsys, tmp_path / "out", "-t", "preference")["tasks"]
    assert only["contrasts"][0]["p_holm"] == only["contrasts"][0]["difference"]["p"]


def test_only_what_counts_for_both_is_compared(tmp_path: Path, capsys: Any) -> None:
    a = evaluate(tmp_path / "a", right_on(*range(30)), "a")
    b = evaluate(tmp_path / "b", lambda p, r: float("nan") if p in ("p3", "p4") else right_on(*range(9))(p, r), "b")
    whole = document(capsys, a, b)["tasks"][0]["contrasts"][0]
    assert (whole["n"], whole["dropped"]) == (38, 2)
    assert (whole["baseline_value"], whole["model_value"]) == (28 / 38, 7 / 38)
    assert run(a, b) == 0
    assert "38 (-2)" in capsys.readouterr().out


def test_examples_of_one_prompt_are_one_cluster(tmp_path: Path, capsys: Any) -> None:
    rows = [
        row | {"prompt": f"p{i // 4}", "chosen": f"right{i}", "rejected": f"wrong{i}"}
        for i, row in enumerate(pairs(40))
    ]

    def knows(*prompts: int) -> Reward:
        return lambda prompt, response: float(response.startswith("right") == (int(prompt[1:]) in prompts))

    a = evaluate(tmp_path / "a", knows(*range(6)), "a", rows=rows)
    b = evaluate(tmp_path / "b", knows(), "b", rows=rows)
    found = document(capsys, a, b)["tasks"][0]["contrasts"][0]["difference"]
    assert (found["n"], found["clusters"], found["mcnemar_p"]) == (40, 10, None)
    assert found["p"] == pytest.approx(2 / 2**6)


def test_seeds_are_averaged_and_widen_the_interval(two: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    seeds = [evaluate(tmp_path / f"s{i}", right_on(*range(5 + 12 * i)), f"seed{i}") for i in range(3)]
    report = document(capsys, two[0], "--group", f"mine={','.join(map(str, seeds))}")
    found = report["tasks"][0]["contrasts"][0]
    assert found["model_value"] == pytest.approx(17 / 40)
    assert (found["model"], len(report["models"]["mine"])) == ("mine", 3)
    alone = document(capsys, two[0], seeds[1])["tasks"][0]["contrasts"][0]["difference"]
    assert alone["value"] == found["difference"]["value"]
    assert alone["p"] < 0.05 < found["difference"]["p"]
    assert found["difference"]["ci_high"] - found["difference"]["ci_low"] > 2 * (alone["ci_high"] - alone["ci_low"])
    assert any(note.startswith("of one run") and note.endswith(": org/a") for note in report["tasks"][0]["notes"])


def test_other_examples_responses_versions_and_orders_are_refused(
    two: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    a, b = two
    others = evaluate(tmp_path / "c", right_on(1), "c", rows=pairs(40, start=5))
    line = refused(capsys, a, others)
    assert f"{a} and {others} have different examples: " in line
    for what, changes in {
        "responses": {"dataset": {"responses_sha256": "0" * 64}},
        "task versions": {"task": {"version": 9}},
        "orders": {"task": {"orders": "official"}},
    }.items():
        changed = edit(b, tmp_path / what / "preference.json", **changes)
        assert f"{a} and {changed} have different {what}: " in refused(capsys, a, changed)
    unknown = edit(b, tmp_path / "unknown" / "preference.json", dataset={"responses_sha256": None})
    assert run(a, unknown) == 0


def test_members_of_a_group_that_differ_are_refused(two: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    a, b = two
    others = evaluate(tmp_path / "c", right_on(1), "c", rows=pairs(40, start=5))
    line = refused(capsys, a, "--group", f"g={b},{others}")
    assert "g is not compared" in line
    assert f"{others} have different examples" in line


def test_no_task_in_common_is_said(two: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    rmbench.evaluate("length", ["best_of_n"], out=tmp_path / "c", name="c")
    line = refused(capsys, two[0], tmp_path / "c")
    assert "no task in common: org/a has preference; c has best_of_n" in line


def test_the_same_result_twice_is_refused(two: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    a, b = two
    assert f"the same result twice: {a} and {a}" in refused(capsys, a, a)
    copied = edit(a, tmp_path / "copy" / "preference.json")
    assert f"the same result twice: {a} and {copied}" in refused(capsys, a, copied)
    assert "the same result twice" in refused(capsys, b, "--group", f"g={a},{copied}")
    assert run(tmp_path / "a", b, tmp_path / "copy") == 0
    assert "org/a (copy) is not compared: the same result twice: " in capsys.readouterr().err


def test_missing_and_foreign_records_are_refused(two: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    a, b = two
    edited = edit(b, tmp_path / "edited" / "preference.json")
    metrics = json.loads(edited.read_text())
    metrics["metrics"][0]["value"] = 0.99
    edited.write_text(json.dumps(metrics))
    assert f"{edited}: accuracy of view 'default' is 0.99, its records give 0.3" in refused(capsys, a, edited)
    parquet = b.with_suffix(".parquet")
    parquet.unlink()
    assert f"{parquet}: missing" in refused(capsys, a, b)
    shutil.copy(evaluate(tmp_path / "c", right_on(1), "c", rows=pairs(9)).with_suffix(".parquet"), parquet)
    assert f"{parquet}: its examples or labels are not those of {b.name}" in refused(capsys, a, b)


def test_what_is_mistyped_is_a_usage_error(two: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    assert "only org/a is given; a comparison needs two" in refused(capsys, two[0], code=2)
    assert "nothing is given" in refused(capsys, code=2)
    assert "did you mean 'accuracy'?" in refused(capsys, *two, "--metric", "acuracy", code=2)
    assert "did you mean 'default'?" in refused(capsys, *two, "--view", "defalt", code=2)
    assert "did you mean 'preference'?" in refused(capsys, *two, "-t", "preferences", code=2)
    assert "a model has that name" in refused(capsys, *two, "--group", f"org/a={two[1]}", code=2)
    assert run(*two, "--group", "nameless") == 2
    (tmp_path / "empty").mkdir()
    assert "no results of reward models, with their records, under it" in refused(capsys, two[0], tmp_path / "empty")


def test_a_task_that_cannot_be_compared_does_not_stop_the_others(tmp_path: Path, capsys: Any) -> None:
    for i, model in enumerate(("length", "random")):
        evaluate(tmp_path / model, model, model, rows=pairs(20, start=i))
        rmbench.evaluate(model, ["best_of_n"], out=tmp_path / model, name=model)
    assert run(tmp_path / "length", tmp_path / "random") == 0
    printed = capsys.readouterr()
    assert "best_of_n v2" in printed.out
    assert "preference v1" not in printed.out
    assert "preference: random is not compared: " in printed.err
    (line,) = document(capsys, tmp_path / "length", tmp_path / "random")["refused"]
    assert "have different examples" in line


def test_an_aggregator_against_a_plain_reward_and_aggregators_against_each_other(tmp_path: Path, capsys: Any) -> None:
    rows = [row | {"chosen": "a\n\nb", "rejected": "c\n\nd"} for row in pairs(12)]
    paths = []
    for name, last in (("one", 1.0), ("two", 0.0)):
        scores = [
            {"example_id": row["id"], "candidate": c, "reward": 0.0, "steps": [1 - c, last * (1 - c)]}
            for row in rows
            for c in (0, 1)
        ]
        file = tmp_path / f"{name}.scores.jsonl"
        file.write_text("".join(json.dumps(score) + "\n" for score in scores))
        paths.append(evaluate(tmp_path / name, f"scores:{file}", name, rows=rows))
    plain = evaluate(tmp_path / "plain", "length", "plain", rows=rows)
    (task,) = document(capsys, *paths)["tasks"]
    whole = {c["model_view"]: c["difference"] for c in task["contrasts"] if c["subset"] == "all"}
    assert whole.pop("mean_logit") is None, "of steps of 0 and 1 there is none"
    assert {view: difference["value"] for view, difference in whole.items()} == {
        "prod": -1, "geometric_mean": -1, "mean": 0, "min": -1, "max": 0, "last": -1, "mean_odds": 0,
    }  # fmt: skip
    assert [c["model_view"] for c in task["contrasts"] if c["headline"]] == ["prod"]
    (task,) = document(capsys, *paths, "--view", "max")["tasks"]
    assert {c["model_view"] for c in task["contrasts"]} == {"max"}
    (task,) = document(capsys, paths[0], plain)["tasks"]
    assert {(c["baseline_view"], c["model_view"]) for c in task["contrasts"]} == {("prod", "default")}


def test_names_do_not_colour_the_terminal(two: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    evil = edit(two[1], tmp_path / "evil" / "preference.json", subject={"id": "[red]x\x1b[31m[/red]"})
    assert run(two[0], evil) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "[red]x\\x1b[31m[/red]" in printed


def test_noise_is_told_apart_at_the_nominal_rate(tmp_path: Path) -> None:
    from rmbench.compare.entrants import read_models
    from rmbench.compare.report import compare
    from rmbench.plugins import load_task

    path = evaluate(tmp_path / "a", right_on(), "a", rows=pairs(60))
    result = files.read(path, tables=True)
    rng, told, trials = np.random.default_rng(0), 0, 120
    for trial in range(trials):
        made = [noise(result, tmp_path / f"{trial}{name}", name, rng) for name in "ab"]
        told += compare(read_models(made, {}), load_task).tasks[0].contrasts[0].is_told
    assert told / trials <= 0.09


def noise(result: TaskResult, folder: Path, name: str, rng: np.random.Generator) -> Path:
    """A result of the same examples whose rewards are random, with the figures that they give."""
    import pyarrow as pa

    rewards = rng.normal(size=result.records.num_rows)
    records = result.records.set_column(result.records.column_names.index("reward"), "reward", pa.array(rewards))
    won = float(np.mean(rewards[0::2] > rewards[1::2]))
    metrics = [
        metric.model_copy(update={"value": won}) if (metric.name, metric.subset) == ("accuracy", "all") else metric
        for metric in result.metrics
    ]
    subject = result.subject.model_copy(update={"id": name})
    columns = provenance.columns_of(records)
    made = result.model_copy(update={"metrics": metrics, "subject": subject, "columns": columns})
    made._records, made._requests = records, None
    return files.write(made, folder)


@pytest.fixture
def official(rmbench_data: Path, tmp_path: Path) -> Callable[[str], Path]:
    """The result of one of RewardMATH's official score files, on the problems of internlm2's."""
    scores = rmbench_data / "rewardmath" / "scores"

    def evaluated(model: str) -> Path:
        data = {"rewardmath": scores / "internlm2_reward.json"}
        (result,) = rmbench.evaluate(
            f"scores:{scores / model}_reward.json", ["rewardmath"], data=data, out=tmp_path / model, name=model
        )
        return tmp_path / model / files.result_folder(result)

    return evaluated


def test_internlm2_against_skywork_on_rewardmath(official: Callable[[str], Path], capsys: Any) -> None:
    internlm, skywork = official("internlm2"), official("skywork_llama3")
    whole = document(capsys, internlm, skywork)["tasks"][0]["contrasts"][0]
    assert (whole["n"], whole["dropped"]) == (483, 0)
    assert 100 * whole["baseline_value"] == pytest.approx(37.27, abs=0.006)
    assert 100 * whole["model_value"] == pytest.approx(22.15, abs=0.006)
    found = whole["difference"]
    assert 100 * found["value"] == pytest.approx(22.15 - 37.27, abs=0.01)
    assert 100 * found["ci_low"] == pytest.approx(-20.2, abs=0.2)
    assert 100 * found["ci_high"] == pytest.approx(-10.0, abs=0.2)
    assert found["p"] == pytest.approx(found["mcnemar_p"]) == pytest.approx(1.213e-8, rel=1e-3)
    assert run(internlm, skywork) == 0
    line = "internlm2 is 15.1 points above skywork_llama3 in accuracy [10.0, 20.2], p < 0.0001: a difference"
    assert line in capsys.readouterr().out


def test_a_judge_of_pairs_is_compared_with_a_reward(official: Callable[[str], Path], capsys: Any) -> None:
    whole = document(capsys, official("internlm2"), official("gpt4o_pairwise"))["tasks"][0]["contrasts"][0]
    assert 100 * whole["model_value"] == pytest.approx(24.64, abs=0.006)


def test_a_probe_is_compared_by_its_headline_effect_and_by_its_rates(tmp_path: Path, capsys: Any) -> None:
    for model in ("length", "random"):
        rmbench.evaluate(model, ["length_bias"], out=tmp_path / model)
    paths = tmp_path / "length", tmp_path / "random"
    (task,) = document(capsys, *paths, "--metric", "padded_wrong_preferred")["tasks"]
    whole = task["contrasts"][0]
    assert whole["baseline_value"] == 1.0
    assert whole["difference"]["ci_high"] < 0
    assert (whole["overlap"], task["ranking"]) == (None, [])
    (task,) = document(capsys, *paths)["tasks"]
    assert (task["metric"], task["lower_is_better"]) == ("effect_padding", True)
    stated = [files.read(next(path.rglob("*.json"))).metric("effect_padding").value for path in paths]
    whole = task["contrasts"][0]
    assert [whole["baseline_value"], whole["model_value"]] == pytest.approx(stated)
    assert whole["difference"]["ci_high"] < 0
    assert whole["difference"]["p"] < 0.001


def test_a_metric_that_is_no_mean_is_compared_value_minus_value(two: tuple[Path, Path], capsys: Any) -> None:
    (task,) = document(capsys, *two, "--metric", "margin_sd")["tasks"]
    assert (task["title"], task["unit"]) == ("Margin of correct over wrong", "SDs of the reward within examples")
    stated = [files.read(path).metric("margin_sd").value for path in two]
    whole = task["contrasts"][0]
    assert [whole["baseline_value"], whole["model_value"]] == pytest.approx(stated)
    assert whole["difference"]["value"] == pytest.approx(stated[1] - stated[0])
    assert whole["difference"]["ci_low"] < stated[1] - stated[0] < whole["difference"]["ci_high"] < 0
    assert run(*two, "--metric", "margin_sd") == 0
    printed = capsys.readouterr().out
    assert "margin_sd: Margin of correct over wrong (SDs of the reward within examples)" in printed


def test_seeds_of_a_metric_that_is_no_mean_are_averaged(two: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    seeds = [evaluate(tmp_path / f"s{i}", right_on(*range(5 + 12 * i)), f"seed{i}") for i in range(3)]
    found = document(capsys, two[0], "--group", f"mine={','.join(map(str, seeds))}", "--metric", "margin_sd")["tasks"][
        0
    ]["contrasts"][0]
    values = [files.read(path).metric("margin_sd").value for path in seeds]
    assert found["model_value"] == pytest.approx(np.mean(values))
    assert found["difference"]["value"] == pytest.approx(np.mean(values) - found["baseline_value"])
    assert found["difference"]["n"] == 40
    alone = document(capsys, two[0], seeds[1], "--metric", "margin_sd")["tasks"][0]["contrasts"][0]["difference"]
    assert found["difference"]["ci_high"] - found["difference"]["ci_low"] > alone["ci_high"] - alone["ci_low"]


def test_models_that_are_no_means_are_ranked_by_the_same_differences(
    two: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    c = evaluate(tmp_path / "c", right_on(*range(29)), "org/c")
    (task,) = document(capsys, *two, c, "--metric", "margin_sd")["tasks"]
    assert [(p["model"], *p["rank"].values()) for p in task["ranking"]] == [
        ("org/a", 1, 1, 2), ("org/c", 2, 1, 2), ("org/b", 3, 3, 3),
    ]  # fmt: skip


def test_another_measure_than_the_installed_one_compares_nothing(
    two: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    made = [edit(path, tmp_path / f"{i}" / "preference.json", task={"measure": "other"}) for i, path in enumerate(two)]
    assert "measured by other; version 2, by comparison, is installed" in refused(capsys, *made)
    gone = [edit(path, tmp_path / f"g{i}" / "gone.json", task={"name": "gone"}) for i, path in enumerate(two)]
    assert "task 'gone' is not installed, and only its measure gives its figures" in refused(capsys, *gone)


def test_models_that_look_at_other_things_are_said_to(two: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    told = edit(two[1], tmp_path / "told" / "preference.json", subject={"uses": ["reference"]})
    (task,) = document(capsys, two[0], told)["tasks"]
    assert "besides prompt and responses org/a looks at nothing; org/b looks at reference" in task["notes"]


def test_a_view_that_only_one_model_has_is_compared_with_the_others_primary_one(tmp_path: Path, capsys: Any) -> None:
    rows = pairs(30)
    steps = tmp_path / "steps.jsonl"
    steps.write_text(
        "".join(
            json.dumps({"example_id": f"e{i}", "candidate": k, "reward": 0.5, "steps": [1.0 - k]}) + "\n"
            for i in range(30)
            for k in (0, 1)
        )
    )
    a = evaluate(tmp_path / "a", right_on(*range(20)), "org/a", rows=rows)
    b = evaluate(tmp_path / "b", f"scores:{steps}", "org/b", rows=rows)
    whole = document(capsys, a, b, "--view", "last")["tasks"][0]["contrasts"][0]
    assert (whole["baseline_view"], whole["model_view"]) == ("default", "last")
    assert (whole["baseline_value"], whole["model_value"]) == (pytest.approx(2 / 3), 1.0)


@pytest.fixture(scope="module")
def module_cache(tmp_path_factory: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RMBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: Any, module_cache: None) -> Path:
    """A folder of runs: three models whole, one of them as a try too, and one on other examples."""
    folder = tmp_path_factory.mktemp("shelf") / "out"
    evaluate(folder, right_on(*range(3)), "tried", limit=3)
    for name, count in (("one", 30), ("two", 12), ("three", 20)):
        evaluate(folder, right_on(*range(count)), name)
    evaluate(folder, right_on(1), "other", rows=pairs(40, start=5))
    return folder


def test_a_folder_is_compared_where_most_can_be_and_the_rest_is_a_line_each(shelf: Path, capsys: Any) -> None:
    report = document(capsys, shelf)
    (task,) = report["tasks"]
    compared = {task["contrasts"][0]["baseline"], *(c["model"] for c in task["contrasts"])}
    assert compared == {"one", "two", "three"}
    assert not task["is_try"]
    assert len(report["refused"]) == 2
    (tried,) = (line for line in report["refused"] if "tried" in line.split(" is not")[0])
    assert tried.endswith("tried is not compared: a try of 3 examples (--limit 3), where there are whole runs")
    assert run(shelf) == 0
    printed = capsys.readouterr()
    assert printed.err.count("is not compared: ") == printed.err.count("\n") == 2
    assert "different examples" in printed.err


@pytest.mark.parametrize("tries", [2, 4])
def test_tries_never_outvote_a_whole_run(tries: int, shelf: Path, tmp_path: Path, capsys: Any) -> None:
    names = [f"try{i}" for i in range(tries)]
    for name in names:
        evaluate(tmp_path / "tries", right_on(*range(9)), name, limit=9)
    (task,) = document(capsys, tmp_path / "tries", shelf)["tasks"]
    assert {task["contrasts"][0]["baseline"], *(c["model"] for c in task["contrasts"])} == {"one", "two", "three"}
    capsys.readouterr()
    assert run(tmp_path / "tries") == 3
    printed = " ".join(capsys.readouterr().out.split())
    assert "a try, of examples that --limit cut off: it decides nothing" in printed
    assert printed.count(": a try, which decides nothing") == tries - 1
    assert ": a difference" not in printed
    assert run(tmp_path / "tries", "--json") == 3
    (task,) = json.loads(capsys.readouterr().out)["tasks"]
    assert task["is_try"]
    assert [c["p_holm"] for c in task["contrasts"] if c["headline"]] == [None] * (tries - 1)


def test_a_limit_beyond_the_end_is_no_try(two: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    c = evaluate(tmp_path / "c", right_on(3), "c", limit=99)
    assert len(document(capsys, two[0], c)["tasks"][0]["contrasts"]) == 3
    assert not document(capsys, c, *two)["refused"]


def test_tasks_that_two_share_are_compared_though_the_first_lacks_them(tmp_path: Path, capsys: Any) -> None:
    evaluate(tmp_path / "out", "length", "a")
    for model in ("length", "random"):
        rmbench.evaluate(model, ["best_of_n"], out=tmp_path / "out", name=f"b{model}")
    report = document(capsys, tmp_path / "out")
    assert [task["task"] for task in report["tasks"]] == ["best_of_n"]
    assert [line.endswith("was not run on it") for line in report["refused"]] == [True]


def agreed(capsys: Any, *paths: Path) -> tuple[dict[str, Any], dict[str, list[str]], str]:
    (task,) = document(capsys, *paths)["tasks"]
    assert run(*paths) == 0
    whole = task["contrasts"][0]
    return whole["agreement"], whole["settings"], " ".join(capsys.readouterr().out.split())


def test_the_same_rewards_are_said_to_be(two: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    same = evaluate(tmp_path / "same", right_on(*range(30)), "org/a", seed=1)
    agreement, settings, printed = agreed(capsys, two[0], same)
    assert (agreement["rewards"], agreement["differing"], agreement["flips"], agreement["pairs"]) == (80, 0, 0, 40)
    assert "B and A: same rewards, 80 of them; settings that differ: " in printed
    assert settings["seed"] == ["0", "1"]
    assert "seed 1 / 0" in printed


@pytest.mark.parametrize("task", ["best_of_n", "length_bias"])
def test_the_same_evaluation_made_again_has_the_same_rewards(task: str, tmp_path: Path, capsys: Any) -> None:
    paths = []
    for out in (tmp_path / "first", tmp_path / "again"):
        (result,) = rmbench.evaluate("random", [task], out=out)
        paths.append(out / files.result_path(result))
    agreement, settings, printed = agreed(capsys, *paths)
    assert (agreement["differing"], agreement["flips"], settings) == (0, 0, {})
    assert f"B and A: same rewards, {agreement['rewards']:,} of them; settings that differ: none" in printed
    assert "the same result twice" in refused(capsys, "--group", f"g={paths[0]},{paths[1]}", paths[0])


@pytest.mark.parametrize(("change", "flips"), [(1e-7, 0), (0.25, 0), (2.0, 3)])
def test_how_far_rewards_are_apart_and_how_many_orders_flip(
    change: float, flips: int, two: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    first = right_on(*range(30))
    moved = evaluate(
        tmp_path / "moved",
        lambda prompt, text: (
            first(prompt, text) + (change if prompt in ("p31", "p32", "p33") and text == "right" else 0)
        ),
        "org/a",
    )
    agreement, _, printed = agreed(capsys, two[0], moved)
    assert (agreement["rewards"], agreement["differing"]) == (80, 3)
    assert agreement["largest"] == pytest.approx(change)
    assert agreement["sds"] == pytest.approx(change / 0.5)
    assert (agreement["flips"], agreement["flipped_examples"], agreement["ties"]) == (flips, flips, 0)
    assert f"{flips} of 40 pairs in the other order, in {flips} examples" in printed
    assert f"rewards are up to {change:.3g} ({change / 0.5:.2g} SD) apart, 3 of 80" in printed


def test_answers_that_one_alone_has_and_infinities_are_no_same_rewards(tmp_path: Path, capsys: Any) -> None:
    values = {"a": float("inf"), "same": float("inf"), "b": float("nan")}
    paths = {
        name: evaluate(tmp_path / name, lambda p, t, v=value: v if (p, t) == ("p1", "right") else 0.5, name)
        for name, value in values.items()
    }
    assert "same rewards, 80 of them" in agreed(capsys, paths["a"], paths["same"])[2]
    agreement, _, printed = agreed(capsys, paths["a"], paths["b"])
    assert agreement["unmatched"] == 1
    assert "1 answered by one alone" in printed


def test_verdicts_of_models_that_compare_are_held_against_each_other(official: Any, capsys: Any) -> None:
    judge = official("gpt4o_pairwise")
    (path,) = judge.glob("*.json")
    copy = edit(path, judge.parent / "copy" / path.name, subject={"id": "copy"})
    shutil.copy(files.requests_path(path), files.requests_path(copy))
    shutil.copy(path.with_suffix(".parquet"), copy.with_suffix(".parquet"))
    assert "same verdicts, " in agreed(capsys, judge, copy)[2]
    agreement, _, printed = agreed(capsys, official("internlm2"), judge)
    assert agreement["rewards"] == 0
    assert "pairs in the other order" in printed


@pytest.fixture(scope="module", params=["length_bias", "appetite"])
def probed(request: Any, tmp_path_factory: Any, module_cache: None) -> tuple[str, list[Path]]:
    """A probe's name, and two models' results on it with subsets of their own."""
    task, folder = request.param, tmp_path_factory.mktemp("probed")
    seen = {"words": lambda prompt, text: float(len(text.split())) + len(prompt) % 3,
            "letters": lambda prompt, text: float(sum(map(ord, text[-40:]))) % 101}  # fmt: skip
    for name, model in seen.items():
        rmbench.evaluate(model, [task], out=folder / name, name=name, limit=30)
    return task, [next((folder / name).rglob("*.json")) for name in seen]


def test_every_metric_of_a_probe_is_compared_as_results_state_it_in_every_subset(
    probed: tuple[str, list[Path]],
) -> None:
    from rmbench.compare.entrants import read_models, sides_of
    from rmbench.compare.measured import Measured, SideOutcomes, common
    from rmbench.plugins import load_task

    task, paths = probed
    results, measure = [files.read(path) for path in paths], load_task(task).measure
    sides, _ = sides_of(task, read_models(paths, {}))
    judged = [SideOutcomes(sides[0]), SideOutcomes(sides[1])]
    assert len(judged[0].subsets) > 1
    compared = 0
    for metric in dict.fromkeys(metric.label for metric in results[0].metrics):
        measured = [Measured.of(one, "default", metric, measure) for one in judged]
        for subset, places in judged[0].subsets.items():
            rows = np.isin(np.arange(len(judged[0].clusters)), places)
            stated = [m for r in results for m in r.metrics if (m.label, m.subset) == (metric, subset)]
            both = common(measured, rows)
            if both is None or any(m.value is None or m.n != both.n for m in stated):
                continue  # a prompt counts for one of them only
            assert both.value == [m.value for m in stated], (metric, subset)
            compared += 1
    assert compared > 2 * len(results[0].statistics)


def test_what_a_probe_draws_anew_is_what_is_made_of_the_prompts_that_were_drawn(probed: tuple[str, list[Path]]) -> None:
    """An effect over its SD has the SD of the draw: held fixed, equal models differed in up to two of three runs."""
    from rmbench.compare.entrants import read_models, sides_of
    from rmbench.compare.measured import SideOutcomes, label
    from rmbench.metrics.interval import whole_value
    from rmbench.plugins import load_task

    task, paths = probed
    measure, (side, *_) = load_task(task).measure, sides_of(task, read_models(paths, {}))[0]
    outcomes = SideOutcomes(side).runs[0]
    places = np.random.default_rng(4).integers(len(outcomes), size=len(outcomes))
    alone = {label(one): one for one in measure.statistics([outcomes[at] for at in places], "default", None)}
    drawn = [one for one in measure.statistics(outcomes, "default", None) if one.columns is not None and one.value]
    assert len(drawn) > 10
    for one in drawn:
        again = replace(one, columns=one.columns[places])
        due, found = (whole_value(some, np.arange(len(places))) for some in (alone[label(one)], again))
        assert found == pytest.approx(due, nan_ok=True), one.name


@pytest.mark.parametrize("metric", [None, "overflow_preferred_enumeration", "effect_overflow", "truncation_peak",
                                    "reward_sd_per_redundant_step", "selected_length_ratio_at_2@2"])  # fmt: skip
def test_appetite_is_compared(metric: str | None, tmp_path: Path, capsys: Any) -> None:
    for model in ("length", "random"):
        rmbench.evaluate(model, ["appetite"], out=tmp_path / model)
    chosen = () if metric is None else ("--metric", metric)
    (task,) = document(capsys, tmp_path / "length", tmp_path / "random", *chosen)["tasks"]
    assert task["metric"] == (metric or "overflow_preferred")
    assert task["lower_is_better"] == (metric != "truncation_peak")
    found = task["contrasts"][0]["difference"]
    assert found["value"] < 0
    assert found["ci_low"] < found["value"] < found["ci_high"] < 0
    assert found["p"] < 0.05


def test_a_long_name_of_a_part_is_not_broken_at_100_columns(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    rows = [row | {"subset": ("short", "engineering-and-science")[i % 2]} for i, row in enumerate(pairs(40))]
    models = [("a", right_on(*range(30))), ("b", right_on(*range(12, 24)))]
    run(*[evaluate(tmp_path / name, model, name, rows=rows) for name, model in models])
    lines = capsys.readouterr().out.splitlines()
    assert any("engineering-and-science" in line for line in lines)
    assert max(map(len, lines)) <= 100
