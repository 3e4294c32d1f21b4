"""How far apart are two rewards of the same responses, whatever either adds to a prompt or multiplies all by?

What a prompt adds to all of its responses, and a positive factor, change nothing of what a reward prefers, so both are
taken off before rewards are compared. With R(x, y) the reward of response y to prompt x, for one-step problems, which
these are (a bandit: the episode ends with the response):

- canonicalisation: c(R)(x, y) = R(x, y) - the mean of R(x, .) under a reference policy, here uniform over the responses
  to x that the data have;
- norm: |c|^2 = the mean over prompts, each weighing the same, of the mean over its responses of c(x, y)^2;
- STARC(R, Q) = | c(R) / |c(R)| - c(Q) / |c(Q)| | (Skalse et al., STARC: A General Framework For Quantifying Differences
  Between Reward Functions, ICLR 2024; canonicalisation by value without transitions, norm and metric both L2). With rho
  the pooled correlation within prompts it is sqrt(2 (1 - rho)): 0 for rewards that prefer the same by as much, sqrt(2)
  for unrelated ones, 2 for opposite ones;
- EPIC(R, Q) = sqrt((1 - rho) / 2), half of it (Gleave et al., Quantifying Differences in Reward Functions, ICLR 2021).

Over one sample both are metrics of what is left of a reward: symmetric, with the triangle inequality. They depend on
the sample: rewards that are alike on it may differ elsewhere. A reward that is the same for all responses to each
prompt prefers nothing and has no distance.

Arrays over responses are [s], those of a prompt beside each other; `counts` [p] is how many each prompt has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmbench.metrics.interval import Statistic
from rmbench.metrics.pools import Codes
from rmbench.types import Array

_ROUNDING = 1e-12
_WORDS = "of this sample alone: rewards that are alike on it may differ on other responses"


def canonical(rewards: Array, counts: Codes) -> Array:
    """Rewards [..., s] less the mean of their prompt, over the root of how many responses it has.

    The squares of a prompt then sum to the mean square about its mean, so that prompts weigh the same.
    """
    starts, rewards = np.cumsum(counts) - counts, np.asarray(rewards, float)
    first = np.repeat(rewards[..., starts], counts, axis=-1)  # near 0, so that sums keep digits
    apart = rewards - first
    left = apart - np.repeat(np.add.reduceat(apart, starts, axis=-1) / counts, counts, axis=-1)
    scale = np.maximum(np.abs(apart), np.abs(rewards))
    return np.where(np.abs(left) <= _ROUNDING * scale, 0.0, left) / np.sqrt(np.repeat(counts, counts))


def norm(rewards: Array, counts: Codes) -> Array:
    """The norm [...] of rewards [..., s] that are left of their prompts; 0 where a reward prefers nothing."""
    scaled, largest = _scaled(np.asarray(rewards, float))
    left, most = _scaled(canonical(scaled, counts))
    return np.asarray((np.sqrt(np.square(left).sum(-1) / max(1, len(counts))) * most[..., 0]) * largest[..., 0])


def starc(name: str, first: Array, second: Array, counts: Codes) -> Statistic:
    """STARC of two rewards [s] of the same responses, over prompts [p]; nan where one of them prefers nothing.

    In simulation 95 % intervals hold the truth in 92 to 96 %, and in 88 % of 20 prompts, few of which have most of the
    variance.
    """
    starts = np.cumsum(counts) - counts
    one, other = _left(np.stack([first, second]), counts)
    products = one * other, np.square(one), np.square(other)
    columns = np.stack([np.add.reduceat(product, starts) for product in products], axis=1)
    return Statistic(
        name, columns, _starc, title="STARC distance", unit="0 the same to 2 opposite", bounds=(0.0, 2.0), caveat=_WORDS
    )


def starc_matrix(rewards: Array, counts: Codes) -> Array:
    """STARC of every two of m rewards [m, s]: [m, m], 0 on the diagonal; nan where one of them prefers nothing."""
    left = _left(rewards, counts)
    together = left @ left.T
    squares = np.diag(together)
    matrix = _starc(np.stack(np.broadcast_arrays(together, squares[:, None], squares), axis=-1))
    np.fill_diagonal(matrix, np.where(squares > 0, 0.0, np.nan))
    return matrix


def epic(distance: float) -> float:
    """EPIC of two rewards, of their STARC distance: half of it."""
    return distance / 2


@dataclass(frozen=True, slots=True)
class Join:
    """Two groups that a dendrogram joins at a mean distance of `height`: the places of their members, in order."""

    height: float
    left: tuple[int, ...]
    right: tuple[int, ...]


def dendrogram(distances: Array) -> list[Join]:
    """The m - 1 joins of a symmetric matrix [m, m] without nan, lowest first: at each the two groups are joined whose
    members are nearest to each other on average (UPGMA; Sokal and Michener, Univ. Kansas Sci. Bull. 38, 1958)."""
    groups: list[tuple[int, ...]] = [(place,) for place in range(len(distances))]
    joins = list[Join]()
    while len(groups) > 1:
        means = {
            (one, other): float(distances[np.ix_(groups[one], groups[other])].mean())
            for other in range(len(groups))
            for one in range(other)
        }
        one, other = min(means, key=lambda pair: means[pair])
        joins.append(Join(means[one, other], groups[one], groups[other]))
        groups = [group for at, group in enumerate(groups) if at not in (one, other)]
        groups.insert(one, joins[-1].left + joins[-1].right)
    return joins


def _starc(sums: Array) -> Array:
    together, one, other = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = 1 - together / np.sqrt(one * other)
    return np.asarray(2 * np.sqrt(np.where(apart <= _ROUNDING, 0.0, np.minimum(apart, 2.0)) / 2))


def _left(rewards: Array, counts: Codes) -> Array:
    """What is left of rewards [..., s], over the largest of it: squares of no reward are too large or too small."""
    return _scaled(canonical(_scaled(rewards)[0], counts))[0]


def _scaled(values: Array) -> tuple[Array, Array]:
    """Values [..., s] over the largest of them without its sign [..., 1], and that; 1 where all are 0."""
    largest = np.abs(values).max(axis=-1, keepdims=True, initial=0.0)
    largest = np.where(largest > 0, largest, 1.0)
    return values / largest, largest
