"""The command line as people meet it: exit codes, one-line errors, reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from checkpoints import make
from rich.console import Console

from rmbench.cli import main
from rmbench.report import frame
from rmbench.results.schema import TaskResult

PAIRS = [
    {"prompt": "What is 2 + 2?", "chosen": "4", "rejected": "5"},
    {"prompt": "What is 3 + 3?", "chosen": "It is 6.", "rejected": "7"},
]


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", PAIRS)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("cli") / "tiny-llama", "llama")


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_a_run_prints_a_table_and_writes_its_files(pairs: Path, tmp_path: Path, capsys: Any) -> None:
    code = run("run", "-m", "length", "-m", "random", "-t", "preference", "--data", f"preference={pairs}",
               "--out", tmp_path / "out")  # fmt: skip
    printed = capsys.readouterr()
    assert code == 0
    assert "rmbench/length" in printed.out
    assert "50.0 [9.5, 90.5]" in printed.out
    assert "length: 4/4 sequences in" in printed.err
    assert len(list((tmp_path / "out").rglob("preference-*.json"))) == 2


def test_a_run_says_what_length_and_margins_are_worth(tmp_path: Path, capsys: Any) -> None:
    assert run("run", "-m", "length", "-m", "random", "-t", "best_of_n", "--out", tmp_path) == 0
    printed = capsys.readouterr().out
    (table,) = (table for table in printed.split("└") if "length pearson" in table)
    assert "accuracy length" in table  # of pairs, in one table with the pair rate that does not hold length
    assert "auc (pairs) %" in table
    assert table.count("(pairs)") == 3
    assert "RMS % as it is" in printed
    assert "L1 % as it is" in printed
    assert "always longer: 19.4 %" in printed  # the accuracy of the model that scores by length


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (50, "`probability` in the records is pooled over all prompts (isotonic)"),
        (2, "not calibrated: 2 independent clusters are too few"),
    ],
)
def test_a_model_that_sees_the_prompt_alone_has_no_pairs_to_calibrate_and_still_a_report(
    rows: int, says: str, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    (tmp_path / "prompt_alone.py").write_text("def reward(prompt, response):\n    return len(prompt)\n")
    monkeypatch.chdir(tmp_path)
    data = [
        {"prompt": "q" * (n + 1), "candidates": ["a", "b", "c"], "labels": [True, n % 2 == 0, False]}
        for n in range(rows)
    ]
    path = write_rows(tmp_path / "rows.jsonl", data)
    out = tmp_path / "out"
    assert (
        run("run", "-m", "python:prompt_alone:reward", "-t", "best_of_n", "--data", f"best_of_n={path}", "--out", out)
        == 0
    )
    assert says in " ".join(capsys.readouterr().out.split())


def test_a_constant_reward_is_said_to_be_one(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    (tmp_path / "constant.py").write_text("def reward(prompt, response):\n    return 1.0\n")
    monkeypatch.chdir(tmp_path)
    assert run("run", "-m", "python:constant:reward", "-t", "length_bias", "--out", tmp_path / "out") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "every reward is the same, 1" in printed
    assert "in 120 examples a tie decides" in printed


def test_a_probe_has_a_row_a_metric_and_a_star_where_an_effect_is_no_chance(tmp_path: Path, capsys: Any) -> None:
    assert run("run", "-m", "length", "-m", "random", "-t", "length_bias", "--out", tmp_path) == 0
    lines = {line.split("│")[1].strip(): line for line in capsys.readouterr().out.splitlines() if line.count("│") > 2}
    stars = {name: [cell.strip().endswith("*") for cell in line.split("│")[2:4]] for name, line in lines.items()}
    assert stars["effect padding"] == [True, False]
    assert stars["effect wrong"] == [False, False]
    assert lines["flip rate %"].split("│")[2].strip().startswith("100.0 [")


def test_a_run_writes_a_page_and_without_the_extra_says_what_to_install(
    tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": "q", "chosen": "short", "rejected": "longer and wrong"}])
    arguments = ("run", "-m", "length", "-t", "preference", "--data", f"preference={rows}", "--out")
    assert run(*arguments, tmp_path / "with") == 0
    assert "longer and wrong" in (tmp_path / "with" / "report.html").read_text()
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    frame.library.cache_clear()
    assert run(*arguments, tmp_path / "without") == 0
    assert "no report: report.html needs altair and vl-convert-python: pip install" in capsys.readouterr().err
    assert not (tmp_path / "without" / "report.html").exists()


def test_json_is_json_alone(pairs: Path, tmp_path: Path, capsys: Any) -> None:
    run("run", "-m", "length", "-t", "preference", "--data", f"preference={pairs}", "--out", tmp_path / "out", "--json")
    (result,) = json.loads(capsys.readouterr().out)
    assert TaskResult.model_validate(result).dataset.examples == 2


def test_show_prints_every_number_of_a_result_and_the_card_of_a_task(pairs: Path, tmp_path: Path, capsys: Any) -> None:
    run("run", "-m", "length", "-t", "preference", "--data", f"preference={pairs}", "--out", tmp_path / "out")
    (path,) = (tmp_path / "out").rglob("*.json")
    capsys.readouterr()
    assert run("show", path) == 0
    assert "margin_sd" in capsys.readouterr().out
    assert run("show", "preference") == 0
    assert "prompts differ" in capsys.readouterr().out


def test_show_says_what_a_metric_is_and_names_the_near_one(pairs: Path, tmp_path: Path, capsys: Any) -> None:
    run("run", "-m", "length", "-t", "preference", "--data", f"preference={pairs}", "--out", tmp_path / "out")
    (path,) = (tmp_path / "out").rglob("*.json")
    capsys.readouterr()
    assert run("show", path, "--metric", "mean_rank") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "mean_rank Mean rank of the best correct candidate (rank, from 1); lower is better; from 1; grows" in printed
    assert "margin_sd" not in printed
    assert run("show", path, "--metric", "mean_rnk") == 2
    assert "unknown metric 'mean_rnk' (did you mean 'mean_rank'" in one_error(capsys)
    assert run("show", "preference", "--metric", "accuracy") == 2
    assert "preference is a task; expected a result file" in one_error(capsys)


def test_show_prints_what_a_calibration_found_and_the_scale_of_the_rewards(tmp_path: Path, capsys: Any) -> None:
    run("run", "-m", "length", "-t", "best_of_n", "--out", tmp_path)
    (path,) = tmp_path.rglob("best_of_n.json")
    result = TaskResult.model_validate_json(path.read_text())
    assert result.calibration is not None
    assert result.scale is not None
    capsys.readouterr()
    assert run("show", path) == 0
    printed = capsys.readouterr().out
    for found in result.calibration.maps:
        assert f"{found.figure('brier').value:.4f}" in printed
    assert f"432 rewards from {result.scale.minimum:g} (" in printed


def test_list_schema_and_doctor(capsys: Any) -> None:
    assert run("list", "tasks") == 0
    assert {"best_of_n", "preference", "rewardmath"} <= set(capsys.readouterr().out.split())
    assert run("list", "models") == 0
    assert {"classifier", "length", "python", "random", "scores"} <= set(capsys.readouterr().out.split())
    assert run("schema") == 0
    assert json.loads(capsys.readouterr().out) == TaskResult.model_json_schema()
    assert run("doctor") == 0
    assert "ready" in capsys.readouterr().out


def one_error(capsys: Any) -> str:
    """The one line on standard error that says what is wrong."""
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line or "Error" in line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("rmbench: error: ")
    return str(lines[0])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-m", "lenght", "-t", "best_of_n"], 2, "unknown model 'lenght' (did you mean 'length'?)"),
        (["-m", "length", "-t", "best_of_m"], 2, "unknown task 'best_of_m' (did you mean 'best_of_n'?)"),
        (["-m", "length", "-m", "random", "--name", "x", "-t", "best_of_n"], 2, "--name x would name 2 models alike"),
        (["-m", "length", "-t", "best_of_n", "--data", "preference=x.jsonl"], 2, "preference is not among the tasks"),
        (["-m", "scores:no.json", "-t", "best_of_n"], 2, "no.json"),
        (["-m", "length", "-t", "preference", "--data", "preference=no.jsonl"], 2, "no.jsonl: no such file or folder"),
        (["-m", "length@main", "-t", "best_of_n"], 2, "length is a model by itself, without source or revision"),
        (["-m", "length:x", "-t", "best_of_n"], 2, "length is a model by itself, without source or revision"),
        (["-m", "org/name", "-t", "best_of_n"], 1, "there is no such folder, and on the hub no config.json"),
    ],
)
def test_a_name_that_cannot_be_right(
    arguments: list[str], code: int, message: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("run", *arguments) == code
    assert message in one_error(capsys)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([PAIRS[0], "{not json"], ["rows.jsonl", "row 2", "JSON"]),
        ([PAIRS[0], [1, 2]], ["rows.jsonl", "row 2", "object"]),
        ([PAIRS[0], {"prompt": "x", "chosen": "y"}], ["rows.jsonl", "row 2", "rejected"]),
        ([{"prompt": "x", "chosen": 3, "rejected": "y"}], ["rows.jsonl", "row 1", "chosen"]),
        ([], ["rows.jsonl"]),
    ],
)
def test_rows_that_cannot_be_read(rows: list[Any], words: list[str], tmp_path: Path, capsys: Any) -> None:
    path = write_rows(tmp_path / "rows.jsonl", rows)
    code = run("run", "-m", "length", "-t", "preference", "--data", f"preference={path}", "--out", tmp_path / "out")
    error = one_error(capsys)
    assert code == 1
    assert all(word in error for word in words), error


def test_no_usable_example_says_why(tmp_path: Path, capsys: Any) -> None:
    differ = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"}
    path = write_rows(tmp_path / "rows.jsonl", [differ] * 3)
    assert run("run", "-m", "length", "-t", "preference", "--data", f"preference={path}") == 1
    error = one_error(capsys)
    assert "no usable example" in error
    assert "prompts differ" in error


def test_a_causal_lm_and_a_missing_chat_template_are_refused(
    llama: Path, pairs: Path, tmp_path: Path, capsys: Any
) -> None:
    for name, change in (("lm", "config.json"), ("plain", "chat_template.jinja")):
        folder = tmp_path / name
        folder.mkdir()
        for file in llama.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        if change == "config.json":
            config = json.loads((folder / change).read_text()) | {"architectures": ["LlamaForCausalLM"]}
            (folder / change).write_text(json.dumps(config))
        else:
            (folder / change).unlink()
    data = ("-t", "preference", "--data", f"preference={pairs}", "--out", tmp_path / "out")
    assert run("run", "-m", f"classifier:{tmp_path / 'lm'}", *data) == 1
    assert "LlamaForCausalLM" in one_error(capsys)
    assert run("run", "-m", tmp_path / "plain", *data) == 1
    error = one_error(capsys)
    assert "chat template" in error
    assert "--template" in error
    assert run("run", "-m", tmp_path / "plain", "--template", "plain", *data) == 0


def test_a_sequence_over_the_positions_is_counted_and_the_rest_is_scored(
    llama: Path, tmp_path: Path, capsys: Any
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [*PAIRS, {"prompt": "x", "chosen": "word " * 5000, "rejected": "y"}])
    data = ("-t", "preference", "--data", f"preference={path}", "--out", tmp_path / "out")
    assert run("run", "-m", llama, *data) == 3
    printed = capsys.readouterr()
    assert "1 rewards are error, first at example" in " ".join(printed.out.split())
    assert "--max-length" in printed.out
    assert run("run", "-m", llama, "--max-length", "64", *data) == 0
    assert "sequences were cut" in capsys.readouterr().out


def test_an_output_folder_that_cannot_be_written(pairs: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").touch()
    code = run("run", "-m", "length", "-t", "preference", "--data", f"preference={pairs}", "--out", tmp_path / "file")
    assert code == 1
    assert "cannot write results here" in one_error(capsys)


def test_a_score_file_that_does_not_fit(pairs: Path, tmp_path: Path, capsys: Any) -> None:
    other = write_rows(tmp_path / "s.jsonl", [{"example_id": "elsewhere", "candidate": 0, "reward": 1.0}])
    code = run("run", "-m", f"scores:{other}", "-t", "preference", "--data", f"preference={pairs}", "--out", tmp_path)
    assert code == 1
    assert "s.jsonl" in one_error(capsys)


def test_one_model_that_fails_leaves_the_others_their_turn(pairs: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text('{"architectures": ["LlamaForSequenceClassification"]}')
    code = run("run", "-m", tmp_path / "empty", "-m", "length", "-t", "preference", "--data", f"preference={pairs}",
               "--out", tmp_path / "out")  # fmt: skip
    printed = capsys.readouterr()
    assert code == 1
    assert "rmbench/length" in printed.out
    assert "rmbench: error: " in printed.err


def test_debug_shows_the_traceback(tmp_path: Path, capsys: Any) -> None:
    assert run("run", "-m", "length", "-t", "preference", "--data", f"preference={tmp_path}/no.jsonl", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_broken_option_is_a_usage_error(capsys: Any) -> None:
    assert run("run", "-m", "length", "-t", "preference", "--data", "x") == 2
    assert "is not TASK=PATH" in capsys.readouterr().err
    assert run("run", "-m", "length", "-t", "preference", "--token-budget", "many") == 2
    assert run("rum") == 2


@pytest.mark.parametrize("name", ["m[/]", "[red]x", "a\x1b[31m", "../up/and/away", "..", ""])
def test_a_name_that_is_no_name_is_refused(name: str, pairs: Path, tmp_path: Path, capsys: Any) -> None:
    code = run("run", "-m", "length", "--name", name, "-t", "preference", "--data", f"preference={pairs}",
               "--out", tmp_path / "out")  # fmt: skip
    assert code == 2
    assert "a model's id in results is letters, digits" in one_error(capsys)


def test_text_from_data_is_printed_as_it_is(tmp_path: Path, capsys: Any) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{**PAIRS[0], "subset": "[red]x[/] \x1b[31m"}])
    data = ("-t", "preference", "--data", f"preference={path}", "--out", tmp_path / "out")
    assert run("run", "-m", "length", *data) == 0
    (result,) = (tmp_path / "out").rglob("*.json")
    assert run("show", result) == 0
    printed = capsys.readouterr().out
    assert "[red]x[/]" in printed
    assert "\x1b[31m" not in printed


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_width_loses_a_name(width: int, pairs: Path, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("rmbench.cli._report.terminal", lambda: Console(width=width))
    rows = [{"prompt": "p", "chosen": "a", "rejected": "b"}, *PAIRS]
    data = ("-t", "preference", "--data", f"preference={write_rows(tmp_path / 'r.jsonl', rows)}", "--out", tmp_path)
    assert run("run", "-m", "length", "-m", "random", *data) == 0
    printed = "".join(capsys.readouterr().out.split())
    assert "rmbench/len" in printed
    assert "rmbench/ran" in printed
    assert "33.3" in printed


def test_what_user_code_prints_is_no_result(pairs: Path, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    (tmp_path / "chatty.py").write_text("def reward(prompt, response):\n    print('hello')\n    return 1.0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    data = ("-t", "preference", "--data", f"preference={pairs}", "--json")
    assert run("run", "-m", "python:chatty:reward", *data) == 0
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)) == 1
    assert "hello" in printed.err


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_thing", "cannot be imported: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("def f(:", "cannot be imported: SyntaxError"),
        ("raise SystemExit(0)", "cannot be imported: SystemExit: 0"),
        ("class f:\n    def __init__(self, needed): ...", "cannot be made: TypeError"),
    ],
)
def test_code_that_cannot_be_loaded_is_one_line(
    code: str, message: str, pairs: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    (tmp_path / "broken_code.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken_code", raising=False)
    assert run("run", "-m", "python:broken_code:f", "-t", "preference", "--data", f"preference={pairs}") == 1
    assert message in one_error(capsys)


def test_two_reasons_are_two_lines(pairs: Path, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    (tmp_path / "picky.py").write_text(
        "def reward(prompt, response):\n    return {'4': 1, '5': 2, '7': 'x'}[response]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    data = ("-t", "preference", "--data", f"preference={pairs}", "--out", tmp_path / "out")
    assert run("run", "-m", "python:picky:reward", *data) == 3
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 rewards are error, first at" in printed
    assert "KeyError: 'It is 6.'" in printed
    assert "the function returned a str, expected a number or None: 'x'" in printed


def test_ctrl_c_says_that_nothing_is_lost(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import os, signal\n"
        "def reward(prompt, response):\n"
        "    open('calls', 'a').write('x')\n"
        "    if os.path.getsize('calls') == 2:\n"
        "        signal.raise_signal(signal.SIGINT)\n"  # in this thread, and so before it returns
        "    return 1.0\n"
    )
    write_rows(tmp_path / "pairs.jsonl", PAIRS)
    command = [sys.executable, "-m", "rmbench", "run", "-m", "python:slow:reward", "-t", "preference",
               "--data", "preference=pairs.jsonl"]  # fmt: skip
    environment = os.environ | {"RMBENCH_CACHE": str(tmp_path / "cache")}
    stopped = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert stopped.returncode == 130
    assert "stopped; what was scored is kept, the same command continues" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0
    assert (tmp_path / "calls").read_text() == "x" * 5


BEST_OF_N = ("-t", "best_of_n", "--limit", "3", "--out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-m", "length", "--max-length", "16", "--dtype", "nonsense", "--device", "cuda:7"],
            "unknown options --max-length, --dtype and --device of length; there are no options",
        ),
        (
            ["-m", "length", "-m", "random", "--pooling", "hf"],
            "unknown option --pooling of length and random; expected",
        ),
        (["-m", "length", "--token-budget", "100"], "unknown option --token-budget of length"),
        (["-m", "length", "--devices", "0,1"], "unknown option --devices of length"),
        (["-m", "length", "--trust-remote-code"], "unknown option --trust-remote-code of length"),
        (["-m", "length?seed=1"], "unknown option 'seed' of family 'length'; it has no options"),
        (["-m", "random?seed=1", "--seed", "2"], "'random?seed=1' asks for seed=1, the option for seed=2"),
        (["-m", "demo?device=cpu", "--device", "cuda"], "asks for device='cpu', the option for device='cuda'"),
        (["-m", "mine=length", "--name", "ours"], "'mine=length' is named 'mine' there and 'ours' by --name"),
        (["-m", "random?seed=-1"], "seed='-1' of family 'random': expected a whole number from 0"),
    ],
)
def test_an_option_that_no_model_declares_is_refused_by_name(
    arguments: list[str], message: str, tmp_path: Path, capsys: Any
) -> None:
    assert run("run", *arguments, *BEST_OF_N, tmp_path) == 2
    assert message in one_error(capsys)
    assert not list(tmp_path.rglob("*.json"))


def test_an_option_that_some_models_declare_is_theirs_and_one_line_says_whose_it_is_not(
    tmp_path: Path, capsys: Any
) -> None:
    arguments = ("-m", "length", "-m", "random?seed=3", "-m", "demo", "--device", "cpu", "--max-length", "40")
    assert run("run", *arguments, *BEST_OF_N, tmp_path, "--json") == 0
    printed = capsys.readouterr()
    assert "rmbench: --device and --max-length do not apply to length and random?seed=3\n" in printed.err
    truncated = {result["subject"]["id"]: result["truncated"] for result in json.loads(printed.out)}
    assert truncated["rmbench/demo"] > 0
    assert truncated["rmbench/length"] == 0


def test_a_runs_seed_is_every_runs_and_that_of_a_model_which_declares_one(tmp_path: Path, capsys: Any) -> None:
    assert run("run", "-m", "length", "-m", "random", "--seed", "5", *BEST_OF_N, tmp_path, "--json") == 0
    printed = capsys.readouterr()
    assert "apply" not in printed.err
    length, random = json.loads(printed.out)
    assert (length["config"]["data"]["seed"], random["config"]["data"]["seed"], random["subject"]["fingerprint"]) == (
        5,
        5,
        "random:1:5",
    )


def test_a_model_is_called_as_its_spec_says(tmp_path: Path, capsys: Any) -> None:
    assert run("run", "-m", "org/mine=random?seed=4", *BEST_OF_N, tmp_path, "--json") == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert (result["subject"]["id"], result["subject"]["fingerprint"]) == ("org/mine", "random:1:4")


@pytest.mark.parametrize("command", ["score", "select"])
def test_score_and_select_refuse_an_option_too(command: str, pairs: Path, tmp_path: Path, capsys: Any) -> None:
    assert run(command, pairs, "-m", "length", "-o", tmp_path / "o.jsonl", "--dtype", "float16") == 2
    assert "unknown option --dtype of length; there are no options" in one_error(capsys)
    assert run(command, pairs, "-m", "random", "-o", tmp_path / "o.jsonl", "--seed", "3") == 0


def test_generate_refuses_an_option_too(pairs: Path, tmp_path: Path, capsys: Any) -> None:
    assert run("generate", pairs, "-p", f"outputs:{pairs}", "-o", tmp_path / "o.jsonl", "--dtype", "float16") == 2
    assert "unknown option --dtype of outputs:" in one_error(capsys)


def test_a_task_that_cannot_be_read_is_one_line_and_the_others_are_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.jsonl").write_text("{")
    tasks = ["-t", "best_of_n", "-t", "preference", "--data", f"preference={tmp_path / 'broken.jsonl'}"]
    assert main(["run", "-m", "length", *tasks, "--limit", "5", "--out", str(tmp_path / "out")]) == 1
    assert "rmbench: no result of preference: broken.jsonl, row 1: invalid JSON" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").rglob("*.json")] == ["best_of_n.json"]


@pytest.mark.parametrize("width", [80, 100])
def test_a_card_shows_the_names_of_its_tables_whole(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["show", "judgebench"]) == 0
    lines = capsys.readouterr().out.partition("\nAudit")[2].splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    names = "".join(line[:33].strip() if width == 100 else line[:20].strip() for line in lines)
    assert "subset=mmlu-pro-engineering" in names
    assert "detectable" in " ".join(lines)


def test_where_no_task_can_be_read_each_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.jsonl").write_text("{")
    data = [f"--data={task}={tmp_path / 'broken.jsonl'}" for task in ("preference", "llmbar")]
    assert main(["run", "-m", "length", "-t", "preference", "-t", "llmbar", *data]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("rmbench: no result of llmbar: broken.jsonl, row 1: invalid JSON")
    assert second.startswith("rmbench: error: broken.jsonl, row 1: invalid JSON")


def test_fresh_asks_own_code_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "CALLS = []\n\n\ndef reward(prompt, response):\n    CALLS.append(response)\n    return len(response)\n"
    (tmp_path / "counting.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    command = ["run", "-m", "python:counting:reward", "-t", "best_of_n", "--limit", "2", "--out", str(tmp_path / "out")]
    calls = []
    for more in ([], [], ["--fresh"]):
        assert main([*command, *more]) == 0
        calls.append(len(sys.modules["counting"].CALLS))
    assert calls == [8, 8, 16]


def shell(command: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """A command line as bash runs it, the exit code that of the first command in a pipe which fails."""
    line = f"set -o pipefail; {command}".replace("rmbench", f"{sys.executable} -m rmbench")
    environment = os.environ | {"RMBENCH_CACHE": str(tmp_path / "cache")}
    return subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True,
                          check=False)  # fmt: skip


@pytest.mark.parametrize(
    ("command", "code", "error"),
    [
        ("rmbench schema | head -c 0", 141, ""),
        ("rmbench show preference | true", 141, ""),  # rich writes it
        ("PYTHONUNBUFFERED=1 rmbench list tasks | true", 141, ""),
        ("rmbench schema > /dev/full", 1, "rmbench: error: standard output cannot be written (No space left"),
        ("rmbench --help > /dev/full", 1, "rmbench: error: standard output cannot be written (No space left"),
        ("rmbench list models --json >&-", 0, ""),
        ("rmbench rum 2> /dev/full", 2, ""),
        ("rmbench rum 2>&-", 2, ""),
    ],
)
def test_whatever_becomes_of_its_output_a_command_ends_in_a_line_at_most(
    command: str, code: int, error: str, tmp_path: Path
) -> None:
    done = shell(command, tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == bool(error)
    assert done.stderr.startswith(error)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["rum"], "unknown command 'rum' (did you mean 'run'?); there is "),
        (["leaderboard", "bild"], "leaderboard: unknown command 'bild' (did you mean 'build'?); there is add, build"),
        (["run", "--modle", "x"], "run: no such option '--modle'. (Did you mean one of: '--model'"),
        (["score", "x.jsonl", "--modell", "x"], "score: no such option '--modell'. Did you mean '--model'?"),
        (["run", "-m", "length"], "run: missing option '-t' / '--task'"),
        (["run", "-t", "best_of_n", "--limit", "none"], "run: invalid value for '--limit': 'none' is not a valid"),
        (["list", "policys"], "policys: no such file or folder (did you mean 'policies'"),
        (["list", "tasks", "modles"], "unknown 'modles' (did you mean 'models'?); expected tasks, models"),
        (["show", "best_of_m"], "unknown task 'best_of_m' (did you mean 'best_of_n'?)"),
    ],
)
def test_what_click_refuses_is_one_line_too_and_names_the_near_one(
    arguments: list[str], error: str, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.startswith(f"rmbench: error: {error}")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("width", ["80", "100"])
@pytest.mark.parametrize("arguments", [["--help"], ["leaderboard", "--help"]])
def test_no_summary_of_a_command_is_cut(arguments: list[str], width: str, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", width)
    assert run(*arguments) == 0
    printed = capsys.readouterr().out
    assert "..." not in printed.partition("Commands:")[2]
    for line in printed.splitlines():
        assert len(line) <= int(width)


@pytest.mark.parametrize(
    ("words", "begun", "completed"),
    [
        ("rmbench sc", 1, {"plain,schema", "plain,score"}),
        ("rmbench run -t best", 3, {"plain,best_of_n"}),
        ("rmbench run -t suite:bu", 3, {"plain,suite:bundled"}),
        ("rmbench score rows.jsonl -m cl", 4, {"file,cl", "plain,classifier:"}),
        ("rmbench run -p out", 3, {"file,out", "plain,outputs:"}),
        ("rmbench list po", 2, {"file,po", "plain,policies"}),
        ("rmbench show pref", 2, {"file,pref", "plain,preference"}),
        ("rmbench run --control-tokens t", 3, {"plain,text"}),
    ],
)
def test_a_shell_completes_commands_and_names(
    words: str, begun: int, completed: set[str], capsys: Any, monkeypatch: Any
) -> None:
    for name, value in (("COMP_WORDS", words), ("COMP_CWORD", begun), ("_RMBENCH_COMPLETE", "bash_complete")):
        monkeypatch.setenv(name, str(value))
    assert main([]) == 0
    assert {*capsys.readouterr().out.split()} == completed


def test_completion_is_installed_as_readme_says(capsys: Any, monkeypatch: Any) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    for name in ("bash", "zsh", "fish"):
        monkeypatch.setenv("_RMBENCH_COMPLETE", f"{name}_source")
        assert main([]) == 0
        assert "_RMBENCH_COMPLETE" in capsys.readouterr().out
    assert "_RMBENCH_COMPLETE=bash_source rmbench" in readme


def test_list_and_show_take_files_folders_and_several_and_speak_json(pairs: Path, tmp_path: Path, capsys: Any) -> None:
    data = ("-t", "preference", "--data", f"preference={pairs}", "--out")
    for folder, model in (("a", "length"), ("b", "random"), ("b", "length")):
        assert run("run", "-m", model, *data, tmp_path / folder) == 0
    [one] = (tmp_path / "a").rglob("preference-*.json")
    capsys.readouterr()
    assert run("list", one, tmp_path / "b") == 0
    printed = capsys.readouterr().out
    assert str(one) in printed.splitlines()  # a path is never broken
    assert printed.count(" on preference v2: accuracy 50.0 % [9.5, 90.5], 2 examples") == 3
    assert run("list", tmp_path, "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(row["model"], row["metric"], row["value"]) for row in listed] == [
        (model, "accuracy", 0.5) for model in ("rmbench/length", "rmbench/length", "rmbench/random")
    ]
    assert run("show", one, tmp_path / "b", "--json", "--metric", "mrr") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [{metric["name"] for metric in result["metrics"]} for result in shown] == [{"mrr"}] * 3
    assert run("show", tmp_path) == 0
    assert capsys.readouterr().out.count("on preference v2\n") == 3
    assert run("show", "preference", "lengths", "--json") == 0
    assert [task["subject"] for task in json.loads(capsys.readouterr().out)] == ["reward_model", "policy"]


def test_a_result_that_cannot_be_read_is_named_and_the_list_goes_on(pairs: Path, tmp_path: Path, capsys: Any) -> None:
    data = ("-t", "preference", "--data", f"preference={pairs}", "--out", tmp_path)
    assert run("run", "-m", "length", "-m", "random", *data) == 0
    broken, whole = sorted(tmp_path.rglob("preference-*.json"))
    broken.write_text("{")
    capsys.readouterr()
    assert run("list", tmp_path) == 1
    printed = capsys.readouterr()
    assert str(broken) in printed.err
    assert str(whole) in printed.out


def test_list_knows_policies_and_speaks_json(capsys: Any) -> None:
    assert run("list", "policies", "suites") == 0
    assert {"local", "outputs", "bundled"} <= set(capsys.readouterr().out.split())
    assert run("list", "models", "--json") == 0
    (length,) = (row for row in json.loads(capsys.readouterr().out) if row["name"] == "length")
    assert length.pop("summary").startswith("Baseline: the number of characters")
    assert length == {"group": "models", "name": "length", "error": None}


def test_the_sample_of_readme_is_what_a_run_prints(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run("run", "-m", "length", "-m", "random", "-t", "best_of_n", "--out", tmp_path) == 0
    printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    sample = readme.partition("$ rmbench run -m length -m random -t best_of_n\n")[2].partition("\n```")[0]
    assert sample.count("\n") > 8
    assert sample in printed


def words_broken(printed: str, words: set[str]) -> set[str]:
    """Those of the words that no line has whole."""
    return {word for word in words if word not in printed}


@pytest.mark.parametrize("width", [80, 100])
def test_at_a_terminals_width_nothing_vanishes_and_no_word_or_number_is_broken(
    width: int, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert run("run", "-m", "length", "-m", "random", "-t", "best_of_n", "--limit", "30", "--out", tmp_path) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= width or "Results and records" in printed.splitlines()[-1]
    result, _ = (TaskResult.model_validate_json(path.read_text()) for path in sorted(tmp_path.rglob("best_of_n.json")))
    ends = (
        f"[{100 * metric.ci_low:.1f}, {100 * metric.ci_high:.1f}]"
        for name in ("accuracy", "mrr", "auc", "accuracy_right_longer", "accuracy_length_controlled")
        if (metric := result.metric(name)).ci_low is not None and metric.ci_high is not None
    )
    assert not words_broken(printed, {*ends, "controlled", "temperature", "calibrated", "rmbench/length"})
    paths = sorted(map(str, tmp_path.rglob("best_of_n.json")))
    assert run("show", *paths) == 0
    shown = capsys.readouterr().out
    assert "\u2026" not in shown
    assert max(map(len, shown.splitlines())) <= width
    assert not words_broken(shown, {*result.statistics, *(metric.subset for metric in result.metrics)})
    assert run("compare", *paths) == 3  # a try, of 30 examples
    assert "\u2026" not in capsys.readouterr().out
