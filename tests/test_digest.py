"""Which figures stand where follows from what statistics say of themselves."""

from __future__ import annotations

from typing import Any

import pytest

from rmbench.results.digest import Digest, said
from rmbench.results.schema import Definition


def made(unit: str, better: Any = "higher", kind: Any = "fraction", bounds: Any = (0.0, 1.0)) -> Definition:
    return Definition(title="A title", unit=unit, better=better, bounds=bounds, caveat="a caveat", kind=kind)


@pytest.fixture
def digest() -> Digest:
    """The figures of a benchmark that nobody knows."""
    return Digest(
        "gold",
        {
            "gold": made("share of tales", kind="proportion"),
            "silver": made("share of tales"),
            "whatever": made("share of tales", better=None),
            "loss": made("share of tales", better="lower"),
            "depth": made("fathoms", kind="number", bounds=(0.0, None)),
            "tide": made("correlation", better=None, kind="number", bounds=(-1.0, 1.0)),
            "ebb": made("correlation", better=None, kind="number", bounds=(-1.0, 1.0)),
        },
        frozenset(),
    )


def test_of_the_headlines_unit_and_direction_are_variants_and_without_direction_rules(digest: Digest) -> None:
    assert digest.variants == ["silver"]
    assert digest.rules == ["whatever"]


def test_beside_stands_the_first_of_each_other_unit_with_both_ends(digest: Digest) -> None:
    assert digest.beside == ["tide"]


def test_a_share_is_headed_in_percent(digest: Digest) -> None:
    assert [digest.heading(name) for name in ("gold", "depth", "not_there")] == ["gold %", "depth", "not there"]


def test_a_headline_that_nothing_has_leaves_the_others_beside_it(digest: Digest) -> None:
    lost = Digest("lost", digest.statistics, frozenset())
    assert (lost.variants, lost.rules, lost.beside) == ([], [], ["gold", "whatever", "loss", "tide"])


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        (made("tales"), ["A title (tales)", "higher is better", "0 to 1", "a caveat"]),
        (made("", None, "number", (0.0, None)), ["A title", "neither more nor less is better", "from 0", "a caveat"]),
        (made("", "lower", "number", (None, 3.0)), ["A title", "lower is better", "to 3", "a caveat"]),
    ],
)
def test_a_definition_in_words(definition: Definition, words: list[str]) -> None:
    assert said(definition) == words
