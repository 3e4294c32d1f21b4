"""`rmbench list tasks`: size, kind, suites, licence, and where the rows are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from rmbench.cli import main
from rmbench.data.cards import read_card
from rmbench.data.hub import HubSet, is_cached
from rmbench.plugins import load_suite, load_task, task_names


def rows(capsys: Any) -> dict[str, dict[str, Any]]:
    assert main(["list", "tasks", "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


def test_every_task_has_what_its_card_and_the_suites_say(capsys: Any) -> None:
    listed = rows(capsys)
    assert list(listed) == task_names()
    for name, row in listed.items():
        task: Any = load_task(name)
        card = read_card(task.card, f"rmbench.tasks.{name}").front
        assert (row["group"], row["kind"], row["licence"]) == ("tasks", task.kind, card["license"])
        assert row["hub"] == list(dict.fromkeys(hub.id for hub in task.sources))
        assert (row["data"] == "bundled") == (task.bundled is not None)
        assert (row["data"] == "needs --data") == (task.bundled is None and not task.sources)
    assert listed["best_of_n"]["size"] == "108"
    assert listed["rm_bench"]["size"] == "1K-10K"
    assert listed["judgebench"]["size"] == "< 1K"
    assert all(("core" in row["suites"]) == (name in load_suite("core").tasks) for name, row in listed.items())
    assert [name for name, row in listed.items() if row["unverified"]] != []


@pytest.mark.parametrize("width", [80, 100])
def test_no_word_is_broken_and_facts_stand_below_one_another(
    width: int, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = rows(capsys)
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["list", "tasks"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    starts = [heading.index(word) for word in ("tasks", "size", "kind", "data", "licence")]
    facts = {line.split()[0]: line for line in lines if not line.startswith("  ")}
    assert list(facts) == list(listed)
    for name, line in facts.items():
        cells = [line[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]
        row = listed[name]
        assert cells == [name, row["size"] or "-", row["kind"], row["data"], row["licence"]]
    words = " ".join(lines).split()
    for row in listed.values():
        assert set(str(row["summary"]).split()) <= set(words)
    assert "[suites math, process]" in " ".join(words)


def test_a_hub_set_that_was_read_here_is_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    assert not is_cached(HubSet("org/set"))
    prepared = tmp_path / "org___set" / "easy" / "0.0.0" / "abc"
    prepared.mkdir(parents=True)
    assert not is_cached(HubSet("org/set"))
    (prepared / "dataset_info.json").write_text("{}")
    assert is_cached(HubSet("org/set"))
    assert is_cached(HubSet("org/set", config="easy"))
    assert not is_cached(HubSet("org/set", config="hard"))
    assert is_cached(HubSet(str(tmp_path)))
