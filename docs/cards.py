"""Writes into the cards of `data_cards` what a command counts and finds: `python docs/cards.py [CARD...]`.

Those are the figures of `bundled` and `reads` in the front matter, and the block of `rmbench audit --card`. What a card
reads lies in the folder RMBENCH_DATA; without it the bundled sets alone are written.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rmbench.audit.card import BEGIN, END, Audited, audited, block, entry
from rmbench.audit.examples import audit_across
from rmbench.audit.findings import Finding
from rmbench.audit.near import near_duplicates
from rmbench.data.cards import card_names, read_card
from rmbench.data.dataset import Dataset
from rmbench.plugins import load_task
from rmbench.runs.loading import load_tasks

CARDS = Path(__file__).parents[1] / "data_cards"
ACROSS = "- across "


def stated(card: str) -> list[dict[str, Any]]:
    """The sets that a card counts: its bundled one, and those that it says how to read."""
    about = read_card(card).front["rmbench"]
    bundled = [{"task": about["task"], "data": None, **about["bundled"]}] if "bundled" in about else []
    return [*bundled, *about.get("reads", [])]


def loaded(one: Mapping[str, Any], folder: Path | None) -> Dataset:
    """The examples of such a set."""
    task = str(one["task"])
    if one["data"] is None:
        return load_task(task).load()
    if folder is None:
        raise SystemExit(f"{one['data']} is read from the folder RMBENCH_DATA, which is not set")
    ((data),) = load_tasks([task], data={task: folder / one["data"]})
    return data.data


def text(card: str, folder: Path | None, across: Sequence[Finding] = ()) -> str:
    """The whole text of a card with the figures of its sets as they are."""
    sets, before = stated(card), (CARDS / f"{card}.md").read_text()
    audits = [audited(load_task(one["task"]), loaded(one, folder), one["data"]) for one in sets]
    _, front, body = before.split("---\n", 2)
    front = re.sub(r"^  bundled: .*\n|^  reads:\n(?:    .*\n)+", lambda _: _front(sets, audits), front, flags=re.M)
    head, _, rest = body.partition(BEGIN)
    parts = [head.rstrip(), block(audits, across), rest.partition(END)[2].strip()]
    return f"---\n{front}---\n" + "\n\n".join(part for part in parts if part) + "\n"


def _front(sets: Sequence[Mapping[str, Any]], audits: Sequence[Audited]) -> str:
    """The figures that a card names, each as it is counted."""
    rows = []
    for one, each in zip(sets, audits, strict=True):
        line = entry({name: each.figures[name] for name in one if one["data"] or name not in ("task", "data")})
        rows.append(f"    - {line}\n" if one["data"] else f"  bundled: {line}\n")
    return ("  reads:\n" if sets[0]["data"] else "") + "".join(rows)


def shared(cards: Sequence[str], folder: Path | None) -> dict[str, list[Finding]]:
    """What the sets of each card share with those of others."""
    sets = {
        (card if len(stated(card)) == 1 else f"{card} ({one['data']})"): (card, loaded(one, folder))
        for card in cards
        for one in stated(card)
    }
    data = {name: examples for name, (_, examples) in sets.items()}
    findings: dict[str, list[Finding]] = {card: [] for card in cards}
    for finding in [*audit_across(data), *near_duplicates(data)]:
        names = finding.where.split(" and ")
        for card in dict.fromkeys(sets[name][0] for name in names if len(names) == 2):
            findings[card].append(finding)
    return findings


def main(given: Sequence[str]) -> None:
    """Writes the cards given, or all."""
    place = os.environ.get("RMBENCH_DATA")
    folder = Path(place) if place else None
    able = [name for name in card_names() if stated(name) and (folder or stated(name)[0]["data"] is None)]
    across = shared(able, folder)
    for card in given or able:
        (CARDS / f"{card}.md").write_text(text(card, folder, across.get(card, ())))


if __name__ == "__main__":
    main(sys.argv[1:])
