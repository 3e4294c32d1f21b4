"""What `score`, `select` and `generate` write of a user's file: its columns, its order, any format, never over it."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from checkpoints import make

from rmbench.cli import main
from rmbench.cli._progress import ConsoleProgress

TALK = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "abc"}]
RESTING = "resting"


def write_rows(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def lines(text: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (text.read_text() if isinstance(text, Path) else text).splitlines()]


def scored(tmp_path: Path, rows: Sequence[Any], *models: str) -> list[dict[str, Any]]:
    models = models or ("length",)
    given = [word for model in models for word in ("-m", model)]
    assert run("score", write_rows(tmp_path / "in.jsonl", rows), *given, "-o", tmp_path / "out.jsonl") == 0
    return lines(tmp_path / "out.jsonl")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The family `resting` is installed, and this is where it counts how often it was started."""
    info = tmp_path / "site" / "resting-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: resting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rmbench.models]\nresting = resting_model\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("RESTING_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


@pytest.mark.parametrize(
    ("row", "due"),
    [
        ({"prompt": "q", "response": "ab"}, [{"prompt": "q", "response": "ab"}]),
        ({"question": "q", "answer": "ab"}, [{"question": "q", "answer": "ab", "response": "ab"}]),
        ({"prompt": "q", "responses": ["a", "bc"]}, [{"prompt": "q", "response": text} for text in ("a", "bc")]),
        ({"prompt": "q", "chosen": "bc", "rejected": "a"}, [{"prompt": "q", "response": text} for text in ("bc", "a")]),
        ({"chosen": TALK, "rejected": [TALK[0], {**TALK[1], "content": "d"}]},
         [{"prompt": "q", "response": text} for text in ("abc", "d")]),
        ({"prompt": "q", "candidates": [{"text": "a", "model": "m", "note": 1}, {"text": "bc", "note": 2}]},
         [{"prompt": "q", "response": "a", "model": "m", "note": 1}, {"prompt": "q", "response": "bc", "note": 2}]),
        ({"messages": TALK}, [{"messages": TALK, "prompt": "q", "response": "abc"}]),
        ({"prompt": "q", "response": {"text": "ab", "kind": "x"}},
         [{"prompt": "q", "response": "ab", "input_response": {"text": "ab", "kind": "x"}}]),
    ],
)  # fmt: skip
def test_the_users_columns_go_along_with_each_response(tmp_path: Path, row: dict[str, Any], due: list[Any]) -> None:
    own = {"uid": 7, "tags": ["x", {"y": None}], "when": None}
    written = scored(tmp_path, [{**own, **row}, {"prompt": "zz", "response": "later"}])
    names = {*own, "prompt", "response"} | {name for one in due for name in one}
    ours = {"example_id", "candidate", "reward", "status", "detail", "n_tokens", "truncated"}
    assert set(written[0]) == names | ours
    for one, wanted in zip(written, due, strict=False):
        expected = {**dict.fromkeys(names), **own, **wanted}
        assert {name: one[name] for name in names} == expected
        assert one["reward"] == len(wanted["response"])
    assert [one["candidate"] for one in written] == [*range(len(due)), 0]
    assert written[-1]["response"] == "later"


def test_a_column_called_like_one_of_ours_is_kept_and_said(tmp_path: Path, capsys: Any) -> None:
    rows = [{"prompt": "q", "response": "ab", "reward": 9, "status": "mine", "input_reward": "taken"}]
    [one] = scored(tmp_path, rows)
    assert (one["reward"], one["input_input_reward"], one["input_reward"]) == (2.0, 9, "taken")
    assert (one["status"], one["input_status"]) == ("ok", "mine")
    assert "called like one of the output are input_NAME there: reward, status" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet"])
def test_what_was_scored_is_scored_again_as_the_same_responses(tmp_path: Path, suffix: str) -> None:
    rows = [{"id": "a", "prompt": "q", "responses": ["ab", "a", "abc"]}, {"id": "b", "prompt": "p", "response": "x"}]
    first, again = tmp_path / f"first{suffix}", tmp_path / "again.jsonl"
    assert run("score", write_rows(tmp_path / "in.jsonl", rows), "-m", "length", "-o", first) == 0
    assert run("score", first, "-m", "length", "-o", again) == 0
    places = [(row["example_id"], int(row["candidate"]), row["reward"]) for row in lines(again)]
    assert places == [("a", 0, 2), ("a", 1, 1), ("a", 2, 3), ("b", 0, 1)]
    assert not {name for name in lines(again)[0] if name.startswith("input_")} - {"input_reward"}


