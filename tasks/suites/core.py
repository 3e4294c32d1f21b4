"""core: the benchmarks that most reward models are published with; its mean is of their headlines."""

from rmbench.kinds.suite import Suite

SUITE = Suite(
    name="core",
    summary="The benchmarks that most reward models are published with; its mean is of their headlines",
    tasks={
        "rewardbench": ("score", 1),
        "rewardbench2": ("score", 1),
        "rm_bench": ("overall", 1),
        "rmb": ("overall", 1),
        "judgebench": ("accuracy", 1),
        "llmbar": ("accuracy_average", 1),
    },
)
