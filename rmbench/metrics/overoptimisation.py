"""Where optimising a reward stops helping: the best n, how much is lost beyond it, and whether that is certain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rmbench.metrics.curve import Figure
from rmbench.metrics.gold_fits import Fit
from rmbench.metrics.pools import Codes, Pools
from rmbench.types import Array

Verdict = Literal["turns over", "still rises", "level", "open"]
Compared = Literal["gold_at_best", "gold_at_end", "degree", "optimum"]


@dataclass(frozen=True)
class Curves:
    """What best-of-n gets of one reward, prompt by prompt: `gold` and `proxy` [p, m] at `sizes` [m], from 1 upwards.

    `drawn_gold` and `drawn_proxy` [draws, m] are their means with the `clusters` [p] drawn anew: those of two rewards
    on the same pools and seed are of the same draws. `reach` [p] is how far apart the worst and the best sample of a
    prompt are, `gold_sd` and `proxy_sd` the standard deviations within prompts.
    """

    sizes: tuple[int, ...]
    gold: Array
    proxy: Array
    clusters: Codes
    drawn_gold: Array
    drawn_proxy: Array
    reach: Array
    gold_sd: float
    proxy_sd: float
    seed: int


@dataclass(frozen=True)
class TurnOver:
    """What the curve of gold does.

    `best_n` is the n where gold is highest, with the n that 95 % leave open. `degree` is gold there less gold at the
    largest n, `proxy_rise` what the proxy rises from the one to the other in its SD within prompts. `p` is that gold
    nowhere is above its end, two-sided.
    """

    best_n: Figure
    gold_at_best: Figure
    gold_at_end: Figure
    gain_at_end: Figure
    degree: Figure
    proxy_rise: Figure
    p: float
    verdict: Verdict


@dataclass(frozen=True)
class Apart:
    """The first of two rewards less the second in one figure, over the same prompts and draws; p is two-sided."""

    figure: Compared
    difference: Figure
    p: float


def curves_of(pools: Pools, proxy: Array, sizes: Sequence[int], *, draws: int = 2000, seed: int = 0) -> Curves:
    """The curves of best-of-n by `proxy` [s], all finite, at `sizes`, which begin with 1 and no prompt is short of."""
    raise NotImplementedError


def turn_over(curves: Curves) -> TurnOver:
    """Whether, where and how much gold turns over."""
    raise NotImplementedError


def fits_of(curves: Curves) -> list[Fit]:
    """Both forms of `gold_fits` with their optimum, fitted to the curve of gold."""
    raise NotImplementedError


def apart(first: Curves, second: Curves) -> list[Apart]:
    """Paired differences of two rewards on the same pools, sizes, draws and seed, one of each `Compared`.

    `optimum` is in doublings of n: log2 of the best n.
    """
    raise NotImplementedError
