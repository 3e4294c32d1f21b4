"""What an order from the surest to the least sure decision is worth: its AUC for errors, and the risk of what is kept.

Decisions [m] have a `doubt` (any scale, larger is less sure), a `weight`, and an `error` of 0, 1, or between, as half
of a tie. Decisions in equal doubt stand in every order alike, each spread evenly over the room they take together. With
c the share of all weight that is kept, the surest first, and E(c) the errors in it:

    risk(c)   E(c) / c
    area      the integral of risk over c from 0 to 1 (Geifman, Uziel and El-Yaniv, ICLR 2019, with a sum over ranks)
    auc       how often an error is in more doubt than a right decision, of any two, equal doubt half

Who knows the errors keeps them for last: of a share r of errors its risk is 0 up to 1 - r, and its area
r + (1 - r) log(1 - r). Who abstains at random has the risk r throughout.

Each value comes with the `parts` [m] of decisions in it, its influence function: with other weights v it is, to first
order, value + sum(v parts) / sum(v), and the parts weighted as given sum to 0. So intervals need sums alone, as those
of DeLong, DeLong and Clarke-Pearson for the AUC (Biometrics 44, 1988).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmbench.types import Array

_NEAR = 0.1  # of all weight, on either side of a cut: who stands there says what a cut that moves takes in


@dataclass(frozen=True, slots=True)
class Worth:
    """A value of an order of decisions, nan where there is none, and the part [m] that each has in it."""

    value: float
    parts: Array


@dataclass(frozen=True, slots=True)
class Auc:
    """An AUC, or a difference of two, and the parts [m] in it of what is wrong and what is right of each decision.

    `reach` is the most that the standard deviation of where an error stands can be, from 0 to 1 with this mean.
    """

    value: float
    wrong: Array
    right: Array
    reach: float = 0.0

    def __sub__(self, other: Auc) -> Auc:
        reach = max(self.reach, other.reach)
        return Auc(self.value - other.value, self.wrong - other.wrong, self.right - other.right, reach)


@dataclass(frozen=True, slots=True)
class Order:
    """Decisions from the surest to the least sure, those in equal doubt together: levels [g].

    `level` [m] is the one of each decision, `error` [m] as given. A level takes the room from `start` to `end`, as
    shares of all weight; `before` are the errors ahead of it, a share of all weight too, and `rate` those in it, a
    share of its own.
    """

    level: NDArray[np.intp]
    error: Array
    start: Array
    end: Array
    before: Array
    rate: Array

    def at(self, coverage: float) -> int:
        """The level in which so much is kept."""
        return min(int(np.searchsorted(self.end, coverage)), len(self.end) - 1)

    def errors(self, coverage: float) -> float:
        """The errors in what is kept, as a share of all weight: E."""
        at = self.at(coverage)
        return float(self.before[at] + self.rate[at] * (coverage - self.start[at]))


def ordered(doubt: Array, weight: Array, error: Array) -> Order:
    """The order of m decisions, one or more, none of whose `doubt`, `weight` (above 0) and `error` [m] is nan."""
    by_doubt = np.argsort(doubt, kind="stable")
    new = np.ones(len(doubt), dtype=bool)
    new[1:] = doubt[by_doubt][1:] != doubt[by_doubt][:-1]
    level = np.empty(len(doubt), np.intp)
    level[by_doubt] = np.cumsum(new) - 1
    room, wrong = np.bincount(level, weight), np.bincount(level, weight * error)
    end, errors = np.cumsum(room) / room.sum(), np.cumsum(wrong) / room.sum()
    end[-1] = 1.0
    start, before = (np.concatenate([[0.0], upto[:-1]]) for upto in (end, errors))
    return Order(level, error, start, end, before, wrong / room)


def auc(order: Order) -> Auc:
    """How often an error is in more doubt than a right decision; nan without both."""
    room = order.end - order.start
    wrong, right = room * order.rate, room * (1 - order.rate)
    all_wrong, all_right = wrong.sum(), right.sum()
    if not (all_wrong > 0 and all_right > 0):
        return Auc(np.nan, *np.zeros((2, len(order.error))))
    surer = (np.cumsum(right) - right / 2) / all_right
    less_sure = 1 - (np.cumsum(wrong) - wrong / 2) / all_wrong
    value = float((wrong * surer).sum() / all_wrong)
    of_wrong, of_right = (surer - value) / all_wrong, (less_sure - value) / all_right
    reach = max(value * (1 - value), 0.0) ** 0.5
    return Auc(value, order.error * of_wrong[order.level], (1 - order.error) * of_right[order.level], reach)


def area(order: Order) -> Worth:
    """The mean of the risk over all shares that may be kept.

    A decision at x moves it by the risk there, by its error, which is in all that is kept from x on, the integral of
    error / c, and by the room that it takes from the others there, that of E(c) / c^2, each as a mean over the level.
    """
    start, end, rate = order.start, order.end, order.rate
    ahead = order.before - rate * start  # E(c) is `ahead` + rate c within a level
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = np.where(start > 0, (end - start) / start, np.inf)
        shrunk = np.where(start > 0, np.log1p(growth) / growth, 0.0)  # start log(end / start) / (end - start)
        inverse = np.where(start > 0, shrunk / start, 0.0)  # the mean of 1 / c; ahead is 0 where it starts at 0
        passed = np.where(start > 0, ahead * (1 / start - 1 / end) + rate * np.log1p(growth), 0.0)
    risk = ahead * inverse + rate
    value = float(((end - start) * risk).sum())
    later = np.concatenate([np.cumsum(passed[::-1])[::-1][1:], [0.0]])
    crowded = np.where(start > 0, ahead * (inverse - 1 / end), 0.0) + rate * (1 - shrunk) + later
    onward = 1 - shrunk - np.log(end)
    return Worth(value, (risk - crowded - value)[order.level] + order.error * onward[order.level])


def risk(order: Order, coverage: float) -> Worth:
    """The share of errors among the surest, which have `coverage` (above 0, at most 1) of all weight.

    A decision more moves the cut; what that takes in or leaves out has the errors of those near the cut.
    """
    at = order.at(coverage)
    room = order.end[at] - order.start[at]
    value = order.errors(coverage) / coverage
    low, high = max(coverage - _NEAR, 0.0), min(coverage + _NEAR, 1.0)
    near = (order.errors(high) - order.errors(low)) / (high - low) if room < 2 * _NEAR else float(order.rate[at])
    kept = np.zeros(len(order.end))
    kept[:at], kept[at] = 1.0, (coverage - order.start[at]) / room
    return Worth(value, kept[order.level] * ((order.error - near) / coverage) - (value - near))


def oracle_area(share: Array) -> Array:
    """The area [...] of who knows the errors, of a `share` [...] of errors."""
    with np.errstate(divide="ignore", invalid="ignore"):
        right = 1 - share
        return np.asarray(share + np.where(right > 0, right * np.log(right), 0.0))
