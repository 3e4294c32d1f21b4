"""`rmbench select`: rejection sampling from a file, and what a choice by the rewards of results is worth."""

from __future__ import annotations

import json
import math
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_models import Scripted

from rmbench.cli import main
from rmbench.compare import selection
from rmbench.errors import ResultError
from rmbench.kinds.comparison import Comparison
from rmbench.runs.evaluate import evaluate
from rmbench.types import Candidate, Example, Message, Reward

USER = [{"role": "user", "content": "q"}]


def run(*arguments: object) -> int:
    return main(["select", *(str(argument) for argument in arguments)])


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# Rejection sampling.


def test_the_best_k_of_each_prompt_are_written_best_first(tmp_path: Path, capsys: Any) -> None:
    rows = [
        {"id": "one", "prompt": "q", "responses": ["ab", "abcd", "a"]},
        {"prompt": "p", "response": "xy"},
        {"id": "two", "prompt": "q", "responses": ["abc"]},
        {"prompt": "p", "response": "xyz"},
    ]
    out = tmp_path / "out.jsonl"
    assert run(write_rows(tmp_path / "in.jsonl", rows), "-m", "length", "-k", 2, "-o", out) == 0
    found = lines(out)
    assert [(row["prompt"], row["response"], row["reward"], row["rank"]) for row in found] == [
        ("q", "abcd", 4, 1), ("q", "abc", 3, 2), ("p", "xyz", 3, 1), ("p", "xy", 2, 2),
    ]  # fmt: skip
    assert [(row["example_id"], row["candidate"]) for row in found[:2]] == [("one", 1), ("two", 0)]
    captured = capsys.readouterr()
    assert captured.out == f"4 of 6 responses to 2 prompts are in {out}\n"
    assert "prompts have" not in captured.err


def test_without_k_the_best_is_written_and_parquet_holds_the_same(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "q", "responses": ["ab", "abcd", "a"]}])
    assert run(rows, "-m", "length", "-o", tmp_path / "out.jsonl") == 0
    assert run(rows, "-m", "length", "-o", tmp_path / "out.parquet") == 0
    assert [row["response"] for row in lines(tmp_path / "out.jsonl")] == ["abcd"]
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == lines(tmp_path / "out.jsonl")


def test_a_tie_at_place_k_goes_by_the_file_and_is_counted(tmp_path: Path, capsys: Any) -> None:
    rows = [{"prompt": "q", "responses": ["aa", "b", "cc", "dd"]}, {"prompt": "p", "responses": ["aa", "bb"]}]
    assert run(write_rows(tmp_path / "in.jsonl", rows), "-m", "length", "-k", 2, "-o", tmp_path / "o.jsonl") == 0
    assert [row["response"] for row in lines(tmp_path / "o.jsonl")] == ["aa", "cc", "aa", "bb"]
    assert "1 of 2 prompts have equal rewards at place 2; those that stand first" in capsys.readouterr().err


def test_a_prompt_with_fewer_than_k_gives_all_and_is_counted(tmp_path: Path, capsys: Any) -> None:
    rows = [{"prompt": "q", "responses": ["aa", "b", "cc"]}, {"prompt": "p", "response": "aa"}]
    assert run(write_rows(tmp_path / "in.jsonl", rows), "-m", "length", "-k", 3, "-o", tmp_path / "o.jsonl") == 0
    assert len(lines(tmp_path / "o.jsonl")) == 4
    assert "1 of 2 prompts have fewer than 3 responses with a finite reward; all" in capsys.readouterr().err


def test_a_response_without_a_finite_reward_is_never_selected(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    (tmp_path / "mine_select.py").write_text(
        "def reward(prompt, response):\n    return {'n': float('nan'), 'i': float('inf')}.get(response, 2.0)\n"
    )
    monkeypatch.chdir(tmp_path)
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "q", "responses": ["n", "ab", "i"]},
                                              {"prompt": "p", "response": "n"}])  # fmt: skip
    assert run(rows, "-m", "python:mine_select:reward", "-k", 2, "-o", tmp_path / "o.jsonl") == 3
    assert [row["response"] for row in lines(tmp_path / "o.jsonl")] == ["ab"]
    told = capsys.readouterr().err
    assert "2 rewards are nan" in told
    assert "1 rewards are inf" in told
    assert "1 of 2 prompts have no response with a finite reward" in told


