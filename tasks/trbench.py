"""TRBench-BFCL: which of two next steps of an agent calls tools as it should (Li et al., arXiv 2510.26167).

A pair is won where a model is right in every order that it is asked in: a judge in both, a reward model in its one. The
tools stand in the text of the system turn, and calls in the texts of the assistant, as the authors' code shows them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.hub import HubSet
from rmbench.data.messages import read_messages
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import verdicts
from rmbench.types import Candidate, Example

_PAIR = ("chat_history", "chosen_response", "reject_response")
_EXPECTED = (
    "a TRBench-BFCL row has `chat_history`, `chosen_response`, `reject_response` and `extra_info` with `task_source`"
)
_AGAIN = "the same pair again, in another order or for another template"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a pair, the chosen response first.

    The authors' files hold every pair twice, once for each order that a judge is shown; of a reward model they read the
    first half.
    """
    pairs: set[str] = set()
    for row in rows:
        example = attempt(row, _example)
        pair = json.dumps([row.peek(field) for field in ("uuid", *_PAIR)], sort_keys=True, default=str)
        if isinstance(example, Example) and pair in pairs:
            row.leave_out()
            yield LeftOut(_AGAIN)
        else:
            pairs.add(pair)
            yield example


def _example(row: Row) -> Example:
    for field in (*_PAIR, "extra_info"):
        row.need((field,), _EXPECTED)
    more = row.value["extra_info"]
    subset = more.get("task_source") if isinstance(more, dict) else None
    if not isinstance(subset, str) or not subset:
        raise row.error(f"expected an object whose `task_source` is a name, got {shown(more)}", "extra_info")
    prompt = read_messages(row, "chat_history", row.value["chat_history"])
    if not any(turn.role != "system" and turn.says_something for turn in prompt):
        raise row.error(f"expected turns that ask something, got {shown(row.value['chat_history'])}", "chat_history")
    policy = row.name(("reject_response_from",))
    candidates = (
        Candidate(row.text("chosen_response"), True),
        Candidate(row.text("reject_response"), False, tags={} if policy is None else {"policy": policy}),
    )
    return Example(
        row.name(("uuid",)) or "", prompt, candidates, facets={"subset": subset}, cluster=row.name(("raw_id",))
    )


TASK = Comparison(
    name="trbench",
    version=1,
    summary="TRBench-BFCL: next steps of agents that call tools rightly or wrongly, in nine splits of BFCL",
    card="trbench",
    read=read,
    sources=(HubSet("RioLee/TRBench-BFCL"),),
    orders="both",
    null_verdict="loss",
    measure=replace(verdicts.ORDERS, name="both_orders", headline="pair_accuracy"),
)
