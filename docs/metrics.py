"""Writes metrics.md beside this file: every metric as the measures of rmbench define it, `python docs/metrics.py`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import rmbench
from rmbench.data.rows import Row
from rmbench.kinds.comparison import Comparison
from rmbench.kinds.grading import Grading
from rmbench.kinds.steps import Steps, until_first_error
from rmbench.metrics import pick
from rmbench.metrics.reliability import POINT_CLUSTERS
from rmbench.results.schema import Definition, TaskResult
from rmbench.runs.loading import load_tasks
from rmbench.runs.respond import evaluate_policy
from rmbench.types import Ask, Candidate, Example, Message, Response, Reward

_PROMPT = (Message("user", "q"),)
PAGE = Path(__file__).with_suffix(".md")
_OF_REPORTS = Path(__file__).with_name("metrics_of_reports.md")  # written by hand: no result states these
_HEAD = """# What every metric is

Made by `python docs/metrics.py` from what the measures say of themselves; a test holds it to that. `rmbench show
RESULT` says the same of the metrics of one result, and the page of a run under "What these metrics are".

Three tell most of a reward model: the headline beside chance, `accuracy_length_controlled` beside `auc` (both of
pairs), and the calibration error. Every number has a 95 % interval; `n` counts the rows behind it, `clusters` those
that are independent.
"""
_CALIBRATION = f"""## Calibration