def test_conversations_keep_their_turns_and_can_be_read_again(tmp_path: Path) -> None:
    longer = [*USER, {"role": "assistant", "content": "a"}, {"role": "user", "content": "more"}]
    rows = [
        {"messages": [*longer, {"role": "assistant", "content": "abc"}]},
        {"messages": [*longer, {"role": "assistant", "content": "abcd"}]},
        {"prompt": "q", "response": "x"},
    ]
    out = tmp_path / "o.jsonl"
    assert run(write_rows(tmp_path / "in.jsonl", rows), "-m", "length", "-o", out) == 0
    assert [row["prompt"] for row in lines(out)] == [longer, USER]
    assert run(out, "-m", "length", "-o", tmp_path / "again.jsonl") == 0
    assert [row["response"] for row in lines(tmp_path / "again.jsonl")] == ["abcd", "x"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "missing FILE, -m, -o; select FILE -m MODEL -o OUT"),
        (["f.jsonl", "-m", "length"], "missing -o;"),
        (["f.jsonl", "-m", "length", "-o", "o.jsonl", "--kl", "--json"], "--kl and --json without --result"),
        (["f.jsonl", "-k", "2", "--result", "r.json"], "FILE and -k with --result"),
        (["--device", "cpu", "--result", "r.json"], "--device with --result"),
        (["f.jsonl", "-m", "length", "-o", "o.xml"], "o.xml: cannot tell what to write"),
    ],
)
def test_the_two_ways_to_select_are_not_mixed(arguments: list[str], words: str, capsys: Any) -> None:
    assert run(*arguments) == 2
    assert words in capsys.readouterr().err


# What a choice is worth.


def task(sizes: list[int], *, policies: tuple[str, ...] = ("p",), seed: int = 0) -> Comparison:
    """A prompt for each of `sizes`, its number of candidates; of their three answers `a` is right."""
    rng = np.random.default_rng(seed)

    def read(_: Any) -> Any:
        for number, size in enumerate(sizes):
            found = [
                Candidate(
                    "x" * int(rng.integers(1, 9)),
                    bool(answer == "a"),
                    tags={"answer": str(answer), "policy": policies[place % len(policies)]},
                )
                for place, answer in enumerate(rng.choice(list("abc"), size))
            ]
            yield Example(f"e{number}", (Message("user", f"q{number}"),), tuple(found))

    return Comparison("drawn", 1, "drawn", "drawn", read)


def result_of(model: Any, tmp_path: Path, drawn: Comparison) -> Path:
    rows = write_rows(tmp_path / "rows.jsonl", [{}])
    evaluate(model, [drawn], data={"drawn": rows}, out=tmp_path / "r")
    return tmp_path / "r"


def test_the_table_has_every_model_beside_chance_majority_and_oracle(tmp_path: Path, capsys: Any) -> None:
    drawn = [4] * 30
    for model in ("length", "random"):
        out = result_of(model, tmp_path, task(drawn))
    capsys.readouterr()
    assert run("--result", out) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("rmbench/length", "rmbench/random", "majority", "oracle", "30 examples"))
    assert "rmbench/length at n = 4: " in shown
    assert run("--result", out, "--json") == 0
    [found] = json.loads(capsys.readouterr().out)
    assert [row["n"] for row in found["rows"]] == [1, 2, 3, 4]
    examples = task(drawn).read([])
    at_2 = []
    for example in examples:
        assert isinstance(example, Example)
        for i, j in combinations(example.candidates, 2):
            ahead = len(i.text or "") - len(j.text or "")
            best = [i, j] if ahead == 0 else [i if ahead > 0 else j]
            at_2.append(np.mean([bool(one.label) for one in best]))
    assert found["rows"][1]["selected"]["rmbench/length"]["value"] == pytest.approx(np.mean(at_2))


def test_an_example_that_one_model_does_not_reward_is_left_out_for_all(tmp_path: Path) -> None:
    drawn = task([4] * 10)
    result_of("length", tmp_path, drawn)
    unsure = Scripted(lambda request: math.nan if request.prompt[0].text == "q3" else 1.0)
    out = result_of(unsure, tmp_path, task([4] * 10))
    [found] = selection.select([out])
    assert (found.examples, found.left_out, len(found.models)) == (9, {"no reward": 1}, 2)
    assert found.rows[-1].selected["tests/scripted"].value == pytest.approx(found.random.value)


def test_n_goes_to_the_fewest_candidates_unless_more_are_wanted(tmp_path: Path) -> None:
    out = result_of("length", tmp_path, task([4, 4, 2, 6]))
    [found] = selection.select([out])
    assert ([row.n for row in found.rows], found.examples, found.left_out) == ([1, 2], 4, {})
    [found] = selection.select([out], up_to=4)
    assert ([row.n for row in found.rows], found.examples) == ([1, 2, 3, 4], 3)
    assert found.left_out == {"fewer than 4 candidates": 1}
    with pytest.raises(ResultError, match="says anything of a selection: fewer than 9 candidates 4"):
        selection.select([out], up_to=9)


