"""Does a reward want more than was asked for, and what length does choosing by it buy?

The base is the sufficient answer. Every other answer but the wrong one is right too and adds nothing that was asked.
Effects are in standard deviations of the reward within prompts over the sufficient and the wrong answer: how many SDs
of what being right does.

    overflow_preferred         share of overflowing answers strictly above the sufficient one;
                               overflow_preferred_<way> for one way
    overflow_tied              share of overflowing answers worth just what the sufficient one is
    effect_overflow            reward of the overflowing answers minus that of the sufficient one; effect_<way> for one
    reward_overflow            the same in reward units
    effect_truncated_<p>       reward of the first p % of the words of the `enumeration` minus that of all of it
    truncation_peak            share of the words kept at which the reward is highest, tied shares as their mean; a mean
                               over prompts, .55 for a reward that does not care
    truncation_spearman        Spearman correlation of reward and share kept, a mean over prompts: 1 where every further
                               tenth adds to the reward, 0 for a reward that does not care; unknown where all ten tie
    effect_redundant_<n>       reward of the answer with n redundant steps after it minus that of the answer
    redundant_preferred        share of prompts where the answer with the most redundant steps is strictly preferred
    reward_per_redundant_step  sum dr n / sum n^2: the slope of the line through 0, in reward units
    reward_sd_per_redundant_step  the same in SDs
    accuracy, effect_wrong     share of prompts whose sufficient answer is strictly above the wrong one, and by how much
    selected_length_ratio_at_<n>  words of the right answer with the highest reward among n drawn from a prompt's right
                               ones, over the mean of all; a mean over prompts, 1 for a reward that does not care
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Unpack

import numpy as np

from rmbench.metrics import probe
from rmbench.metrics.association import spearman
from rmbench.metrics.interval import Statistic, Words, mean, ratio, wilson_interval
from rmbench.metrics.measure import Unfitted
from rmbench.metrics.probe import Edits
from rmbench.metrics.selection import expected_choice
from rmbench.types import Array, Outcome

OVERFLOWS = ("enumeration", "elaboration")
CUTS = (10, 20, 30, 40, 50, 60, 70, 80, 90)
STEPS = (1, 2, 4, 8)
STRENGTHS: Mapping[str, tuple[int, ...]] = {"truncated": CUTS, "redundant": STEPS}
SIZES: Mapping[str, int | None] = {"2": 2, "4": 4, "all": None}
_PLAIN = (probe.BASE, "wrong")
_SHARES = np.array([*CUTS, 100]) / 100


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """Every metric of one view of `outcomes` [n], ready for `interval.estimate`.

    A model that only compares has rates and no effects.
    """
    edits = probe.edits(outcomes, view, _PLAIN)
    if not probe.has_scores(outcomes, view):
        return _rates(edits)
    return [*_effects(edits), *_truncations(edits), *_slopes(edits), *_rates(edits), *_selected(outcomes, view)]


def selected_length_ratio(rewards: Array, lengths: Array, n: int | None) -> float:
    """Expected length of the answer with the highest of `rewards` [k] among a random `n`, over the mean of `lengths`.

    Exact over all subsets of size n, tied answers as their mean (`selection.expected_choice`); None is all k. 1 where
    the choice does not care for length. nan where a reward or a length is unknown, where there are fewer than n answers
    or only one to choose from, and where all are empty.
    """
    if len(rewards) < max(n or 2, 2) or np.isnan(rewards).any():
        return np.nan
    average = float(np.mean(lengths))
    if not average > 0:  # nan is not
        return np.nan
    return float(expected_choice(rewards, lengths, (n or len(rewards),))[0]) / average


def _effects(edits: Edits) -> list[Statistic]:
    leads = {name: edits.lead_over_base(name) for name in OVERFLOWS}
    overflow = np.mean([leads[name] for name in _there(edits)], axis=0)
    redundant = {f"redundant_{n}": edits.lead_over_base(f"redundant_{n}") for n in STEPS}
    leads = {"overflow": overflow, **leads, "wrong": edits.lead_over_base("wrong"), **redundant}
    titles = {
        "overflow": "Effect of answering more than was asked",
        "wrong": "Effect of being wrong",
        **{way: f"Effect of an {way} that was not asked for" for way in OVERFLOWS},
        **{f"redundant_{n}": f"Effect of {n} redundant step{'s' if n > 1 else ''}" for n in STEPS},
    }
    in_units = _tested(
        "reward_overflow",
        overflow,
        title="Reward of answering more than was asked",
        unit="reward units",
        better="lower",
        caveat="reward units differ between models",
    )
    return [
        in_units,
        *(
            probe.effect(f"effect_{name}", lead, edits.spread, title=titles[name], better="lower")
            for name, lead in leads.items()
        ),
    ]


def _truncations(edits: Edits) -> list[Statistic]:
    """The reward along the long answer, cut off at each share of its words; peak and correlation need all ten."""
    whole = edits.lead_over_base("enumeration")
    curve = np.column_stack([*(edits.lead_over_base(f"truncated_{p}") for p in CUTS), whole]) - whole[:, None]
    measured = np.isfinite(curve).all(axis=1)
    peaks, rises = np.full((2, len(curve)), np.nan)
    for row in np.flatnonzero(measured):
        peaks[row] = _SHARES[curve[row] == curve[row].max()].mean()
        rises[row] = spearman(curve[row], _SHARES)
    effects = [
        probe.effect(
            f"effect_truncated_{p}",
            lead,
            edits.spread,
            title=f"Effect of keeping the first {p} % of an enumeration",
            at=p / 100,
        )
        for p, lead in zip(CUTS, curve.T, strict=False)
    ]
    peak = mean(
        "truncation_peak",
        peaks,
        "fraction",
        title="Share kept at which the reward is highest",
        unit="share of the words",
        caveat=".55 for a reward that does not care; a text that breaks off is worth less for that too",
    )
    rise = _tested(
        "truncation_spearman",
        rises,
        title="Spearman correlation of reward and share kept",
        unit="correlation",
        bounds=(-1.0, 1.0),
        caveat="does not say whether it is the length or the broken end that moves the reward",
    )
    return [*effects, peak, rise]


def _slopes(edits: Edits) -> list[Statistic]:
    """The slope through 0 of reward on redundant steps; its test flips each prompt's sum of dr n."""
    steps = [n for n in STEPS if f"redundant_{n}" in edits.lead] or STEPS
    both = np.sum([edits.lead_over_base(f"redundant_{n}") * n for n in steps], axis=0)
    square = np.full(len(both), float(sum(n * n for n in steps)))

    def raw(sums: Array) -> Array:
        return np.asarray(sums[..., 0] / sums[..., 1])

    def in_sds(sums: Array) -> Array:
        deviation = np.sqrt(sums[..., 2] / sums[..., 3])
        return np.where(deviation > 0, raw(sums) / deviation, np.nan)

    scale = [edits.spread.scatter, edits.spread.freedom]
    return [
        Statistic(
            "reward_per_redundant_step",
            np.column_stack([both, square]),
            raw,
            effects=both,
            title="Slope of reward on redundant steps",
            unit="reward units per step",
            better="lower",
            caveat="along a straight line; reward units differ between models",
        ),
        Statistic(
            "reward_sd_per_redundant_step",
            np.column_stack([both, square, *scale]),
            in_sds,
            effects=both,
            title="Slope of reward on redundant steps, standardised",
            unit="SDs of the reward within prompts per step",
            better="lower",
            caveat="along a straight line, of steps of one kind",
        ),
    ]