What a margin is worth as a probability, judged out of fold. Scopes: `pairs` (the larger reward is the right one's),
`softmax` (this response is the one right among those to its prompt), `pooled` (this response is right, whatever its
prompt). Maps: `raw` (rewards as they are), `temperature`, `isotonic`, `platt`.

| figure | what it is | better |
|---|---|---|
| `ece` | root mean square error over bins, debiased; below {POINT_CLUSTERS} clusters shown as its interval | lower |
| `ece_l1` | mean absolute error over bins, the published ECE; chance raises it | lower |
| `brier` | mean squared error of the probability, in parts: `reliability` - `resolution` + `uncertainty` | lower |
| `log_loss` | mean of minus the log of the probability of what happened, in nats | lower |
"""


class _Comparing:
    """Prefers the longer of two."""

    answers: frozenset[Ask] = frozenset({"compare"})
    fingerprint = None

    def rewards(self, requests: Sequence[Any]) -> Iterator[tuple[int, Reward]]:
        for index, request in enumerate(requests):
            first, second = (len(shown.text) for shown in request.responses)
            yield index, Reward((float(first > second), float(first <= second)))


class _Doubting:
    """Rewards length, and doubts short ones."""

    answers: frozenset[Ask] = frozenset({"reward"})
    fingerprint = None

    def rewards(self, requests: Sequence[Any]) -> Iterator[tuple[int, Reward]]:
        for index, request in enumerate(requests):
            length = float(len(request.responses[0].text))
            yield index, Reward((length,), spread=(1 / (1 + length),))


class _Stepping:
    """Rates a step by its length."""

    answers: frozenset[Ask] = frozenset({"reward", "steps"})
    fingerprint = None

    def rewards(self, requests: Sequence[Any]) -> Iterator[tuple[int, Reward]]:
        for index, request in enumerate(requests):
            steps = tuple(len(step) / 10 for step in request.responses[0].steps or ())
            yield index, Reward((min(steps, default=0.0),), steps=steps)


def text() -> str:
    """The page."""
    parts = [_HEAD]
    for title, about, definitions in _sections():
        rows = [_row(name, definition) for name, definition in definitions.items()]
        head = "| metric | what it is | unit | better | from - to | what it cannot say |\n|---|---|---|---|---|---|"
        parts.append("\n".join([f"## {title}\n\n{about}\n", head, *rows]) + "\n")
    return "\n".join([*parts, _CALIBRATION, _OF_REPORTS.read_text(encoding="utf-8")])


def _row(name: str, definition: Definition) -> str:
    low, high = ("" if end is None else f"{end:g}" for end in definition.bounds)
    ends = f"{low} - {high}" if low or high else ""
    cells = (definition.title, definition.unit, definition.better or "neither", ends, definition.caveat)
    return f"| `{name}` | {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _sections() -> Iterator[tuple[str, str, Mapping[str, Definition]]]:
    of_rewards = _of(rmbench.evaluate("length", ["best_of_n"], limit=24))
    compared = _of(rmbench.evaluate(_Comparing(), ["best_of_n"], limit=8))
    yield (
        "Right answers against wrong ones",
        "`preference`, `best_of_n`, `rewardmath`, `rewardmath_mini` and every task of the kind `Comparison`.",
        of_rewards,
    )
    yield (
        "Of models that compare",
        "Beside the above; rewards have none of them.",
        {name: one for name, one in compared.items() if name not in of_rewards},
    )
    doubted = _of(rmbench.evaluate(_Doubting(), ["best_of_n"], limit=24))
    yield (
        "Doubt",
        "Of every model whose rewards, or verdicts, have a spread, on every task: whether it is where the model is "
        "wrong. What is decided is which of two responses to a prompt is better; on tasks of the kind `Grading`, "
        "whether a response is right.",
        {name: one for name, one in doubted.items() if name not in of_rewards},
    )
    rows = [{"response": "a" * (row + 1), "right": row % 2} for row in range(24)]
    pools = Comparison("pools", 1, "", "preference", _pools, measure=pick.PICK)
    yield (
        "Picked from a pool",
        "Tasks of the kind `Comparison` with the measure `rmbench.metrics.pick.PICK`, as StrictPRMBench.",
        _of(_evaluated("length", pools, rows)),
    )
    yield "Length bias", "`length_bias`.", _of(rmbench.evaluate("length", ["length_bias"], limit=24))
    yield "Appetite", "`appetite`.", _of(rmbench.evaluate("length", ["appetite"], limit=24))
    rated = [{"prompt": f"q{row}", "response": "a" * (row + 1), "helpfulness": row % 5} for row in range(24)]
    yield "Ratings", "`ratings`, of each respect that the data rate.", _of(_evaluated("length", "ratings", rated))
    graded = Grading("graded", 1, "", "preference", _graded)
    yield "Right or wrong by itself", "Tasks of the kind `Grading`.", _of(_evaluated("length", graded, rows))
    stepped = Steps("stepped", 1, "", "preference", _stepped)
    yield "Steps", "Tasks of the kind `Steps`.", _of(_evaluated(_Stepping(), stepped, rows))
    yield (
        "Lengths of what a policy writes",
        "`lengths` and `overflow`, per condition; `overflow` sets its conditions against each other besides.",
        _of_a_policy(),
    )


def _evaluated(model: Any, task: Any, rows: Sequence[Mapping[str, Any]]) -> list[TaskResult]:
    return rmbench.evaluate(model, [task], data={getattr(task, "name", task): rows})


def _pools(rows: Iterable[Row]) -> Iterator[Example]:
    candidates = [Candidate(row.text("response"), float(row.value["right"])) for row in rows]
    for at in range(0, len(candidates), 4):
        yield Example(str(at), _PROMPT, tuple(candidates[at : at + 4]))


def _graded(rows: Iterable[Row]) -> Iterator[Example]:
    for row in rows:
        yield Example(row.text("response"), _PROMPT, (Candidate(row.text("response"), bool(row.given["right"])),))


def _stepped(rows: Iterable[Row]) -> Iterator[Example]:
    for row in rows:
        text = row.text("response")
        steps = Response((Message("assistant", f"{text} {text}b"),), steps=(text, f" {text}b"))
        labels = until_first_error(2, None if row.given["right"] else 1)
        yield Example(text, _PROMPT, (Candidate(steps, bool(row.given["right"]), step_labels=labels),))


def _of_a_policy() -> dict[str, Definition]:
    """Of answers to the first prompts of `overflow`, and of two samples to each of `lengths`."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "outputs.jsonl"
        [overflow] = load_tasks(["overflow"], limit=24)
        messages = [[{"role": one.role, "content": one.text} for one in e.prompt] for e in overflow.data.examples]
        rows = [
            {"prompt": turns, "output": "a" * 40, "tokens": 40, "finish": "stop", "cap": 6000, "sample": sample}
            for turns in messages
            for sample in range(2)
        ]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        results = evaluate_policy(f"outputs:{file}", [overflow])
    return _of(results)


def _of(results: Sequence[TaskResult]) -> dict[str, Definition]:
    return {name: definition for result in results for name, definition in result.statistics.items()}


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
