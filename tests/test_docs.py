"""What the documents show of the program itself is what it does."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest
from optimisation_reports import simulated

from rmbench.optimise import tables

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_the_glossary_is_what_the_measures_say() -> None:
    assert runpy.run_path(str(DOCS / "metrics.py"))["text"]() == (DOCS / "metrics.md").read_text()


def test_every_metric_of_the_boards_is_in_the_glossary() -> None:
    glossary = (DOCS / "metrics.md").read_text()
    results = [json.loads(path.read_text()) for path in (ROOT / "leaderboards" / "results").rglob("*.json")]
    names = {name for result in results for name in result["statistics"]}
    assert len(names) > 30
    assert {name for name in names if f"`{name}`" not in glossary} == set()


def test_every_figure_of_a_report_on_optimisation_is_in_the_glossary() -> None:
    stated = set(re.findall(r"[\w-]+", " ".join(re.findall(r"`([^`]+)`", (DOCS / "metrics.md").read_text()))))
    names = {row["what"].partition(",")[0] for row in tables.rows(simulated())}
    figures = {re.sub(r"^(fit of .*|sign flips|measured|useful range).*", "", name) for name in names}
    assert len(figures) > 15
    assert figures - stated == {""}


def test_the_picture_is_of_this_program_and_fetches_nothing() -> None:
    drawn = runpy.run_path(str(DOCS / "picture.py"))["draw"](("length", "random"), "best_of_n", 12)
    kept = (DOCS / "run.svg").read_text()
    for svg in (drawn, kept):
        assert re.findall(r"url\((?!#)|href=|<script|<image|@font-face", svg) == []
        assert "accuracy&#160;chance&#160;%" in svg
    assert len(kept) < 100_000
    assert not re.search(r"/home|/root|/work|/tmp", kept)
    assert "docs/run.svg" in (ROOT / "README.md").read_text()


@pytest.mark.prove
def test_the_picture_of_readme_is_what_the_demo_prints() -> None:
    assert runpy.run_path(str(DOCS / "picture.py"))["draw"]() == (DOCS / "run.svg").read_text()


def test_the_demo_ends_by_saying_how_to_go_on() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\ndemo: ")[2].partition("\n\n")[0]
    told = re.findall(r"@echo '(.*)'", recipe)
    assert recipe.splitlines()[-1].startswith("\t@echo")
    assert any("activate" in line for line in told)
    commands = {line.split()[1] for line in told if line.split()[0] == "rmbench"}
    assert commands >= {"run", "view", "list"}
    assert commands <= {path.stem for path in (ROOT / "rmbench" / "cli").glob("[a-z]*.py")}


def test_readme_says_how_to_install_and_links_the_glossary() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "`pip install '.[site,peft]'`" in readme
    assert "(docs/metrics.md)" in readme
