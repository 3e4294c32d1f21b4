"""Benchmarks from the hub: each split is read with the facets that it has, as the files of its authors are."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest

from rmbench.tasks import judgebench, llmbar, rm_bench

_SIDES = {side: [f"{side} {style}" for style in rm_bench.STYLES] for side in ("chosen", "rejected")}
_PAIR = {
    "source": "livebench-math",
    "question": "How much?",
    "response_A": "One.",
    "response_B": "Two.",
    "label": "B>A",
}


def on_disk(folder: Path, config: str, splits: dict[str, list[dict[str, Any]]]) -> str:
    """A local folder in the place of a hub set."""
    files = ", ".join(f"{{split: {name}, path: {name}.jsonl}}" for name in splits)
    (folder / "README.md").write_text(f"---\nconfigs:\n- {{config_name: {config}, data_files: [{files}]}}\n---\n")
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder)


@pytest.mark.parametrize(
    ("task", "config", "splits", "facets"),
    [
        (
            rm_bench.TASK,
            "default",
            {"train": [{"id": n, "prompt": f"{name}?", "domain": name} | _SIDES
                       for n, name in enumerate(("chat", "code", "math", "safety-refuse", "safety-response"))]},
            {"domain": {"chat": 1, "code": 1, "math": 1, "safety": 2}},
        ),
        (
            judgebench.TASK,
            "default",
            {"gpt": [{"pair_id": "a"} | _PAIR, {"pair_id": "b"} | _PAIR], "claude": [{"pair_id": "c"} | _PAIR]},
            {"section": {"math": 2}},
        ),
        (
            llmbar.TASK,
            "LLMBar",
            {split: [{"input": split, "output_1": "One.", "output_2": "Two.", "label": 2}] for split in llmbar.SPLITS},
            {"subset": dict.fromkeys(llmbar.SPLITS.values(), 1), "section": {"Natural": 1, "Adversarial": 4}},
        ),
    ],
    ids=["rm_bench", "judgebench", "llmbar"],
)  # fmt: skip
def test_a_hub_set_is_read(
    task: Any, config: str, splits: Any, facets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "hub").mkdir()
    folder = on_disk(tmp_path / "hub", config, splits)
    data = replace(task, sources=tuple(replace(source, id=folder) for source in task.sources)).load()
    for facet, counts in facets.items():
        assert Counter(example.facets[facet] for example in data.examples) == counts
