"""process: where a solution goes wrong, by process reward models."""

from rmbench.kinds.suite import Suite

SUITE = Suite(
    name="process",
    summary="Where a solution goes wrong, by process reward models",
    tasks={
        "processbench": ("average_f1", 1),
        "prmbench": ("prm_score", 1),
        "mr_math": (None, 1),
        "mr_gsm8k": (None, 1),
    },
)
