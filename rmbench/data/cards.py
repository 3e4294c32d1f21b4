"""Data set cards: Markdown under a Hugging Face front matter, one per data set that a task brings or reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
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


def read_card(name: str) -> Card:
    """The card of that name. Raises DataError where there is none."""
    import yaml

    if name not in card_names():
        raise DataError(f"no data card {name!r}; there are {', '.join(card_names())}")
    text = resources.files(_PACKAGE).joinpath(f"{name}.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    return Card(name, yaml.safe_load(front), body.strip())
