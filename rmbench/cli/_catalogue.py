"""Tasks as `rmbench list tasks` shows them: with what their cards say, their suites, and where their rows are."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rmbench.data.cards import Card, read_card
from rmbench.data.hub import is_cached
from rmbench.errors import RmbenchError
from rmbench.plugins import SUITES, Listed, load_task, module_of, names
from rmbench.plugins import load as load_plugin

if TYPE_CHECKING:
    from rmbench.kinds.base import Task

_NOTHING = "-"


@dataclass(frozen=True)
class Described:
    """A task by its name. `size` is how many examples it has, or between which numbers, as its card says.

    `data` says where the rows are: `bundled`, `cached` (a hub set that was read here before), `on the hub`, or in a
    file that has to be given. `unverified` says what of the set is known from others alone. What is not known is None.
    """

    size: str | None
    kind: str | None
    suites: tuple[str, ...]
    licence: str | None
    data: str | None
    hub: tuple[str, ...]
    unverified: str | None


def described(listed: Sequence[Listed]) -> dict[str, Described]:
    """What there is to say of each task that can be loaded."""
    suites = _suites()
    return {one.name: _described(one.name, suites) for one in listed if one.error is None}


def facts(listed: Sequence[Listed]) -> dict[str, dict[str, Any]]:
    """What `--json` has of each task besides its summary; null where it cannot be loaded."""
    description = described(listed)
    nothing = Described(None, None, (), None, None, (), None)
    return {one.name: asdict(description.get(one.name, nothing)) for one in listed}


def lines(listed: Sequence[Listed], width: int) -> Iterable[tuple[str, str]]:
    """A line of facts on each task under a heading, and what it is in a paragraph below it, no word of either cut."""
    description = described(listed)
    table = [["tasks", "size", "kind", "data", "licence"]]
    table += [[one.name, *_cells(description.get(one.name))] for one in listed]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    heading, *stated = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
    yield heading, ""
    for one, line in zip(listed, stated, strict=True):
        yield line, textwrap.fill(
            _told(one, description.get(one.name)), max(width, 20), initial_indent="  ", subsequent_indent="  ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip


def _cells(task: Described | None) -> list[str]:
    cells = [None] * 4 if task is None else [task.size, task.kind, task.data, task.licence]
    return [cell or _NOTHING for cell in cells]


def _told(one: Listed, task: Described | None) -> str:
    if task is None:
        return f"cannot be loaded: {one.error}"
    suites = f" [suite{'s' if len(task.suites) > 1 else ''} {', '.join(task.suites)}]" if task.suites else ""
    unverified = " [unverified]" if task.unverified and "unverified" not in str(one.summary) else ""
    return f"{one.summary}{unverified}{suites}"


def _described(name: str, suites: dict[str, list[str]]) -> Described:
    task = load_task(name)
    card = _card(task, name)
    front = {} if card is None else card.front
    own = front.get("rmbench") or {}
    unverified = own.get("unverified")
    return Described(
        _size(front, own),
        getattr(task, "kind", None),
        tuple(suites.get(name, ())),
        None if front.get("license") is None else str(front["license"]),
        _data(task),
        tuple(dict.fromkeys(hub.id for hub in getattr(task, "sources", ()))),
        None if not unverified else str(unverified),
    )


def _card(task: Task, name: str) -> Card | None:
    try:
        return read_card(task.card, module_of(name))
    except (RmbenchError, OSError):
        return None


def _size(front: Any, own: Any) -> str | None:
    """As many examples as are bundled, else the size category of the card, `1K<n<10K`, as `1K-10K`."""
    examples = (own.get("bundled") or {}).get("examples")
    if examples is not None:
        return f"{examples:,}"
    category = next(iter(front.get("size_categories") or ()), None)
    return None if category is None else str(category).replace("<n<", "-").replace("n<", "< ").replace("n>", "> ")


def _data(task: Task) -> str:
    sources = getattr(task, "sources", ())
    if getattr(task, "bundled", None) is not None:
        return "bundled"
    if not sources:
        return "needs --data"
    return "cached" if all(map(is_cached, sources)) else "on the hub"


def _suites() -> dict[str, list[str]]:
    """The names of the suites that each task is in."""
    suites: dict[str, list[str]] = {}
    for name in names(SUITES):
        try:
            tasks = load_plugin(SUITES, name).tasks
        except Exception:  # noqa: S112 - `rmbench list suites` tells what is wrong with it
            continue
        for task in tasks:
            suites.setdefault(task, []).append(name)
    return suites
