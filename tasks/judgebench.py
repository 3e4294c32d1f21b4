"""JudgeBench: pairs of which one is right for certain, in both orders (Tan et al., arXiv 2410.12784).

A verdict for the right response is +1, one for the wrong response -1, a tie or none 0; a pair is won where the sum over
both orders is above 0. A reward model rates the responses one by one, and wins where the right one has more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.hub import HubSet
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.types import Candidate, Example, Message

SECTIONS = {
    "mmlu-pro": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "coding",
}
_EXPECTED = "a JudgeBench row has `question`, `response_A`, `response_B`, `source` and `label`, 'A>B' or 'B>A'"
_LABELS = {"A>B": (True, False), "B>A": (False, True)}


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row: response A, then response B. Rows of the authors' files of judgements are read as well."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for field in ("question", "response_A", "response_B", "source", "label"):
        row.need((field,), _EXPECTED)
    labels, source = row.one_of("label", _LABELS), row.text("source")
    section = next((name for prefix, name in SECTIONS.items() if source.startswith(prefix)), None)
    if section is None:
        raise row.error(f"expected one that begins with {', '.join(SECTIONS)}, got {shown(source)}", "source")
    policy = row.name(("response_model",))
    tags = {} if policy is None else {"policy": policy}
    candidates = tuple(
        Candidate(row.text(field), right, tags=tags)
        for field, right in zip(("response_A", "response_B"), labels, strict=True)
    )
    facets = {"section": section, "subset": source}
    return Example(row.name(("pair_id",)) or "", (Message("user", row.text("question")),), candidates, facets=facets)


TASK = Comparison(
    name="judgebench",
    version=1,
    summary="JudgeBench: pairs by GPT-4o of which one is right for certain; knowledge, reasoning, math, coding",
    card="judgebench",
    read=read,
    sources=(HubSet("ScalerLab/JudgeBench", split="gpt"),),
    orders="both",
    null_verdict="nought",
)
