"""Makes the score files of this folder and `expected.json` from RewardMATH's official ones.

    python tests/golden/excerpt.py FOLDER_OF_OFFICIAL_SCORE_FILES

The figures are computed here by plain loops over the definitions, with nothing imported from rmbench.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

ROWS = 60
HERE = Path(__file__).parent
FILES = (
    "internlm2_reward",
    "gpt4o_reward",
    "ReasonEval_7B_reward",
    "gpt4o_pairwise_reward",
    "llama3_8B_pairwise_reward",
)


def numbers_only(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first rows with a made-up name for each problem, the same for the same problem."""
    names: dict[str, str] = {}
    kept = []
    for row in rows[:ROWS]:
        name = names.setdefault(row["problem"], f"problem {len(names) + 1}")
        kept.append({"problem": name} | {key: row[key] for key in ("score", "chosen_position") if key in row})
    return kept


def wins_and_ties(row: dict[str, Any], view: str) -> tuple[int, int]:
    """How many wrong solutions beat the right one, and how many tie with it."""
    if "chosen_position" in row:
        pairs = zip(row["score"], row["chosen_position"], strict=True)
        return sum(verdict != position for verdict, position in pairs), 0
    rewards = [aggregate(steps, view) for steps in row["score"]] if view != "default" else row["score"]
    return sum(wrong > rewards[0] for wrong in rewards[1:]), sum(wrong == rewards[0] for wrong in rewards[1:])


def aggregate(steps: list[float], view: str) -> float:
    return {
        "prod": math.prod(steps),
        "geometric_mean": math.prod(steps) ** (1 / len(steps)),
        "mean": math.fsum(steps) / len(steps),
        "min": min(steps),
        "max": max(steps),
        "last": steps[-1],
    }[view]


def figures(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    stepwise = isinstance(rows[0]["score"][0], list)
    views = ("prod", "geometric_mean", "mean", "min", "max", "last") if stepwise else ("default",)
    found = {}
    for view in views:
        places = [wins_and_ties(row, view) for row in rows]
        found[view] = {
            "accuracy": sum(lost + tied == 0 for lost, tied in places) / len(places),
            "accuracy_ties": sum(lost == 0 for lost, _ in places) / len(places),
            "accuracy_expected": sum(1 / (1 + tied) for lost, tied in places if lost == 0) / len(places),
            "mrr": sum(1 / (1 + lost + tied) for lost, tied in places) / len(places),
        }
    return found


def main(official: Path) -> None:
    expected = {}
    for name in FILES:
        rows = numbers_only(json.loads((official / f"{name}.json").read_text(encoding="utf-8")))
        lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
        (HERE / f"{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        expected[name] = figures(rows)
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
