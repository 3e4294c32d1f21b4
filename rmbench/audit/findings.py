"""What an audit says: one line a finding, of one of a few kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# Every kind of finding, and what it says; those of `CONTRADICTS` cannot all be right
KINDS: Mapping[str, str] = {
    "contradicts": "two figures that are one by definition are further apart than rounding explains",
    "zero": "a zero that stands for a figure that is missing",
    "incomplete": "an average of which parts are missing",
    "opposite labels": "the same responses, labelled the other way round or otherwise",
    "equal candidates": "a response that stands twice in one example",
    "duplicates": "an example that stood before",
    "repeated prompts": "a prompt that several examples have",
    "near duplicates": "a prompt that is nearly another one",
    "shared": "what two tasks have in common",
    "empty": "a prompt or response with nothing in it",
    "cut": "a response that ends because a limit was reached, or looks as if",
    "rule": "a rule that reads no text does well",
    "counted zero": "a zero that an average counts, or of which nothing tells",
    "mixed": "an average over more parts in some rows than in others",
}
# What `detectable` is: the smallest difference that n can show
DETECTABLE = "between two models that judge so many examples alike, at 5 %, in 80 % of such samples"
CONTRADICTS = frozenset({"contradicts", "zero", "opposite labels"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found: its kind, of `KINDS`, where (a model, or a subset), and one line about it.

    `values` are the numbers that it rests on, `examples` ids that show it.
    """

    kind: str
    where: str
    told: str
    row: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    examples: Sequence[str] = ()

    @property
    def contradicts(self) -> bool:
        """Whether it cannot be right."""
        return self.kind in CONTRADICTS

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "contradicts": self.contradicts}


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number of things, in words.

    >>> counted(1, "copy", "copies"), counted(1200, "pair")
    ('1 copy', '1,200 pairs')
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
