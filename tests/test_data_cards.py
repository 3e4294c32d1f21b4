"""What a card counts is in its rows, and what an audit of them finds is what the card says."""

from __future__ import annotations

import os
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml
from given import example, given, pair

from rmbench.audit import card as audit_card
from rmbench.audit.findings import Finding
from rmbench.cli import main
from rmbench.data.cards import card_names, counts, read_card
from rmbench.kinds.comparison import Comparison
from rmbench.kinds.steps import Steps
from rmbench.plugins import load_task
from rmbench.types import Candidate, Response

ROOT = Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(ROOT / "docs" / "cards.py"))
BUNDLED = [name for name in card_names() if "bundled" in read_card(name).front["rmbench"]]
GIVEN = [name for name in card_names() if read_card(name).front["rmbench"].get("reads")]
SOON = ["evalbiasbench", "llmbar", "mr_math"]  # given sets that are audited in no time
DATA = os.environ.get("RMBENCH_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="needs RMBENCH_DATA")


@needs_data
@pytest.mark.parametrize("name", GIVEN)
def test_a_card_counts_what_is_in_the_files(name: str) -> None:
    for stated in read_card(name).front["rmbench"]["reads"]:
        counted = counts(load_task(stated["task"]).load(Path(DATA or "") / stated["data"]))
        figures = {what: figure for what, figure in stated.items() if what not in ("task", "data")}
        assert {"examples", "candidates"} <= set(figures)
        assert {what: counted[what] for what in figures} == figures


def without_others(text: str) -> list[str]:
    """The lines of a card but for those on what its sets share with those of other cards."""
    lines = text.splitlines()
    return [line for line in lines if line.strip() and not line.startswith(SCRIPT["ACROSS"])]


@pytest.mark.parametrize("name", [*BUNDLED, *(pytest.param(name, marks=needs_data) for name in SOON)])
def test_the_audit_on_a_card_is_what_the_command_finds(name: str) -> None:
    written = SCRIPT["text"](name, Path(DATA) if DATA else None)
    assert without_others(written) == without_others((ROOT / "data_cards" / f"{name}.md").read_text())


@pytest.mark.prove
@needs_data
def test_the_audit_on_every_card_with_what_sets_share() -> None:
    across = SCRIPT["shared"]([*BUNDLED, *GIVEN], Path(DATA or ""))
    for name in [*BUNDLED, *GIVEN]:
        written = SCRIPT["text"](name, Path(DATA or ""), across[name])
        assert written == (ROOT / "data_cards" / f"{name}.md").read_text(), f"python docs/cards.py writes {name}"


def test_what_is_counted_of_a_set() -> None:
    pairs = [
        pair("a", "longer", "short", facets={"subset": "x"}, prompt="p"),
        pair("b", "short", "longer", facets={"subset": "y"}, prompt="p"),
        pair("c", "even", "EVEN", facets={"subset": "x"}),
        example("d", Candidate("undecided", 0.5), Candidate("no", 0.5)),
        example("e", Candidate("", False), Candidate("right", True)),
    ]
    assert counts(given(Comparison, pairs).load()) == {
        "examples": 5, "candidates": 10, "clusters": 4, "longer_wins": 0.5, "excluded": {},
        "noted": {"empty responses": 1}, "subset": {"x": 2, "y": 1},
    }  # fmt: skip
    steps = [example("a", Candidate(Response("x y", ["x", "y"]), step_labels=(1, -1)))]
    counted = counts(given(Steps, steps).load())
    assert (counted["steps"], counted["wrong_steps"]) == (2, 1)
    assert "longer_wins" not in counted
    assert "longer_wins" not in counts(given(Comparison, [example("a", *[Candidate("x", True)] * 3)]).load())


def test_an_entry_is_yaml_without_what_is_empty_or_has_too_many_values() -> None:
    facets: dict[str, Any] = {"few": dict.fromkeys("abc", 7), "many": dict.fromkeys(map(str, range(41)), 1)}
    counted = {"task": "t", "data": "a folder/f: x.json", "examples": 3, "excluded": {}, **facets}
    front = f"rmbench:\n  reads:\n    - {audit_card.entry(counted)}\n"
    expected = {"task": "t", "data": "a folder/f: x.json", "examples": 3, "few": facets["few"]}
    assert yaml.safe_load(front)["rmbench"]["reads"] == [expected]


def test_a_block_has_findings_and_what_was_looked_for_in_vain() -> None:
    facets = [{"kind": f"k{i}", "subset": "xy"[i % 2]} for i in range(41)]
    task = given(Comparison, [pair(f"e{i}", f"right {i}", "no", facets=one) for i, one in enumerate(facets)])
    text = audit_card.block([audit_card.audited(task, task.load())], [Finding("shared", "a and b", "2 prompts")])
    assert text.startswith(audit_card.BEGIN)
    assert text.endswith(audit_card.END)
    for line in (
        "`rmbench audit given --card`: 41 examples, 82 candidates, 41 clusters; headline `accuracy`.",
        "- none: duplicates, near duplicates, opposite labels, equal candidates, empty, cut",
        "| all | 41 | 1.000* | 0.000 | 1.000 | 0.246 | 0.142 |",
        "| 41 of the facet kind: `--json` |  |  |  |  |  |  |",
        "- across a and b: 2 prompts",
    ):
        assert line in text.splitlines()
    assert "kind=k1" not in text
    scores = given(Comparison, [example("a", Candidate(Response(None), True), Candidate(Response(None), False))])
    assert "- none" not in audit_card.block([audit_card.audited(scores, scores.load())])


def test_the_command_prints_what_a_card_states(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "p", "chosen": "longer", "rejected": "no"}\n')
    assert main(["audit", "preference", "--data", f"mine=preference:{rows}", "--card"]) == 0
    entry, block = capsys.readouterr().out.split("\n\n", 1)
    (stated,) = yaml.safe_load(entry)
    assert stated == {
        "task": "preference", "data": str(rows), "examples": 1, "candidates": 2, "clusters": 1, "longer_wins": 1.0
    }  # fmt: skip
    assert f"`rmbench audit preference --data preference={rows} --card`: 1 example, 2 candidates, 1 cluster;" in block


SAID = {
    "size": r"\d",
    "licence": r"licen[cs]e|apache|\bMIT\b|BSD|CC BY|ODC",
    "source and revision": r"@[0-9a-f]{7}",
    "fields": r"\bfields\b|`question`",
    "labels": r"\blabel",
    "known errors": r"known errors",
    "contamination": r"contamination",
    "annotators' ceiling": r"ceiling",
    "use": r"how rmbench uses|how it is read",
    "what a score does not say": r"score does not say",
    "citation": r"arXiv|citation",
}


@pytest.mark.parametrize("name", sorted(name for name in card_names() if "source" in read_card(name).front))
def test_a_card_of_a_benchmark_says_all_that_a_reader_has_to_know(name: str) -> None:
    body = read_card(name).body.partition(audit_card.BEGIN)[0]
    assert [what for what, words in SAID.items() if not re.search(words, body, re.I)] == []