def test_values_of_different_types_are_texts_in_parquet_and_as_they_are_in_lines(tmp_path: Path, capsys: Any) -> None:
    mixed = [1, "x", {"a": []}, {}, 2**70]
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "q", "response": "a", "m": one, "e": {}} for one in mixed])
    for name in ("out.parquet", "out.jsonl", "out.csv"):
        assert run("score", rows, "-m", "length", "-o", tmp_path / name) == 0
    assert [row["m"] for row in lines(tmp_path / "out.jsonl")] == mixed
    read = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["m"] for row in read] == ["1", "x", '{"a": []}', "{}", str(2**70)]
    assert [row["m"] for row in csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text()))] == [
        r["m"] for r in read
    ]
    assert "`m` holds values of different types" in capsys.readouterr().err


@pytest.mark.parametrize("form", [None, "csv", "tsv", "jsonl"])
@pytest.mark.parametrize("command", [["score"], ["select", "-k", "9"]])
def test_standard_input_and_output(
    tmp_path: Path, command: list[str], form: str | None, capsys: Any, monkeypatch: Any
) -> None:
    rows = [{"prompt": "q", "response": 'ab,"\n\u00e9', "n": 1}, {"prompt": "p", "response": "c", "n": 2}]
    text = "\ufeff" + "".join(json.dumps(row) + "\n" for row in rows)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    chosen = [] if form is None else ["--format", form]
    assert run(command[0], "-", *command[1:], "-m", "length", "-o", "-", *chosen) == 0
    told = capsys.readouterr()
    if form in (None, "jsonl"):
        written = lines(told.out)
    else:
        written = [*csv.DictReader(io.StringIO(told.out, newline=""), delimiter={"csv": ",", "tsv": "\t"}[form])]
    assert [(one["response"], float(one["reward"]), int(one["n"])) for one in written] == [(rows[0]["response"], 6, 1),
                                                                                          ("c", 1, 2)]  # fmt: skip
    assert "in standard output" in told.err


def test_an_empty_standard_input_is_one_line(capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    assert run("score", "-", "-m", "length", "-o", "-") == 1
    assert capsys.readouterr().err == "rmbench: error: standard input: nothing in it; expected a JSON object a line\n"


# No output replaces an input


def linked(kind: str, source: Path) -> tuple[Path, Path]:
    """An input and an output that is the same file, or one that would be read with it."""
    out = source.with_name("link.jsonl")
    match kind:
        case "same":
            return source, Path(os.path.relpath(source))
        case "symlink":
            out.symlink_to(source)
        case "hard link":
            out.hardlink_to(source)
        case "of a link":
            out.symlink_to(source)
            return out, source
        case "in its folder":
            return source.parent, source.with_name("new.jsonl")
        case "below its folder":
            return source.parent, source.parent / "sub" / "new.csv"
        case "linked into its folder":
            outside = source.parent.with_name("outside.jsonl")
            outside.hardlink_to(source)
            return source.parent, outside
        case "in a linked folder":
            source.parent.with_name("alias").symlink_to(source.parent)
            return source.parent.with_name("alias"), source.with_name("new.parquet")
    return source, out


KINDS = ["same", "symlink", "hard link", "of a link", "in its folder", "below its folder", "linked into its folder",
         "in a linked folder"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["score", "select", "generate", "outputs"])
def test_no_output_replaces_what_is_read(tmp_path: Path, command: str, kind: str, capsys: Any) -> None:
    (tmp_path / "data").mkdir()
    source, out = linked(kind, write_rows(tmp_path / "data" / "in.jsonl", [{"prompt": "q", "response": "ab"}]))
    before = (tmp_path / "data" / "in.jsonl").read_bytes()
    prompts = write_rows(tmp_path / "prompts.jsonl", [{"prompt": "q"}])
    written = write_rows(tmp_path / "written.jsonl", [{"prompt": "q", "output": "ab"}])
    arguments = {
        "generate": ["generate", source, "-p", f"outputs:{written}"],
        "outputs": ["generate", prompts, "-p", f"outputs:{source}"],
    }.get(command, [command, source, "-m", "python:no_such_module:nothing"])
    assert run(*arguments, "-o", out) == 2
    error = capsys.readouterr().err
    assert f"-o {out} would write over {source}, which is read" in error
    assert (tmp_path / "data" / "in.jsonl").read_bytes() == before


def test_a_gold_file_is_not_replaced_and_a_link_elsewhere_is_written_through(tmp_path: Path, capsys: Any) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "q", "responses": ["a", "bc"]}])
    gold = tmp_path / "gold.jsonl"
    assert run("score", rows, "-m", "random", "-o", gold) == 0
    assert run("select", rows, "-m", "length", "--gold", gold, "-o", gold) == 2
    assert "would write over" in capsys.readouterr().err
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "there.jsonl")
    assert run("score", rows, "-m", "length", "-o", tmp_path / "link.jsonl") == 0
    assert (tmp_path / "link.jsonl").is_symlink()
    assert len(lines(tmp_path / "there.jsonl")) == 2
    assert run("score", rows, "-m", "length", "-o", "/dev/null", "--format", "csv") == 0
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("command", ["score", "select"])
@pytest.mark.parametrize(("spec", "read"), [("m.toml", "m.toml"), ("mine=m.toml", "m.toml"), ("python:own:f", "own.py"),
                                            ("mine=python:lib.own:f?batch=2", "lib/own.py")])  # fmt: skip
