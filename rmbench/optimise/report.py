"""What `rmbench overoptimize` finds, as data: `rmbench.optimise` makes it, the command and the page show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rmbench.metrics.curve import Curve, Figure
from rmbench.metrics.gold_fits import Fit
from rmbench.metrics.overoptimisation import Compared, Verdict
from rmbench.results.document import as_json


@dataclass(frozen=True)
class Coverage:
    """Prompts of which from `low` to `high` of the samples are good, and how often poor ones win, good ones lose."""

    low: float
    high: float
    prompts: int
    poor_wins: Figure
    good_loses: Figure


@dataclass(frozen=True)
class SignFlip:
    """Advantages in groups of `size` samples, over a `baseline`: the share whose sign the reward's own noise turns, and
    the share whose sign is not that of the gold's."""

    size: int
    baseline: Literal["mean", "median"]
    by_noise: Figure
    against_gold: Figure


@dataclass(frozen=True)
class UsefulRange:
    """Of one member (or head) of a composite: the rewards between which choosing by it helps.

    `low` is its mean reward of a random sample, `high` that of what it chooses at the n where gold is highest,
    `best_n`, and `gold` is that gold; `is_open` where gold is highest at the largest n, so that the range may go on.
    """

    member: str
    low: float
    high: Figure
    best_n: int
    gold: Figure
    is_open: bool


@dataclass(frozen=True)
class Entrant:
    """One reward on the pool. Curves are over the report's `sizes`.

    `best_n` is the n where gold is highest, with the interval of that n. `degree` is gold there less gold at the
    largest n, `proxy_rise` what the proxy rises from the one to the other in its SD within prompts. `turns_over_p` is
    the p that gold nowhere is above its end. `tilted` is gold of the exponentially tilted policy, `tilted_gap` the
    largest difference of it to best-of-n at the same KL. `poor_wins` and `good_loses` are the two sides of the winner's
    curse, over prompts that have both kinds. `variance_within` is the share of the reward's variance within prompts.
    `rank_bias` is how far a reward of good samples goes with their likelihood (a rank correlation). `distinct` is how
    many different responses are chosen, in effect. None where the data do not say.
    """

    name: str
    view: str
    result: str
    gold: Curve
    proxy: Curve
    tilted: Curve
    tilted_gap: Figure
    fits: Sequence[Fit]
    best_n: Figure
    gold_at_best: Figure
    gold_at_end: Figure
    gain_at_end: Figure
    degree: Figure
    proxy_rise: Figure
    turns_over_p: float
    verdict: Verdict
    poor_wins: Curve | None
    good_loses: Curve | None
    by_coverage: Sequence[Coverage]
    weighted_majority: Curve | None
    rank_bias: Figure | None
    likelihood: str | None
    variance_within: Figure
    sign_flips: Sequence[SignFlip]
    distinct: Curve | None
    useful: Sequence[UsefulRange]
    statuses: Mapping[str, int]

    @property
    def title(self) -> str:
        """Its name, with the view where that is not the reward itself."""
        return self.name if self.view == "default" else f"{self.name} ({self.view})"


@dataclass(frozen=True)
class Contrast:
    """`first` less `second` in one figure of an entrant, over the same prompts and draws.

    `p_holm` is over all contrasts of a report.
    """

    first: str
    second: str
    figure: Compared
    difference: Figure
    p: float
    p_holm: float


@dataclass(frozen=True)
class Measured:
    """What was measured of a policy trained on a reward, by `method` (PPO, DPO, best-of-n, ...), at its `kl`."""

    reward: str
    method: str
    kl: float
    gold: Figure
    source: str


@dataclass(frozen=True)
class OptimisationReport:
    """All that is found of one pool. `gold` says what each sample is worth by; `samples` are the fewest and most a
    prompt has. `left_out` counts prompts by reason. Curves of `oracle`, `majority`, `pass_at` and `noisy_oracle` are of
    the data; None where it has no answers, gold is no right or wrong, or no noise was asked for. What a constant reward
    would get is `good_loses_by_chance`. `good` says what a good sample is.
    """

    task: str
    version: int
    gold: str
    policy: str
    prompts: int
    clusters: int
    samples: tuple[int, int]
    sizes: Sequence[int]
    left_out: Mapping[str, int]
    random: Figure
    oracle: Curve
    majority: Curve | None
    pass_at: Curve | None
    noisy_oracle: Curve | None
    label_noise: float
    entrants: Sequence[Entrant]
    contrasts: Sequence[Contrast]
    measured: Sequence[Measured]
    notes: Sequence[str]
    seed: int
    good_loses_by_chance: Curve | None = None
    good: str = ""

    @property
    def is_share(self) -> bool:
        """Whether gold lies between 0 and 1, so that it can be told in percent."""
        curves = [self.oracle, *(entrant.gold for entrant in self.entrants)]
        return all(0 <= value <= 1 for one in curves for value in one.value)

    def json(self) -> str:
        """Everything in it as JSON; what is no number is null."""
        return as_json(self)
