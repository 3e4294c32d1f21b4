"""`rmbench distances` through the command line: figures against plain numpy, what it says, and what it refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import Scripted
from given import example, given

import rmbench
from rmbench.cli import main
from rmbench.cli._distances import tree
from rmbench.compare import distance_plots
from rmbench.compare.distances import distances
from rmbench.compare.entrants import read_models
from rmbench.errors import ResultError
from rmbench.kinds.grading import Grading
from rmbench.kinds.steps import Steps
from rmbench.metrics.distance import dendrogram
from rmbench.plugins import load_task
from rmbench.results import files
from rmbench.runs.evaluate import evaluate
from rmbench.types import Array, Candidate, Response, Reward

GOLDEN = Path(__file__).parent / "golden"
PROMPTS, RESPONSES = 40, 4


def rewards(seed: int, right: float = 0.0) -> Array:
    """Rewards [prompts, responses] of normal noise, higher by `right` for the first response, the right one."""
    noise = np.random.default_rng(seed).normal(size=(PROMPTS, RESPONSES))
    return np.asarray(noise + right * (np.arange(RESPONSES) == 0))


def judge(
    out: Path, name: str, given_rewards: Sequence[Sequence[float]], heads: Mapping[str, Any] | None = None
) -> Path:
    """The result of a score file on prompts with as many responses, the first of which is right."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [
        {"id": f"e{i}", "prompt": f"p{i}", "responses": [f"r{j}" for j in range(len(row))],
         "labels": [int(j == 0) for j in range(len(row))]}
        for i, row in enumerate(given_rewards)
    ]  # fmt: skip
    scores = [
        {"example_id": f"e{i}", "candidate": j, "reward": None if np.isnan(reward) else float(reward)}
        | ({"heads": {head: float(table[i][j]) for head, table in heads.items()}} if heads else {})
        for i, row in enumerate(given_rewards)
        for j, reward in enumerate(row)
    ]
    data, file = out / f"rows-{len(rows)}.jsonl", out / f"{name}.scores.jsonl"
    for path, table in ((data, rows), (file, scores)):
        path.write_text("".join(json.dumps(row) + "\n" for row in table))
    (result,) = rmbench.evaluate(f"scores:{file}", ["best_of_n"], data={"best_of_n": data}, out=out / "out", name=name)
    return out / "out" / files.result_path(result)


def run(*arguments: object) -> int:
    return main(["distances", *map(str, arguments)])


