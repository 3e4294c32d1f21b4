"""A file given to the wrong task: the one line says which task it looks like."""

from __future__ import annotations

import json
import os
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli import main
from rmbench.data.files import Rows
from rmbench.errors import DataError
from rmbench.plugins import load_task
from rmbench.runs.loading import load_tasks
from rmbench.runs.recognise import _fit

DATA = Path(os.environ.get("RMBENCH_DATA", "nowhere"))
JUDGED = {"pair_id": "1", "source": "livebench-math", "question": "1 + 1?", "response_A": "2", "response_B": "3",
          "label": "A>B"}  # fmt: skip
STYLES = {"prompt": "1 + 1?", "chosen": ["2", "It is 2.", "**2**"], "rejected": ["3", "It is 3.", "**3**"],
          "domain": "math"}  # fmt: skip
SHAPES = {"judgebench": JUDGED, "rm_bench": STYLES, "preference": {"prompt": "?", "chosen": "a", "rejected": "b"}}
REAL = {
    "rm_bench": "rm_bench/chat_filtered.json",
    "judgebench": "judgebench/data",
    "rmb": "rmb/Pairwise_set",
    "llmbar": "llmbar",
    "mr_math": "reasoneval/dataset",
    "processbench": "processbench",
    "prmbench": "prmbench/target_data.jsonl",
    "plan_rewardbench": "plan_rewardbench",
    "autoj": "autoj/testdata_pairwise.jsonl",
    "best_of_n": "gsm8k_solutions/example_model_solutions.jsonl",
    "preference": "hh_rlhf/test.jsonl.gz",
    "rewardmath": "rewardmath/scores",
}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def told(task: str, path: Path) -> str:
    with pytest.raises(DataError) as error:
        load_tasks([task], data={task: path})
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("given", SHAPES)
@pytest.mark.parametrize("task", ["judgebench", "llmbar", "processbench", "rewardbench"])
def test_a_file_of_another_task_is_named_after_it(given: str, task: str, tmp_path: Path) -> None:
    if given == task:
        return
    line = told(task, write(tmp_path / "x.jsonl", SHAPES[given], SHAPES[given]))
    assert line.startswith("x.jsonl, row 1: no `")
    assert line.endswith(f"; it looks like a file of {given} (--data {given}=x.jsonl)")


def test_a_broken_row_of_the_right_file_and_a_file_of_no_task_are_told_as_they_are(tmp_path: Path) -> None:
    broken = told("judgebench", write(tmp_path / "x.jsonl", *[JUDGED] * 9, {**JUDGED, "label": "C"}))
    assert broken == "x.jsonl, row 10, `label`: expected 'A>B' or 'B>A', got 'C'"
    assert "looks like" not in told("judgebench", write(tmp_path / "y.jsonl", {"height": 3}))
    assert "looks like" not in told("judgebench", tmp_path / "nowhere.jsonl")
    assert "looks like" not in told("judgebench", write(tmp_path / "z.jsonl", "no object"))


def test_the_command_says_it_in_one_line(tmp_path: Path, capsys: Any) -> None:
    path = write(tmp_path / "x.jsonl", JUDGED)
    assert main(["run", "-m", "length", "-t", "rm_bench", "--data", f"rm_bench={path}", "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("it looks like a file of judgebench (--data judgebench=x.jsonl)")


@pytest.mark.skipif(not DATA.is_dir(), reason="RMBENCH_DATA is not given")
@pytest.mark.parametrize("given", REAL)
def test_a_real_file_is_known_by_its_first_rows(given: str) -> None:
    wrong = "verifybench" if given != "verifybench" else "processbench"
    assert f"; it looks like a file of {given} (--data {given}=" in told(wrong, DATA / REAL[given])
    assert _fit(load_task(given), list(islice(Rows(DATA / REAL[given]), 8)))
