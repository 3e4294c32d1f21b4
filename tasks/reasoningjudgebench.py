"""ReasoningJudgeBench: pairs of answers to reasoning problems, of which one is right (Xu et al., arXiv 2505.13346)."""

from __future__ import annotations

from rmbench.data.hub import HubSet
from rmbench.data.pairs import PairRows, named_after
from rmbench.data.rows import Row
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import consistent

# split_names of SalesforceAIResearch/ReasoningJudgeBench@191ca39:aggregate.py
SECTIONS = {
    "aime_4o_pairwise": "math",
    "aime_pairwise": "math",
    "arc_challenge_pairwise": "multihop",
    "bbeh_be_pairwise": "multihop",
    "bbeh_cu_pairwise": "everyday",
    "bbeh_dq_pairwise": "everyday",
    "bbeh_hyper_pairwise": "everyday",
    "bbeh_ma_pairwise": "math",
    "reclor_pairwise": "multihop",
    "strategy_qa_pairwise": "everyday",
    "folio_pairwise": "multihop",
    "supergpqa_pairwise": "domain",
    "olympiadbench_pairwise": "math",
}
_LABELS = {1: True, 2: False, "A>B": True, "B>A": False}


def facets_of(split: str) -> dict[str, str]:
    """What sort of reasoning a split asks for, as the authors sum splits up."""
    return {"section": SECTIONS[split], "subset": split}


def _facets(row: Row) -> dict[str, str]:
    split = named_after(row, SECTIONS)
    return {} if split is None else facets_of(split)


def _first_wins(row: Row) -> bool:
    """Whether the label is the response in `positive_response`, which the authors' code shows first."""
    return row.one_of("label", _LABELS)


ROWS = PairRows(
    needs=("instruction", "positive_response", "negative_response", "label"),
    expected="a ReasoningJudgeBench row has `instruction`, `positive_response`, `negative_response` and `label`",
    sides=("positive_response", "negative_response"),
    prompt=lambda row: row.text("instruction"),
    facets=_facets,
    first_wins=_first_wins,
)
TASK = Comparison(
    name="reasoningjudgebench",
    version=1,
    summary="ReasoningJudgeBench: right and wrong answers to reasoning problems, both orders, in 13 splits",
    card="reasoningjudgebench",
    read=ROWS.read,
    sources=tuple(HubSet("Salesforce/ReasoningJudgeBench", split=split, facets=facets_of(split)) for split in SECTIONS),
    orders="both",
    null_verdict="loss",
    measure=consistent.TIE_YIELDS,
)
