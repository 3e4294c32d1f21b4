"""Leaderboards: the same bytes anywhere, every edit named, and nothing compared that should not be."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from statsmodels.api import OLS, add_constant

import rmbench
from rmbench.cli import main
from rmbench.errors import ResultError
from rmbench.leaderboard import build as build_module
from rmbench.leaderboard import columns
from rmbench.leaderboard.build import build, tables
from rmbench.leaderboard.check import check
from rmbench.leaderboard.columns import inert
from rmbench.leaderboard.predicted import predict
from rmbench.metrics.aggregate import VIEWS
from rmbench.results import files
from rmbench.results.digest import digest, with_effective
from rmbench.results.schema import TaskResult

ROOT = Path(__file__).parents[1]
COMMITTED = ROOT / "leaderboards"


def longest(prompt: str, response: str) -> float:
    return len(response)


def rows(count: int, *, start: int = 0) -> list[dict[str, str]]:
    """Pairs of which the longer response is right, the last quarter aside."""
    return [
        {"prompt": f"p{i}", "chosen": "x" * (1 if i % 4 == 3 else 5), "rejected": "y" * 3}
        for i in range(start, start + count)
    ]


def evaluate(out: Path, model: Any, *, pairs: list[dict[str, str]] | None = None, **options: Any) -> Path:
    """Evaluates on preference pairs and returns the result's path."""
    data = out.parent / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in pairs or rows(40)))
    (result,) = rmbench.evaluate(model, ["preference"], data={"preference": data}, out=out, **options)
    return out / files.result_path(result)


