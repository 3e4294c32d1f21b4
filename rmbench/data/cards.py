"""Data set cards: Markdown under a Hugging Face front matter, one per data set that a task brings or reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from rmbench.data.dataset import Dataset
from rmbench.errors import DataError
from rmbench.types import Example

_PACKAGE = "rmbench.data_cards"


@dataclass(frozen=True, slots=True)
class Card:
    """`front` is the YAML front matter, `body` the Markdown under it."""

    name: str
    front: Mapping[str, Any]
    body: str


def card_names() -> list[str]:
    """The names of all cards, sorted."""
    files = resources.files(_PACKAGE).iterdir()
    return sorted(file.name.removesuffix(".md") for file in files if file.name.endswith(".md"))


def read_card(card: str, module: str | None = None) -> Card:
    """A card by its name, or from its text where a task brings that instead.

    `module` is where the task is declared: a card of that name in a folder `data_cards` beside it, or beside a package
    that it is in, comes before those of rmbench. Raises DataError where there is none.
    """
    import yaml

    text = card if "\n" in card else _text(card, module)
    try:
        _, front, body = text.split("---\n", 2)
        table = yaml.safe_load(front)
    except (ValueError, yaml.YAMLError) as error:
        raise DataError(
            f"data card {card[:40]!r}: expected YAML between two lines of ---, then Markdown: {error}"
        ) from None
    return Card(card if text is not card else str(table.get("pretty_name", "")), table, body.strip())


def counts(data: Dataset) -> dict[str, Any]:
    """All that a card may state of a set: its size, what was left out of it, and of each facet the values.

    `longer_wins` is the share of decided pairs whose better response is the longer; `clusters` are independent.
    """
    examples = data.examples
    candidates = [one for example in examples for one in example.candidates]
    steps = [label for one in candidates for label in one.step_labels or ()]
    counted: dict[str, Any] = {
        "examples": len(examples),
        "candidates": len(candidates),
        "clusters": len({example.cluster for example in examples}),
    }
    if steps:
        counted |= {"steps": len(steps), "wrong_steps": steps.count(-1)}
    if (longer := _longer_wins(examples)) is not None:
        counted["longer_wins"] = longer
    counted["excluded"] = dict(data.excluded)
    counted["noted"] = {what: count for what, count in data.noted.items() if what not in data.of_rows}
    for facet in sorted({name for example in examples for name in example.facets}):
        counted[facet] = dict(Counter(example.facets[facet] for example in examples if facet in example.facets))
    return counted


def _longer_wins(examples: Sequence[Example]) -> float | None:
    """Of equal lengths neither is the longer; None where an example is no pair of texts, or no pair is decided."""
    wins = []
    for example in examples:
        pair = [(len(one.text or ""), one.number) for one in example.candidates]
        if len(pair) != 2 or any(one.text is None for one in example.candidates):
            return None
        (length, label), (other, against) = pair
        if label is not None and against is not None and label != against:
            wins.append(length > other if label > against else other > length)
    return round(sum(wins) / len(wins), 2) if wins else None


def _text(name: str, module: str | None) -> str:
    for folder in (*_beside(module), resources.files(_PACKAGE)):
        file = folder.joinpath(f"{name}.md")
        if file.is_file():
            return file.read_text(encoding="utf-8")
    beside = f" in data_cards/ beside {module}; rmbench has" if module else "; there are"
    raise DataError(f"no data card {name!r}{beside} {', '.join(card_names())}")


def _beside(module: str | None) -> list[Traversable]:
    """The folders `data_cards` beside a module and beside the packages that it is in, the nearest first."""
    folders: list[Traversable] = []
    while module:
        file = getattr(import_module(module), "__file__", None)
        if file:
            folders.append(Path(file).parent / "data_cards")
        module = module.rpartition(".")[0]
    return folders
