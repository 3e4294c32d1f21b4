"""LongRewardBench: pairs and rankings of responses to long contexts, up to 128k tokens (Tang et al., arXiv 2510.06915).

An example is worth the share of its responses that stand in their own rank: of a pair all or nothing. Responses that
are rated alike stand in each of their ranks as often: the authors' code orders them as they were shown, which it draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.hub import HubSet
from rmbench.data.messages import read_messages
from rmbench.data.pairs import named_after
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import comparison, summary
from rmbench.metrics.interval import Statistic, mean
from rmbench.metrics.measure import Unfitted, macro, of_rows
from rmbench.types import Array, Candidate, Example, Message, Outcome

SUBSETS = ("LongQA", "Summ", "Safety", "ICL", "Cite", "Code", "Math")
KINDS = {"PairWise": "pairwise", "BestOfN": "ranking"}
_EXPECTED = (
    "a LongRewardBench row has `prompt_template`, `tasktype` and `ctx_length_for_length`, with `chosen` and "
    "`rejected`, or with `candidates`, the best first"
)


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row, its responses from the best to the worst: a pair, or a ranking of several."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for field in ("prompt_template", "tasktype", "ctx_length_for_length"):
        row.need((field,), _EXPECTED)
    kind = row.value["tasktype"]
    if kind not in KINDS:
        raise row.error(f"expected PairWise or BestOfN, got {shown(kind)}", "tasktype")
    if kind == "BestOfN":
        texts = row.texts(row.need(("candidates",), _EXPECTED))
        if len(texts) < 2:
            raise row.error(f"expected two responses at least, got {len(texts)}", "candidates")
    else:
        texts = [row.text(row.need((side,), _EXPECTED)) for side in ("chosen", "rejected")]
    candidates = tuple(Candidate(text, float(len(texts) - 1 - rank)) for rank, text in enumerate(texts))
    return Example("", _prompt(row), candidates, facets=_facets(row, kind))


def _prompt(row: Row) -> tuple[Message, ...]:
    """The turns, which `datasets` may hand back as a list of each of their fields."""
    turns = row.value["prompt_template"]
    if isinstance(turns, Mapping) and {*turns} == {"role", "content"}:
        turns = [dict(zip(turns, turn, strict=True)) for turn in zip(*turns.values(), strict=True)]
    if not isinstance(turns, list) or not turns:
        raise row.error(f"expected a list of messages, got {shown(turns)}", "prompt_template")
    return read_messages(row, "prompt_template", turns)


def _facets(row: Row, kind: str) -> dict[str, str]:
    """The authors' columns: kind, length, whether both of a pair are of one sort, and how many there are to rank."""
    sort, subset = row.name(("subtype",)), named_after(row, SUBSETS)
    if kind == "PairWise":
        sort = "same" if sort == "same" else "different"
    facets = {"kind": KINDS[kind], "subtype": sort, "length": row.text("ctx_length_for_length"), "subset": subset}
    return {name: value for name, value in facets.items() if value}


def in_rank(outcome: Outcome, view: str) -> float:
    """The share of the responses that stand in their own rank, the best being the first; nan without an answer."""
    seen = outcome.views.get(view)
    scores = None if seen is None else seen.scores
    if seen is not None and scores is None and seen.beats is not None:
        others = ~np.eye(len(outcome.labels), dtype=bool)
        scores = np.where(others, seen.beats, 0.0).sum(axis=1)  # how many others it is preferred to
    if scores is None or np.isnan(scores).any():
        return np.nan
    values: Array = np.asarray(scores, float)
    before = (values[None, :] > values[:, None]).sum(axis=1)
    alike = (values[None, :] == values[:, None]).sum(axis=1)
    ranks = np.arange(len(values))
    return float(np.where((before <= ranks) & (ranks < before + alike), 1 / alike, 0.0).mean())


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """The authors' mean over everything, over pairs and over rankings, then what every comparison has."""
    shares = np.array([in_rank(outcome, view) for outcome in outcomes], float)
    average = mean("average", shares, "fraction", title="Responses in their own rank", unit="share of responses",
                   better="higher", caveat="a pair and a ranking count alike; equal rewards are half")  # fmt: skip
    of_kind = (
        macro(
            name,
            [(1.0, {"kind": name}, of_rows(average, outcomes))],
            title=f"Responses in their own rank, {name}",
            caveat=caveat,
        )
        for name, caveat in (
            ("pairwise", "this is accuracy, equal rewards half; says nothing of rankings"),
            ("ranking", "of four responses one in four stands right by chance; one wrong pair makes two wrong"),
        )
    )
    return [average, *(make(outcomes, view, None) for make in of_kind), *summary.statistics(outcomes, view)]


def left_out(outcomes: Sequence[Outcome], view: str) -> dict[str, int]:
    """How many examples have a response without an answer."""
    count = sum(np.isnan(in_rank(outcome, view)) for outcome in outcomes)
    return {"no answer": count} if count else {}


TASK = Comparison(
    name="longrewardbench",
    version=1,
    summary="LongRewardBench: pairs and rankings of responses to long contexts, from 4k to 128k tokens",
    card="longrewardbench",
    read=read,
    sources=tuple(HubSet("LCM-Lab/LongRewardBench", config=subset, facets={"subset": subset}) for subset in SUBSETS),
    null_verdict="loss",
    measure=Unfitted("ranks", "average", statistics, left_out, comparison.ties),
)
