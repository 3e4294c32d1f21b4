"""What a reward makes of length, as a curve, to be taken off: the response's own length counts, its label never.

The curve is fitted to what differs within a prompt alone, so that prompts which draw long answers, and rewards that
differ from prompt to prompt, move nothing: reward = something of the prompt + curve(length). It is straight in
log(1 + characters) between knots at quantiles of the lengths, and level beyond the outer ones. It may rise and fall;
bends cost a little, so that few responses give nearly a line. After Huang et al., Post-hoc Reward Calibration: A Case
Study on Length Bias (2024), who estimate such a curve over all responses of a data set by local regression.

Where longer responses are better, that is taken off too: nobody who sees no label can tell the two apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmbench.types import Array

_KNOTS = 8
_BEND = 1e-2  # what a bend weighs, beside the mean sum of squares of a knot


@dataclass(frozen=True, slots=True)
class LengthCurve:
    """`worth` is the reward of a response that is as long as each of the `knots`, in characters, rising.

    It is 0 on average over the responses that it was fitted to.
    """

    knots: tuple[float, ...]
    worth: tuple[float, ...]

    def at(self, lengths: Array) -> Array:
        """The curve at lengths [n] in characters."""
        return np.asarray(np.interp(np.log1p(lengths), np.log1p(self.knots), self.worth))


def length_curve(rewards: Array, lengths: Array, prompts: NDArray[np.intp]) -> LengthCurve | None:
    """The curve of rewards [n] of responses of so many characters [n], to prompts that are numbered from 0 [n].

    None where no prompt has two responses of different lengths.
    """
    scaled = np.log1p(lengths)
    told = _within(scaled[:, None], prompts)[:, 0] != 0
    if not told.any():
        return None
    knots = np.unique(np.quantile(scaled[told], np.linspace(0, 1, _KNOTS)))
    basis = _hats(scaled, knots)
    within = _within(basis[:, 1:], prompts)  # the first knot is 0: what is alike for all is the prompt's
    products = within.T @ within
    bends = _bends(knots)[:, 1:]
    weight = _BEND * np.trace(products) / len(products)
    worth = np.linalg.lstsq(products + weight * bends.T @ bends, within.T @ _within(rewards[:, None], prompts)[:, 0],
                            rcond=None)[0]  # fmt: skip
    curve = np.concatenate([[0.0], worth])
    curve -= (basis @ curve).mean()
    return LengthCurve(tuple(np.expm1(knots).tolist()), tuple(curve.tolist()))


def _within(columns: Array, prompts: NDArray[np.intp]) -> Array:
    """Columns [n, c] minus their mean over the responses to the same prompt; exactly 0 where all of these are alike."""
    counts = np.bincount(prompts)
    sums = np.stack([np.bincount(prompts, column) for column in columns.T], axis=1)
    firsts = columns[_firsts(prompts)]
    alike = np.ones(len(counts), bool)
    np.logical_and.at(alike, prompts, (columns == firsts[prompts]).all(axis=1))
    centred = columns - (sums / np.maximum(counts, 1)[:, None])[prompts]
    centred[alike[prompts]] = 0.0
    return np.asarray(centred)


def _firsts(prompts: NDArray[np.intp]) -> Sequence[int]:
    """The first response to each prompt; 0 for a number that none has."""
    firsts = np.zeros(int(prompts.max()) + 1, np.intp)
    firsts[prompts[::-1]] = np.arange(len(prompts))[::-1]
    listed: list[int] = firsts.tolist()
    return listed


def _hats(scaled: Array, knots: Array) -> Array:
    """[n, k]: how much of each knot is in a length; the rows sum to 1."""
    return np.stack([np.interp(scaled, knots, row) for row in np.eye(len(knots))], axis=1)


def _bends(knots: Array) -> Array:
    """[k - 2, k]: by how much the slope changes at each inner knot, in slopes over the mean distance of knots."""
    gaps = np.diff(knots)
    slopes = np.zeros((len(gaps), len(knots)))
    at = np.arange(len(gaps))
    slopes[at, at], slopes[at, at + 1] = -1 / gaps, 1 / gaps
    return np.asarray(np.diff(slopes, axis=0) * gaps.mean())
