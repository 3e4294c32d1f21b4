"""A data set as a task sees it: examples, where they come from, and what was left out and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
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
    one but odd. `renamed` are the ids that were made because the data's own stood before.
    """

    source: str
    revision: str | None
    sha256: str
    examples: Sequence[Example]
    excluded: Mapping[str, int] = field(default_factory=dict)
    noted: Mapping[str, int] = field(default_factory=dict)
    renamed: Set[str] = frozenset()

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
        return replace(self, sha256=sha256, examples=examples, excluded=excluded, noted=_noted(examples, self.renamed))


def collect(items: Iterable[Example | LeftOut], *, source: str, revision: str | None, sha256: str) -> Dataset:
    """The data set of what a task read.

    An example whose id is "" is named by its content (`content_id`), never by its place, so that nothing recorded for
    other data joins it. An id that stood before gets `#2`, `#3`, ... An example without a cluster gets its
    prompt's, and without a prompt one of its own.
    Raises DataError where no example is left, or a subset is called `all`, as the whole is in results.
    """
    examples: dict[str, Example] = {}
    excluded: Counter[str] = Counter()
    renamed: set[str] = set()
    times: Counter[str] = Counter()
    for item in items:
        if isinstance(item, LeftOut):
            excluded[item.reason] += 1
            continue
        wanted = item.id or content_id(item)
        name = _unused(wanted, examples, times)
        if item.id and name != wanted:
            renamed.add(name)
        for facet, value in item.facets.items():
            if facet == "all" or "=" in facet or not facet:
                raise DataError(f"{source}: example {name!r} has a facet {facet!r}; expected a name without =")
            if value == "all":
                whole = "which is what results call the whole; rename it"
                raise DataError(f"{source}: example {name!r} is of a {facet} 'all', {whole}")
        cluster = item.cluster or (prompt_hash(item.prompt) if item.prompt else name)
        examples[name] = replace(item, id=name, cluster=cluster)
    if not examples:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in excluded.items()) or "nothing in it"
        raise DataError(f"{source}: no usable example ({reasons})")
    kept = tuple(examples.values())
    return Dataset(source, revision, sha256, kept, dict(excluded), _noted(kept, renamed), frozenset(renamed))


def prompt_hash(prompt: Sequence[Message]) -> str:
    """The first 12 hex digits of the sha256 of a prompt's roles and contents."""
    return _short_hash(_turns(prompt))


def content_id(example: Example) -> str:
    """The first 12 hex digits of the sha256 of the prompt and the candidates' texts; labels have no part in it."""
    return _short_hash([_turns(example.prompt), [candidate.text for candidate in example.candidates]])


def _turns(prompt: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in prompt]


def _short_hash(value: object) -> str:
    return _sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()[:12]


def _unused(wanted: str, taken: Mapping[str, object], times: Counter[str]) -> str:
    """`wanted`, or `wanted#n` with an n from 2 that is not taken. `times` counts the names tried so far for each."""
    while True:
        times[wanted] += 1
        name = wanted if times[wanted] == 1 else f"{wanted}#{times[wanted]}"
        if name not in taken:
            return name


def _content(example: Example) -> tuple[object, ...]:
    candidates = tuple((c.text, c.steps, c.label) for c in example.candidates if c.text is not None)
    return example.prompt, candidates


def _noted(examples: Sequence[Example], renamed: Set[str]) -> dict[str, int]:
    texts = [[c.text for c in example.candidates if c.text is not None] for example in examples]
    noted = {
        "empty prompts": sum(not any(m.text.strip() for m in example.prompt) for example in examples),
        "empty responses": sum(texts_of.count("") for texts_of in texts),
        "examples with identical responses": sum(len(set(texts_of)) < len(texts_of) for texts_of in texts),
        "repeated ids": sum(example.id in renamed for example in examples),
    }
    return {what: count for what, count in noted.items() if count}
