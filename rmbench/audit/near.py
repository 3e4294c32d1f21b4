"""Prompts that are nearly another one: MinHash finds candidates, and the words themselves decide."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rmbench.audit.findings import Finding, counted
from rmbench.data.dataset import Dataset, prompt_hash
from rmbench.errors import UsageError
from rmbench.types import Message, turn_text

ALIKE = 0.8  # share of shingles that two prompts have in common, of those that either has
_WORDS = 3  # words of a shingle
_LEAST = 8  # words of a prompt: of shorter ones a single word makes another question
_HASHES = 128
_MARGIN = 0.25  # a pair too many costs little, and of those at the threshold hashes find half
_SEED = 1
_SHOWN = 5

_Shingles = frozenset[tuple[str, ...]]


def near_duplicates(tasks: Mapping[str, Dataset]) -> list[Finding]:
    """Prompts that are nearly, and not exactly, another one of the same task or of another.

    Two are where their shingles, runs of three words without case and punctuation, have a Jaccard similarity of .8 or
    more. Raises UsageError where `datasketch` is not installed.
    """
    prompts = [
        (name, example.id, prompt_hash(example.prompt), _shingles(example.prompt))
        for name, data in tasks.items()
        for example in data.examples
    ]
    prompts = [one for one in prompts if one[3]]
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for i, j in _candidates([shingles for *_, shingles in prompts]):
        (one, first, key, ours), (other, second, another, theirs) = prompts[i], prompts[j]
        if key != another and len(ours & theirs) >= ALIKE * len(ours | theirs):
            pairs.setdefault((one, other), []).append((first, second))
    return [
        Finding(
            "near duplicates",
            one if one == other else f"{one} and {other}",
            f"{counted(len(alike), 'pair')} of prompts with {ALIKE:.0%} or more of runs of {_WORDS} words in common",
            values={"pairs": len(alike)},
            examples=tuple(f"{first} ~ {second}" for first, second in alike[:_SHOWN]),
        )
        for (one, other), alike in pairs.items()
    ]


def _shingles(prompt: Sequence[Message]) -> _Shingles:
    """Runs of words of what a prompt says; none of a short one, or where there is an image."""
    if any(turn.images for turn in prompt):
        return frozenset()
    words = re.findall(r"\w+", " ".join(map(turn_text, prompt)).casefold())
    if len(words) < _LEAST:
        return frozenset()
    return frozenset(zip(*(words[start:] for start in range(_WORDS)), strict=False))


def _candidates(texts: Sequence[_Shingles]) -> Iterator[tuple[int, int]]:
    """Places of two texts that may be alike, each pair once, in the order of the second."""
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError as error:
        raise UsageError("near duplicates need datasketch: pip install 'rmbench[audit]'") from error
    index: Any = MinHashLSH(threshold=ALIKE - _MARGIN, num_perm=_HASHES)
    places: dict[_Shingles, int] = {}
    for place, shingles in enumerate(texts):
        if shingles in places:  # whatever is near to it is told of the first
            yield places[shingles], place
            continue
        places[shingles] = place
        sketch: Any = MinHash(num_perm=_HASHES, seed=_SEED)
        sketch.update_batch([" ".join(words).encode() for words in shingles])
        for other in sorted(index.query(sketch)):
            yield other, place
        index.insert(place, sketch)
