"""`rmbench list models`: the table of known models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli import main
from rmbench.models import known

OWN = """
[mine]
family = "value_head"
ids = ["me/mine-*"]
architectures = ["MineForReward"]
weights = ["reward_line.weight"]
[not_mine]
family = "classifier"
ids = ["me/pickled-*"]
refused = "its head is pickled"
"""


@pytest.fixture(autouse=True)
def own_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    monkeypatch.setenv("RMBENCH_KNOWN", str(tmp_path / "own.toml"))
    monkeypatch.setenv("COLUMNS", "120")


def test_the_table_of_known_models_stands_behind_the_families(capsys: Any) -> None:
    assert main(["list", "models"]) == 0
    printed = capsys.readouterr().out
    families, _, table = printed.partition("known models")
    assert "classifier" in families
    lines = [line.split() for line in table.splitlines()]
    assert [line for line in lines if line[:1] == ["mine"]] == [
        ["mine", "value_head", "unverified", "me/mine-*,", "MineForReward", "with", "reward_line.weight"]
    ]
    (refused,) = (" ".join(line) for line in lines if line[:1] == ["not_mine"])
    assert refused == "not_mine classifier refused me/pickled-*: its head is pickled"
    assert {line[0] for line in lines if line} >= set(known.entries())


def test_as_json_it_has_what_is_known_and_where_from(capsys: Any) -> None:
    assert main(["list", "models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out) if row["group"] == "known models"}
    assert list(rows) == list(known.entries())
    assert rows["not_mine"]["refused"] == "its head is pickled"
    assert (rows["mine"]["summary"], rows["mine"]["weights"]) == ("unverified", ["reward_line.weight"])
    assert rows["armorm"]["sources"]["gate"].startswith("RLHFlow/RLHF-Reward-Modeling@")


def test_other_lists_are_as_they_were(capsys: Any) -> None:
    assert main(["list", "tasks"]) == 0
    assert "known models" not in capsys.readouterr().out
