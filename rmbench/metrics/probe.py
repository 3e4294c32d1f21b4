"""What edits of a response do to its reward: every edit of a prompt against its base, the answer tagged `sufficient`.

Each candidate is named by its tags, `edit` or `edit_strength`. Rates are strict: a tie is never a rise and never a win.
Effects need rewards as numbers; rates need only who is preferred, so that a model that compares has them too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from rmbench.metrics import comparison
from rmbench.metrics.interval import Statistic, Words
from rmbench.types import Array, Outcome, View

BASE = "sufficient"
UNCALIBRATED = "a probe's responses are made to mislead, no sample of what a model will meet"


@dataclass(frozen=True, slots=True)
class Spread:
    """Sums of squares [n] about each prompt's mean of some rewards, and their degrees of freedom [n]."""

    scatter: Array
    freedom: Array


@dataclass(frozen=True, slots=True)
class Edits:
    """What n prompts' edits are worth against their bases; each mapping is from an edit's name to [n].

    `preferred` is 1 where the edit is preferred to the base, .5 for a tie, 0 where it is not, nan without an answer.
    `lead` is its reward minus the base's, nan where either is missing or not finite. Both are nan where a prompt does
    not have the edit. `spread` is that of the plain answers.
    """

    preferred: Mapping[str, Array]
    lead: Mapping[str, Array]
    spread: Spread

    def rose(self, name: str) -> Array:
        """Whether the edit is preferred to the base [n]: 1, 0 where it is not or ties, nan without an answer."""
        return _strictly(self.preferred_to_base(name))

    def fell(self, name: str) -> Array:
        """Whether the base is preferred to the edit [n]: 1, 0 where it is not or ties, nan without an answer."""
        return _strictly(1 - self.preferred_to_base(name))

    def preferred_to_base(self, name: str) -> Array:
        """`preferred` [n] of one edit, nan where no prompt has it."""
        return self.preferred.get(name, np.full(len(self.spread.scatter), np.nan))

    def lead_over_base(self, name: str) -> Array:
        """`lead` [n] of one edit, nan where no prompt has it."""
        return self.lead.get(name, np.full(len(self.spread.scatter), np.nan))


def edits(outcomes: Sequence[Outcome], view: str, plain: Collection[str]) -> Edits:
    """Every edit of `outcomes` [n] as one view has it; `plain` names the answers whose spread measures effects."""
    names = dict.fromkeys(name for outcome in outcomes for name in map(edit_name, outcome.tags) if name != BASE)
    preferred = {name: np.full(len(outcomes), np.nan) for name in names}
    lead = {name: np.full(len(outcomes), np.nan) for name in names}
    scatter, freedom = np.full((2, len(outcomes)), np.nan)
    for row, outcome in enumerate(outcomes):
        here, seen = [edit_name(tags) for tags in outcome.tags], outcome.views.get(view)
        if BASE not in here or seen is None:
            continue
        base, scores = here.index(BASE), _scores(seen, len(here))
        scores[np.isinf(scores)] = np.nan
        for name, against, ahead in zip(here, _against(seen, base, len(here)), scores - scores[base], strict=True):
            if name != BASE:
                preferred[name][row], lead[name][row] = against, ahead
        plain_scores = scores[[name in plain for name in here]]
        if len(plain_scores) and np.isfinite(plain_scores).all():
            scatter[row] = np.square((plain_scores - plain_scores[0]) - (plain_scores - plain_scores[0]).mean()).sum()
            freedom[row] = len(plain_scores) - 1
    return Edits(preferred, lead, Spread(scatter, freedom))


def more_of(tag: str, outcomes: Sequence[Outcome], name: str) -> Array:
    """A number that tags hold, of the edit minus that of its base [n]; nan where a prompt lacks one of them."""
    more = np.full(len(outcomes), np.nan)
    for row, outcome in enumerate(outcomes):
        held = {edit_name(tags): tags[tag] for tags in outcome.tags if tag in tags}
        if name in held and BASE in held:
            more[row] = held[name] - held[BASE]
    return more


def edit_name(tags: Mapping[str, Any]) -> str:
    """`edit`, or `edit_strength` where there is a strength."""
    return f"{tags['edit']}_{tags['strength']}" if "strength" in tags else str(tags["edit"])


def has_scores(outcomes: Sequence[Outcome], view: str) -> bool:
    """Whether a view holds rewards, not only who is preferred to whom."""
    return any(outcome.views[view].scores is not None for outcome in outcomes if view in outcome.views)


def effect(name: str, lead: Array, spread: Spread, **words: Unpack[Words]) -> Statistic:
    """Mean of `lead` [n] over the pooled standard deviation within prompts, the root of scatter over freedom.

    A ratio of sums, as Cohen's d is: a prompt counts where all of its three numbers are known. The test against zero
    flips the signs of prompts. It is exact where an edit is as likely to move a reward up as down by the same amount;
    where leads are skewed and their mean is 0, it says 5 % in 13, 10 and 8 % of cases at 20, 50 and 100 prompts.
    """

    def value(sums: Array) -> Array:
        total, prompts, scatter, freedom = np.moveaxis(sums, -1, 0)
        deviation = np.sqrt(scatter / freedom)
        return np.where(deviation > 0, total / prompts / deviation, np.nan)

    columns = np.column_stack([lead, np.ones_like(lead), spread.scatter, spread.freedom])
    said: Words = {
        "unit": "SDs of the reward within prompts over plain answers",
        "caveat": "in SDs of what quality does: large for a reward that hardly tells plain answers apart",
        **words,
    }
    return Statistic(name, columns, value, effects=lead, **said)


def left_out(outcomes: Sequence[Outcome], view: str) -> dict[str, int]:
    """How many prompts lack what a metric needs, by the first reason that holds; reasons that do not occur are absent.

    `no base`: no answer is tagged `sufficient`; `no answer`: an answer was not compared with the base, or one of the
    two has no reward; `infinite reward`: rates count the prompt, effects do not.
    """
    reasons = [_reason(outcome, view) for outcome in outcomes]
    return {why: reasons.count(why) for why in ("no base", "no answer", "infinite reward") if why in reasons}


def ties(outcomes: Sequence[Outcome], view: str) -> int:
    """In how many prompts an edit is worth just what its base is."""
    preferred = edits(outcomes, view, ()).preferred.values()
    return int(np.any([column == 0.5 for column in preferred], axis=0).sum()) if preferred else 0


def _reason(outcome: Outcome, view: str) -> str | None:
    names, seen = [edit_name(tags) for tags in outcome.tags], outcome.views.get(view)
    if BASE not in names:
        return "no base"
    base = names.index(BASE)
    if seen is None or np.isnan(np.delete(_against(seen, base, len(names)), base)).any():
        return "no answer"
    return "infinite reward" if seen.scores is not None and np.isinf(seen.scores).any() else None


def _against(view: View, base: int, k: int) -> Array:
    """Who is preferred to the base [k]."""
    beats = comparison.beats(_scores(view, k)) if view.beats is None else view.beats
    against: Array = beats[:, base]
    return against


def _scores(view: View, k: int) -> Array:
    """A copy of the rewards of a view [k], nan where there are none."""
    return np.full(k, np.nan) if view.scores is None else np.array(view.scores, float)


def _strictly(preferred: Array) -> Array:
    return np.where(np.isnan(preferred), np.nan, preferred == 1)
