"""math: right solutions among wrong ones, whole and step by step."""

from rmbench.kinds.suite import Suite

SUITE = Suite(
    name="math",
    summary="Right solutions among wrong ones, whole and step by step",
    tasks={
        "rewardmath": ("accuracy", 1),
        "processbench": ("average_f1", 1),
        "prmbench": ("prm_score", 1),
    },
)
