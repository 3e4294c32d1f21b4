"""EvalBiasBench: pairs whose worse response has what a biased judge likes (Park et al., arXiv 2407.06551)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.rows import Row
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import verdicts
from rmbench.types import Candidate, Example, Message

_FIELDS = ("bias", "instruction", "response1", "response2", "label")
_EXPECTED = "an EvalBiasBench row has `bias`, `instruction`, `response1`, `response2` and `label`"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row, its responses in the order of the data; `label` says which is better, 1 or 2."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for field in _FIELDS:
        row.need((field,), _EXPECTED)
    better = row.one_of("label", {1: 1, 2: 2})
    candidates = tuple(Candidate(row.text(f"response{place}"), better == place) for place in (1, 2))
    return Example("", (Message("user", row.text("instruction")),), candidates, facets={"subset": row.text("bias")})


TASK = Comparison(
    name="evalbiasbench",
    version=1,
    summary="EvalBiasBench: six biases of judges, in pairs: --data evalbiasbench=biasbench.json",
    card="evalbiasbench",
    read=read,
    orders="both",
    null_verdict="loss",
    measure=verdicts.ORDERS,
)
