"""Prompts that a policy answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from rmbench.errors import UsageError
from rmbench.kinds.base import Reading
from rmbench.results import written
from rmbench.results.schema import TaskResult
from rmbench.types import Ask, Example, Question


@dataclass(frozen=True, slots=True)
class Prompt(Example):
    """An example without candidates, for a policy to answer, and the condition that it puts the policy in.

    Each condition is a view of the results; in prompts of one cluster nothing else is to differ. `tags` go into the
    records.
    """

    condition: str = "default"
    tags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Generation(Reading):
    """Prompts that a policy answers, to see how long it writes; `cap` is the most new tokens unless a run says.

    `contrasts` are effects to measure within clusters: name, condition, and the condition it is compared with.
    """

    kind: ClassVar[str] = "generation"
    subject: ClassVar[Literal["reward_model", "policy"]] = "policy"
    orders: ClassVar[None] = None
    measure: ClassVar[written.LengthMeasure] = written.LENGTHS

    cap: int = field(kw_only=True)
    contrasts: tuple[tuple[str, str, str], ...] = ()

    def questions(
        self, example: Example, answers: frozenset[Ask], dataset: str, most: int | None = None
    ) -> list[Question]:
        """Raises UsageError: there is nothing to ask a reward model."""
        raise UsageError(f"{self.name} is answered by a policy, not judged by a reward model; give one with -p")

    def recomputed(self, result: TaskResult) -> dict[str, Any]:
        """Every field of a result that its records give."""
        return written.recomputed(result, self.contrasts)
