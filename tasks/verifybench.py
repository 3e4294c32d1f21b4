"""VerifyBench: is a completion right, given the reference answer (Yan et al., arXiv 2505.15801)?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.hub import HubSet
from rmbench.data.rows import Row, shown
from rmbench.kinds.grading import Grading
from rmbench.types import Candidate, Example, Message

_FIELDS = ("question", "answer", "completion", "gold_correct")
_EXPECTED = "a VerifyBench row has `question`, `answer`, `completion` and `gold_correct`"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row: one completion, which `gold_correct` says is right or wrong, and the reference `answer`."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for field in _FIELDS:
        row.need((field,), _EXPECTED)
    right = row.value["gold_correct"]
    if not isinstance(right, bool):
        raise row.error(f"expected true or false, got {shown(right)}", "gold_correct")
    wrote = row.name(("completion_model",))
    candidate = Candidate(row.text("completion"), right, tags={"policy": wrote} if wrote else {})
    facets = {name: value for name in ("answer_type", "answer_subtype") if (value := row.name((name,)))}
    prompt = (Message("user", row.text("question")),)
    return Example("", prompt, (candidate,), facets=facets, reference=row.text("answer"))


TASK = Grading(
    name="verifybench",
    version=1,
    summary="VerifyBench: 2,000 completions, right or wrong by a reference answer",
    card="verifybench",
    read=read,
    sources=(HubSet("ZJU-REAL/VerifyBench", split="VerifyBench"),),
    null_verdict="loss",
)