def test_no_output_replaces_what_a_model_is_read_from(
    tmp_path: Path, command: str, spec: str, read: str, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lib").mkdir()
    (tmp_path / read).write_text("family = 'length'\n")
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "q", "response": "ab"}])
    assert run(command, rows, "-m", spec, "-o", read, "--format", "jsonl") == 2
    assert f"-o {read} would write over {read}, which is read" in capsys.readouterr().err
    assert (tmp_path / read).read_text() == "family = 'length'\n"


# What is told, and when


@pytest.mark.parametrize("command", ["score", "select"])
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("none.jsonl", None, "no such file"), ("rows.txt", "x", "unsupported format .txt"),
     ("broken.jsonl", "{", "row 1: invalid JSON"), ("empty.jsonl", "", "no rows in it"),
     ("folder", None, "no such file")],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_told_before_a_model_is_opened(
    tmp_path: Path, log: Path, command: str, name: str, content: str | None, words: str, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("rmbench.runs.score.open_model", lambda *_, **__: pytest.fail("opened"))
    if content is not None:
        (tmp_path / name).write_text(content)
    assert run(command, tmp_path / name, "-m", RESTING, "-o", tmp_path / "out.jsonl") in (1, 2)
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def test_what_is_known_is_written_without_loading_the_model(
    tmp_path: Path, log: Path, monkeypatch: Any, capsys: Any
) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "q", "chosen": "ab", "rejected": "abc"}])
    commands = [
        ["run", "-m", RESTING, "-t", "preference", "--data", f"preference={rows}", "--out", tmp_path / "r"],
        ["score", rows, "-m", RESTING, "-o", tmp_path / "o.csv"],
        ["select", rows, "-m", RESTING, "-m", "length", "-o", "-"],
        ["select", rows, "-m", "length", "--gold", RESTING],
    ]
    for command in (*commands, *commands):
        assert run(*command) == 0
    assert log.read_text() == "started\n"
    monkeypatch.setenv("RESTING_SECONDS", "0.3")
    monkeypatch.setattr("rmbench.cli._progress._SECONDS_UNTOLD", 0.05)
    more = write_rows(tmp_path / "more.jsonl", [{"prompt": "q", "response": "new"}])
    capsys.readouterr()
    assert run("score", more, "-m", RESTING, "-o", tmp_path / "o.jsonl") == 0
    told = capsys.readouterr().err
    assert f"{RESTING}: loading ..." in told
    assert f"{RESTING}: loading took 0." in told


def test_a_terminal_shows_that_a_model_loads(monkeypatch: Any) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with ConsoleProgress("m").busy("loading"):
        pass
    assert "m: loading" in sys.stderr.getvalue()  # type: ignore[attr-defined]


