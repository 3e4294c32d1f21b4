"""Data sets: what counts as an example, what is counted as left out, and when two sets are the same."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from rmbench.data.dataset import Dataset, LeftOut, Source, collect
from rmbench.data.part import Part
from rmbench.errors import DataError
from rmbench.types import Candidate, Example, Message, Response

SOURCES = [Source("x.jsonl", "local", "ab", 3)]


def example(
    name: str, prompt: str = "?", texts: tuple[str | None, ...] = ("a", "b"), cluster: str | None = None
) -> Example:
    candidates = tuple(Candidate(Response(text), index == 0) for index, text in enumerate(texts))
    return Example(name, (Message("user", prompt),), candidates, cluster=cluster)


def test_rows_that_are_no_example_are_counted_by_reason() -> None:
    items: list[Example | LeftOut] = [
        LeftOut("prompts differ"),
        example("1"),
        LeftOut("no response"),
        LeftOut("prompts differ"),
    ]
    data = collect(items, SOURCES)
    assert [e.id for e in data.examples] == ["1"]
    assert data.excluded == {"prompts differ": 2, "no response": 1}


def test_no_example_at_all_is_an_error_that_says_why() -> None:
    with pytest.raises(DataError, match=r"x\.jsonl: no usable example \(prompts differ: 2\)"):
        collect([LeftOut("prompts differ")] * 2, SOURCES)


def collected(*items: Example, **part: Any) -> Dataset:
    return collect(items, SOURCES, part=Part(**part))


def test_a_repeated_id_gets_a_number_and_is_counted() -> None:
    items = [example("1"), example("1", "!"), example("2"), example("1#3"), example("1", "?!")]
    data = collected(*items)
    assert [e.id for e in data.examples] == ["1", "1#2", "2", "1#3", "1#4"]
    assert data.noted == {"repeated ids": 2, "copies of an example before": 2}
    (drawn,) = collected(*items, limit=1).examples
    assert collected(*items, limit=1).noted == ({"repeated ids": 1} if drawn.id in ("1#2", "1#4") else {})


def test_an_example_without_an_id_is_named_by_its_content() -> None:
    data = collected(example("", "one"), example("", "two"), example("", "one"), example("", "one", ("b", "a")))
    ids = [e.id for e in data.examples]
    turns = [[["user", "one"]], ["a", "b"]]
    assert ids[0] == sha256(json.dumps(turns).encode()).hexdigest()[:12]
    assert ids[2] == ids[0] + "#2"
    assert len(set(ids)) == 4
    assert "repeated ids" not in data.noted


def test_a_content_id_does_not_tell_the_label_or_the_place() -> None:
    one, two = example("", texts=("a", "b")), example("", "!")
    swapped = replace(
        one, candidates=tuple(replace(c, label=not c.label) for c in one.candidates), facets={"subset": "s"}
    )
    assert {e.id for e in collected(one, two).examples} == {e.id for e in collected(two, swapped).examples}


def test_no_subset_is_called_like_the_whole() -> None:
    with pytest.raises(DataError, match=r"^x\.jsonl: example '2' is of a subset 'all', .*; rename the subset$"):
        collected(example("1"), replace(example("2"), facets={"subset": "all"}))


def test_examples_of_one_prompt_are_one_cluster_unless_they_say_otherwise() -> None:
    items = [example("1"), example("2"), example("3", "!"), example("4", cluster="own")]
    one, two, three, four = (e.cluster for e in collect(items, SOURCES).examples)
    assert one == two != three
    assert four == "own"


def test_examples_without_a_prompt_are_independent() -> None:
    one, two = (replace(example(name), prompt=()) for name in ("1", "2"))
    assert len({e.cluster for e in collected(one, two).examples}) == 2


def test_odd_examples_stay_and_are_counted() -> None:
    items = [example("1", texts=("", "b")), example("2", texts=("same", "same")), example("3", texts=(None, None))]
    data = collect(items, SOURCES)
    assert data.noted == {"empty responses": 1, "examples with identical responses": 1}
    assert collected(replace(example("1"), prompt=()), example("2", " ")).noted == {"empty prompts": 2}
    odd = {example.id: collected(example).noted for example in items}
    (drawn,) = collected(*items, limit=1).examples
    assert collected(*items, limit=1).noted == odd[drawn.id]


def test_duplicates_are_the_same_prompt_and_candidates() -> None:
    items = [example("1"), example("2", texts=("b", "a")), example("3", "!"), example("4")]
    data = collected(*items, deduplicate=True)
    assert [e.id for e in data.examples] == ["1", "2", "3"]
    assert data.excluded == {"duplicate": 1}


def test_without_texts_duplicates_are_the_same_prompt() -> None:
    items = [example("1", texts=(None, None)), example("1#2", texts=(None, None)), example("3", "!", (None, None))]
    assert [e.id for e in collected(*items, deduplicate=True).examples] == ["1", "3"]


def test_the_hash_changes_exactly_when_examples_are_dropped() -> None:
    items = [example("1"), example("2"), example("3", "!")]
    assert collected(*items, limit=3).sha256 == collected(*items, seed=7).sha256 == collected(*items).sha256
    parts: list[dict[str, Any]] = [{}, {"limit": 1}, {"limit": 2}, {"limit": 2, "seed": 1}, {"deduplicate": True},
                                   {"deduplicate": True, "limit": 1}]  # fmt: skip
    hashes = [collected(*items, **part).sha256 for part in parts]
    assert len(set(hashes)) == len(parts)
    assert [collected(*items, **part).sha256 for part in parts] == hashes


def test_copies_are_counted_where_they_are_not_dropped() -> None:
    items = [example("1"), example("2"), example("3", "other"), example("4")]
    assert collected(*items).noted == {"copies of an example before": 2}
    assert collected(*items, deduplicate=True).noted == {}
    unseen = [replace(example(name), candidates=(Candidate(Response(None), label=1.0),)) for name in "12"]
    assert "copies of an example before" not in collected(*unseen).noted  # only a score file knows their texts
