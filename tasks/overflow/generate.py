"""Makes `rows.jsonl` out of `prompts.yaml`.

    python -m rmbench.tasks.overflow.generate

Every entry goes into one frame of its strategy, and its question into one control frame, in turn. The order is mixed,
so that the first rows are of all strategies; an entry's prompt stands right before its control.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import yaml

_SEED = 20261
_FOLDER = Path(__file__).parent


def text() -> str:
    """What `rows.jsonl` holds."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows())


def rows() -> list[dict[str, str]]:
    """The bundled rows: rounds of one entry of each strategy, strategies and entries in mixed order."""
    rng = Random(_SEED)  # noqa: S311 - no secret: the same rows are to come again
    written = yaml.safe_load((_FOLDER / "prompts.yaml").read_text(encoding="utf-8"))
    pairs = [list(_pairs(name, part, written["control"])) for name, part in written["strategies"].items()]
    for some in pairs:
        rng.shuffle(some)
    rounds = [list(one) for one in zip(*pairs, strict=True)]
    for one in rounds:
        rng.shuffle(one)
    return [row for one in rounds for pair in one for row in pair]


def _pairs(strategy: str, part: dict[str, Any], control: list[str]) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """A prompt and its control for each entry."""
    frames = part["frames"]
    for number, (name, *values, ask) in enumerate(part["entries"]):
        fields = dict(zip(part["fields"], values, strict=True))
        # the control frame moves on once the frames are through, so that not always the same two meet
        short = control[(number + number // len(frames)) % len(control)]
        yield (
            _row(strategy, name, "overflow", frames[number % len(frames)].format(**fields)),
            _row(strategy, name, "control", short.format(ask=ask)),
        )


def _row(strategy: str, name: str, condition: str, prompt: str) -> dict[str, str]:
    subject = f"{strategy}-{name}"
    return {
        "id": f"{subject}-{condition}",
        "strategy": strategy,
        "subject": subject,
        "condition": condition,
        "prompt": prompt,
    }


if __name__ == "__main__":
    (_FOLDER / "rows.jsonl").write_text(text(), encoding="utf-8")
