"""A data set as a task sees it: examples, where they come from, and what was left out and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256 as _sha256

from rmbench.errors import DataError
from rmbench.types import Example, Message


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row, or a group of them, that makes no example. `reason` is what it is counted under."""

    reason: str


@dataclass(frozen=True)
class Dataset:
    """Examples and their provenance.

    `source` is a hub id, `bundled`, or the name (never the path) of a file or folder; `revision` is a hub commit,
    `local` for files, None for bundled rows. `sha256` stands for these very examples: it covers the bytes they were
    read from and changes when some are dropped. `excluded` counts what is no example by reason, `noted` what is
    one but odd.
    """

    source: str
    revision: str | None
    sha256: str
    examples: Sequence[Example]
    excluded: Mapping[str, int] = field(default_factory=dict)
    noted: Mapping[str, int] = field(default_factory=dict)

    def limited(self, n: int) -> Dataset:
        """The first `n` examples."""
        return self._keeping(self.examples[:n], f"limit={n}", self.excluded)

    def deduplicated(self) -> Dataset:
        """Without each example whose prompt and candidates (texts and labels) stood before.

        Candidates without text, known only to a score file, are told apart by their prompt alone.
        """
        first: dict[object, Example] = {}
        for example in self.examples:
            first.setdefault(_content(example), example)
        dropped = len(self.examples) - len(first)
        return self._keeping(tuple(first.values()), "deduplicated", {**self.excluded, "duplicate": dropped})

    def _keeping(self, examples: Sequence[Example], how: str, excluded: Mapping[str, int]) -> Dataset:
        if len(examples) == len(self.examples):
            return self
        sha256 = _sha256(f"{self.sha256}|{how}".encode()).hexdigest()
        return replace(self, sha256=sha256, examples=examples, excluded=excluded, noted=_noted(examples))


def collect(items: Iterable[Example | LeftOut], *, source: str, revision: str | None, sha256: str) -> Dataset:
    """The data set of what a task read. An example without a cluster gets its prompt's.

    Raises DataError where no example is left, or two share an id.
    """
    examples: dict[str, Example] = {}
    excluded: Counter[str] = Counter()
    for item in items:
        if isinstance(item, LeftOut):
            excluded[item.reason] += 1
        elif item.id in examples:
            raise DataError(f"{source}: two examples have the id {item.id!r}; each needs its own, or none at all")
        else:
            examples[item.id] = item if item.cluster else replace(item, cluster=prompt_hash(item.prompt))
    if not examples:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in excluded.items()) or "nothing in it"
        raise DataError(f"{source}: no usable example ({reasons})")
    kept = tuple(examples.values())
    return Dataset(source, revision, sha256, kept, dict(excluded), _noted(kept))


def prompt_hash(prompt: Sequence[Message]) -> str:
    """The first 12 hex digits of the sha256 of a prompt's roles and contents."""
    turns = json.dumps([(message.role, message.content) for message in prompt], ensure_ascii=False)
    return _sha256(turns.encode()).hexdigest()[:12]


def _content(example: Example) -> tuple[object, ...]:
    candidates = tuple((c.text, c.steps, c.label) for c in example.candidates if c.text is not None)
    return example.prompt, candidates


def _noted(examples: Sequence[Example]) -> dict[str, int]:
    texts = [[c.text for c in example.candidates if c.text is not None] for example in examples]
    noted = {
        "empty responses": sum(texts_of.count("") for texts_of in texts),
        "examples with identical responses": sum(len(set(texts_of)) < len(texts_of) for texts_of in texts),
    }
    return {what: count for what, count in noted.items() if count}
