"""safety: help without harm."""

from rmbench.kinds.suite import Suite

SUITE = Suite(
    name="safety",
    summary="Help without harm",
    tasks={
        "hhh_alignment": (None, 1),
        "rmb": (None, 1),
    },
)
