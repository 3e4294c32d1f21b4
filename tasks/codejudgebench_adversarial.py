"""CodeJudgeBench-Adversarial: the code of CodeJudgeBench, rewritten so that it means the same and misleads judges."""

from __future__ import annotations

from rmbench.kinds.comparison import Comparison
from rmbench.metrics import verdicts
from rmbench.tasks.codejudgebench import of_hub, read

TASK = Comparison(
    name="codejudgebench_adversarial",
    version=1,
    summary="CodeJudgeBench-Adversarial: code that is rewritten to mislead, each verdict of both orders",
    card="codejudgebench_adversarial",
    read=read,
    sources=of_hub("mattymchen/codejudgebench-adversarial", ["codegen"]),
    orders="both",
    null_verdict="loss",
    measure=verdicts.ORDERS,
)
