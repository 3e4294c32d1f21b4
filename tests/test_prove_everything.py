"""`benchmarks/everything.py --limit 20`: a task that RMBENCH_DATA has rows for has a headline or says why not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import everything
import pytest

from rmbench.data.cards import card_names, read_card

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def named() -> set[str]:
    """The tasks whose rows some card says where to find."""
    stated = [read_card(name).front.get("rmbench", {}).get("reads", ()) for name in card_names()]
    return {reads["task"] for some in stated for reads in some}


def test_what_cards_name_is_what_is_run(named: set[str], rmbench_data: Path, tmp_path: Path) -> None:
    fed = everything.sources(rmbench_data, tmp_path / "data")
    assert {task for task, _ in fed.values()} == named
    assert {"hh_rlhf": "preference", "rm_bench": "rm_bench"}.items() <= {
        name: of for name, (of, _) in fed.items()
    }.items()
    halves = {file.relative_to(fed["rmb"][1]).parts[1] for file in fed["rmb"][1].rglob("*.json")}
    assert halves == {"BoN_set", "Pairwise_set"}, "the file of scores has no texts"


@pytest.mark.prove
def test_every_task_gives_a_headline_or_says_why(named: set[str], rmbench_data: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "everything.py"), str(tmp_path / "run"), "--limit", "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    print(f"\n{done.stdout}")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= everything.COLUMNS
    headed = {line.split("|")[1].strip() for line in lines if re.search(r"\| +[\d.]+ \|$", line)}
    reasoned = {line[2:].partition(":")[0] for line in lines if line.startswith("- ")}
    fed = everything.sources(rmbench_data, tmp_path / "data")
    assert fed.keys() <= headed | reasoned
    printed = (tmp_path / "run" / "run.txt").read_text(encoding="utf-8")
    assert max(map(len, printed.splitlines()[:-1])) <= everything.COLUMNS, "the last line is a path"
    assert f"{len(fed)} tasks" in printed
    assert "shared" in printed
    page = (tmp_path / "run" / "results" / "report.html").read_text(encoding="utf-8")
    assert all(f">{name}</a>" in page for name in fed)
