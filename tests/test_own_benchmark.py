"""A benchmark of somebody's own, installed beside rmbench: run, shown, compared, put on a board, nothing else touched.

It is `mini_rm_bench`, nine cells and a macro over two domains that nests, with rows that come with it. Every command is
a process of its own, as its user's is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent
MODULE = """
from dataclasses import replace
from pathlib import Path

import mini_rm_bench


def read(rows):
    for row in rows:
        (example,) = mini_rm_bench.read([row])
        yield replace(example, id=f"{row.text('domain')} {example.id}", facets={"domain": row.text("domain")})


ROWS = Path(__file__).with_name("rows.jsonl")
TASK = replace(mini_rm_bench.TASK, name="own_bench", read=read, sources=(), bundled=ROWS)
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def rmbench(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The command line in a process where the benchmark is installed, and what it gave; `folder` is where it runs."""
    site = tmp_path_factory.mktemp("site")
    (site / "own_bench.py").write_text(MODULE)
    rng = np.random.default_rng(0)
    rows = [
        {"id": i, "domain": domain, "prompt": f"{domain} {i}?"}
        | {
            side: ["a" * int(rng.integers(least, 9)) for _ in range(3)]
            for side, least in (("chosen", 2), ("rejected", 1))
        }
        for domain, count in (("chat", 30), ("code", 50))
        for i in range(count)
    ]
    (site / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (site / "own_bench-1.dist-info").mkdir()
    (site / "own_bench-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: own-bench\nVersion: 1\n")
    (site / "own_bench-1.dist-info" / "entry_points.txt").write_text("[rmbench.tasks]\nown_bench = own_bench:TASK\n")
    path = os.pathsep.join([str(site), str(HERE), os.environ.get("PYTHONPATH", "")])
    folder = tmp_path_factory.mktemp("work")

    def run(*arguments: object, code: int = 0, installed: bool = True) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"COLUMNS": "120"} | ({"PYTHONPATH": path} if installed else {})
        command = [sys.executable, "-m", "rmbench", *map(str, arguments)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    run("run", "-m", "length", "-m", "random", "-m", "demo", "-t", "own_bench", "--out", "out")
    return run


@pytest.fixture(scope="module")
def out(rmbench: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the results."""
    return next(path for path in tmp_path_factory.getbasetemp().glob("work*/out") if path.is_dir())


def results(out: Path) -> dict[str, Any]:
    """Every result as it stands in its file, by its model."""
    found = [json.loads(path.read_text()) for path in sorted(out.rglob("own_bench.json"))]
    return {result["subject"]["id"]: result for result in found}


def value(result: Any, name: str, subset: str = "all") -> float:
    (found,) = [m["value"] for m in result["metrics"] if (m["name"], m["subset"]) == (name, subset)]
    return float(found)


def test_a_result_says_what_its_headline_is_and_what_each_metric_is(out: Path) -> None:
    length = results(out)["rmbench/length"]
    assert (length["task"]["measure"], length["task"]["headline"]) == ("styles", "overall")
    assert length["statistics"]["hard"]["title"] == "Accuracy, hard, mean over parts"
    three = [value(length, name) for name in ("hard", "normal", "easy")]
    assert value(length, "overall") == pytest.approx(np.mean(three))


def test_the_headline_stands_first_on_the_terminal_and_its_parts_beside_it(rmbench: Run, out: Path) -> None:
    printed = rmbench("run", "-m", "length", "-m", "random", "-t", "own_bench", "--out", "again").stdout
    heading = next(line for line in printed.splitlines() if "model" in line)
    assert [cell.strip() for cell in heading.strip("┃").split("┃")] == [
        "model", "overall %", "n", "ties", "hard %", "normal %", "easy %", "all styles %",
    ]  # fmt: skip
    row = next(line for line in printed.splitlines() if line.startswith("│ rmbench/length"))
    assert f"{100 * value(results(out)['rmbench/length'], 'overall'):.1f} [" in row


def test_a_metric_is_explained(rmbench: Run, out: Path) -> None:
    (path,) = out.glob("rmbench__length/*/own_bench.json")
    printed = " ".join(rmbench("show", path, "--metric", "hard", installed=False).stdout.split())
    assert (
        "hard Accuracy, hard, mean over parts (share of cells); higher is better; 0 to 1; a mean over parts" in printed
    )


def test_the_page_is_made_of_it(out: Path) -> None:
    page = (out / "report.html").read_text()
    assert '<th scope="col">overall %</th>' in page
    assert "<dt>overall</dt><dd>" in page
    assert "overall and what else has its unit" in page


def test_a_page_is_made_where_it_is_not_installed(rmbench: Run, out: Path) -> None:
    rmbench("view", "out", "--all", "--no-browser", installed=False)
    assert '<th scope="col">overall %</th>' in (out / "report.html").read_text()


def test_models_are_compared_value_minus_value_by_the_headline_and_by_any_other(rmbench: Run, out: Path) -> None:
    found = results(out)
    (task,) = json.loads(rmbench("compare", "out", "--json").stdout)["tasks"]
    assert (task["metric"], task["unit"], task["lower_is_better"]) == ("overall", "share of cells", False)
    models = [*json.loads(rmbench("compare", "out", "--json").stdout)["models"]]
    for contrast in task["contrasts"]:
        if contrast["subset"] == "all":
            ours, theirs = (value(found[contrast[side]], "overall") for side in ("model", "baseline"))
            assert contrast["difference"]["value"] == pytest.approx(ours - theirs)
            assert contrast["difference"]["ci_low"] < ours - theirs < contrast["difference"]["ci_high"]
    assert sorted(place["model"] for place in task["ranking"]) == sorted(models)
    assert "not shown, because overall has no number there: domain=chat, domain=code" in task["notes"]
    own = ("compare", "out", "--json", "-t", "python:own_bench:TASK")
    assert json.loads(rmbench(*own).stdout)["tasks"] == [task]
    (task,) = json.loads(rmbench("compare", "out", "--json", "--metric", "hard").stdout)["tasks"]
    assert [contrast["subset"] for contrast in task["contrasts"]] == ["all", "all"]


def test_it_is_put_on_a_board_which_a_fresh_process_checks(rmbench: Run, out: Path) -> None:
    paths = sorted(out.rglob("own_bench.json"))
    rmbench("leaderboard", "add", *paths, "--folder", "board")
    rmbench("leaderboard", "build", "--folder", "board")
    assert rmbench("leaderboard", "check", "--folder", "board").stdout == ""
    board = out.parent / "board"
    table = (board / "own_bench.md").read_text()
    best = max(results(out).values(), key=lambda result: value(result, "overall"))
    first = next(line for line in table.splitlines() if line.startswith("| rmbench"))
    assert f"| {best['subject']['id']} " in first
    assert f"{100 * value(best, 'overall'):.1f} [" in first
    heading = next(line for line in table.splitlines() if line.startswith("| model"))
    assert {"overall %", "hard %", "normal %", "easy %"} <= {cell.strip() for cell in heading.split("|")}
    assert "own_bench" in (board / "summary.md").read_text()
    forged = next((board / "results").rglob("own_bench.json"))
    text = forged.read_text()
    metric = next(m for m in json.loads(text)["metrics"] if m["name"] == "hard")
    forged.write_text(text.replace(json.dumps(metric["value"]), "0.987654321", 1))
    line = rmbench("leaderboard", "check", "--folder", "board", code=1).stderr
    assert "is 0.987654, its records give" in line
    forged.write_text(text)


def test_where_it_is_not_installed_that_is_one_line(rmbench: Run, out: Path) -> None:
    line = rmbench("compare", "out", code=1, installed=False).stderr
    assert "task 'own_bench' is not installed, and only its measure gives its figures" in line
    assert line.count("\n") == 1
    (path,) = out.glob("rmbench__length/*/own_bench.json")
    line = rmbench("leaderboard", "add", path, "--folder", "other", code=1, installed=False).stderr
    assert "task 'own_bench' is not installed" in line
