"""Tasks whose examples are given, and results of them whose every figure their records give again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rmbench.data.dataset import Source, collect
from rmbench.data.part import Part
from rmbench.results.schema import TaskResult
from rmbench.results.verify import verify
from rmbench.runs.evaluate import evaluate
from rmbench.types import Candidate, Example, Message


def given(kind: Any, examples: Sequence[Example], name: str = "given", **fields: Any) -> Any:
    """A task of this kind that has these examples; `fields` are those of the kind."""

    class Given(kind):
        def load(self, path: Path | None = None, part: Part | None = None) -> Any:
            return collect(examples, [Source(name, None, "0" * 64, len(examples))], part=part)

    return Given(name, 1, "given examples", "none", read=lambda rows: iter(()), **fields)


def judged(model: Any, task: Any, **options: Any) -> TaskResult:
    """The result of a model on a task, once its records have given all of it again."""
    (result,) = evaluate(model, [task], **options)
    verify(result, task)
    return result


def example(name: str, *candidates: Candidate, prompt: str | None = None, **fields: Any) -> Example:
    """An example with a prompt of its own, unless one is given."""
    return Example(name, (Message("user", prompt or f"{name}?"),), candidates, **fields)


def pair(name: str, right: str = "right", wrong: str = "wrong", **fields: Any) -> Example:
    """An example of one right and one wrong response."""
    return example(name, Candidate(right, True), Candidate(wrong, False), **fields)
