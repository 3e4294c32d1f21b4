"""Draws the picture of README, what a run of the demo prints: `python docs/picture.py`."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI

import rmbench
from rmbench.cli._report import print_results

PICTURE = Path(__file__).with_name("run.svg")
_MODELS, _TASK = ("demo", "length", "random"), "rewardmath_mini"
_WIDTH = 100


def draw(models: tuple[str, ...] = _MODELS, task: str = _TASK, limit: int | None = None) -> str:
    """What `rmbench run` prints of these, as an SVG that fetches nothing."""
    results = [result for model in models for result in rmbench.evaluate(model, [task], limit=limit)]
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    print_results(results, console)
    title = f"rmbench run {' '.join(f'-m {model}' for model in models)} -t {task}"
    alone = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)  # they are on another server
    return console.export_svg(title=title, theme=MONOKAI, code_format=alone, unique_id="rmbench")


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
