"""Hub sets, with a local folder in the place of the hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import datasets
import huggingface_hub
import pytest

from rmbench.data import hub
from rmbench.data.hub import HubSet
from rmbench.errors import DataError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets")))


def folder(parent: Path, **splits: list[object]) -> str:
    for split, rows in splits.items():
        (parent / f"{split}.jsonl").write_text("\n".join(json.dumps({"problem": row}) for row in rows))
    return str(parent)


def test_rows_of_the_only_split_with_the_hash_of_their_contents(tmp_path: Path) -> None:
    loaded = HubSet(folder(tmp_path, train=["one", "two"])).load("rewardmath")
    rows = list(loaded.rows)
    assert [row.value for row in rows] == [{"problem": "one"}, {"problem": "two"}]
    assert (rows[1].file, rows[1].number, loaded.source.revision) == (tmp_path.name, 2, "local")
    (tmp_path / "more").mkdir()
    other = HubSet(folder(tmp_path / "more", train=["one", "three"])).load("rewardmath")
    assert other.source.sha256 != loaded.source.sha256
    assert (loaded.source.rows, other.source.id) == (2, "more")


def test_a_named_split(tmp_path: Path) -> None:
    path = folder(tmp_path, train=["one"], test=["two"])
    assert [row.value for row in HubSet(path, split="test").load("rewardmath").rows] == [{"problem": "two"}]
    with pytest.raises(DataError, match="has the splits train, test; the task names none of them"):
        HubSet(path).load("rewardmath")


def test_the_newest_commit_is_asked_for_once_and_a_stated_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def dataset_info(self: object, name: str, *, revision: str | None, timeout: float) -> SimpleNamespace:
        asked.append((name, revision))
        return SimpleNamespace(sha=revision or f"{len(asked)}" * 40)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    newest = [hub.commit_of("org/asked-once", None) for _ in range(3)]
    assert newest == ["1" * 40] * 3
    assert hub.commit_of("org/asked-once", "b" * 40) == "b" * 40
    assert asked == [("org/asked-once", None), ("org/asked-once", "b" * 40)]


def test_without_the_hub_one_line_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r"hub set no/where cannot be loaded .*give --data rewardmath=FILE") as error:
        HubSet("no/where").load("rewardmath")
    assert len(str(error.value).splitlines()) == 1


def test_a_hub_that_cannot_be_reached_is_one_line_within_seconds(tmp_path: Path) -> None:
    nobody_listens = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "rmbench", "run", "-m", "length", "-t", "rewardmath", "--out", str(tmp_path / "out")],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **nobody_listens},
    )
    assert time.monotonic() - started < 30
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "hub set RewardMATH/RewardMATH cannot be loaded" in line
    assert "give --data rewardmath=FILE" in line