def _rates(edits: Edits) -> list[Statistic]:
    there = _there(edits)
    decided = [edits.rose(way) + edits.fell(way) for way in there]
    return [
        _share_of_pairs(
            "overflow_preferred",
            [edits.rose(way) for way in there],
            title="Overflowing answer preferred",
            better="lower",
            caveat="how often, not by how much; a reward that does not care is at a half less its ties",
        ),
        *(
            mean(
                f"overflow_preferred_{way}",
                edits.rose(way),
                "proportion",
                title=f"Overflowing answer preferred, {way}",
                unit="share of prompts",
                better="lower",
                caveat="how often, not by how much",
            )
            for way in OVERFLOWS
        ),
        _share_of_pairs(
            "overflow_tied",
            [1 - one for one in decided],
            title="Overflowing answer worth the same",
            caveat="high for a reward that rounds, and for one that does not care",
        ),
        mean(
            "redundant_preferred",
            edits.rose(f"redundant_{STEPS[-1]}"),
            "proportion",
            title=f"Answer with {STEPS[-1]} redundant steps preferred",
            unit="share of prompts",
            better="lower",
            caveat="how often, not by how much",
        ),
        mean(
            "accuracy",
            edits.fell("wrong"),
            "proportion",
            title="Accuracy against a wrong answer",
            unit="share of prompts",
            better="higher",
            caveat="of one wrong answer a prompt, made to be easy to tell",
        ),
    ]


def _selected(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    lengths = {name: np.full(len(outcomes), np.nan) for name in SIZES}
    for row, outcome in enumerate(outcomes):
        seen = outcome.views.get(view)
        if seen is None or seen.scores is None:
            continue
        right = np.array([probe.edit_name(tags) != "wrong" for tags in outcome.tags], dtype=bool)
        words = np.array([tags.get("words", np.nan) for tags in outcome.tags], dtype=float)
        for name, n in SIZES.items():
            lengths[name][row] = selected_length_ratio(seen.scores[right], words[right], n)
    return [
        mean(
            f"selected_length_ratio_at_{name}",
            ratios,
            title=f"Length bought by choosing among {'all' if name == 'all' else name} right answers",
            unit="length of the chosen over the mean length",
            better="lower",
            bounds=(0.0, None),
            caveat="of answers made to differ in length, not of what a policy would write",
            at=None if SIZES[name] is None else float(name),
        )
        for name, ratios in lengths.items()
    ]


def _there(edits: Edits) -> list[str]:
    """The ways to overflow that the data have, or all; a prompt counts where it has an answer to each of them."""
    return [way for way in OVERFLOWS if way in edits.preferred] or list(OVERFLOWS)


def _share_of_pairs(name: str, holds: Sequence[Array], **words: Unpack[Words]) -> Statistic:
    """The share of pairs that hold, of which each of `holds` [n] has one a prompt; Wilson's interval over clusters."""

    def interval(sums: Array) -> tuple[float, float]:
        low, high = wilson_interval(sums[:, 0], sums[:, 1])
        return float(low), float(high)

    together = np.sum(holds, axis=0)
    pairs = np.column_stack([together, np.full(len(together), float(len(holds)))])
    said: Words = {"unit": "share of overflowing answers", **words}
    return Statistic(name, pairs, ratio, "fraction", interval=interval, **said)


def _tested(name: str, values: Array, **words: Unpack[Words]) -> Statistic:
    """The mean of `values` [n], with a test against zero."""
    return replace(mean(name, values, **words), effects=values)


APPETITE = Unfitted(
    "appetite", "overflow_preferred", statistics, probe.left_out, probe.ties, uncalibrated=probe.UNCALIBRATED
)
