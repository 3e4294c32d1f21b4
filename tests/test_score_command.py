"""`rmbench score`: responses of any file in, rewards and probabilities out."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rmbench.cli import main
from rmbench.data.conversation import read_responses
from rmbench.data.files import Row
from rmbench.errors import DataError
from rmbench.results import files


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ({"prompt": "q", "response": "a"}, ("a",)),
        ({"question": "q", "answer": "a"}, ("a",)),
        ({"prompt": "q", "responses": ["a", {"text": "b"}]}, ("a", "b")),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, ("a", "b")),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, ("a",)),
        ({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: "}, ("a", "")),
    ],
)
def test_a_row_may_have_any_shape(row: dict[str, Any], texts: tuple[str, ...]) -> None:
    read = read_responses(Row(row, "f.jsonl", 1))
    assert read.texts == texts
    assert [message.text for message in read.prompt] == ["q"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "q"}, "f.jsonl, row 1: no `response`; found `prompt`;"),
        ({"response": "a"}, "f.jsonl, row 1, `prompt`: no prompt; found `response`"),
        ({"prompt": "q", "responses": ["a", None]}, "no response"),
        ({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: p\n\nAssistant: a"}, "prompts differ"),
    ],
)
def test_a_row_that_holds_no_response_is_one_line(row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_responses(Row(row, "f.jsonl", 1))


def test_each_response_is_a_row_of_the_table(tmp_path: Path, capsys: Any) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"id": "one", "prompt": "q", "responses": ["ab", "abc"]},
                                              {"prompt": "q", "response": "abcd"}])  # fmt: skip
    assert run("score", rows, "-m", "length", "-o", tmp_path / "out.jsonl") == 0
    assert run("score", rows, "-m", "length", "-o", tmp_path / "out.parquet") == 0
    assert "3 rewards of 1 prompts are in" in capsys.readouterr().out
    first, second, third = lines(tmp_path / "out.jsonl")
    assert (first["example_id"], first["candidate"], first["reward"]) == ("one", 0, 2.0)
    assert (second["candidate"], second["reward"]) == (1, 3.0)
    assert (third["reward"], third["status"]) == (4.0, "ok")
    assert "probability" not in third
    assert pq.read_table(tmp_path / "out.parquet")["reward"].to_pylist() == [2.0, 3.0, 4.0]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The length baseline on pairs in which the longer answer is right two times in three."""
    draw = random.Random(0)
    rows = []
    for number in range(90):
        texts = sorted(("x" * draw.randint(1, 30), "x" * draw.randint(1, 30)), key=len, reverse=number % 3 > 0)
        rows.append({"prompt": f"q{number}", "chosen": texts[0], "rejected": texts[1]})
    pairs = write_rows(tmp_path / "pairs.jsonl", rows)
    assert run("run", "-m", "length", "-t", "preference", "--data", f"preference={pairs}", "--out", tmp_path / "r") == 0
    (path,) = (tmp_path / "r").rglob("preference-*.json")
    return path


def test_a_calibrator_turns_the_rewards_of_a_prompt_into_probabilities(results: Path, tmp_path: Path) -> None:
    calibration = files.read(results).calibration
    assert calibration is not None
    fitted = calibration.of("softmax", "temperature").parameters["temperature"]
    given = [
        {"prompt": "q", "responses": ["ab", "abcdefgh"]},
        {"prompt": "p", "response": "a"},
        {"prompt": "p", "response": "abc"},
    ]
    rows = write_rows(tmp_path / "in.jsonl", given)
    assert run("score", rows, "-m", "length", "-o", tmp_path / "out.jsonl", "--calibrator", results) == 0
    known = [row["probability"] for row in lines(tmp_path / "out.jsonl")]
    assert known[1] == pytest.approx(1 / (1 + math.exp(-6 / fitted)))
    assert known[0] + known[1] == pytest.approx(1)
    assert known[3] == pytest.approx(1 / (1 + math.exp(-2 / fitted)))


