"""ContextualJudgeBench: pairs of answers from a context, or of summaries of it (Xu et al., arXiv 2503.15620)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rmbench.data.hub import HubSet
from rmbench.data.pairs import PairRows, named_after
from rmbench.data.rows import Row
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import consistent
from rmbench.metrics.interval import Statistic
from rmbench.metrics.measure import macro, of_rows
from rmbench.types import Outcome

SPLITS = (
    "completeness_qa",
    "completeness_summ",
    "conciseness_qa",
    "conciseness_summ",
    "faithfulness_qa",
    "faithfulness_summ",
    "refusal_answerable",
    "refusal_unanswerable",
)


def facets_of(split: str) -> dict[str, str]:
    """What sort of example a split has: what decides, and over which task."""
    criterion, _, setting = split.partition("_")
    return {"section": criterion, "subset": split} | ({} if criterion == "refusal" else {"setting": setting})


def _prompt(row: Row) -> str:
    """The question, then the context, as the authors' code hands both to a scorer of single responses."""
    return f"{row.text('question')}\n\n{row.text('context')}"


def _facets(row: Row) -> dict[str, str]:
    split = named_after(row, SPLITS)
    return {} if split is None else facets_of(split)


ROWS = PairRows(
    needs=("question", "context", "positive_response", "negative_response"),
    expected="a ContextualJudgeBench row has `question`, `context`, `positive_response` and `negative_response`",
    sides=("positive_response", "negative_response"),
    prompt=_prompt,
    facets=_facets,
)


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """Consistent accuracy, its mean over the eight splits, and what stands beside it."""
    first, *others = consistent.statistics(outcomes, view)
    over_splits = macro(
        "consistent_accuracy_macro",
        [(1.0, {"subset": split}, of_rows(first, outcomes)) for split in SPLITS],
        title="Right in both orders, mean of 8 splits",
        caveat="only where all eight splits are there; that of a split is consistent_accuracy of it",
    )
    return [first, over_splits(outcomes, view, None), *others]


TASK = Comparison(
    name="contextualjudgebench",
    version=1,
    summary="ContextualJudgeBench: answers and summaries by a context, both orders, in eight splits",
    card="contextualjudgebench",
    read=ROWS.read,
    sources=tuple(HubSet("Salesforce/ContextualJudgeBench", split=split, facets=facets_of(split)) for split in SPLITS),
    orders="both",
    null_verdict="loss",
    measure=replace(consistent.CONSISTENT, name="both orders, eight splits", of=statistics),
)