def test_beyond_16_n_doubles(tmp_path: Path) -> None:
    out = result_of("length", tmp_path, task([70, 70]))
    [found] = selection.select([out])
    assert [row.n for row in found.rows] == [*range(1, 17), 32, 64, 70]


def test_kl_is_only_for_samples_of_one_policy(tmp_path: Path, capsys: Any) -> None:
    one = result_of("length", tmp_path, task([4] * 5))
    assert run("--result", one, "--kl") == 0
    assert f"{math.log(4) - 0.75:.3f}" in capsys.readouterr().out
    (tmp_path / "two").mkdir()
    two = result_of("length", tmp_path / "two", task([4] * 5, policies=("p", "q")))
    assert run("--result", two, "--kl") == 1
    assert (
        "--kl is of best-of-n from one policy, tag `policy`; these responses are by p 10, q 10"
        in capsys.readouterr().err
    )


def test_what_cannot_be_selected_from_is_one_line(tmp_path: Path) -> None:
    out = result_of("length", tmp_path, task([4] * 5))
    (tmp_path / "other").mkdir()
    other = result_of("random", tmp_path / "other", task([4] * 5, seed=1))
    with pytest.raises(ResultError, match="have different examples"):
        selection.select([out, other])
    with pytest.raises(ResultError, match="the same result twice"):
        selection.select([out, Path(shutil.copytree(out, tmp_path / "copy"))])
    with pytest.raises(ResultError, match="unknown view 'prod'"):
        selection.select([out], view="prod")
    (tmp_path / "pairs").mkdir()
    judge = Scripted(lambda request: Reward((1.0, 0.0)), answers=("compare",))
    pairs = result_of(judge, tmp_path / "pairs", task([8] * 5))
    with pytest.raises(ResultError, match="only compared pairs"):
        selection.select([pairs])
    (tmp_path / "none").mkdir()
    with pytest.raises(ResultError, match="no results of reward models under it"):
        selection.select([tmp_path / "none"])


def test_an_oracle_of_gsm8k_finds_all_but_the_432_problems_nobody_solves(
    rmbench_data: Path, tmp_path: Path, capsys: Any
) -> None:
    rows = rmbench_data / "gsm8k_solutions" / "example_model_solutions.jsonl"
    evaluate("length", ["best_of_n"], data={"best_of_n": rows}, out=tmp_path / "r")
    [found] = selection.select([tmp_path / "r"])
    assert found.rows[-1].oracle.value == pytest.approx(1 - 432 / 1319)
    assert run("--result", tmp_path / "r", "--kl") == 1
    assert "by 6b_finetuning 1,319, 6b_verification 1,319" in capsys.readouterr().err


# What a choice is worth by another reward.


