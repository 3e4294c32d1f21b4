"""What the wheel holds agrees with what is on disk, and the documents with the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from rmbench.data.cards import card_names, read_card
from rmbench.plugins import load_task, task_names

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
REQUIREMENTS = [*PROJECT["project"]["dependencies"], *EXTRAS["dev"], *EXTRAS["bench"]]


def test_every_package_on_disk_is_in_the_wheel() -> None:
    mapped = PROJECT["tool"]["setuptools"]["package-dir"]
    folders = {package: ROOT / folder for package, folder in mapped.items()}
    on_disk = {
        ".".join([package, *path.parent.relative_to(folder).parts])
        for package, folder in folders.items()
        for path in folder.rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == on_disk


def test_every_dependency_has_its_reason() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    for requirement in REQUIREMENTS:
        name = requirement.split(">")[0]
        assert f"| `{name}` |" in contributing, f"CONTRIBUTING.md has no line for {name}"


def test_every_dependency_is_pinned_for_development() -> None:
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    for requirement in REQUIREMENTS:
        assert requirement.split(">")[0].lower() in pinned


def test_every_task_has_a_card_that_says_what_it_is() -> None:
    for name in task_names():
        task = load_task(name)
        card = read_card(task.card)
        assert task.name == name
        assert {"license", "pretty_name"} <= set(card.front), card.name
        assert len(card.body) > 500


@pytest.mark.parametrize("name", sorted(set(card_names()) - {load_task(name).card for name in task_names()}))
def test_a_card_of_a_set_by_others_says_how_rmbench_reads_it(name: str) -> None:
    card = read_card(name)
    assert {"license", "pretty_name", "source"} <= set(card.front)
    assert len(card.body) > 500
    assert card.front["rmbench"]["reads"]


def test_every_target_that_the_documents_name_exists() -> None:
    targets = {line.split(":")[0] for line in (ROOT / "Makefile").read_text().splitlines() if ":" in line}
    for document in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"(?:`|\$ )make (\w+)", (ROOT / document).read_text()))
        assert named, document
        assert named <= targets, document