def test_reasons_cuts_and_empty_responses_are_told_and_written(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    (tmp_path / "says_why.py").write_text(
        "from rmbench.types import Reward\n"
        "from rmbench.models.base import Subject\n"
        "class Model:\n"
        "    answers, fingerprint, subject = frozenset({'reward'}), None, Subject('tests/why', 'object')\n"
        "    def rewards(self, requests):\n"
        "        for at, one in enumerate(requests):\n"
        "            text = one.responses[0].text\n"
        "            if text == 'no': yield at, Reward((float('nan'),), status='refused', detail='row 7 is rude')\n"
        "            elif text == 'bad': yield at, Reward((float('nan'),), status='error', detail='took 3.5 s')\n"
        "            else: yield at, Reward((1.0,), truncated=len(text) // 10)\n"
        "MODEL = Model()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    texts = ["no", "bad", "x" * 30, " \n\t", "", "fine", "no"]
    rows = write_rows(tmp_path / "in.jsonl", [{"id": f"r{n}", "prompt": f"q{n}", "response": text}
                                              for n, text in enumerate(texts)])  # fmt: skip
    for command in (["score"], ["select", "-k", "2"]):
        out = tmp_path / "out.jsonl"
        assert run(command[0], rows, *command[1:], "-m", "python:says_why:MODEL", "-o", out) == 3
        told = capsys.readouterr().err
        assert "2 rewards are refused, first at example r0, candidate 0: row 7 is rude" in told
        assert "1 rewards are error, first at example r1, candidate 0: took 3.5 s" in told
        assert "1 of 7 sequences were cut" in told
        assert "2 of 7 responses are empty" in told
    assert run("score", rows, "-m", "python:says_why:MODEL", "-o", out) == 3
    assert [(one["status"], one["detail"], one["truncated"]) for one in lines(out)][:3] == [
        ("refused", "row 7 is rude", 0), ("error", "took 3.5 s", 0), ("ok", None, 3)
    ]  # fmt: skip


@pytest.mark.parametrize(("side", "part"), [("left", "the prompt was cut"), ("right", "the response was cut")])
def test_what_was_cut_is_told_and_written(tmp_path: Path, side: str, part: str, capsys: Any) -> None:
    model = make(tmp_path / "tiny", "llama")
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "one two " * 9, "response": "six seven " * 9},
                                              {"prompt": "a", "response": "b"}])  # fmt: skip
    assert run("score", rows, "-m", model, "--device", "cpu", "-o", tmp_path / "whole.jsonl") == 0
    longest = max(one["n_tokens"] for one in lines(tmp_path / "whole.jsonl"))
    length = ["--max-length", longest - 9, "--truncation-side", side, "--device", "cpu"]
    for command in ("score", "select"):
        out = tmp_path / f"{command}.jsonl"
        assert run(command, rows, "-m", model, *length, "-o", out) == 0
        told = capsys.readouterr().err
        assert "1 of 2 sequences were cut" in told
        assert f"1 of 2 requests: {part}" in told
        assert [part in (one["noted"] or "") for one in lines(out)] == [True, False]


# Several models


def test_several_models_have_a_column_each(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "responses": ["a", "bcd"]}]
    written = scored(tmp_path, rows, "length", "random?seed=1", "random?seed=2", "mine=length")
    assert [name for name in written[0] if name.startswith("reward")] == [
        "reward:length", "reward:random-seed-1", "reward:random-seed-2", "reward:mine",
    ]  # fmt: skip
    assert [one["reward:length"] for one in written] == [one["reward:mine"] for one in written] == [1, 3]
    assert written[0]["reward:random-seed-1"] != written[0]["reward:random-seed-2"]
    assert set(scored(tmp_path, rows, "length", "length")[0]) == set(scored(tmp_path, rows)[0])  # the same one twice


def test_two_models_named_alike_are_refused(tmp_path: Path, capsys: Any) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "q", "response": "a"}])
    assert run("score", rows, "-m", "x=length", "-m", "x=random", "-o", "-") == 2
    assert "2 models are called x; give each a name of its own" in capsys.readouterr().err


