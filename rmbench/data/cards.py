"""Data set cards: Markdown under a Hugging Face front matter, one per data set that a task brings or reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module, resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from rmbench.errors import DataError

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
