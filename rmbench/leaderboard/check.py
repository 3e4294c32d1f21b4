"""`check`: builds the tables again and names every cell in which those of a folder differ."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from rmbench.leaderboard.build import tables
from rmbench.leaderboard.entries import Find
from rmbench.plugins import load_task

_IDENTITY = ("section", "model", "revision", "fingerprint", "view")
_KEPT = {"README.md"}

Cells = Mapping[str, Mapping[str, str]]


def check(results_folder: Path, folder: Path, find: Find = load_task) -> list[str]:
    """One line a difference between the tables in `folder` and what the results give; none where they agree.

    Raises ResultError where the results themselves are wrong.
    """
    due = tables(results_folder, find)
    problems = []
    for name, content in due.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name}: missing")
        elif path.read_bytes() != content.encode():
            problems += differences(name, path.read_text(encoding="utf-8", errors="replace"), content)
    return problems + [f"{name}: no table of these results" for name in extra(folder, due)]


def extra(folder: Path, due: Mapping[str, str]) -> list[str]:
    """Tables in `folder` that the results do not give."""
    there = {path.name for pattern in ("*.md", "*.csv") for path in folder.glob(pattern)}
    return sorted(there - set(due) - _KEPT)


def differences(name: str, text: str, expected: str) -> list[str]:
    """One line a row, column or cell of table `name` that differs; whatever else differs is one line together."""
    read = _csv_cells if name.endswith(".csv") else _markdown_cells
    ours, theirs = read(expected), read(text)
    lines = [f"{name}: row {row!r}: missing" for row in ours if row not in theirs]
    lines += [f"{name}: row {row!r}: not in the results" for row in theirs if row not in ours]
    for row in ours:
        if row in theirs:
            for column in dict.fromkeys([*ours[row], *theirs[row]]):
                there, due = theirs[row].get(column), ours[row].get(column)
                if there != due:
                    lines.append(
                        f"{name}: row {row!r}, column {column!r}: found {_shown(there)}, expected {_shown(due)}"
                    )
    return lines or [f"{name}: differs outside its cells: words, order of rows, spaces or line ends"]


def _shown(cell: str | None) -> str:
    return "no such cell" if cell is None else repr(cell)


def _csv_cells(content: str) -> Cells:
    heading, *rows = [*csv.reader(io.StringIO(content, newline=""))] or [[]]
    return dict(_named("", heading, rows))


def _markdown_cells(content: str) -> Cells:
    """The cells of every pipe table, its rows named with the heading above it."""
    by_row: dict[str, Mapping[str, str]] = {}
    section, heading = "", list[str]()
    for line in content.splitlines():
        if not line.startswith("|"):
            heading = []
            section = line.removeprefix("## ").partition(":")[0] if line.startswith("## ") else section
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not heading:
            heading = cells
        elif not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            by_row.update(_named(section, heading, [cells]))
    return by_row


def _named(section: str, heading: list[str], rows: list[list[str]]) -> Iterator[tuple[str, Mapping[str, str]]]:
    for row in rows:
        cells = dict(zip(heading, row, strict=False))
        yield " ".join(filter(None, [section, *(cells.get(name, "") for name in _IDENTITY)])), cells
