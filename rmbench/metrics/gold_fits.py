"""Two forms of how gold goes with optimisation, d(a - b d) and d(a - b log d), where d is the square root of the KL.

They are those that Gao, Schulman and Hilton (Scaling laws for reward model overoptimization, 2022) found for best-of-n
and for reinforcement learning. Gold is counted from that of the policy itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rmbench.metrics.curve import Figure
from rmbench.types import Array

Form = Literal["best of n", "reinforcement learning"]  # d (a - b d) and d (a - b log d), d = sqrt(KL)
FORMS: tuple[Form, Form] = ("best of n", "reinforcement learning")


@dataclass(frozen=True)
class Fit:
    """gold(d) = start + d (a - b d), or start + d (a - b log d), fitted to the curve of best-of-n.

    `optimum_kl` is where it is highest and `optimum_n` the n of best-of-n there, inf where it never turns over;
    `is_extrapolated` where that is beyond the largest n that was seen. `error` is the root mean square of what is left.
    """

    form: Form
    start: float
    a: Figure
    b: Figure
    optimum_kl: Figure
    optimum_n: Figure
    peak: Figure
    is_extrapolated: bool
    error: float


def fit(form: Form, sizes: Sequence[int], gold: Array, drawn: Array, clusters: int) -> Fit:
    """A form fitted to gold [m] of best-of-n at `sizes` [m], the first of them 1, whose gold is the start.

    Given the start, a and b are linear: least squares over the points. Intervals are the expanded percentiles of the
    same fit to `drawn` [draws, m], the curve with `clusters` clusters drawn anew.
    """
    raise NotImplementedError
