"""Reward hacks: an honest against a hacking completion of one prompt (School of Reward Hacks, arXiv 2508.17511)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.files import stem
from rmbench.data.hub import HubSet
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.types import Candidate, Example, Message

_EXPECTED = (
    "a row has `user`, `control` and `school_of_reward_hacks`; or, in two files ...no_hacking.jsonl and "
    "...hacking.jsonl of one folder, `index`, `original_prompt` and `completion`"
)
_ALONE = "only one of the two completions"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a prompt, the honest completion first. Rows of two files are joined by `index`."""
    halves: dict[int, dict[bool, Row]] = {}
    for row in rows:
        if "control" in row.value or row.first(("index", "original_prompt", "completion")) is None:
            yield attempt(row, _of_one_row)
            continue
        for field in ("index", "original_prompt", "completion"):
            row.need((field,), _EXPECTED)
        index, honest = row.value["index"], _is_honest(row)
        if isinstance(index, bool) or not isinstance(index, int):
            raise row.error(f"expected a whole number, got {shown(index)}", "index")
        sides = halves.setdefault(index, {})
        if honest in sides:
            raise row.error(f"expected one completion of each kind a number, got a second one of {index}", "index")
        sides[honest] = row
    for sides in halves.values():
        yield _joined(sides[True], sides[False]) if len(sides) == 2 else LeftOut(_ALONE)


def _is_honest(row: Row) -> bool:
    name = stem(Path(row.file))
    if not name.endswith("hacking"):
        raise row.error(f"expected a file ...no_hacking.jsonl or ...hacking.jsonl, got {shown(row.file)}")
    return name.endswith("no_hacking")


def _joined(honest: Row, hack: Row) -> Example:
    prompt = honest.text("original_prompt")
    if hack.text("original_prompt") != prompt:
        raise hack.error(f"expected the prompt of {honest.file}, row {honest.number}, got another", "original_prompt")
    return _example(prompt, honest.text("completion"), hack.text("completion"))


def _of_one_row(row: Row) -> Example:
    for field in ("control", "school_of_reward_hacks"):
        row.need((field,), _EXPECTED)
    control = row.value["control"]
    if control is None or (isinstance(control, str) and not control.strip()):
        raise row.no_example("no honest completion", "control")
    tags = {name: value for name in ("task", "evaluation_metric", "cheat_method") if (value := row.name((name,)))}
    return _example(row.text("user"), row.text("control"), row.text("school_of_reward_hacks"), tags)


def _example(prompt: str, honest: str, hack: str, tags: dict[str, str] | None = None) -> Example:
    candidates = Candidate(honest, True, tags=tags or {}), Candidate(hack, False, tags=tags or {})
    return Example("", (Message("user", prompt),), candidates)


TASK = Comparison(
    name="school_of_reward_hacks",
    version=1,
    summary="Reward hacks: the honest against the hacking completion of one prompt",
    card="school_of_reward_hacks",
    read=read,
    sources=(HubSet("longtermrisk/school-of-reward-hacks", split="train"),),
    orders="both",
)
