"""A part of a data set, chosen while it is read: the examples of subsets, and so many of them, drawn by a seed.

What is drawn is spread over all facets and files as the whole is, at least one of each where that many are wanted.
Every value of the facet with the fewest gets its share, within it every value of the next one, and so on. Within what
then shares all facets and the file, whole clusters are drawn, by a hash of the seed and their name: the same clusters
in every language of a set, the same examples in whatever order the rows stand, and with a larger limit those of a
smaller one and more. Of each such stratum no more than the limit is held at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from heapq import heapify, heappop, heappush, heappushpop

from rmbench.errors import UsageError
from rmbench.plugins import did_you_mean
from rmbench.types import Example

_FILE = "file"  # what examples of several files are told apart by, beside their facets
_LISTED = 12


@dataclass(frozen=True)
class Part:
    """What is wanted of a data set: the examples that have one of these values of every facet in `subset`, `limit` of
    them, drawn by `seed`, and each content once with `deduplicate`. The whole is wanted where nothing is said.
    """

    limit: int | None = None
    seed: int = 0
    subset: Mapping[str, Sequence[str]] = field(default_factory=dict)
    deduplicate: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError for a limit that is no number from 1, and for a seed below 0."""
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit={self.limit}: expected at least 1 example")
        if self.seed < 0:
            raise UsageError(f"seed={self.seed}: expected a seed from 0")

    @property
    def choice(self) -> dict[str, object]:
        """What a result says of it: how examples were chosen, the same for every task of a run."""
        choice: dict[str, object] = {"limit": self.limit, "deduplicate": self.deduplicate}
        if self.limit is not None:
            choice["drawn"] = f"within facets and files, seed {self.seed}"
        return choice | ({"subset": {name: [*values] for name, values in self.subset.items()}} if self.subset else {})

    def has(self, example: Example) -> bool:
        """Whether an example is of every subset."""
        return all(example.facets.get(facet) in values for facet, values in self.subset.items())


