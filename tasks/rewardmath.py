"""RewardMATH: one right and nine wrong solutions to each of 483 MATH-500 problems (Kim et al., arXiv 2410.01729)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from rmbench.data.conversation import facets
from rmbench.data.dataset import LeftOut
from rmbench.data.files import Row, shown
from rmbench.data.hub import HubSet
from rmbench.data.scorefile import example_id, is_official, read_official
from rmbench.kinds.comparison import Comparison
from rmbench.types import Candidate, Example, Message, Response

_CANDIDATES = 10
_EXPECTED = (
    "RewardMATH has rows with `problem`, `eval_solution` and `solution_type` (direct), with `eval_solution_A`, "
    "`eval_solution_B` and `chosen_position` (pairwise), or with `score` (an official score file)"
)


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """Examples with the right solution at index 0 and the others in the order of the file, as in official score files.

    Direct and pairwise rows are joined by problem, wherever they stand; a problem that comes again after all its
    rows are there is an example of its own. Groups that are not one right and nine wrong solutions are left out.
    """
    groups: dict[str, list[Row]] = {}
    seen: Counter[str] = Counter()
    for row in rows:
        row.need(("problem",), _EXPECTED)
        if is_official(row):
            yield _scored(row, seen)
        else:
            row.need(("eval_solution", "eval_solution_A"), _EXPECTED)
            groups.setdefault(row.text("problem"), []).append(row)
    for problem, group in groups.items():
        pairwise = "eval_solution" not in group[0].value
        size = _CANDIDATES - 1 if pairwise else _CANDIDATES
        for start in range(0, len(group), size):
            part, name = group[start : start + size], example_id(problem, seen)
            if len(part) < size:
                yield LeftOut("fewer than ten solutions")
            else:
                yield _paired(name, part) if pairwise else _direct(name, part)


def _scored(row: Row, seen: Counter[str]) -> Example | LeftOut:
    """A row of an official score file: ten candidates without text."""
    official = read_official(row, seen)
    sources, positions = official.sources, official.positions
    if positions is not None:
        sources, positions = ("", *sources), ("", *positions)
    if len(sources) != _CANDIDATES:
        return LeftOut("fewer than ten solutions" if len(sources) < _CANDIDATES else "more than ten solutions")
    tags = [_tags(source=source, chosen_position=positions and positions[i]) for i, source in enumerate(sources)]
    candidates = tuple(Candidate(Response(None), index == 0, tags=some) for index, some in enumerate(tags))
    return Example(official.example_id, (Message("user", row.text("problem")),), candidates)


def _direct(name: str, group: list[Row]) -> Example | LeftOut:
    chosen = [_is_chosen(row) for row in group]
    if sum(chosen) != 1:
        return LeftOut("not exactly one right solution")
    # sorting is stable: the right one moves to the front, the others stay in order
    ordered = sorted(group, key=lambda row: not _is_chosen(row))
    candidates = tuple(_candidate(row, "eval_solution", right=_is_chosen(row)) for row in ordered)
    return _example(name, group[0], candidates, reference=group[0].name(("answer",)))


def _paired(name: str, group: list[Row]) -> Example | LeftOut:
    sides = {"A": "eval_solution_A", "B": "eval_solution_B"}
    other = {"A": "B", "B": "A"}
    for row in group:
        if row.value.get("chosen_position") not in sides:
            raise row.error(f"expected 'A' or 'B', got {shown(row.value.get('chosen_position'))}", "chosen_position")
    positions = [str(row.value["chosen_position"]) for row in group]
    right = [_candidate(row, sides[at], right=True) for row, at in zip(group, positions, strict=True)]
    wrong = [_candidate(row, sides[other[at]], position=at) for row, at in zip(group, positions, strict=True)]
    if len({candidate.steps for candidate in right}) != 1:
        return LeftOut("not exactly one right solution")
    # the pairwise file's `answer` repeats the problem, so it is no reference
    return _example(name, group[0], (right[0], *wrong), reference=None)


def _example(name: str, row: Row, candidates: tuple[Candidate, ...], *, reference: str | None) -> Example:
    prompt = (Message("user", row.text("problem")),)
    return Example(name, prompt, candidates, facets=facets(row, ("subject",)), reference=reference)


def _is_chosen(row: Row) -> bool:
    kind = row.value.get("solution_type")
    if kind not in ("chosen", "rejected"):
        raise row.error(f"expected 'chosen' or 'rejected', got {shown(kind)}", "solution_type")
    return bool(kind == "chosen")


def _candidate(row: Row, field: str, *, right: bool = False, position: str | None = None) -> Candidate:
    steps = row.value.get(field)
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise row.error(f"expected a list of steps, each a text, got {shown(steps)}", field)
    # the official files name the source of the other solution of a pair only
    source = None if right and "solution_type" not in row.value else row.value.get("solution_reference")
    tags = _tags(source=source, level=row.value.get("level"), chosen_position=position)
    # joined as RewardMATH's own classifier evaluation does
    return Candidate(Response("\n".join(steps), tuple(steps)), right, tags=tags)


def _tags(**tags: Any) -> dict[str, Any]:
    return {name: tag for name, tag in tags.items() if tag not in (None, "")}


TASK = Comparison(
    name="rewardmath",
    version=1,
    summary="RewardMATH: one right among ten solutions to 483 competition problems",
    card="rewardmath",
    read=read,
    sources=(HubSet("RewardMATH/RewardMATH"),),
    primary="prod",
    null_verdict="loss",
)
