"""VerifyBench-Hard: completions on which strong models disagree, in rows like those of VerifyBench."""

from __future__ import annotations

from rmbench.data.hub import HubSet
from rmbench.kinds.grading import Grading
from rmbench.tasks.verifybench import read

TASK = Grading(
    name="verifybench_hard",
    version=1,
    summary="VerifyBench-Hard: 1,000 contentious completions, right or wrong by a reference answer",
    card="verifybench_hard",
    read=read,
    sources=(HubSet("ZJU-REAL/VerifyBench", split="VerifyBenchHard"),),
    null_verdict="loss",
)
