"""bundled: every task for reward models whose rows come with rmbench."""

from rmbench.kinds.suite import Suite

SUITE = Suite(
    name="bundled",
    summary="The tasks for reward models whose rows come with rmbench; two of them are probes, so it has no mean",
    tasks={
        "rewardmath_mini": ("accuracy", 1),
        "best_of_n": ("accuracy", 1),
        "length_bias": (None, 1),
        "appetite": (None, 1),
    },
)
