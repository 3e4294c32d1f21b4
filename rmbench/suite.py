"""Suites: tasks that are run together, and the mean of them where there is one.

A suite has a mean only where every one of its tasks has a metric, each is a fraction of which more is better, and every
task was run whole. Its interval is over the clusters of all tasks at once, joined where they share a prompt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rmbench.errors import UsageError


@dataclass(frozen=True)
class Suite:
    """`tasks` gives each task by name its metric, None where it has none in a mean, and its weight in that mean."""

    name: str
    summary: str
    tasks: Mapping[str, tuple[str | None, float]]

    def __post_init__(self) -> None:
        """Raises UsageError for a suite without tasks and for weights that are none."""
        object.__setattr__(self, "tasks", MappingProxyType(dict(self.tasks)))
        if not self.tasks:
            raise UsageError(f"suite {self.name!r} has no tasks")
        for task, (_, weight) in self.tasks.items():
            if not (math.isfinite(weight) and weight > 0):
                raise UsageError(f"suite {self.name!r}: the weight of {task} is {weight!r}; expected a number above 0")
