"""What has to be run: which sequences share which forward, and in which way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from rmbench.forwards.budget import Pace
from rmbench.forwards.cost import Cost
from rmbench.forwards.prefixes import Ints, Span, Tree, common_prefixes, cut, in_order, lay_out, worth_sharing
from rmbench.models.base import Encoded

Way = Literal["shared", "packed", "padded"]


def batches(lengths: Sequence[int], budget: int, cost: Cost | None = None) -> list[list[int]]:
    """Indices into `lengths` in padded batches, longest first; a batch holds longest x count <= `budget` tokens.

    A sequence longer than the budget is a batch of its own. Longest first, so that memory runs out at once or never.
    With `cost`, a batch ends as well where the padding of the next sequence costs more than another forward.
    """
    planned: list[list[int]] = []
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        longest = lengths[batch[0]] if batch else 0
        dear = cost is not None and cost.filling(longest, lengths[index]) > cost.start
        if batch and (longest * (len(batch) + 1) > budget or dear):
            planned.append(batch)
            batch = []
        batch.append(index)
    return [*planned, batch] if batch else planned


@dataclass(frozen=True, slots=True)
class Bin:
    """What one forward computes: sequences `members`, `tokens` of them (padding counted, what is shared once).

    `tree` is how they share one row, None where they are padded to one length. `cost` is in operations.
    """

    way: Way
    members: list[int]
    tokens: int
    cost: float
    tree: Tree | None = None

    def renamed(self, names: Sequence[int]) -> Bin:
        """The same with `names[i]` for each member i."""
        return replace(self, members=[names[i] for i in self.members])


def plan(
    encoded: Sequence[Encoded], cost: Cost, budget: int, ways: frozenset[Way], pace: Pace | None = None
) -> list[Bin]:
    """The forwards that score every sequence, the costliest first, each of at most `budget` tokens or one sequence.

    `ways` are those that the model can take. Sequences that share what is worth it share a forward; the others are
    batched by length and packed or padded, whichever costs less. A `pace` has forwards smaller than `budget`.
    """
    usual = budget if pace is None else min(budget, pace.size)
    alone = list(range(len(encoded)))
    bins: list[Bin] = []
    if "shared" in ways and len(encoded) > 1:
        ids = [np.asarray(item.ids, np.int32) for item in encoded]
        order = in_order(ids)
        lengths = [len(ids[i]) for i in order]
        common = worth_sharing(lengths, common_prefixes([ids[i] for i in order]), cost)
        joined = (common > 0) | np.append(common[1:] > 0, False)
        alone = [order[i] for i in np.flatnonzero(~joined)]
        places = np.flatnonzero(joined).tolist()
        spans = _cut_at([lengths[i] for i in places], common[places], usual, budget, pace)
        bins += [
            _tree("shared", encoded, [order[places[i]] for i in span], common[[places[i] for i in span]], cost)
            for span in spans
        ]
    for batch in batches([len(encoded[i].ids) for i in alone], usual):
        members = [alone[i] for i in batch]
        lengths = [len(encoded[i].ids) for i in members]
        filled = [_padded([members[i] for i in part], encoded, cost) for part in batches(lengths, usual, cost)]
        padded = sum(one.cost for one in filled) + (cost.start * (len(filled) - 1) if len(filled) > 1 else 0.0)
        if "packed" in ways and ("padded" not in ways or cost.packed(lengths) < padded):
            bins.append(_tree("packed", encoded, members, np.zeros(len(members), np.int64), cost))
        else:
            bins += filled
    return sorted(bins, key=lambda planned: -planned.cost)


def _cut_at(lengths: Sequence[int], common: Ints, usual: int, budget: int, pace: Pace | None) -> list[list[int]]:
    """The places of the sorted sequences in stretches of `usual` tokens, and of more where a beginning would be lost.

    What begins alike and has more is cut by itself: into what lasts as long as a forward may, or, where one sequence
    lasts that long anyway, twice as long as that.
    """
    if pace is None:
        return [[*range(*span)] for span in cut(lengths, common.tolist(), usual)]
    small: list[int] = []
    stretches: list[list[int]] = []
    for first, stop in pairwise([*np.flatnonzero(common == 0).tolist(), len(lengths)]):
        own, shared = lengths[first:stop], common[first:stop].tolist()
        if sum(own) - sum(shared) <= usual:
            small += range(first, stop)
        else:
            most = min(budget, max(usual, pace.most, 2 * max(own)))
            stretches += [[*range(first + a, first + b)] for a, b in cut(own, shared, most)]
    spans: list[Span] = cut([lengths[i] for i in small], common[small].tolist(), usual)
    return [*stretches, *([small[i] for i in range(*span)] for span in spans)]


def _padded(members: list[int], encoded: Sequence[Encoded], cost: Cost) -> Bin:
    lengths = [len(encoded[i].ids) for i in members]
    return Bin("padded", members, max(lengths) * len(lengths), cost.padded(lengths))


def _tree(way: Way, encoded: Sequence[Encoded], members: list[int], common: Ints, cost: Cost) -> Bin:
    ids = [np.asarray(encoded[i].ids, np.int32) for i in members]
    tree = lay_out(ids, np.concatenate([[0], common[1:]]), [encoded[i].reads for i in members])
    return Bin(way, members, len(tree.ids), tree.cost(cost), tree)