def document(capsys: Any, *arguments: object) -> Any:
    capsys.readouterr()
    assert run(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def printed(capsys: Any, *arguments: object) -> tuple[str, str]:
    """What is printed, white space apart, and what is told beside it."""
    capsys.readouterr()
    assert run(*arguments) == 0
    told = capsys.readouterr()
    return " ".join(told.out.split()), told.err


def refused(capsys: Any, *arguments: object, code: int = 1) -> str:
    """The one line that it says."""
    capsys.readouterr()
    assert run(*arguments) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    return str(told.err)


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six models: b is a shifted and scaled, c its opposite, d another, e and f nearly d."""
    out = tmp_path_factory.mktemp("six")
    base, other = rewards(0, 1.0), rewards(1, 1.0)
    for name, table in {
        "a": base,
        "b": 3 * base + 10 * np.arange(PROMPTS)[:, None],
        "c": -base,
        "d": other,
        "e": other + 0.3 * rewards(2),
        "f": other + 0.3 * rewards(3),
    }.items():
        judge(out, name, table.tolist())
    return out / "out"


def test_shift_and_scale_are_no_distance_and_the_opposite_is_the_largest(six: Path, capsys: Any) -> None:
    (task,) = document(capsys, six)["tasks"]
    pairs = {pair["first"] + pair["second"]: pair for pair in task["pairs"]}
    assert pairs["ab"]["starc"]["value"] == 0
    assert (pairs["ac"]["starc"]["value"], pairs["ac"]["epic"]["value"]) == (2, 1)
    assert (pairs["ab"]["other"]["value"], pairs["ac"]["other"]["value"]) == (0, 1)
    for pair in pairs.values():
        for end in ("value", "low", "high"):
            assert pair["epic"][end] == (None if pair["starc"][end] is None else pair["starc"][end] / 2)
    matrix = np.array(task["matrix"])
    assert (matrix == matrix.T).all()
    assert (task["prompts"], task["of_prompts"], task["responses"]) == (PROMPTS, PROMPTS, PROMPTS * RESPONSES)


def test_figures_of_a_pair_are_those_of_plain_numpy(six: Path, capsys: Any) -> None:
    (task,) = document(capsys, six)["tasks"]
    (pair,) = [pair for pair in task["pairs"] if (pair["first"], pair["second"]) == ("a", "d")]
    first, second = rewards(0, 1.0), rewards(1, 1.0)
    left = [one - one.mean(axis=1, keepdims=True) for one in (first, second)]
    rho = np.corrcoef(left[0].ravel(), left[1].ravel())[0, 1]
    assert pair["starc"]["value"] == pytest.approx(np.sqrt(2 * (1 - rho)))
    assert pair["starc"]["low"] < pair["starc"]["value"] < pair["starc"]["high"]
    chosen = [one.argmax(axis=1) for one in (first, second)]
    assert pair["other"]["value"] == pytest.approx(np.mean(chosen[0] != chosen[1]))
    wrong = np.array([one != 0 for one in chosen])
    errors = pair["errors"]
    assert (errors["only_first"], errors["only_second"]) == (sum(wrong[0] & ~wrong[1]), sum(wrong[1] & ~wrong[0]))
    assert errors["phi"]["value"] == pytest.approx(np.corrcoef(wrong)[0, 1])
    assert pair["difference"]["value"] == pytest.approx(wrong[0].mean() - wrong[1].mean())


def test_an_ensemble_is_the_mean_of_rewards_over_their_sd_within_prompts(six: Path, capsys: Any) -> None:
    (task,) = document(capsys, six / "a", six / "d", six / "e")["tasks"]
    tables = [rewards(0, 1.0), rewards(1, 1.0), rewards(1, 1.0) + 0.3 * rewards(2)]
    scaled = [table / np.sqrt(np.mean((table - table.mean(axis=1, keepdims=True)) ** 2)) for table in tables]

    def accuracy(*places: int) -> Array:
        return np.asarray(np.mean([scaled[place] for place in places], axis=0).argmax(axis=1) == 0, float)

    ensemble = task["members"]
    assert ensemble["value"] == pytest.approx(accuracy(0, 1, 2).mean())
    best = int(np.argmax([accuracy(place).mean() for place in range(3)]))
    assert ensemble["best"] == "ade"[best]
    assert ensemble["above_best"]["value"] == pytest.approx(accuracy(0, 1, 2).mean() - accuracy(best).mean())
    for place, member in enumerate(ensemble["members"]):
        rest = [other for other in range(3) if other != place]
        assert member["alone"] == pytest.approx(accuracy(place).mean())
        assert member["without"] == pytest.approx(accuracy(*rest).mean())
        assert member["added"]["value"] == pytest.approx(accuracy(0, 1, 2).mean() - accuracy(*rest).mean())
        assert member["added"]["ci_low"] <= member["added"]["value"] <= member["added"]["ci_high"]
        if place == best:
            assert member["to_best"] is None
        else:
            gain = accuracy(best, place).mean() - accuracy(best).mean()
            assert member["to_best"]["value"] == pytest.approx(gain)


def test_an_ensemble_gains_from_the_member_that_errs_elsewhere(tmp_path: Path, capsys: Any) -> None:
    """Of three, two are one model with a little noise; the third knows as much and errs by itself."""
    shared, own = rewards(10), rewards(11)
    for name, noise in {"twin": shared, "sister": shared + 0.05 * rewards(12), "other": own}.items():
        table = np.concatenate([noise + np.eye(1, RESPONSES)] * 3) + 1e-3 * np.random.default_rng(13).normal(
            size=(3 * PROMPTS, RESPONSES)
        )
        judge(tmp_path, name, table.tolist())
    (task,) = document(capsys, tmp_path / "out")["tasks"]
    added = {member["model"]: member["added"]["value"] for member in task["members"]["members"]}
    assert added["other"] > max(added["twin"], added["sister"])
    phi = {pair["first"] + "-" + pair["second"]: pair["errors"]["phi"]["value"] for pair in task["pairs"]}
    assert phi["sister-twin"] > max(phi["other-sister"], phi["other-twin"])


def test_what_is_printed(six: Path, capsys: Any) -> None:
    out, err = printed(capsys, six)
    assert err == ""
    assert "best_of_n v2 40 prompts, 160 responses A a B b C c D d E e F f" in out
    assert "A B C D E F A . 0.0 100.0" in out
    assert "A B 0.00 0 [0, 9]" in out
    assert "Not told apart by accuracy, and yet other responses selected: " in out
    assert "Do errors go together? 40 examples: CD " in out
    assert "Ensemble of all, the mean of rewards over their SD within prompts: accuracy " in out
    assert "EPIC is half of it" in out


@pytest.mark.parametrize("columns", [80, 100])
def test_no_line_is_longer_than_the_terminal(six: Path, capsys: Any, monkeypatch: Any, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    capsys.readouterr()
    assert run(six) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert not any("…" in line for line in lines)


def test_the_dendrogram_joins_the_nearest_first() -> None:
    joins = dendrogram(np.array([[0.0, 1.0, 0.2], [1.0, 0.0, 0.6], [0.2, 0.6, 0.0]]))
    assert tree(joins, ["A", "B", "C"], 20) == [
        "  A ─────┐",
        "         ├──────────────┐",
        "  C ─────┘              │",
        "                        │",
        "  B ────────────────────┘",
        "    0                0.80",
    ]


def test_heads_at_odds_are_named(tmp_path: Path, capsys: Any) -> None:
    table = rewards(4, 1.0)
    heads = {"honesty": table.tolist(), "harmlessness": (-table).tolist(), "humour": rewards(5).tolist()}
    paths = judge(tmp_path, "headed", table.tolist(), heads), judge(tmp_path, "plain", rewards(6, 1.0).tolist())
    (task,) = document(capsys, *paths)["tasks"]
    conflicts = {(one["first"], one["second"]): one["opposite"]["value"] for one in task["conflicts"]}
    assert len(conflicts) == 6  # of default and three heads
    assert conflicts["honesty", "harmlessness"] == 1
    assert conflicts["default", "honesty"] == 0
    assert 0.3 < conflicts["honesty", "humour"] < 0.7
    assert {one["model"] for one in task["conflicts"]} == {"headed"}
    out, _ = printed(capsys, *paths)
    assert "A default, harmlessness 100.0" in out
    (task,) = document(capsys, *paths, "--view", "humour")["tasks"]
    assert task["views"] == {"headed": "humour", "plain": "default"}


def test_prompts_that_one_model_left_unrewarded_are_left_out_for_all(tmp_path: Path, capsys: Any) -> None:
    first, second = rewards(7, 1.0), rewards(8, 1.0)
    second[3, 1] = np.nan
    first[5, 2] = np.inf
    paths = judge(tmp_path, "a", first.tolist()), judge(tmp_path, "b", second.tolist())
    (task,) = document(capsys, *paths)["tasks"]
    assert (task["prompts"], task["of_prompts"]) == (PROMPTS - 2, PROMPTS)
    assert task["notes"] == [
        f"left out: 1 of 40 prompts, with a response that {name} gave no finite reward" for name in ("a", "b")
    ]
    kept = ~np.isin(np.arange(PROMPTS), [3, 5])
    left = [one[kept] - one[kept].mean(axis=1, keepdims=True) for one in (first, second)]
    rho = np.corrcoef(left[0].ravel(), left[1].ravel())[0, 1]
    assert task["pairs"][0]["starc"]["value"] == pytest.approx(np.sqrt(2 * (1 - rho)))


def test_a_model_without_distances_is_one_line_and_the_others_go_on(six: Path, tmp_path: Path, capsys: Any) -> None:
    flat = judge(tmp_path / "flat", "flat", (np.arange(PROMPTS)[:, None] + np.zeros(RESPONSES)).tolist())
    nothing = judge(tmp_path / "nothing", "nothing", np.full((PROMPTS, RESPONSES), np.nan).tolist())
    (task,) = document(capsys, six / "a", six / "d", flat, nothing)["tasks"]
    assert task["models"] == ["a", "d"]
    _, err = printed(capsys, six / "a", six / "d", flat, nothing)
    told = err.splitlines()
    assert told == [
        "rmbench: best_of_n: nothing has no distance: to no prompt did it give every response a finite reward",
        "rmbench: best_of_n: flat has no distance: it gives all responses to a prompt the same reward",
    ]
    line = refused(capsys, six / "a", flat)
    assert (
        "flat has no distance: it gives all responses to a prompt the same reward; only a is left; a distance needs two"
        in line
    )


def test_a_model_that_is_never_wrong_has_distances_and_no_correlation_of_errors(
    six: Path, tmp_path: Path, capsys: Any
) -> None:
    perfect = judge(tmp_path, "perfect", rewards(9, 100.0).tolist())
    (task,) = document(capsys, six, perfect)["tasks"]
    pairs = [pair for pair in task["pairs"] if "perfect" in (pair["first"], pair["second"])]
    assert all(pair["errors"]["phi"]["value"] is None and 0 < pair["starc"]["value"] < 2 for pair in pairs)
    assert task["dependence"]["cd"] is None
    out, _ = printed(capsys, six, perfect)
    assert "Do errors go together? 40 examples: a model is never wrong, or always, so CD has no number." in out


def test_a_model_that_only_compares_has_no_distance(tmp_path: Path, capsys: Any) -> None:
    def compares(prompt: str, first: str, second: str) -> float:
        return float(first < second)

    for model, name in (("length", "a"), ("random", "b"), (compares, "c")):
        rmbench.evaluate(model, ["best_of_n"], out=tmp_path, name=name, limit=20)
    capsys.readouterr()
    assert run(tmp_path) == 3  # a try
    told = capsys.readouterr()
    assert "best_of_n: c has no distance: it only compared pairs, which leaves no reward of a response" in told.err
    assert "a try, of examples that --limit cut off: it decides nothing" in " ".join(told.out.split())


def test_what_is_mistyped_is_one_line(six: Path, capsys: Any) -> None:
    assert "only a is given; a comparison needs two" in refused(capsys, six / "a", code=2)
    assert "nothing is given" in refused(capsys, code=2)
    assert "did you mean 'accuracy'?" in refused(capsys, six, "--metric", "acuracy", code=2)
    assert "did you mean 'default'?" in refused(capsys, six, "--view", "defalt", code=2)
    assert "did you mean 'best_of_n'?" in refused(capsys, six, "-t", "best_of", code=2)
    file = next((six / "a").rglob("*.json"))
    assert "is one of the results that are read" in refused(capsys, six, "--csv", file, code=2)


def test_a_csv_has_a_row_a_pair(six: Path, tmp_path: Path, capsys: Any) -> None:
    (task,) = document(capsys, six)["tasks"]
    path = tmp_path / "deep" / "pairs.csv"
    assert run(six, "--csv", path) == 0
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [(row["first"], row["second"]) for row in rows] == [(p["first"], p["second"]) for p in task["pairs"]]
    for row, pair in zip(rows, task["pairs"], strict=True):
        assert float(row["starc"]) == pair["starc"]["value"]
        assert float(row["epic"]) == pair["epic"]["value"]
        assert float(row["difference"]) == pair["difference"]["value"]
        assert row["starc_low"] == ("" if pair["starc"]["low"] is None else str(pair["starc"]["low"]))
        assert float(row["both"]) == pair["errors"]["both"]


def test_plots_are_of_the_distances_in_the_order_of_the_dendrogram(six: Path, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "deep" / "plots"
    _, err = printed(capsys, six, "--plots", folder)
    assert err == f"rmbench: 2 plots in {folder}\n"
    assert sorted(path.name for path in folder.iterdir()) == ["best_of_n--dendrogram.svg", "best_of_n--distances.svg"]
    (task,) = distances(read_models([six], {}), load_task).tasks
    cells, lines = points(distance_plots.matrix(task)), points(distance_plots.dendrogram(task))
    assert len(cells) == 30  # of six models
    assert {(cell["first"], cell["second"]): cell["starc"] for cell in cells}["a", "c"] == 2
    assert [line["x"] for line in lines[2::3]] == [join.height for join in task.joins]
    (tmp_path / "file").write_text("")
    assert "--plots names another folder" in refused_after(capsys, six, "--plots", tmp_path / "file" / "in")


def points(specification: Any) -> Any:
    """What the first layer of a plot is drawn from."""
    data = specification["layer"][0].get("data") or specification["data"]
    return specification["datasets"][data["name"]] if "name" in data else data["values"]


def refused_after(capsys: Any, *arguments: object) -> str:
    """The line of what failed after the figures were printed."""
    capsys.readouterr()
    assert run(*arguments) == 1
    return capsys.readouterr().err.splitlines()[-1]


def test_responses_that_are_an_example_each_are_taken_together_by_their_prompt(tmp_path: Path) -> None:
    examples = [
        example(f"{i}-{j}", Candidate(f"{j} {'x' * (7 * i * j % 5)}", float(j == 0)), prompt=f"p{i}")
        for i in range(12)
        for j in range(1 + i % 3)
    ]
    task: Any = given(Grading, examples)
    for model in ("length", "random"):
        evaluate(model, [task], out=tmp_path, name=model)
    (found,) = distances(read_models([tmp_path], {}), lambda name: task).tasks
    assert (found.prompts, found.of_prompts, found.responses) == (8, 12, 20)
    assert found.notes[:2] == [
        "responses that are an example each are taken together by their prompt",
        "left out: 4 of 12 prompts, with a single response",
    ]
    errors = found.pairs[0].errors
    assert errors is not None
    assert errors.only_first + errors.only_second + errors.both + errors.neither == 24  # responses, right or wrong each


def test_where_nothing_is_right_or_wrong_there_are_no_errors(tmp_path: Path) -> None:
    examples = [
        example(f"{i}-{j}", Candidate("x" * (7 * i * j % 5), 2.5 + i + 0.1 * j), prompt=f"p{i}")
        for i in range(8)
        for j in range(3)
    ]
    task: Any = given(Grading, examples)
    for model in ("length", "random"):
        evaluate(model, [task], out=tmp_path, name=model)
    (found,) = distances(read_models([tmp_path], {}), lambda name: task).tasks
    assert found.pairs[0].errors is None
    assert "no errors in common: no example has a right and a wrong response that all models rewarded" in found.notes


def test_no_two_responses_to_a_prompt_are_one_line(tmp_path: Path) -> None:
    task: Any = given(Grading, [example(f"e{i}", Candidate("x" * i, float(i % 2))) for i in range(6)])
    for model in ("length", "random"):
        evaluate(model, [task], out=tmp_path, name=model)
    with pytest.raises(ResultError, match="every prompt has a single response, and a reward is compared with others"):
        distances(read_models([tmp_path], {}), lambda name: task)


def test_of_official_rewards_the_distance_is_that_of_the_numbers_in_their_files(tmp_path: Path) -> None:
    names, tables = ("internlm2", "ReasonEval_7B"), []
    for name in names:
        file = GOLDEN / f"{name}_reward.json"
        given_scores = [row["score"] for row in json.loads(file.read_text())]
        tables.append(
            np.array([[np.prod(one) if isinstance(one, list) else one for one in row] for row in given_scores])
        )
        rmbench.evaluate(f"scores:{file}", ["rewardmath"], data={"rewardmath": file}, out=tmp_path, name=name)
    (task,) = distances(read_models([tmp_path], {}), load_task).tasks
    left = [table - table.mean(axis=1, keepdims=True) for table in tables]
    rho = np.corrcoef(left[0].ravel(), left[1].ravel())[0, 1]
    assert task.pair(*names).starc.value == pytest.approx(np.sqrt(2 * (1 - rho)))
    assert task.views == {"internlm2": "default", "ReasonEval_7B": "prod"}
    assert task.pair(*names).other.value == pytest.approx(np.mean(tables[0].argmax(axis=1) != tables[1].argmax(axis=1)))


def test_a_task_of_steps_has_distances_and_no_ensemble(tmp_path: Path) -> None:
    examples = [
        example(
            f"{i}-{j}", Candidate(Response("a\n\nb", ["a", f"b{j}"]), None, step_labels=(1.0, j % 2)), prompt=f"p{i}"
        )
        for i in range(8)
        for j in range(3)
    ]
    task: Any = given(Steps, examples)
    for place in range(2):
        numbers = iter(np.random.default_rng(place).random(100).tolist())
        model = Scripted(lambda _, own=numbers: Reward((next(own),), steps=(0.5, next(own))), ["steps"], f"s:{place}")
        evaluate(model, [task], out=tmp_path, name=f"m{place}")
    (found,) = distances(read_models([tmp_path], {}), lambda name: task).tasks
    assert (found.prompts, found.responses) == (8, 24)
    assert 0 < found.pairs[0].starc.value < 2
    assert found.members is None
    assert any("is of steps, and an ensemble of rewards has none" in note for note in found.notes)
