"""RewardBench's math pairs as RewardMATH's authors scored them: a task of their files, and score files of its own kind.

A benchmark in the tests, to hold RewardMATH against: their files of process models have a row a response, with texts,
steps and step scores; those of other models are official score files of two candidates, which are read as they are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from rmbench.data.rows import Row
from rmbench.data.scorefile import example_id
from rmbench.kinds.comparison import Comparison
from rmbench.types import Candidate, Example, Message, Response

SIDES = ("chosen", "rejected")


def read(rows: Iterable[Row]) -> Iterator[Example]:
    """One example a problem, the chosen response first."""
    pairs: dict[str, dict[str, Row]] = {}
    for row in rows:
        pairs.setdefault(row.text("problem"), {})[row.text("solution_type")] = row
    for problem, sides in pairs.items():
        steps = [tuple(sides[side].value["eval_solution"]) for side in SIDES]
        candidates = [
            Candidate(Response("\n".join(own), own), right) for own, right in zip(steps, (True, False), strict=True)
        ]
        yield Example(example_id(problem, Counter()), (Message("user", problem),), tuple(candidates))


def step_scores(rows: Path, file: Path) -> Path:
    """The step scores of such a file as a score file of rmbench's own, written to `file`."""
    recorded = [
        {"example_id": example_id(row["problem"], Counter()), "candidate": SIDES.index(row["solution_type"]),
         "steps": row["output"]["step_scores"]}
        for row in json.loads(rows.read_text())
    ]  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in recorded))
    return file


TASK = Comparison(
    name="rewardbench_math",
    version=1,
    summary="The 447 math pairs of RewardBench, with steps",
    card="What RewardMATH's authors scored; see the task rewardbench.",
    read=read,
    primary="prod",
)
