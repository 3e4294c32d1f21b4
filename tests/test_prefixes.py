"""What sequences share, what of it is worth sharing, where to cut, how a tree lies in a row: against brute force."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from token_trees import Sequences, token_trees

from rmbench.forwards.cost import Cost
from rmbench.forwards.prefixes import Ids, Ints, Tree, common_prefixes, cut, in_order, lay_out, worth_sharing

COSTS = st.builds(
    Cost,
    token=st.sampled_from([0.0, 1.0, 10.0, 100.0]),
    pair=st.sampled_from([0.0, 0.1, 3.0]),
    call=st.sampled_from([0.0, 5.0, 50.0, 1e9]),
    merge=st.sampled_from([0.0, 1.0, 10.0]),
)
LARGE_IDS = st.lists(st.lists(st.sampled_from([0, 1, 255, 256, 65536, 2**31 - 1]), max_size=4), max_size=8)


def sorted_ids(sequences: Sequences) -> list[Ids]:
    ids = [np.array(one, np.int32) for one in sequences]
    return [ids[i] for i in in_order(ids)]


def laid_out(ids: list[Ids], common: Ints) -> Tree:
    """The tree of `ids`, the first of which shares nothing, with every position read."""
    return lay_out(ids, np.concatenate([[0], common[1:]]), [range(len(one)) for one in ids])


def visible(tree: Tree) -> np.ndarray:
    """[query, key] from runs and reaches, token by token; no pair may be seen twice."""
    t = len(tree.ids)
    seen = np.zeros((t, t), np.int64)
    for start, stop in tree.runs:
        for q in range(start, stop):
            seen[q, start : q + 1] += 1
    for (first, last), (start, stop) in tree.reaches:
        assert first < last, "nothing reaches"
        assert start < stop <= first, "reaches nothing, or into what stands behind"
        seen[first:last, start:stop] += 1
    assert seen.max(initial=0) <= 1, "a token is attended to twice"
    return seen > 0


@given(LARGE_IDS)
def test_sequences_stand_in_lexicographic_order(sequences: Sequences) -> None:
    assert [one.tolist() for one in sorted_ids(sequences)] == sorted(sequences)


@given(token_trees())
def test_common_prefixes_are_those_of_neighbours(sequences: Sequences) -> None:
    ids = sorted_ids(sequences)
    expected = [0]
    for before, one in pairwise(ids):
        shared = 0
        while shared < min(len(before), len(one)) and before[shared] == one[shared]:
            shared += 1
        expected.append(shared)
    assert common_prefixes(ids).tolist() == expected


@given(token_trees(), COSTS)
def test_sharing_never_costs_more_than_not_sharing(sequences: Sequences, cost: Cost) -> None:
    ids = sorted_ids(sequences)
    common = common_prefixes(ids)
    kept = worth_sharing([len(one) for one in ids], common, cost)
    assert ((kept >= 0) & (kept <= common)).all()
    alone = laid_out(ids, np.zeros_like(common)).cost(cost)
    assert laid_out(ids, kept).cost(cost) <= alone * (1 + 1e-9)


@given(token_trees(most=4, longest=3, alphabet=2), COSTS)
@settings(max_examples=60, deadline=None)
def test_what_is_worth_sharing_is_near_the_best_of_all_choices(sequences: Sequences, cost: Cost) -> None:
    ids = sorted_ids(sequences)
    common = common_prefixes(ids)
    every = [laid_out(ids, np.array(some)).cost(cost) for some in product(*(range(n + 1) for n in common))]
    found = laid_out(ids, worth_sharing([len(one) for one in ids], common, cost)).cost(cost)
    assert min(every) <= found
    if len(ids) == 2:
        assert found <= min(every) + cost.call + 1e-9  # it does not count the call that one of two equals saves


def test_free_sharing_shares_everything_and_dear_sharing_only_what_needs_no_attention_of_its_own() -> None:
    ids = sorted_ids([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 5], [1, 2], [7]])
    lengths, common = [len(one) for one in ids], common_prefixes(ids)
    assert worth_sharing(lengths, common, Cost(1, 0, 0, 0)).tolist() == common.tolist() == [0, 2, 3, 4, 0]
    # a repetition ends where another ends; the others would go on behind what they share
    dear = Cost(1, 0, 1e9, 0)
    assert worth_sharing(lengths, common, dear).tolist() == [0, 0, 0, 4, 0]
    nested = sorted_ids([[1], [1, 2], [1, 2, 3]])  # each ends where the next goes on
    assert worth_sharing([1, 2, 3], common_prefixes(nested), dear).tolist() == [0, 1, 2]


@given(token_trees(most=12), st.sampled_from([1, 5, 10, 30, 1000]), st.booleans())
def test_cuts_have_the_fewest_tokens_and_of_those_the_fewest_stretches(
    sequences: Sequences, budget: int, share: bool
) -> None:
    ids = sorted_ids(sequences)
    lengths = [len(one) for one in ids]
    common = (common_prefixes(ids) if share else np.zeros(len(ids), np.int64)).tolist()

    def size(first: int, stop: int) -> int:
        return lengths[first] + sum(lengths[i] - common[i] for i in range(first + 1, stop))

    best = [(0, 0)]
    for stop in range(1, len(ids) + 1):
        fits = [first for first in range(stop) if size(first, stop) <= budget or stop - first == 1]
        best.append(min((best[first][0] + size(first, stop), best[first][1] + 1) for first in fits))
    spans = cut(lengths, common, budget)
    assert [i for first, stop in spans for i in range(first, stop)] == list(range(len(ids)))
    assert all(size(*span) <= budget or span[1] - span[0] == 1 for span in spans)
    assert (sum(size(*span) for span in spans), len(spans)) == best[-1]


def test_nothing_is_cut_into_nothing() -> None:
    assert cut([], [], 10) == []


@given(token_trees(most=14), COSTS, st.sampled_from([1, 7, 20, 1000]))
@example([[1], [1], [1]], Cost(1, 0, 0, 0), 1000)  # one token, three times
@example([[1], [1, 2], [1, 2, 3], [1, 2, 3, 4]], Cost(1, 0, 0, 0), 1000)  # each a prefix of the next
@example([[1] * n + [2] for n in range(8)], Cost(1, 0, 0, 0), 1000)  # parting one after the other
@example([[1, 1, 0], [1, 1, 2], [1, 2, 0], [1, 2, 3], [1, 2, 3]], Cost(1, 0, 0, 0), 1000)  # nested
@settings(max_examples=200, deadline=None)
def test_each_token_of_a_row_sees_its_own_sequence_s_prefix_and_nothing_else(
    sequences: Sequences, cost: Cost, budget: int
) -> None:
    everything = sorted_ids(sequences)
    kept = worth_sharing([len(one) for one in everything], common_prefixes(everything), cost)
    for first, stop in cut([len(one) for one in everything], kept.tolist(), budget):
        ids, common = everything[first:stop], kept[first:stop]
        tree = laid_out(ids, common)
        assert len(tree.ids) == sum(map(len, ids)) - common[1:].sum()
        assert len(tree.ids) <= budget or stop - first == 1
        seen = visible(tree)
        q, k = np.indices(seen.shape)
        assert (seen == ((q >= k) & (q < tree.until[k]))).all()
        assert tree.pairs == seen.sum()
        reaching = sum(q_to - q_from for (q_from, q_to), _ in tree.reaches)
        assert tree.cost(Cost(0, 0, 0, 1)) == reaching
        depth = np.zeros(len(tree.ids), np.int64)
        for (q_from, q_to), _ in tree.reaches:
            depth[q_from:q_to] += 1
        assert tree.nested == (depth.max(initial=0) > 1)
        for one, places in zip(ids, tree.reads, strict=True):
            assert tree.ids[places].tolist() == one.tolist()
            assert tree.positions[places].tolist() == list(range(len(one)))
            for i, place in enumerate(places):
                assert np.flatnonzero(seen[place]).tolist() == sorted(places[: i + 1].tolist())


@given(token_trees(), st.data())
def test_reads_are_found_in_any_order(sequences: Sequences, data: st.DataObject) -> None:
    ids = sorted_ids(sequences)
    reads = [data.draw(st.lists(st.integers(0, len(one) - 1), max_size=5)) for one in ids]
    common = common_prefixes(ids)
    some, every = lay_out(ids, common, reads), laid_out(ids, common)
    for wanted, found, places in zip(reads, some.reads, every.reads, strict=True):
        assert found.tolist() == places[wanted].tolist()


@pytest.mark.parametrize("children", [2, 3, 200])
def test_the_largest_child_goes_on_in_the_run(children: int) -> None:
    ids = sorted_ids([[9, 9, i, *[i] * (i == 1) * 50] for i in range(children)])
    tree = laid_out(ids, common_prefixes(ids))
    assert tree.runs[0] == (0, 2 + 51)
    assert tree.reaches == [((53, 53 + children - 1), (0, 2))]


def test_a_comb_of_many_sequences_is_laid_out_without_deep_recursion() -> None:
    """Each parts one token later than the one before it: as many forks on one path as there are sequences."""
    ids = sorted_ids([[1] * n + [2] for n in range(1, 500)])
    tree = laid_out(ids, common_prefixes(ids))
    assert len(tree.ids) == 500 + 498
    assert len(tree.runs) == 499
    ids = sorted_ids([[1] * n + [2] * (500 - n) for n in range(1, 40)])
    assert len(laid_out(ids, common_prefixes(ids)).runs) == 39
