"""Edits of a response that a reward should, or should not, follow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from rmbench.kinds.base import Judging
from rmbench.metrics.measure import Measure
from rmbench.types import Example


@dataclass(frozen=True)
class Probe(Judging):
    """Edits of a response that a reward should, or should not, follow: one base a prompt, and its edits.

    The base is the candidate whose tag `edit` is `sufficient`; a model that compares is shown every other one against
    it, in both orders. `measure` says what the edits do to the reward.
    """

    kind: ClassVar[str] = "probe"
    orders: ClassVar[None] = None

    measure: Measure = field(kw_only=True)

    def displays(self, example: Example, most: int | None = None) -> list[tuple[int, ...]]:
        """Every candidate against the base, in both orders."""
        edits = [candidate.tags.get("edit") for candidate in example.candidates]
        base = edits.index("sufficient")
        others = [index for index in range(len(edits)) if index != base]
        return [order for other in others for order in ((base, other), (other, base))]
