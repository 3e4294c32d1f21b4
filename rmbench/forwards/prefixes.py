"""Which sequences share which tokens: their order, what sharing pays, where to cut, how a tree is laid out.

Sorted sequences share more with a neighbour than with any other, so all that is known of the sharing is one number a
sequence: how many tokens it shares with the one before it, like a suffix array's table of longest common prefixes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from rmbench.forwards.cost import Cost

Ids = NDArray[np.int32]
Ints = NDArray[np.int64]
Span = tuple[int, int]  # from, to (not included)


def in_order(sequences: Sequence[Ids]) -> list[int]:
    """Indices of the sequences in lexicographic order of their ids, a prefix before what it is a prefix of."""
    # ids are not negative, so the order of their big-endian bytes is theirs
    written = [ids.astype(">i4").tobytes() for ids in sequences]
    return sorted(range(len(sequences)), key=written.__getitem__)


def common_prefixes(sequences: Sequence[Ids]) -> Ints:
    """How many tokens each sequence has in common with the one before it, [n]; 0 for the first."""
    common = np.zeros(len(sequences), np.int64)
    for i, (before, ids) in enumerate(pairwise(sequences), start=1):
        short = min(len(before), len(ids))
        apart = np.flatnonzero(before[:short] != ids[:short])
        common[i] = apart[0] if len(apart) else short
    return common


@dataclass(slots=True)
class _Fork:
    """A depth at which sequences part: where its children but the first begin, and how many tokens they have below."""

    depth: int
    begins: list[int] = field(default_factory=list)
    children: int = 0
    tokens: int = 0
    largest: int = 0
    branches: int = 0  # children that have tokens of their own

    def add(self, tokens: int) -> None:
        self.children += 1
        self.tokens += tokens
        self.largest = max(self.largest, tokens)
        self.branches += tokens > 0

    def takes_in(self, other: _Fork) -> None:
        """The children of a deeper fork, whose tokens between the two are no longer shared."""
        deeper = other.depth - self.depth
        self.begins += other.begins
        self.children += other.children
        self.tokens += other.tokens + other.children * deeper
        self.largest = max(self.largest, other.largest + deeper)
        self.branches += other.children

    def pays(self, above: int, cost: Cost) -> bool:
        """Whether to share what lies between `above` and here.

        It saves those tokens for all children but one. Where more than one goes on behind it, it costs an attention
        call, and a merge for each token behind it but those of the largest child, which goes on in the same run.
        """
        shared = self.depth - above
        saved = (self.children - 1) * (shared * cost.token + (self.depth**2 - above**2) / 2 * cost.pair)
        price = cost.call + (self.tokens - self.largest) * cost.merge if self.branches > 1 else 0.0
        return saved >= price


def worth_sharing(lengths: Sequence[int], common: Ints, cost: Cost) -> Ints:
    """`common` [n] lowered to what is cheaper to share than to compute again."""
    shared = common.copy()
    open_ = [_Fork(0)]
    for i, length in enumerate(lengths):
        depth = int(common[i + 1]) if i + 1 < len(lengths) else 0
        end: int | None = length  # how deep the child reaches that is not yet part of a fork, and ...
        below = 0  # ... how many tokens lie below that
        while open_[-1].depth > depth:
            fork = open_.pop()
            if end is not None:
                fork.add(below + end - fork.depth)
            above = max(depth, open_[-1].depth)
            if fork.pays(above, cost):
                end, below = fork.depth, fork.tokens
                continue
            shared[fork.begins] = above
            if open_[-1].depth < above:
                open_.append(_Fork(above))
            open_[-1].takes_in(fork)
            end = None
        if open_[-1].depth < depth:
            open_.append(_Fork(depth))
        if end is not None:
            open_[-1].add(below + end - open_[-1].depth)
        open_[-1].begins.append(i + 1)
    return shared


def cut(lengths: Sequence[int], common: Sequence[int], budget: int) -> list[Span]:
    """The sorted sequences in stretches of at most `budget` tokens, what is shared counted once, or of one sequence.

    The stretches have the fewest tokens that stretches can have, and of those cuts the fewest: what a first sequence
    shares with the one before it is computed again.
    """
    n = len(lengths)
    own = [length - shared for length, shared in zip(lengths, common, strict=True)]
    sums = [0, *accumulate(own)]
    # best[i]: tokens computed again and stretches up to a cut before i; waiting: cuts that may precede the next one,
    # the best first. A stretch i..j holds sums[j] - sums[i] + common[i] tokens, and that falls as i rises.
    best: list[tuple[int, int]] = [(0, 0)]
    before: list[int] = [0]
    waiting: deque[int] = deque()
    price: list[tuple[int, int]] = []
    for j in range(1, n + 1):
        again, stretches = best[j - 1]
        price.append((again + common[j - 1], stretches + 1))
        while waiting and price[waiting[-1]] >= price[j - 1]:
            waiting.pop()
        waiting.append(j - 1)
        while waiting[0] < j - 1 and sums[j] - sums[waiting[0]] + common[waiting[0]] > budget:
            waiting.popleft()
        best.append(price[waiting[0]])
        before.append(waiting[0])
    spans: list[Span] = []
    stop = n
    while stop:
        spans.append((before[stop], stop))
        stop = before[stop]
    return spans[::-1]


@dataclass(frozen=True, slots=True)
class Tree:
    """Sequences in one row of tokens, shared prefixes once: ids [t] and the positions [t] that they have.

    A token is seen by itself and those behind it up to `until` [t] (not included), and by no other. `runs` are spans
    in which each token sees those before it; `reaches` are pairs of spans: of tokens, and of those before them in
    another run that all of them see as well. `nested`: some tokens reach into several. `reads` has, for each sequence,
    where in the row the positions stand that it was given with.
    """

    ids: Ids
    positions: Ints
    until: Ints
    runs: list[Span]
    reaches: list[tuple[Span, Span]]
    nested: bool
    reads: list[Ints]

    @property
    def pairs(self) -> int:
        """How many times a token sees a token."""
        own = sum((stop - start) * (stop - start + 1) // 2 for start, stop in self.runs)
        return own + sum((a[1] - a[0]) * (b[1] - b[0]) for a, b in self.reaches)

    def cost(self, cost: Cost) -> float:
        merged = sum(stop - start for (start, stop), _ in self.reaches)
        return cost.tree(len(self.ids), self.pairs, len(self.runs) + len(self.reaches), merged)


def lay_out(sequences: Sequence[Ids], common: Ints, reads: Sequence[Sequence[int]]) -> Tree:
    """The tree of sorted sequences of which each but the first shares `common` [n] tokens with the one before it.

    Each run follows the largest child wherever sequences part, so that the fewest tokens have to be merged; the other
    children stand behind it, those that part last first.
    """
    builder = _Builder(sequences, common)
    builder.roots()
    t = builder.length
    positions = np.concatenate(builder.positions)
    until = np.empty(t, np.int64)
    for start, stop in builder.runs:
        until[start:stop] = stop
    depth = np.zeros(t, np.int64)
    for (start, stop), (first, last) in builder.reaches:  # of one run, those that part last come first
        until[first:last] = stop
        depth[start:stop] += 1
    return Tree(
        ids=np.concatenate(builder.parts),
        positions=positions,
        until=until,
        runs=builder.runs,
        reaches=builder.reaches,
        nested=bool(depth.max(initial=0) > 1),
        reads=[_placed(path, own) for path, own in zip(builder.paths, reads, strict=True)],
    )


_Path = tuple[tuple[int, int], ...]  # from which depth on a sequence's tokens stand where


class _Builder:
    def __init__(self, sequences: Sequence[Ids], common: Ints) -> None:
        self.sequences, self.common = sequences, common
        lengths = np.array([len(ids) for ids in sequences], np.int64)
        self.sums = np.concatenate([[0], np.cumsum(lengths - np.concatenate([[0], common[1:]]))])
        self.parts: list[Ids] = []
        self.positions: list[Ints] = []
        self.length = 0
        self.runs: list[Span] = []
        self.reaches: list[tuple[Span, Span]] = []
        self.paths: list[_Path] = [()] * len(sequences)

    def roots(self) -> None:
        starts = [0, *(np.flatnonzero(self.common[1:] == 0) + 1).tolist(), len(self.sequences)]
        for first, stop in pairwise(starts):
            self._run(first, stop, 0, ())

    def _run(self, first: int, stop: int, depth: int, path: _Path) -> None:
        """A run from `depth` on through sequences that share what is above, and behind it whatever parts from it."""
        start, top = self.length, depth
        path = (*path, (depth, start))
        parting: list[tuple[int, list[Span]]] = []
        while stop - first > 1:
            inner = self.common[first + 1 : stop]
            fork = int(inner.min())
            self._write(first, depth, fork)
            starts = [first, *(np.flatnonzero(inner == fork) + first + 1).tolist(), stop]
            children = []
            for child in pairwise(starts):
                if len(self.sequences[child[0]]) == fork:  # it ends where the others go on
                    self.paths[child[0]] = path
                else:
                    children.append(child)
            depth = fork
            if not children:
                break
            first, stop = heaviest = max(children, key=lambda child: self._tokens(child, fork))
            parting.append((fork, [child for child in children if child != heaviest]))
        else:
            self._write(first, depth, len(self.sequences[first]))
            self.paths[first] = path
        self.runs.append((start, self.length))
        for fork, children in reversed(parting):
            if children:
                behind = self.length
                for child in children:
                    self._run(*child, fork, path)
                self.reaches.append(((behind, self.length), (start, start + fork - top)))

    def _write(self, sequence: int, depth: int, to: int) -> None:
        self.parts.append(self.sequences[sequence][depth:to])
        self.positions.append(np.arange(depth, to))
        self.length += to - depth

    def _tokens(self, span: Span, depth: int) -> int:
        first, stop = span
        rest = self.sums[stop] - self.sums[first + 1]
        return int(rest + len(self.sequences[first]) - depth)


def _placed(path: _Path, reads: Sequence[int]) -> Ints:
    depths = [depth for depth, _ in path]
    places = []
    for read in reads:
        depth, start = path[bisect_right(depths, read) - 1]
        places.append(start + read - depth)
    return np.array(places, np.int64)
