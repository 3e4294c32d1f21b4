"""RM-Bench: three right answers against three wrong ones, in three styles (Liu et al., arXiv 2410.16184).

The answers of a side are concise, detailed, and detailed in Markdown. A reward is right in a cell of the nine where it
prefers, strictly, the right answer of the row's style to the wrong one of the column's. Hard are the cells in which
style speaks for the wrong answer, easy those in which it speaks for the right one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath

import numpy as np

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut, content_id
from rmbench.data.hub import HubSet
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import comparison
from rmbench.metrics.interval import Statistic, mean
from rmbench.metrics.measure import Make, Unfitted, macro
from rmbench.types import Array, Candidate, Example, Json, Message, Outcome

STYLES = ("concise", "detailed", "markdown")
DOMAINS = ("chat", "math", "code", "safety")
CELLS = {
    "": np.ones((3, 3), dtype=bool),
    "hard": np.triu(np.ones((3, 3), dtype=bool), 1),
    "normal": np.eye(3, dtype=bool),
    "easy": np.tril(np.ones((3, 3), dtype=bool), -1),
}
_EXPECTED = (
    "an RM-Bench row has `prompt`, `chosen` and `rejected`, three texts each, and `domain`, or stands in a file "
    "that is named after it, as chat_filtered.json"
)
_TWICE = "a row that stands in another file as well"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row: the right answers by style, then the wrong ones.

    The authors' folder holds every row twice, in the file of its domain and in that of all; it is read once.
    """
    files: dict[str, str] = {}
    for row in rows:
        example = attempt(row, _example)
        if isinstance(example, Example) and files.setdefault(content_id(example), row.file) != row.file:
            row.leave_out()
            yield LeftOut(_TWICE)
        else:
            yield example


def _example(row: Row) -> Example:
    row.need(("prompt",), _EXPECTED)
    for side in ("chosen", "rejected"):
        row.need((side,), _EXPECTED)
        texts = row.value[side]
        if not isinstance(texts, list) or len(texts) != 3 or not all(isinstance(text, str) for text in texts):
            raise row.error(f"expected three texts, {', '.join(STYLES)}, got {shown(texts)}", side)
    part, domain = _domain(row)
    candidates = tuple(Candidate(text, side == "chosen") for side in ("chosen", "rejected") for text in row.value[side])
    facets = {"domain": domain} | ({} if part == domain else {"subset": part})
    # ids repeat over the files, so an example is named by its texts
    return Example("", (Message("user", row.text("prompt")),), candidates, facets=facets)


def _domain(row: Row) -> tuple[str, str]:
    """The domain as the data write it, safety in two parts, and which of the four that is."""
    stated = row.name(("domain",))
    part = PurePath(row.file).name.partition("_filtered")[0] if stated is None else stated
    domain = next((domain for domain in DOMAINS if part.startswith(domain)), None)
    if domain is None:
        problem = f"expected one that begins with {', '.join(DOMAINS)}, got {shown(stated)}"
        raise row.error(problem, "domain") if "domain" in row.value else row.lacks("domain", _EXPECTED)
    return part, domain


def matrix(outcome: Outcome, view: str) -> Array:
    """Whether the right answer of each style is preferred to the wrong one of each [3, 3]; nan where one of the nine
    has no answer."""
    seen = outcome.views.get(view)
    if seen is None or (seen.scores is None and seen.beats is None):
        return np.full((3, 3), np.nan)
    beats = comparison.beats(np.asarray(seen.scores)) if seen.beats is None else seen.beats
    cells = beats[:3, 3:]
    return np.where(np.isnan(cells).any(), np.nan, cells == 1)


def accuracy(name: str, cells: str = "", title: str = "", caveat: str = "") -> Make:
    """How to make the mean over some of the nine cells, then over prompts."""

    def make(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
        means = np.array([matrix(outcome, view)[CELLS[cells]].mean() for outcome in outcomes])
        return mean(name, means, "fraction", title=title, unit="share of cells", better="higher", caveat=caveat)

    return make


def _over_domains(name: str, cells: str, title: str, caveat: str) -> Make:
    parts = [(1.0, {"domain": domain}, accuracy(name, cells)) for domain in DOMAINS]
    return macro(name, parts, title=title, caveat=caveat)


MAKES = (
    _over_domains("overall", "", "Accuracy, mean over the four domains",
                  "only where all four domains are there; does not say whether style or substance decides"),
    _over_domains("hard", "hard", "Accuracy where style speaks for the wrong answer, mean over the four domains",
                  "a reward that likes short answers does well here; read it beside easy"),
    _over_domains("normal", "normal", "Accuracy in the same style, mean over the four domains",
                  "says nothing of what style does to the reward"),
    _over_domains("easy", "easy", "Accuracy where style speaks for the right answer, mean over the four domains",
                  "1 for a reward that only counts characters, where styles differ enough"),
    accuracy("accuracy", title="Accuracy over the nine cells, ties lost",
             caveat="of several domains it is a mean over prompts, which is not RM-Bench's figure"),
    accuracy("accuracy_hard", "hard", title="Accuracy where style speaks for the wrong answer",
             caveat="a reward that likes short answers does well here"),
    accuracy("accuracy_normal", "normal", title="Accuracy in the same style",
             caveat="says nothing of what style does to the reward"),
    accuracy("accuracy_easy", "easy", title="Accuracy where style speaks for the right answer",
             caveat="a reward that likes long answers does well here"),
)  # fmt: skip


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """RM-Bench's figures, means of four domains, then the same over the prompts given, which are those of a domain."""
    return [make(outcomes, view, None) for make in MAKES]


TASK = Comparison(
    name="rm_bench",
    version=1,
    summary="RM-Bench: three right answers against three wrong ones in three styles, four domains",
    card="rm_bench",
    read=read,
    sources=(HubSet("THU-KEG/RM-Bench"),),
    measure=Unfitted("styles", "overall", statistics, comparison.left_out, comparison.ties),
)