def test_of_several_models_the_first_selects(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "shorter.py").write_text("def reward(prompt, response):\n    return -len(response)\n")
    monkeypatch.chdir(tmp_path)
    rows = write_rows(tmp_path / "in.jsonl", [{"prompt": "q", "responses": ["a", "bcd"], "n": 1}])
    for models, text in ((["python:shorter:reward", "length"], "a"), (["length", "python:shorter:reward"], "bcd")):
        given = [word for model in models for word in ("-m", model)]
        assert run("select", rows, *given, "-o", "out.jsonl") == 0
        [one] = lines(tmp_path / "out.jsonl")
        assert (one["response"], one["reward:length"], one["n"]) == (text, len(text), 1)
        assert one["reward:shorter-reward"] == -len(text)


# generate


def test_generate_keeps_the_columns_of_its_prompts(tmp_path: Path) -> None:
    prompts = write_rows(
        tmp_path / "p.jsonl", [{"id": 1, "prompt": "a", "tokens": "mine"}, {"question": "b", "x": [1]}]
    )
    outputs = write_rows(tmp_path / "o.jsonl", [{"prompt": name, "output": name * n} for name in "ab" for n in (2, 3)])
    assert run("generate", prompts, "-p", f"outputs:{outputs}", "-o", tmp_path / "out.jsonl") == 0
    written = lines(tmp_path / "out.jsonl")
    assert [(one["prompt"], one["response"], one["sample"]) for one in written] == [
        ("a", "aa", 0), ("a", "aaa", 1), ("b", "bb", 0), ("b", "bbb", 1)
    ]  # fmt: skip
    assert [(one["id"], one["question"], one["x"], one["input_tokens"]) for one in written[1:3]] == [
        (1, None, None, "mine"), (None, "b", [1], None)
    ]  # fmt: skip
    assert run("score", tmp_path / "out.jsonl", "-m", "length", "-o", tmp_path / "scored.csv") == 0


def test_several_policies_have_columns_each(tmp_path: Path, capsys: Any) -> None:
    prompts = write_rows(tmp_path / "p.jsonl", [{"prompt": "a", "id": 1}, {"prompt": "b", "id": 2}])
    one = write_rows(tmp_path / "one.jsonl", [{"prompt": "a", "output": "x"}, {"prompt": "b", "output": "y"}])
    two = write_rows(tmp_path / "two.jsonl", [{"prompt": "a", "output": "xx"}, {"prompt": "a", "output": "xxx"}])
    assert run("generate", prompts, "-p", f"outputs:{one}", "-p", f"two=outputs:{two}", "-o", "-") == 3
    told = capsys.readouterr()
    found = [(r["id"], r["sample"], r["response:one.jsonl"], r["response:two"]) for r in lines(told.out)]
    assert found == [(1, 0, "x", "xx"), (1, 1, None, "xxx"), (2, 0, "y", None)]
    assert "1 responses are missing" in told.err


def test_generate_reads_named_columns_and_skips_bad_rows(tmp_path: Path, capsys: Any) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"ask": "a", "id": 1}\nbroken\n{"ask": "b", "id": 2}\n')
    outputs = write_rows(tmp_path / "o.jsonl", [{"prompt": name, "output": name * 2} for name in "ab"])
    given = ["generate", prompts, "-p", f"outputs:{outputs}", "--columns", "prompt=ask", "--skip-bad-rows"]
    assert run(*given, "-o", "-") == 0
    told = capsys.readouterr()
    assert [(row["id"], row["ask"], row["prompt"], row["response"]) for row in lines(told.out)] == [
        (1, "a", "a", "aa"), (2, "b", "b", "bb")
    ]  # fmt: skip
    assert "bad row: invalid JSON" in told.err


def test_score_keeps_the_names_of_columns_that_are_read_as_others(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "in.jsonl", [{"ask": "q", "good": "ab", "bad": "c", "n": 1}])
    given = ["--columns", "prompt=ask,chosen=good,rejected=bad", "-o", tmp_path / "out.jsonl"]
    assert run("score", rows, "-m", "length", *given) == 0
    written = lines(tmp_path / "out.jsonl")
    found = [(row["ask"], row["prompt"], row["response"], row["n"]) for row in written]
    assert found == [("q", "q", "ab", 1), ("q", "q", "c", 1)]
    assert not {"good", "bad"} & set(written[0])
