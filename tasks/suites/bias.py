"""bias: what a reward is taken in by: length, style, hacks."""

from rmbench.kinds.suite import Suite

SUITE = Suite(
    name="bias",
    summary="What a reward is taken in by: length, style, hacks",
    tasks={
        "evalbiasbench": (None, 1),
        "llmbar": ("accuracy_average", 1),
        "school_of_reward_hacks": ("accuracy", 1),
        "length_bias": (None, 1),
    },
)
