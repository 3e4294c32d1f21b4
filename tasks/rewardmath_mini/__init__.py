"""rewardmath_mini: bundled problems, each with one right and nine wrong stepwise solutions of nine kinds of error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rmbench.data.conversation import facets, read_prompt
from rmbench.data.dataset import LeftOut
from rmbench.data.files import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.types import Candidate, Example, Response

_EXPECTED = "a rewardmath_mini row has `prompt` and `candidates`, objects with `steps`, `label` and `errors`"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row. A wrong solution's `kind` is its own error, the last of the `errors` in it."""
    for row in rows:
        row.need(("prompt",), _EXPECTED)
        candidates = row.objects("candidates", _EXPECTED)
        solutions = tuple(_solution(row, one) for one in candidates)
        if [solution.label for solution in solutions].count(True) != 1:
            yield LeftOut("not one right solution")
        else:
            name, reference = row.name(("id",)) or "", row.name(("reference",))
            yield Example(name, read_prompt(row), solutions, facets=facets(row, ("subset",)), reference=reference)


def _solution(row: Row, one: dict[str, Any]) -> Candidate:
    steps, label, errors = one.get("steps"), one.get("label"), one.get("errors")
    if not isinstance(steps, list) or not steps or not all(isinstance(step, str) for step in steps):
        raise row.error(f"expected a list of steps, got {shown(steps)}", "steps")
    if not isinstance(label, bool):
        raise row.error(f"expected true or false, got {shown(label)}", "label")
    if not isinstance(errors, list) or not all(isinstance(error, str) for error in errors):
        raise row.error(f"expected a list of names, got {shown(errors)}", "errors")
    tags = {"kind": errors[-1], "errors": str(len(errors))} if errors else {}
    return Candidate(Response("\n".join(steps), tuple(steps)), label, tags=tags)


TASK = Comparison(
    name="rewardmath_mini",
    version=1,
    summary="One right among ten stepwise solutions, bundled: 360 problems of nine topics, 13 named kinds of error",
    card="rewardmath_mini",
    read=read,
    bundled=Path(__file__).parent / "rows.jsonl",
)
