"""agents: trajectories and steps of agents that use tools."""

from rmbench.kinds.suite import Suite

SUITE = Suite(
    name="agents",
    summary="Trajectories and steps of agents that use tools",
    tasks={
        "plan_rewardbench": ("score", 1),
        "trbench": ("pair_accuracy", 1),
    },
)
