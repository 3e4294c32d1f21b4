"""chat: preferences of people and judges over answers to anything."""

from rmbench.kinds.suite import Suite

SUITE = Suite(
    name="chat",
    summary="Preferences of people and judges over answers to anything",
    tasks={
        "rewardbench": ("score", 1),
        "rmb": ("overall", 1),
        "llmbar": ("accuracy_average", 1),
        "hhh_alignment": (None, 1),
    },
)
