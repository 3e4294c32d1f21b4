"""agents: trajectories of agents that use tools."""

from rmbench.kinds.suite import Suite

SUITE = Suite(
    name="agents",
    summary="Trajectories of agents that use tools",
    tasks={
        "plan_rewardbench": ("score", 1),
    },
)
