"""What programs import."""

from __future__ import annotations

import html
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import rmbench
from rmbench.results import files
from rmbench.runs.loading import load_tasks

HEAVY = ("torch", "transformers", "datasets", "pandas", "scipy", "sklearn")


def test_exported_members_are_locked() -> None:
    assert rmbench.__all__ == [
        "DataError",
        "ModelError",
        "ResultError",
        "Reward",
        "RmbenchError",
        "TaskResult",
        "UsageError",
        "compare_results",
        "diagnose",
        "evaluate",
        "load_model",
        "load_task",
        "objective_mismatch",
        "open_model",
        "overoptimize",
        "reward_distances",
        "score",
        "select_responses",
        "selection_at_n",
        "write_report",
    ]
    for name in rmbench.__all__:
        assert getattr(rmbench, name).__name__ == name
    assert set(rmbench.__all__) <= set(dir(rmbench))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'rmbench' has no attribute 'evalute'"):
        _ = rmbench.evalute


@pytest.mark.parametrize(
    "code",
    [
        "import rmbench",
        "from rmbench.cli import main; main(['--help'])",
        "from rmbench.cli import main; main(['run', '--help'])",
        "from rmbench.cli import main; main(['list', 'models'])",
        "from rmbench.cli import main; main(['list', 'tasks'])",
    ],
)
def test_light_things_load_nothing_heavy(code: str) -> None:
    check = f"{code}; import sys; print('LOADED', *[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED"


def test_threads_may_write_one_result_and_what_dead_processes_left_is_removed(tmp_path: Path) -> None:
    [result] = rmbench.evaluate("length", ["best_of_n"], limit=5, out=tmp_path)
    [path] = tmp_path.rglob("*.json")
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    left = [path.with_name(f".{name}.{done.pid}{thread}.tmp") for name in (path.name, f"{path.stem}.parquet")
            for thread in ("", "-140")]  # fmt: skip
    others = [path.with_name(f".{path.name}.{os.getppid()}-1.tmp"), path.with_name(f".other.json.{done.pid}.tmp")]
    for temporary in (*left, *others):
        temporary.touch()
    with ThreadPoolExecutor(8) as pool:
        assert {*pool.map(lambda _: files.write(result, tmp_path), range(24))} == {path}
    assert files.read(path, tables=True).records.equals(result.records)
    assert {*path.parent.iterdir()} == {path, path.with_suffix(".parquet"), *others}


def both(limit: int = 20) -> list[rmbench.TaskResult]:
    """A result of each of two models."""
    return [rmbench.evaluate(model, ["best_of_n"], limit=limit)[0] for model in ("length", "random")]


def test_a_result_has_a_short_line_a_table_for_notebooks_and_a_frame() -> None:
    result, _ = both()
    measured = result.metric("accuracy")
    assert measured.value is not None
    assert str(result).startswith(f"rmbench/length on best_of_n v2: accuracy {100 * measured.value:.1f} % [")
    assert repr(result) == f"TaskResult({result})"
    assert len(repr(result)) < 200
    frame = result.to_pandas()
    assert len(frame) == len(result.metrics)
    found = frame[(frame["name"] == "accuracy") & (frame["subset"] == "all")]["value"]
    assert found.tolist() == [measured.value]
    table = result._repr_html_()
    assert table.count("<tr>") == 1 + sum(metric.subset == "all" for metric in result.metrics)


def test_a_notebook_shows_no_markup_of_a_name() -> None:
    result, _ = both(5)
    named = result.model_copy(update={"subject": result.subject.model_copy(update={"id": "<img src=x>"})})
    assert "<img" not in named._repr_html_()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"name": "acuracy"}, "unknown metric 'acuracy' .did you mean 'accuracy'"),
        ({"name": "mrr", "view": "defualt"}, "unknown view 'defualt' .did you mean 'default'"),
        ({"name": "mrr", "subset": "al"}, "unknown subset 'al' .did you mean 'all'"),
    ],
)
def test_what_a_result_has_not_lists_the_close_ones(asked: dict[str, str], told: str) -> None:
    result, _ = both(5)
    with pytest.raises(KeyError, match=told):
        result.metric(**asked)


def test_an_unknown_metric_of_a_comparison_lists_the_close_ones() -> None:
    with pytest.raises(rmbench.UsageError, match="'acuracy' .did you mean 'accuracy'"):
        rmbench.compare_results(*both(5), metric="acuracy")


def test_results_in_memory_and_in_files_are_compared_alike(tmp_path: Path) -> None:
    results = both()
    paths = [files.write(result, tmp_path) for result in results]
    told = [
        rmbench.compare_results(*given).tasks
        for given in (results, paths, map(str, paths), [results[0], paths[1]], [tmp_path])
    ]
    assert told[0][0].contrasts[0].n == 20
    assert all(tasks == told[0] for tasks in told)
    grouped = rmbench.compare_results(results[0], groups={"drawn": [results[1]]})
    assert [*grouped.models] == ["rmbench/length", "drawn"]
    with pytest.raises(rmbench.UsageError, match="expected a result, its file or a folder of results, got 3"):
        rmbench.compare_results(results[0], 3)  # type: ignore[arg-type]
    with pytest.raises(rmbench.ResultError, match="read without its records"):
        rmbench.compare_results(results[0], files.read(paths[1]))


def test_programs_select_and_write_reports_too(tmp_path: Path) -> None:
    results = both()
    [selection] = rmbench.selection_at_n(*results)
    assert selection.models == ["rmbench/length", "rmbench/random"]
    (tmp_path / "rows.jsonl").write_text('{"prompt": "q", "responses": ["a", "bbb", "cc"]}\n')
    selected = rmbench.select_responses(tmp_path / "rows.jsonl", "length", 2)
    assert list(selected.columns["response"]) == ["bbb", "cc"]
    page = rmbench.write_report(results, tmp_path / "page.html").read_text(encoding="utf-8")
    [loaded] = load_tasks(["best_of_n"], limit=20)
    assert any(html.escape(example.prompt[0].text) in page for example in loaded.data.examples)