def edit(path: Path, **changes: Any) -> Path:
    """Changes a result, and moves it to where it then belongs, as somebody might who wants another rank."""
    result = files.read(path, tables=True)
    changed = TaskResult.model_validate_json(json.dumps(json.loads(result.model_dump_json()) | changes))
    changed._records, changed._requests = result.records, result.requests
    shutil.rmtree(path.parent)
    folder = next(parent for parent in path.parents if parent.name == "results")
    return files.write(changed, folder)


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A folder with results of two models and its tables."""
    evaluate(tmp_path / "results", "length")
    evaluate(tmp_path / "results", "random")
    build(tmp_path / "results", tmp_path)
    return tmp_path


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_the_committed_tables_are_what_their_results_give() -> None:
    assert check(COMMITTED / "results", COMMITTED) == []


def test_the_committed_results_are_small_and_hold_no_texts() -> None:
    paths = [path for path in (COMMITTED / "results").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in paths) < 4_000_000
    for path in paths:
        if path.suffix == ".json" and "RewardMATH" in str(path):
            records = files.read(path, tables=True).records
            tags = {name for name in records.column_names if name.startswith("tag_")}
            assert tags <= {"tag_source", "tag_chosen_position"}
            assert all(len(source) < 60 for source in records["tag_source"].unique().to_pylist() if source)


@pytest.mark.parametrize(
    ("model", "view", "accuracy", "mrr"),
    [
        ("internlm2-7b-reward", "default", 37.27, 55.17),
        ("Skywork-Reward-Llama-3.1-8B", "default", 22.15, 44.69),
        ("ArmoRM-Llama3-8B-v0.1", "default", 20.50, 42.18),
        ("beaver-7b-v2.0-reward", "default", 7.25, 26.59),
        ("oasst-rm-2.1-pythia-1.4b", "default", 7.04, 27.03),
        ("ReasonEval-7B", "prod", 18.22, 38.49),
        ("ReasonEval-7B", "geometric_mean", 20.29, 39.26),
        ("math-shepherd-mistral-7b-prm", "prod", 17.18, 34.68),
        ("math-shepherd-mistral-7b-prm", "geometric_mean", 15.73, 33.61),
        ("gpt-4o-pairwise", "default", 24.64, 48.92),
        ("Llama-3-8B-Instruct-pairwise", "default", 0.62, 19.06),
        ("prometheus-7b-v2.0-pairwise", "default", 2.28, 21.64),
    ],
)
def test_the_committed_tables_give_the_published_figures(model: str, view: str, accuracy: float, mrr: float) -> None:
    (row,) = (
        row
        for row in cells(COMMITTED / "rewardmath.csv")
        if (row["model"], row["view"]) == (f"RewardMATH-official/{model}", view)
    )
    assert 100 * float(row["accuracy"]) == pytest.approx(accuracy, abs=0.006)
    assert 100 * float(row["mrr"]) == pytest.approx(mrr, abs=0.006)


def test_another_locale_time_zone_and_order_give_the_same_bytes(board: Path, tmp_path_factory: Any) -> None:
    made = []
    for place, locale, zone, seed in (("a", "C", "UTC", "1"), ("b", "tr_TR.UTF-8", "Asia/Kolkata", "2")):
        folder = tmp_path_factory.mktemp(place)
        found = sorted((board / "results").iterdir(), reverse=place == "b")
        for path in found:
            shutil.copytree(path, folder / "results" / path.name)
        environment = os.environ | {"LC_ALL": locale, "LANG": locale, "TZ": zone, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-m", "rmbench", "leaderboard", "build", "--folder", str(folder)]
        subprocess.run(command, env=environment, check=True, capture_output=True, cwd=folder)
        made.append({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})
    assert made[0] == made[1]
    assert set(made[0]) == {"preference.md", "preference.csv", "summary.md", "summary.csv"}
    assert b"\r" not in b"".join(made[0].values())


def test_a_hand_edited_figure_is_named(board: Path, capsys: Any) -> None:
    (row,) = (row for row in cells(board / "preference.csv") if row["model"] == "rmbench/length")
    for name in ("preference.csv", "preference.md"):
        path = board / name
        path.write_text(path.read_text().replace(row["accuracy"], "0.990000").replace("75.0 [", "99.0 ["))
    assert run("leaderboard", "check", "--folder", board) == 1
    printed = capsys.readouterr().out
    assert f"column 'accuracy': found '0.990000', expected '{row['accuracy']}'" in printed
    assert "column 'accuracy %': found '99.0 [" in printed
    assert "rmbench/length" in printed
    assert run("leaderboard", "build", "--folder", board) == 0
    assert run("leaderboard", "check", "--folder", board) == 0


def test_tables_rows_and_columns_that_are_gone_or_too_many_are_named(board: Path) -> None:
    (board / "summary.md").unlink()
    (board / "old.csv").write_text("a\n")
    (board / "README.md").write_text("words\n")
    lines = (board / "preference.csv").read_text().splitlines()
    (board / "preference.csv").write_text("\n".join([lines[0].replace("tier", "rank"), lines[1], "v1,someone\n"]))
    found = check(board / "results", board)
    assert "summary.md: missing" in found
    assert "old.csv: no table of these results" in found
    assert any("row 'v1 someone': not in the results" in line for line in found)
    assert sum(line.endswith(": missing") and "row" in line for line in found) == 1
    assert any("column 'tier': found no such cell" in line for line in found)
    (board / "preference.csv").write_text("\r\n".join([*lines, ""]))
    assert any("differs outside its cells" in line for line in check(board / "results", board))
    (board / "preference.csv").write_bytes(b"")
    assert check(board / "results", board)


def test_a_removed_parquet_is_one_clear_line(board: Path, capsys: Any) -> None:
    (parquet, _) = sorted((board / "results").rglob("*.parquet"))
    parquet.unlink()
    for action in ("build", "check"):
        assert run("leaderboard", action, "--folder", board) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"{parquet}: missing; a result goes with the records beside it" in error


def test_a_broken_parquet_is_one_clear_line(board: Path) -> None:
    (parquet, _) = sorted((board / "results").rglob("*.parquet"))
    parquet.write_bytes(b"PAR1 no more")
    with pytest.raises(ResultError, match="records of this result cannot be read"):
        tables(board / "results")
    shutil.copy(next(COMMITTED.rglob("rmbench__length/**/best_of_n.parquet")), parquet)
    with pytest.raises(ResultError, match=r"columns\.candidates\.\w+ is .*, its records give"):
        tables(board / "results")


def test_a_figure_that_its_records_do_not_give_is_refused(board: Path) -> None:
    (path, _) = sorted((board / "results").rglob("*.json"))
    metrics = json.loads(path.read_text())["metrics"]
    metrics[0] |= {"value": 0.99, "ci_high": 1.0}
    edit(path, metrics=metrics)
    with pytest.raises(ResultError, match=r"accuracy of view 'default' is 0\.99, its records give 0\.75"):
        tables(board / "results")
    metrics[0] |= {"value": 0.75, "ci_low": 0.7}
    edit(next(path.parent.parent.rglob("*.json")), metrics=metrics)
    with pytest.raises(ResultError, match=r"accuracy of view 'default', ci_low, is 0\.7, its records give 0\.59"):
        tables(board / "results")


def test_a_result_in_the_wrong_place_and_none_at_all_are_said(board: Path, tmp_path: Path) -> None:
    (path, _) = sorted((board / "results").rglob("*.json"))
    path.parent.rename(path.parent.with_name("elsewhere"))
    with pytest.raises(ResultError, match=rf"belongs at .*{path.parent.name}"):
        tables(board / "results")
    with pytest.raises(ResultError, match="no results"):
        tables(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["../up", "summary", "README", "a b", ""])
def test_a_task_that_cannot_name_a_table_is_refused(name: str, board: Path) -> None:
    (path, _) = sorted((board / "results").rglob("*.json"))
    content = json.loads(path.read_text())
    content["task"]["name"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(ResultError, match=r"task\.name"):
        tables(board / "results")


def test_names_are_inert(board: Path) -> None:
    (path, _) = sorted((board / "results").rglob("*.json"))
    name = "a|b<script>alert(1)</script>`c`[x](http://y)_z_ __w__ www.q.r\n# é"
    edit(path, subject=json.loads(path.read_text())["subject"] | {"id": name})
    made = tables(board / "results")
    for file in ("preference.md", "summary.md"):
        (line,) = (line for line in made[file].splitlines() if "alert" in line)
        assert line.count("|") == made[file].splitlines()[-2].count("|")
        cell = line.split("|")[1]
        assert not set(cell) & set("<>`[]():*~!\\")
        assert "&#124;b&#60;script&#62;" in cell
        assert "_z" not in cell
        assert "__" not in cell
        assert "www." not in cell
    build(board / "results", board)
    assert check(board / "results", board) == []
    assert name in [row["model"] for row in cells(board / "preference.csv")]


def test_a_name_is_no_formula(board: Path) -> None:
    (path, _) = sorted((board / "results").rglob("*.json"))
    edit(path, subject=json.loads(path.read_text())["subject"] | {"id": "=cmd()"})
    assert "'=cmd()" in tables(board / "results")["preference.csv"]


@pytest.mark.parametrize("name", ["org/plain-name.v1", "best_of_n", "geometric_mean"])
def test_plain_names_stay_as_they_are(name: str) -> None:
    assert inert(name) == name


def section(title: str) -> list[str]:
    """The indented lines of a section of CONTRIBUTING.md."""
    part = (ROOT / "CONTRIBUTING.md").read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    return [line.strip() for line in part.splitlines() if line.startswith("    ")]


def test_a_column_is_one_line(board: Path, monkeypatch: Any) -> None:
    (line,) = section("Add a leaderboard column")
    source = Path(columns.__file__).read_text()
    assert source.endswith(",\n)\n")
    changed: dict[str, Any] = {"__name__": "rmbench.leaderboard.columns"}
    exec(source.removesuffix(")\n") + f"    {line}\n)\n", changed)
    monkeypatch.setattr(build_module, "COLUMNS", changed["COLUMNS"])
    found = check(board / "results", board)
    assert any("preference.csv" in line and "'margin_sd_low': found no such cell" in line for line in found)
    assert any("preference.md" in line and "'margin (sd)': found no such cell" in line for line in found)
    build(board / "results", board)
    assert "margin_sd" in cells(board / "preference.csv")[0]


def test_submitting_a_result_goes_as_contributing_says(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for line in section("Submit a result"):
        command = line.replace("org/model", "length").replace("org__model", "rmbench__length").split()
        arguments = [path for word in command[1:] for path in (sorted(tmp_path.glob(word)) if "*" in word else [word])]
        assert run(*arguments) == 0
    assert cells(tmp_path / "leaderboards" / "summary.csv")[0]["model"] == "rmbench/length"


def test_models_that_cannot_be_told_apart_share_a_tier(tmp_path: Path) -> None:
    evaluate(tmp_path / "results", longest, name="best", pairs=rows(120))
    evaluate(tmp_path / "results", lambda _, text: -len(text), name="worst", pairs=rows(120))
    evaluate(tmp_path / "results", lambda p, text: len(text) * (-1 if p == "p0" else 1), name="near", pairs=rows(120))
    build(tmp_path / "results", tmp_path)
    found = {row["model"]: (row["tier"], row["p"]) for row in cells(tmp_path / "preference.csv")}
    assert found == {"best": ("1", ""), "near": ("1", "1.000000"), "worst": ("2", "")}


def fails(prompt: str) -> float:
    raise ValueError("no reward")


def answers_some(how: str, pairs: list[dict[str, str]], path: Path) -> Any:
    """A model that is right on the first three pairs and does not answer the others, in one of the ways there are."""
    if how == "not in its score file":
        scores = [{"example_id": f"e{i}", "candidate": c, "reward": 1.0 - c} for i in range(3) for c in (0, 1)]
        path.write_text("".join(json.dumps(score) + "\n" for score in scores))
        return f"scores:{path}"
    if how == "half a pair":
        scores = [{"example_id": f"e{i}", "candidate": 0, "reward": 1.0} for i in range(len(pairs))]
        scores += [{"example_id": f"e{i}", "candidate": 1, "reward": 0.0} for i in range(3)]
        path.write_text("".join(json.dumps(score) + "\n" for score in scores))
        return f"scores:{path}"
    answered = {row["prompt"]: row["chosen"] for row in pairs[:3]}
    if how == "an error":  # of one response of each pair: a run gives up where a function fails again and again
        chosen = {row["prompt"]: row["chosen"] for row in pairs}
        return lambda prompt, text: (
            fails(prompt) if prompt not in answered and text != chosen[prompt] else float(text == chosen[prompt])
        )
    return lambda prompt, text: float(text == answered[prompt]) if prompt in answered else float("nan")


@pytest.mark.parametrize("how", ["not in its score file", "half a pair", "nan", "an error"])
def test_what_a_model_left_unanswered_helps_it_nowhere_and_moves_nobody(how: str, tmp_path: Path) -> None:
    out, pairs = tmp_path / "results", [row | {"id": f"e{i}"} for i, row in enumerate(rows(40))]
    evaluate(out, longest, name="best", pairs=pairs)
    evaluate(out, lambda _, text: -len(text), name="worst", pairs=pairs)
    rmbench.evaluate("length", ["best_of_n"], out=out, name="best")
    build(out, tmp_path)
    board, summary = (
        {row["model"]: row for row in cells(tmp_path / f"{name}.csv")} for name in ("preference", "summary")
    )
    evaluate(out, answers_some(how, pairs, tmp_path / "scores.jsonl"), name="some", pairs=pairs)
    build(out, tmp_path)
    after = {row["model"]: row for row in cells(tmp_path / "preference.csv")}
    assert list(after) == ["best", "worst", "some"]
    for name in ("best", "worst"):
        assert board[name].items() <= after[name].items()
    some = after["some"]
    assert (some["tier"], some["p"], some["predicted_Arena"]) == ("", "", "")
    assert (float(some["accuracy"]), some["n"], some["examples_unanswered"]) == (1.0, "3", "37")
    assert float(some["these_counted_as_lost"]) == pytest.approx(3 / 40)
    assert "| 7.5 % |" in " ".join((tmp_path / "preference.md").read_text().split())
    after = {row["model"]: row for row in cells(tmp_path / "summary.csv")}
    assert list(after) == ["best", "worst", "some"]
    for name in ("best", "worst"):
        assert summary[name].items() == after[name].items()
    assert (after["some"]["mean"], after["some"]["unanswered"]) == ("", "preference: 37 of 40, at least 7.5")
    assert inert("preference: 37 of 40, at least 7.5") in (tmp_path / "summary.md").read_text()
    assert check(out, tmp_path) == []


def test_a_task_that_nobody_answered_whole_takes_no_mean_away(board: Path) -> None:
    pairs = [row | {"id": f"e{i}"} for i, row in enumerate(rows(40))]
    before = {row["model"]: row["mean"] for row in cells(board / "summary.csv")}
    assert all(before.values())
    out = board / "results"
    rmbench.evaluate(lambda prompt, text: float("nan"), ["best_of_n"], out=out, name="some", limit=5)
    rmbench.evaluate("length", ["rewardmath_mini"], out=out, name="some", limit=5)
    evaluate(out, answers_some("nan", pairs, board / "scores.jsonl"), name="some", pairs=pairs)
    build(out, board)
    after = {row["model"]: row["mean"] for row in cells(board / "summary.csv")}
    assert before.items() <= after.items()
    assert after["some"] == ""


def test_alone_on_a_board_a_model_that_answered_three_examples_has_no_rank(tmp_path: Path) -> None:
    pairs = [row | {"id": f"e{i}"} for i, row in enumerate(rows(40))]
    evaluate(tmp_path / "results", answers_some("nan", pairs, tmp_path / "s"), name="some", pairs=pairs)
    build(tmp_path / "results", tmp_path)
    (row,) = cells(tmp_path / "preference.csv")
    assert (row["tier"], row["examples_unanswered"]) == ("", "37")
    (row,) = cells(tmp_path / "summary.csv")
    assert row["mean"] == ""


def test_where_less_is_better_what_was_not_answered_counts_as_the_worst(tmp_path: Path) -> None:
    for name, model in (("whole", "random"), ("some", lambda p, text: len(text) if len(p) % 2 else float("nan"))):
        rmbench.evaluate(model, ["appetite"], out=tmp_path / "results", name=name)
    build(tmp_path / "results", tmp_path)
    whole, some = cells(tmp_path / "appetite.csv")
    assert (whole["model"], whole["tier"], whole["these_counted_as_lost"]) == ("whole", "1", "")
    lost = int(some["examples_unanswered"])
    share = float(some["overflow_preferred"])
    due = (share * int(some["n"]) + lost) / (int(some["n"]) + lost)
    assert some["tier"] == ""
    assert lost > 0
    assert float(some["these_counted_as_lost"]) == pytest.approx(due, abs=1e-6)


def test_an_infinity_and_a_verdict_that_the_task_says_the_worth_of_are_answers(tmp_path: Path) -> None:
    evaluate(tmp_path / "results", lambda p, text: float("inf") if p == "p0" and "x" in text else len(text), name="inf")
    build(tmp_path / "results", tmp_path)
    (row,) = cells(tmp_path / "preference.csv")
    assert (row["tier"], row["unanswered"]) == ("1", "1")
    ranked = {row["model"]: row["tier"] for row in cells(COMMITTED / "rewardmath.csv") if row["unanswered"] == "621"}
    assert list(ranked.values()) == ["5"]


@pytest.mark.parametrize("easy", [3, 12])
def test_easy_examples_that_more_models_answered_do_not_become_the_summarys(easy: int, tmp_path: Path) -> None:
    for name in ("one", "two"):
        evaluate(tmp_path / "results", longest, name=name, pairs=rows(40))
    for name in ("three", "four", "five", "six"):
        evaluate(tmp_path / "results", longest, name=name, pairs=rows(easy, start=100))
    build(tmp_path / "results", tmp_path)
    assert [row["model"] for row in cells(tmp_path / "summary.csv")] == ["one", "two"]
    summary = (tmp_path / "summary.md").read_text()
    assert ", 40 examples, 2 models" in summary
    assert "not counted here: preference: 1" in summary


@pytest.mark.parametrize("kind", ["a model that answers more", "one model often", "tries", "models that answer some"])
def test_neither_do_other_examples_of_less_weight(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "results"
    for name in ("one", "two"):
        evaluate(out, longest, name=name, pairs=rows(40))
    match kind:
        case "a model that answers more":
            evaluate(out, longest, name="more", pairs=rows(41, start=100))
        case "one model often":
            for seed in range(4):
                evaluate(out, longest, name="often", pairs=rows(30, start=100), seed=seed)
        case "tries":
            for name in ("a", "b", "c"):
                evaluate(out, longest, name=name, pairs=rows(60), limit=39)
        case _:
            pairs = rows(60, start=100)
            for name in ("a", "b", "c"):
                evaluate(out, answers_some("nan", pairs, tmp_path / "s"), name=name, pairs=pairs)
    build(out, tmp_path)
    assert [row["model"] for row in cells(tmp_path / "summary.csv")] == ["one", "two"]


def test_other_examples_are_a_section_of_their_own(board: Path) -> None:
    evaluate(board / "results", "length", pairs=rows(10, start=100))
    made = tables(board / "results")
    assert made["preference.md"].count("\n## v2 both ") == 2
    sections = [line.split(",")[0] for line in made["preference.csv"].splitlines()[1:]]
    assert sections[0] == sections[1] != sections[2]
    assert "not counted here: preference: 1" in made["summary.md"]
    assert len(made["summary.csv"].splitlines()) == 3


def test_the_same_ids_with_other_responses_are_not_compared(tmp_path: Path) -> None:
    for name, letter in (("one", "x"), ("same", "x"), ("other", "z")):
        pairs = [{"id": str(i), "prompt": f"p{i}", "chosen": letter * 5, "rejected": "y" * 3} for i in range(6)]
        evaluate(tmp_path / "results", longest, name=name, pairs=pairs)
    made = tables(tmp_path / "results")["preference.csv"]
    sections = {line.split(",")[1]: line.split(",")[0] for line in made.splitlines()[1:]}
    assert sections["one"] == sections["same"] != sections["other"]


def test_a_mean_is_only_over_every_task(board: Path) -> None:
    rmbench.evaluate("length", ["best_of_n"], out=board / "results")
    build(board / "results", board)
    length, random = cells(board / "summary.csv")
    assert (length["model"], length["tasks"], random["model"], random["tasks"]) == (
        "rmbench/length", "2", "rmbench/random", "1")  # fmt: skip
    assert float(length["mean"]) == pytest.approx((float(length["preference"]) + float(length["best_of_n"])) / 2)
    assert float(length["mean_low"]) < float(length["mean"]) < float(length["mean_high"])
    assert (random["best_of_n"], random["mean"]) == ("", "")
    assert " - |" in (board / "summary.md").read_text().splitlines()[-1]


def test_two_configurations_are_two_rows(board: Path) -> None:
    evaluate(board / "results", "length", seed=1)
    evaluate(board / "results", "random", seed=1)
    build(board / "results", board)
    for name, column in (("preference.csv", "revision"), ("summary.csv", "revision")):
        found = [row[column] for row in cells(board / name) if row["model"] == "rmbench/length"]
        assert len(set(found)) == 2, name
    random = [(row["revision"], row["fingerprint"]) for row in cells(board / "summary.csv") if "random" in row["model"]]
    assert len(set(random)) == 2


def test_heads_are_one_row_and_aggregators_are_rows(tmp_path: Path) -> None:
    for name, field in (("heads", "heads"), ("steps", "steps")):
        scores = [
            {"example_id": str(i), "candidate": c, "reward": float(c == 0)}
            | {field: {"a": 1.0, "b": 2.0} if field == "heads" else [0.5, float(c == 0)]}
            for i in range(6)
            for c in range(2)
        ]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(score) + "\n" for score in scores))
        pairs = [{"id": str(i), "prompt": f"p{i}", "chosen": "a\n\nb", "rejected": "c\n\nd"} for i in range(6)]
        evaluate(tmp_path / "results", f"scores:{path}", name=name, pairs=pairs)
    build(tmp_path / "results", tmp_path)
    found = [(row["model"], row["view"]) for row in cells(tmp_path / "preference.csv")]
    assert [view for model, view in found if model == "heads"] == ["default"]
    views = {view for model, view in found if model == "steps"}
    assert views == {*VIEWS}
    assert [row["model"] for row in cells(tmp_path / "summary.csv")] == ["heads", "steps"]


def test_other_views_are_listed_and_not_ranked(tmp_path: Path) -> None:
    scores = [
        {"example_id": str(i), "candidate": c, "reward": 0.0, "steps": [0.5, float(c == i % 2)]}
        for i in range(6)
        for c in range(2)
    ]
    (tmp_path / "steps.jsonl").write_text("".join(json.dumps(score) + "\n" for score in scores))
    pairs = [{"id": str(i), "prompt": f"p{i}", "chosen": "a\n\nb", "rejected": "c\n\nd"} for i in range(6)]
    for name in ("one", "two"):
        evaluate(tmp_path / "results", f"scores:{tmp_path / 'steps.jsonl'}", name=name, pairs=pairs)
    build(tmp_path / "results", tmp_path)
    found = [(row["model"], row["view"], row["tier"]) for row in cells(tmp_path / "preference.csv")]
    assert found[:2] == [("one", "prod", "1"), ("two", "prod", "1")]
    assert len(found) == 2 * len(VIEWS)
    assert {tier for _, _, tier in found[2:]} == {""}
    ranked, others = (tmp_path / "preference.md").read_text().split("Other views, not ranked:")
    assert "geometric_mean" in others
    assert "geometric_mean" not in ranked
    assert " tier |" in ranked
    assert "tier" not in others
    assert check(tmp_path / "results", tmp_path) == []

    evaluate(tmp_path / "own", f"scores:{tmp_path / 'steps.jsonl'}?aggregate=min", name="own", pairs=pairs)
    build(tmp_path / "own", tmp_path)
    found = [(row["view"], row["tier"]) for row in cells(tmp_path / "preference.csv")]
    assert found == [("default", "1"), *((view, "") for view in VIEWS)]


def test_a_probe_is_on_a_board_by_its_headline_and_in_no_mean(board: Path) -> None:
    for model in ("length", "random"):
        rmbench.evaluate(model, ["length_bias"], out=board / "results", limit=24)
    build(board / "results", board)
    found = {row["model"]: row for row in cells(board / "length_bias.csv")}
    assert float(found["rmbench/length"]["effect_padding"]) > float(found["rmbench/random"]["effect_padding"])
    assert int(found["rmbench/length"]["n"]) == 24
    assert [found[f"rmbench/{name}"]["tier"] for name in ("random", "length")] == ["1", "2"]
    assert "length_bias" not in cells(board / "summary.csv")[0]


def test_no_mean_is_over_a_task_that_was_not_run_whole(tmp_path: Path) -> None:
    rmbench.evaluate("length", ["best_of_n"], out=tmp_path / "results", limit=5)
    build(tmp_path / "results", tmp_path)
    (row,) = cells(tmp_path / "summary.csv")
    assert row["best_of_n"]
    assert row["mean"] == ""


def test_add_checks_and_copies(tmp_path: Path, capsys: Any) -> None:
    result = evaluate(tmp_path / "mine", "length")
    shutil.move(result.parent, tmp_path / "moved")
    folder = tmp_path / "leaderboards"
    moved = tmp_path / "moved" / result.name
    assert run("leaderboard", "add", moved, "--folder", folder) == 0
    (added,) = (folder / "results").rglob("*.json")
    assert added.relative_to(folder / "results") == result.relative_to(tmp_path / "mine")
    assert added.read_text() == moved.read_text()
    assert run("leaderboard", "build", "--folder", folder) == 0
    assert run("leaderboard", "check", "--folder", folder) == 0
    moved.with_suffix(".parquet").unlink()
    capsys.readouterr()
    assert run("leaderboard", "add", moved, "--folder", tmp_path / "other") == 1
    assert f"{moved.stem}.parquet: missing" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_an_old_table_is_mentioned_by_build(board: Path, capsys: Any) -> None:
    (board / "old.md").write_text("old\n")
    assert run("leaderboard", "build", "--folder", board) == 0
    assert "old.md: no table of these results; remove it" in capsys.readouterr().err


ARENA = [
    (1216, "Athene-RM-70B"),
    (1209, "Athene-RM-8B"),
    (1204, "InternLM2-7B-Reward"),
    (1200, "Llama-3-OffsetBias-RM-8B"),
    (1189, "ArmoRM-Llama3-8B-v0.1"),
    (1176, "Skywork/Skywork-Reward-Llama-3.1-8B"),
]


def test_the_predicted_score_is_that_of_a_line_through_the_models_that_policies_were_trained_on() -> None:
    accuracies = [0.81, 0.7, 0.66, 0.5, 0.61, 0.4]
    figures = [*zip((name for _, name in ARENA), accuracies, strict=True), ("org/new", 0.55), ("org/none", None)]
    found = predict(figures, "Chatbot Arena")
    fitted = OLS([score for score, _ in ARENA], add_constant(accuracies)).fit()
    due = fitted.get_prediction([[1, 0.55]]).summary_frame(alpha=0.05).iloc[0]
    assert found[6] is not None
    assert (found[6].value, found[6].ci_low, found[6].ci_high, found[6].n) == pytest.approx(
        (due["mean"], due["obs_ci_lower"], due["obs_ci_upper"], 6)
    )
    assert found[7] is None


@pytest.mark.parametrize("other", [0.1, 0.9])
def test_two_rows_of_one_model_count_once_as_their_mean(other: float) -> None:
    accuracies = [0.81, 0.7, 0.66, 0.5, 0.61, 0.4]
    figures = [*zip((name for _, name in ARENA), accuracies, strict=True)]
    name, first = figures[2]
    twice = [*figures, (name, other), ("org/new", 0.55)]
    averaged = [*figures[:2], (name, (first + other) / 2), *figures[3:], ("org/new", 0.55)]
    due, found, turned = (predict(given, "Chatbot Arena") for given in (averaged, twice, twice[::-1]))
    for one in (found[-1], turned[0]):
        assert one is not None
        assert due[-1] is not None
        assert (one.value, one.ci_low, one.n) == (pytest.approx(due[-1].value), pytest.approx(due[-1].ci_low), 6)


def test_five_models_in_common_predict_nothing() -> None:
    figures = [(name, i / 10) for i, (_, name) in enumerate(ARENA[:5])]
    assert predict([*figures, ("org/new", 0.55)], "Chatbot Arena") == [None] * 6
    assert "| predicted Arena |" in " ".join((COMMITTED / "rewardmath.md").read_text().split())


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("subject.facts", float("nan")),
        ("config.model", float("nan")),
        ("config.data", float("inf")),
        ("config.task", float("-inf")),
        ("config.run", 1e999),
        ("config.command", {"deep": [0.5, float("nan")]}),
        ("fitted.measure", float("nan")),
    ],
)
def test_a_number_that_is_none_is_refused_where_anything_may_stand(place: str, value: Any, board: Path) -> None:
    (path, _) = sorted((board / "results").rglob("*.json"))
    content = json.loads(path.read_text())
    part, name = place.split(".")
    content[part][name]["x"] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ResultError, match=r"expected a finite number") as raised:
        files.read(path)
    assert str(raised.value).startswith(f"{path}: {place}.x")
    with pytest.raises(ResultError, match=r"expected a finite number"):
        tables(board / "results")


def spoilt(path: Path, folder: Path, **changes: Any) -> Path:
    """A copy of a result in which parts of its JSON are others."""
    folder.mkdir()
    for table in path.parent.glob("*.parquet"):
        shutil.copy(table, folder)
    (folder / path.name).write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder / path.name


@pytest.mark.parametrize("how", ["view", "headline", "twice", "twice with another value", "at"])
def test_what_would_break_a_table_is_not_added(how: str, board: Path, tmp_path: Path, capsys: Any) -> None:
    (path, _) = sorted((board / "results").rglob("*.json"))
    content = json.loads(path.read_text())
    first = content["metrics"][0]
    changes = {
        "view": {"primary_view": "other"},
        "headline": {"task": content["task"] | {"headline": "mrr"}},
        "twice": {"metrics": [*content["metrics"], first]},
        "twice with another value": {"metrics": [*content["metrics"], first | {"value": 1.0}]},
        "at": {"metrics": [*content["metrics"], first | {"at": 2.0}]},
    }[how]
    assert run("leaderboard", "add", spoilt(path, tmp_path / "spoilt", **changes), "--folder", tmp_path / "new") == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_result_is_not_replaced_unasked(tmp_path: Path, capsys: Any) -> None:
    folder, old = tmp_path / "board", evaluate(tmp_path / "out", longest, name="mine")
    assert run("leaderboard", "add", old, "--folder", folder) == 0
    assert run("leaderboard", "add", old, "--folder", folder) == 0
    (there,) = (folder / "results").rglob("*.json")
    new = spoilt(old, tmp_path / "new", created="2031-01-01T00:00:00+00:00")
    capsys.readouterr()
    assert run("leaderboard", "add", new, "--folder", folder) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert f"made {files.read(old).created}; {new} was made 2031-01-01T00:00:00+00:00; --replace puts it" in line
    assert there.read_text() == old.read_text()
    assert run("leaderboard", "add", new, "--folder", folder, "--replace") == 0
    assert files.read(there).created.startswith("2031")
    assert run("leaderboard", "add", old, new, "--folder", tmp_path / "other") == 1
    assert "both belong at" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "ids", [("a/b", "a__b"), ("a/b c", "a/b_c"), ("a_/b", "a/_b"), ("a/b/c", "a__b/c"), ("bb:c", "bb?c")]
)
def test_ids_that_would_lie_in_one_folder_are_told_apart(ids: tuple[str, str], tmp_path: Path) -> None:
    out = tmp_path / "results"
    paths = {evaluate(out, longest, name="model")}
    content = json.loads(next(iter(paths)).read_text())
    shutil.rmtree(out)
    results = []
    for name in ids:
        result = TaskResult.model_validate(content | {"subject": content["subject"] | {"id": name}})
        results.append(files.result_path(result))
    assert len({path.parent.parent for path in results}) == 2


@pytest.mark.parametrize("left", ["{", "[]", '{"subject": {"id": "Org/model"}, "schema_version": 2}'])
def test_what_is_left_of_an_older_or_damaged_result_is_written_over(tmp_path: Path, left: str) -> None:
    path = evaluate(tmp_path / "results", longest, name="Org/model")
    result = files.read(path, tables=True)
    path.write_text(left)
    assert files.write(result, tmp_path / "results") == path
    assert files.read(path).subject.id == "Org/model"


def test_a_result_of_another_model_is_never_written_over(tmp_path: Path) -> None:
    path = evaluate(tmp_path / "results", longest, name="Org/model")
    result = files.read(path, tables=True)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"subject": content["subject"] | {"id": "org/Model"}}))  # as on a Mac
    with pytest.raises(ResultError, match=r"holds a result of 'org/Model'; expected one of 'Org/model'"):
        files.write(result, tmp_path / "results")


def test_a_figure_of_pairs_stands_beside_the_pair_rate_and_is_named_so(tmp_path: Path) -> None:
    rmbench.evaluate("random", ["best_of_n"], out=tmp_path / "results")
    build(tmp_path / "results", tmp_path)
    (heading,) = (line for line in (tmp_path / "best_of_n.md").read_text().splitlines() if line.startswith("| model"))
    names = [name.strip() for name in heading.split("|")]
    assert names[names.index("AUC (pairs) %") + 1] == "at equal length (pairs) %"
    (row,) = cells(tmp_path / "best_of_n.csv")
    accuracy, auc, controlled = (float(row[name]) for name in ("accuracy", "auc", "accuracy_length_controlled"))
    assert abs(auc - controlled) < 0.1 < abs(auc - accuracy)
    (result,) = (files.read(path) for path in (tmp_path / "results").rglob("*.json"))
    found = digest([result])
    pairs = {name for name in found.statistics if "(pairs)" in found.heading(name)}
    assert {"auc", "accuracy_length_controlled", "accuracy_right_longer"} <= pairs
    assert not pairs & {"accuracy", "mrr", "length_pearson"}


@pytest.mark.parametrize("how", ["copies", "one prompt", "each its own"])
def test_as_many_independent_examples_stand_beside_n_wherever_it_is_shown(
    how: str, tmp_path: Path, capsys: Any
) -> None:
    given = rows(40)
    if how == "copies":
        given = [row for row in given for _ in range(3)]
    if how == "one prompt":
        given = [row | {"prompt": f"p{i % 20}", "rejected": "y" * (3 + i // 20)} for i, row in enumerate(given)]
    path = evaluate(tmp_path / "results", "length", pairs=given)
    first = files.read(path).metric("accuracy")
    apart = with_effective(first.n, first.n_effective)
    assert ("(" in apart) == (how != "each its own")
    build(tmp_path / "results", tmp_path)
    assert f" {apart} |" in (tmp_path / "preference.md").read_text()
    data, out = tmp_path / "pairs.jsonl", tmp_path / "again"
    capsys.readouterr()
    assert run("run", "-m", "length", "-t", "preference", "--data", f"preference={data}", "--out", out) == 0
    assert f" {apart} " in capsys.readouterr().out
    assert f"<td>{apart}</td>" in (out / "report.html").read_text()
    assert run("show", next(out.rglob("preference*.json"))) == 0
    shown = capsys.readouterr().out
    assert f" {apart} " in shown
    assert ("tell as much" in shown) == ("(" in apart)
