"""A benchmark as somebody else would write it, in one module: RM-Bench's three by three styles, over two domains.

Three right answers of a prompt (concise, detailed, in Markdown) stand against three wrong ones of the same styles.
A reward is right in a cell where it prefers the right answer of the row's style to the wrong one of the column's. Hard
are the cells in which style speaks for the wrong answer, easy those in which it speaks for the right one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from rmbench.data.files import Row
from rmbench.data.hub import HubSet
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import comparison
from rmbench.metrics.interval import Statistic, mean
from rmbench.metrics.measure import Make, Unfitted, macro
from rmbench.types import Array, Candidate, Example, Json, Message, Outcome

STYLES = ("concise", "detailed", "markdown")
CELLS = {
    "hard": np.triu(np.ones((3, 3), dtype=bool), 1),
    "normal": np.eye(3, dtype=bool),
    "easy": np.tril(np.ones((3, 3), dtype=bool), -1),
    "all_styles": np.ones((3, 3), dtype=bool),
}
DOMAINS = ("chat", "code")


def read(rows: Iterable[Row]) -> Iterator[Example]:
    """One example a row: `chosen` and `rejected` have an answer of each style."""
    for row in rows:
        answers = [(text, side == "chosen") for side in ("chosen", "rejected") for text in row.value[side]]
        candidates = tuple(Candidate(text, right) for text, right in answers)
        yield Example(str(row.value["id"]), (Message("user", row.text("prompt")),), candidates)


def matrix(outcome: Outcome, view: str) -> Array:
    """Whether the right answer of each style is preferred to the wrong one of each [3, 3]; nan without an answer."""
    seen = outcome.views[view]
    beats = comparison.beats(np.asarray(seen.scores)) if seen.beats is None else seen.beats
    cells = beats[:3, 3:]
    return np.where(np.isnan(cells), np.nan, cells == 1)


def accuracy(name: str) -> Make:
    """How to make the mean over some of the nine cells, then over prompts."""

    def make(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
        cells = np.array([matrix(outcome, view)[CELLS[name]].mean() for outcome in outcomes])
        return mean(name, cells, "fraction", title=f"Accuracy, {name}", unit="share of cells", better="higher")

    return make


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """The nine cells in four ways, each as the mean of both domains; `overall` is of all of them."""
    of_domains = {name: [(1.0, {"domain": domain}, accuracy(name)) for domain in DOMAINS] for name in CELLS}
    difficulty = [(1.0, {}, macro(name, of_domains[name])) for name in ("hard", "normal", "easy")]
    makes = [macro("overall", difficulty), *(macro(name, parts) for name, parts in of_domains.items())]
    return [make(outcomes, view, None) for make in makes]


TASK = Comparison(
    name="mini_rm_bench",
    version=1,
    summary="Three right answers against three wrong ones, in three styles, of two domains",
    card="mini_rm_bench",
    read=read,
    sources=tuple(HubSet("somebody/mini-rm-bench", config=name, facets={"domain": name}) for name in DOMAINS),
    measure=Unfitted("styles", "overall", statistics, comparison.left_out, comparison.ties),
)