def test_a_response_alone_has_no_softmax_and_is_counted(results: Path, tmp_path: Path, capsys: Any) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "q", "response": "ab"}])
    run("score", rows, "-m", "length", "-o", tmp_path / "out.jsonl", "--calibrator", results)
    (alone,) = lines(tmp_path / "out.jsonl")
    assert alone["probability"] is None
    assert 0 < alone["probability_pooled"] < 1
    assert "1 rewards have no softmax, which takes two different responses" in capsys.readouterr().err


def test_the_same_response_twice_counts_once(results: Path, tmp_path: Path) -> None:
    once = write_rows(tmp_path / "once.jsonl", [{"prompt": "q", "response": text} for text in ("ab", "abcdefgh")])
    again = write_rows(tmp_path / "again.jsonl", [{"prompt": "q", "response": t} for t in ("ab", "ab", "abcdefgh")])
    for rows in (once, again):
        run("score", rows, "-m", "length", "-o", rows.with_suffix(".out.jsonl"), "--calibrator", results)
    due = [row["probability"] for row in lines(once.with_suffix(".out.jsonl"))]
    found = lines(again.with_suffix(".out.jsonl"))
    assert [row["probability"] for row in found] == [due[0], due[0], due[1]]
    assert len({(row["example_id"], row["candidate"]) for row in found}) == 3


def test_an_infinite_reward_is_valid_json(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "endless.py").write_text("def reward(prompt, response):\n    return float('-inf')\n")
    monkeypatch.chdir(tmp_path)
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "q", "response": ""}])
    assert run("score", rows, "-m", "python:endless:reward", "-o", tmp_path / "out.jsonl") == 3
    assert lines(tmp_path / "out.jsonl")[0]["reward"] == "-inf"


def test_what_cannot_be_done_is_one_line(results: Path, tmp_path: Path, capsys: Any) -> None:
    rows, out = write_rows(tmp_path / "in.jsonl", [{"prompt": "q", "response": "ab"}]), tmp_path / "out.jsonl"
    cases = [
        (2, "it was fitted to rmbench/length, as it was loaded then, not to rmbench/random",
         ["-m", "random", "-o", out, "--calibrator", results]),
        (2, "out.xml: cannot tell what to write; .jsonl, .csv, .tsv or .parquet",
         ["-m", "length", "-o", tmp_path / "out.xml"]),
        (2, "looks rewards up by example", ["-m", f"scores:{results.with_suffix('.parquet')}", "-o", out]),
        (2, "in.jsonl, which is read; name another file", ["-m", "length", "-o", rows]),
        (1, "no result file", ["-m", "length", "-o", out, "--calibrator", rows]),
    ]  # fmt: skip
    for code, words, arguments in cases:
        assert run("score", rows, *arguments) == code
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("rmbench: error: ")
        assert words in error


def test_a_result_without_calibration_says_why(tmp_path: Path, capsys: Any) -> None:
    rows = write_rows(tmp_path / "pairs.jsonl", [{"prompt": "q", "chosen": "abc", "rejected": "d"}] * 2)
    run("run", "-m", "length", "-t", "preference", "--data", f"preference={rows}", "--out", tmp_path / "r")
    (path,) = (tmp_path / "r").rglob("preference-*.json")
    assert run("score", rows, "-m", "length", "-o", tmp_path / "o.jsonl", "--calibrator", path) == 2
    assert "the result has no calibration: " in capsys.readouterr().err


def test_a_reward_that_is_none_is_exit_code_3(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    (tmp_path / "mine.py").write_text("def reward(prompt, response):\n    return float('nan')\n")
    monkeypatch.chdir(tmp_path)
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "q", "response": "ab"}])
    assert run("score", rows, "-m", "python:mine:reward", "-o", tmp_path / "out.jsonl") == 3
    assert "1 rewards are nan" in capsys.readouterr().err
    assert lines(tmp_path / "out.jsonl")[0]["reward"] is None
