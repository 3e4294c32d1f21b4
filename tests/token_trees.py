"""Random sequences that share prefixes, and what a plan of them may not depend on."""

from __future__ import annotations

from hypothesis import strategies as st

Sequences = list[list[int]]


@st.composite
def token_trees(draw: st.DrawFn, most: int = 10, longest: int = 8, alphabet: int = 4, least: int = 1) -> Sequences:
    """Sequences of at least `least` ids below `alphabet`: new ones, prefixes, continuations and repetitions of others.

    Each takes a stretch of an earlier one and adds at most `longest` ids.
    """
    made: Sequences = []
    for _ in range(draw(st.integers(1, most))):
        above: list[int] = []
        if made and draw(st.booleans()):
            other = draw(st.sampled_from(made))
            above = other[: draw(st.integers(0, len(other)))]
        few = max(0, least - len(above))
        made.append(above + draw(st.lists(st.integers(0, alphabet - 1), min_size=few, max_size=max(few, longest))))
    return made