def groups(tmp_path: Path, *, wrote: tuple[str | None, ...] = ("me/pi",), named: str = "policy") -> Path:
    """Rows with five responses each, whose policy stands in a column of the row."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "prompt": f"q{number}",
            "responses": ["x" * int(size) for size in rng.choice(30, 5, replace=False)],
            "labels": rng.integers(0, 2, 5).tolist(),
            named: wrote[number % len(wrote)],
        }
        for number in range(12)
    ]
    return write_rows(tmp_path / "groups.jsonl", rows)


def curve(capsys: Any) -> list[dict[str, Any]]:
    [found] = json.loads(capsys.readouterr().out)
    return list(found["rows"])


@pytest.mark.parametrize(("named", "columns"), [("policy", None), ("generator", None), ("by", {"policy": "by"})])
def test_kl_goes_by_the_rows_own_policy(
    tmp_path: Path, named: str, columns: dict[str, str] | None, capsys: Any
) -> None:
    rows = groups(tmp_path, named=named)
    evaluate("length", ["best_of_n"], data={"best_of_n": rows}, out=tmp_path / "r", columns=columns)
    option = ["--columns", "policy=by"] if columns else []
    for given in (["--result", tmp_path / "r"], [rows, "-m", "length", "--gold", "random", *option]):
        capsys.readouterr()
        assert run(*given, "--kl", "--json") == 0
        told = capsys.readouterr()
        assert named not in told.err, "it is read"
        assert [row["kl"] for row in json.loads(told.out)[0]["rows"]] == pytest.approx(
            [math.log(n) - (n - 1) / n for n in range(1, 6)]
        )


@pytest.mark.parametrize(("wrote", "words"), [(("a", "b"), "by a 30, b 30"), ((None,), "by not said 60"),
                                              (("a", None), "by a 30, not said 30")])  # fmt: skip
def test_without_one_policy_kl_is_refused_in_a_line(
    tmp_path: Path, wrote: tuple[str | None, ...], words: str, capsys: Any
) -> None:
    rows = groups(tmp_path, wrote=wrote)
    evaluate("length", ["best_of_n"], data={"best_of_n": rows}, out=tmp_path / "r")
    for given in (["--result", tmp_path / "r"], [rows, "-m", "length", "--gold", "random"]):
        capsys.readouterr()
        assert run(*given, "--kl") == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert "--kl is of best-of-n from one policy" in error
        assert error.endswith(words)


def test_gold_is_a_model_a_file_or_a_result(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    (tmp_path / "gold_of.py").write_text("def reward(prompt, response):\n    return -abs(len(response) - 12.0)\n")
    monkeypatch.chdir(tmp_path)
    rows, gold = groups(tmp_path), "python:gold_of:reward"
    due = []
    for n in range(1, 6):
        worth = []
        for row in lines(rows):
            sizes = [len(text) for text in row["responses"]]
            worth += [np.mean([-abs(max(some) - 12.0) for some in combinations(sizes, n)])]
        due.append(np.mean(worth))
    assert run(rows, "-m", "length", "--gold", gold, "--json") == 0
    assert [row["selected"]["length"]["value"] for row in curve(capsys)] == pytest.approx(due)
    assert main(["score", str(rows), "-m", gold, "-o", "gold.csv"]) == 0
    capsys.readouterr()
    assert run(rows, "-m", "length", "--gold", "gold.csv", "--json", "-o", "best.jsonl") == 0
    assert [row["selected"]["length"]["value"] for row in curve(capsys)] == pytest.approx(due)
    assert len(lines(tmp_path / "best.jsonl")) == 12
    for model, out in (("length", "a"), (gold, "b")):
        evaluate(model, ["best_of_n"], data={"best_of_n": rows}, out=tmp_path / out)
    assert run("--result", "a", "--gold", "b", "--json") == 0
    assert [row["selected"]["rmbench/length"]["value"] for row in curve(capsys)] == pytest.approx(due)


def test_gold_that_does_not_fit_is_one_line(tmp_path: Path, capsys: Any) -> None:
    rows = groups(tmp_path)
    other = write_rows(tmp_path / "other.jsonl", [{"example_id": "z", "candidate": 0, "reward": 1.0}])
    words = write_rows(tmp_path / "words.jsonl", [{"example_id": "z", "candidate": 0, "reward": "high"}])
    evaluate("length", ["best_of_n"], data={"best_of_n": rows}, out=tmp_path / "a")
    evaluate("length", ["best_of_n"], limit=12, out=tmp_path / "b")
    capsys.readouterr()
    for given, told in (
        ([rows, "-m", "length", "--gold", other], "no reward of a response of"),
        ([rows, "-m", "length", "--gold", words], "words.jsonl, row 1, `reward`"),
        ([rows, "-m", "length", "--gold", rows], "no `example_id`"),
        (["--result", tmp_path / "a", "--gold", tmp_path / "b"], "have different examples"),
        (["--result", tmp_path / "a", "--gold", rows], "no result file"),
    ):
        assert run(*given) in (1, 2)
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("rmbench: error: ")
        assert told in error


@pytest.mark.parametrize("kind", ["list<item: int64>", "binary", "struct", "cut", "empty", "rewards"])
def test_a_result_with_damaged_records_is_one_line(tmp_path: Path, kind: str, capsys: Any) -> None:
    out = result_of("length", tmp_path, task([4] * 5))
    path = next(out.rglob("*.parquet"))
    table, whole = pq.read_table(path), path.read_bytes()
    made: dict[str, Any] = {"list<item: int64>": [[1]], "binary": [b"\xff"], "struct": [{"a": 1}]}
    if kind in made:
        column = pa.array(made[kind] * len(table))
        pq.write_table(table.set_column(table.column_names.index("example_id"), "example_id", column), path)
    elif kind == "rewards":
        at = table.column_names.index("reward")
        pq.write_table(table.set_column(at, "reward", pa.array(range(len(table)), pa.float64())), path)
    else:
        path.write_bytes(whole[: len(whole) // 2] if kind == "cut" else b"")
    capsys.readouterr()
    assert run("--result", out) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "unexpected" not in error
    assert path.name in error


def test_what_gold_prints_is_not_mixed_with_what_is_written(tmp_path: Path, capsys: Any) -> None:
    rows = groups(tmp_path)
    assert run(rows, "-m", "length", "--gold", "random", "-o", "-") == 2
    assert "-o - and --gold both write to standard output" in capsys.readouterr().err
    assert run(rows, "-m", "gold=length", "--gold", "random") == 2
    assert "a model of -m is called gold too" in capsys.readouterr().err
    assert run(rows, "-m", "length", "--gold", "length", "--json", "-o", tmp_path / "o.csv") == 0
    assert len(curve(capsys)) == 5