class Draw:
    """Examples as they come, of which a bounded number is held, and in the end those of a part."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._strata: dict[tuple[tuple[str, str], ...], _Stratum] = {}
        self._values: dict[tuple[str, str], None] = {}  # of all facets, in the order of the data
        self.seen, self.count = 0, 0  # all examples, and those of the subset

    def add(self, example: Example, file: str) -> None:
        """Adds an example, with its id and cluster, of that file."""
        self.seen += 1
        self._values.update(dict.fromkeys(example.facets.items()))
        if not self._part.has(example):
            return
        stratum = self._strata.setdefault((*sorted(example.facets.items()), (_FILE, file)), _Stratum())
        stratum.add(example, self.count, _rank(self._part.seed, example), self._part.limit)
        self.count += 1

    def examples(self) -> tuple[Example, ...]:
        """What is drawn, in the order of the data. Raises UsageError for a subset that there is none of."""
        self._check_subset()
        sizes = {key: stratum.count for key, stratum in self._strata.items()}
        limit = self.count if self._part.limit is None else self._part.limit
        wanted = sizes if limit >= self.count else _allotted(limit, sizes, self._facets, self._part.seed)
        drawn = [one for key, count in wanted.items() for one in self._strata[key].first(count)]
        return tuple(example for _, example in sorted(drawn, key=lambda one: one[0]))

    def told(self, drawn: int) -> str:
        """How `drawn` examples were chosen, as in `20 of 108 examples drawn within subset, seed 0`; "" of the whole."""
        subset = _named(self._part.subset)
        lines = [f"{subset} ({self.count:,} of {self.seen:,} examples)"] if subset else []
        if drawn < self.count:
            of = f"{drawn:,} of them" if subset else f"{drawn:,} of {self.count:,} examples"
            within = f" within {', '.join(self._facets)}" if self._facets else ""
            lines.append(f"{of} drawn{within}, seed {self._part.seed}")
        return "; ".join(lines)

    @property
    def _facets(self) -> list[str]:
        """The facets that tell strata apart, the one with the fewest values first."""
        values: dict[str, set[str | None]] = {}
        for key in self._strata:
            for facet, value in key:
                values.setdefault(facet, set()).add(value)
        for key in self._strata:
            for facet in values.keys() - dict(key).keys():
                values[facet].add(None)
        return sorted((name for name in values if len(values[name]) > 1), key=lambda name: (len(values[name]), name))

    def _check_subset(self) -> None:
        facets: dict[str, list[str]] = {}
        for facet, value in self._values:
            facets.setdefault(facet, []).append(value)
        for facet, values in self._part.subset.items():
            for value in values:
                if facet not in facets:
                    there = "; ".join(f"{name} ({_listed(several)})" for name, several in facets.items())
                    meant = did_you_mean(facet, facets)
                    raise UsageError(f"--subset {facet}={value}: no facet {facet!r}{meant}; there is {there or 'none'}")
                if value not in facets[facet]:
                    meant = did_you_mean(value, facets[facet])
                    raise UsageError(f"--subset {facet}={value}: no {facet} {value!r}{meant}; there is "
                                     f"{_listed(facets[facet])}")  # fmt: skip
        if self._part.subset and self.seen and not self.count:
            raise UsageError(f"--subset {_named(self._part.subset)}: no example has all of these")


class _Stratum:
    """The examples that share all facets and the file: how many there are, and the first of them by their ranks."""

    def __init__(self) -> None:
        self.count = 0
        self._held: list[tuple[int, int, Example]] = []  # a heap with the last on top

    def add(self, example: Example, place: int, rank: int, limit: int | None) -> None:
        self.count += 1
        held = (-rank, place, example)
        if limit is None:
            self._held.append(held)
        elif len(self._held) < limit:
            heappush(self._held, held)
        elif held > self._held[0]:
            heappushpop(self._held, held)

    def first(self, count: int) -> list[tuple[int, Example]]:
        """So many, each with its place among all examples."""
        ordered = self._held if count == len(self._held) else sorted(self._held, reverse=True)[:count]
        return [(place, example) for _, place, example in ordered]


def _rank(seed: int, example: Example) -> int:
    """By which examples are drawn: those of a cluster follow one another."""
    cluster = sha256(f"{seed}|{example.cluster}".encode()).digest()[:12]
    return int.from_bytes(cluster + sha256(example.id.encode()).digest()[:8])


def _allotted(
    limit: int, sizes: Mapping[tuple[tuple[str, str], ...], int], facets: Sequence[str], seed: int
) -> dict[tuple[tuple[str, str], ...], int]:
    """How many of `limit` each stratum gets, facet by facet."""
    if not facets or len(sizes) == 1:
        return {key: min(limit, size) for key, size in sizes.items()}
    first, *others = facets
    groups: dict[str, dict[tuple[tuple[str, str], ...], int]] = {}
    for key, size in sizes.items():
        groups.setdefault(dict(key).get(first, ""), {})[key] = size
    shares = _shares(limit, {value: sum(group.values()) for value, group in groups.items()}, seed)
    return {
        key: count for value, share in shares.items()
        for key, count in _allotted(share, groups[value], others, seed).items()
    }  # fmt: skip


def _shares(limit: int, sizes: Mapping[str, int], seed: int) -> dict[str, int]:
    """One to each, the largest first, and the rest in proportion to their sizes (A. Sainte-Lague, 1910).

    Whatever has a share keeps it as the limit grows. Of equal sizes the seed says which comes first.
    """
    shares = dict.fromkeys(sizes, 0)
    if limit >= sum(sizes.values()):
        return dict(sizes)
    waiting = [(-float("inf"), -size, sha256(f"{seed}|{value}".encode()).digest(), value)
               for value, size in sizes.items() if size]  # fmt: skip
    heapify(waiting)
    for _ in range(limit):
        _, size, tie, value = heappop(waiting)
        shares[value] += 1
        if shares[value] < sizes[value]:
            heappush(waiting, (size / (shares[value] + 0.5), size, tie, value))
    return shares


def _named(subset: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(f"{facet}={'|'.join(values)}" for facet, values in subset.items())


def _listed(values: Sequence[str]) -> str:
    more = f", ... {len(values) - _LISTED:,} more" if len(values) > _LISTED else ""
    return ", ".join(values[:_LISTED]) + more
