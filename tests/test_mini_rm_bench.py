"""A benchmark of one module: nine cells, a macro over domains that nests, and two configs of a hub set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import mini_rm_bench
import numpy as np
import pytest
from mini_rm_bench import CELLS, DOMAINS, TASK

import rmbench

Rows = dict[str, list[dict[str, Any]]]


def rows(rng: np.random.Generator, counts: tuple[int, int] = (12, 20)) -> Rows:
    """Answers of random lengths, the same ids in both domains."""
    return {
        domain: [
            {"id": i, "prompt": f"{domain} {i}?"}
            | {side: ["a" * int(rng.integers(1, 9)) for _ in range(3)] for side in ("chosen", "rejected")}
            for i in range(count)
        ]
        for domain, count in zip(DOMAINS, counts, strict=True)
    }


def on_disk(folder: Path, data: Rows) -> str:
    """A local folder in the place of the hub set, with a config a domain."""
    configs = "\n".join(f"- {{config_name: {name}, data_files: {name}.jsonl}}" for name in data)
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}\n---\n")
    for name, of_domain in data.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, of_domain)))
    return str(folder)


def by_definition(data: Rows) -> dict[str, float]:
    """RM-Bench's figures of a model that rewards length: cell by cell, prompt by prompt, domain by domain."""
    found: dict[str, list[float]] = {name: [] for name in CELLS}
    for of_domain in data.values():
        matrices = []
        for row in of_domain:
            right, wrong = ([len(text) for text in row[side]] for side in ("chosen", "rejected"))
            matrices.append([[float(a > b) for b in wrong] for a in right])
        cells = np.mean(matrices, axis=0)
        for name, of_name in {
            "hard": [cells[0][1], cells[0][2], cells[1][2]],
            "normal": [cells[0][0], cells[1][1], cells[2][2]],
            "easy": [cells[1][0], cells[2][0], cells[2][1]],
            "all_styles": cells,
        }.items():
            found[name].append(float(np.mean(of_name)))
    means = {name: float(np.mean(each)) for name, each in found.items()}
    return means | {"overall": float(np.mean([means[name] for name in ("hard", "normal", "easy")]))}


def test_the_module_is_short() -> None:
    assert len(Path(mini_rm_bench.__file__).read_text().splitlines()) < 80


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "hub").mkdir()
    data = rows(np.random.default_rng(0))
    folder = on_disk(tmp_path / "hub", data)
    task = replace(TASK, sources=tuple(replace(source, id=folder) for source in TASK.sources))
    (result,) = rmbench.evaluate("length", [task], out=tmp_path / "results")
    whole = {metric.name: metric for metric in result.metrics if metric.subset == "all"}
    assert {name: metric.value for name, metric in whole.items()} == pytest.approx(by_definition(data))
    assert all(metric.ci_low < metric.value < metric.ci_high for metric in whole.values())
    assert (whole["overall"].n, result.dataset.examples) == (32, 32)
    assert list(tmp_path.glob("results/*/*/mini_rm_bench*.json"))


def test_of_one_domain_there_is_no_mean_of_both(tmp_path: Path) -> None:
    data = rows(np.random.default_rng(1))
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, data["chat"])))
    (result,) = rmbench.evaluate("length", [TASK], data={"mini_rm_bench": tmp_path / "chat.jsonl"})
    assert {metric.value for metric in result.metrics} == {None}
    assert result.problems == ["the headline overall has no value; the facets of the data are none"]


def test_a_headline_that_is_no_figure_is_told(tmp_path: Path) -> None:
    data = rows(np.random.default_rng(1))
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, data["chat"])))
    task = replace(TASK, measure=replace(TASK.measure, headline="overal"))
    (result,) = rmbench.evaluate("length", [task], data={"mini_rm_bench": tmp_path / "chat.jsonl"})
    assert result.problems == ["the headline 'overal' is no figure of default (did you mean 'overall' or 'normal'?)"]


def test_rm_bench_as_it_is(rmbench_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    files = {name: rmbench_data / "rm_bench" / f"{name}_filtered.json" for name in DOMAINS}
    fields = ("id", "prompt", "chosen", "rejected")
    data = {
        name: [{field: row[field] for field in fields} for row in json.loads(path.read_text())]
        for name, path in files.items()
    }
    (tmp_path / "hub").mkdir()
    folder = on_disk(tmp_path / "hub", data)
    task = replace(TASK, sources=tuple(replace(source, id=folder) for source in TASK.sources))
    (result,) = rmbench.evaluate("length", [task])
    whole = {metric.name: metric.value for metric in result.metrics if metric.subset == "all"}
    assert whole == pytest.approx(by_definition(data))
    assert result.dataset.examples == 129 + 228
    assert whole["hard"] < 0.2 < 0.7 < whole["easy"]


def test_without_an_answer_no_part_of_the_data_is_to_blame(tmp_path: Path) -> None:
    (result,) = rmbench.evaluate(lambda prompt, response: None, ["best_of_n"], limit=5)
    assert result.problems[-1] == "the headline accuracy has no value, as no example counts"
