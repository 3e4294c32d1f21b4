"""What has to be run: which sequences share which forward, and in which way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rmbench.forwards.cost import Cost
from rmbench.forwards.prefixes import Ints, Tree, common_prefixes, cut, in_order, lay_out, worth_sharing
from rmbench.models.base import Encoded

Way = Literal["shared", "packed", "padded"]


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices into `lengths` in padded batches, longest first; a batch holds longest x count <= `budget` tokens.

    A sequence longer than the budget is a batch of its own. Longest first, so that memory runs out at once or never.
    """
    planned: list[list[int]] = []
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if batch and lengths[batch[0]] * (len(batch) + 1) > budget:
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


def plan(encoded: Sequence[Encoded], cost: Cost, budget: int, ways: frozenset[Way]) -> list[Bin]:
    """The forwards that score every sequence, the costliest first, each of at most `budget` tokens or one sequence.

    `ways` are those that the model can take. Sequences that share what is worth it share a forward; the others are
    batched by length and packed or padded, whichever costs less.
    """
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
        spans = cut([lengths[i] for i in places], common[places].tolist(), budget)
        bins += [_tree("shared", encoded, [order[i] for i in places[a:b]], common[places[a:b]], cost) for a, b in spans]
    for batch in batches([len(encoded[i].ids) for i in alone], budget):
        members = [alone[i] for i in batch]
        lengths = [len(encoded[i].ids) for i in members]
        if "packed" in ways and ("padded" not in ways or cost.packed(lengths) < cost.padded(lengths)):
            bins.append(_tree("packed", encoded, members, np.zeros(len(members), np.int64), cost))
        else:
            bins.append(Bin("padded", members, max(lengths) * len(lengths), cost.padded(lengths)))
    return sorted(bins, key=lambda planned: -planned.cost)


def _tree(way: Way, encoded: Sequence[Encoded], members: list[int], common: Ints, cost: Cost) -> Bin:
    ids = [np.asarray(encoded[i].ids, np.int32) for i in members]
    tree = lay_out(ids, np.concatenate([[0], common[1:]]), [encoded[i].reads for i in members])
    return Bin(way, members, len(tree.ids), tree.cost(cost), tree)
