"""The rewards that several models gave to the same responses, prompt by prompt: what distances between them are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmbench.compare.entrants import Side, unknown
from rmbench.compare.measured import SideOutcomes
from rmbench.errors import ResultError, UsageError
from rmbench.metrics import distance
from rmbench.metrics.interval import cluster_codes
from rmbench.metrics.pools import Codes
from rmbench.types import Array, Outcome

_JOINED = "responses that are an example each are taken together by their prompt"


@dataclass(frozen=True)
class Rewarding:
    """A model that gave rewards: its outcomes [n] on a task, in the order of all others', and the view they are of."""

    name: str
    judged: SideOutcomes
    view: str

    @property
    def outcomes(self) -> Sequence[Outcome]:
        """What measures see of it."""
        return self.judged.runs[0]


@dataclass(frozen=True)
class Prompt:
    """Responses to one prompt: the example and the candidate of each, and their cluster."""

    cluster: str
    rows: Sequence[tuple[int, int]]


@dataclass(frozen=True)
class SharedRewards:
    """`rewards` [m, s] of m models for s responses to p prompts, all finite, those to a prompt beside each other.

    `counts` [p] is how many responses a prompt has, at least two, and `clusters` [p] numbers the prompts' clusters.
    `of_prompts` is how many there were before those were left out that lack something, and `notes` say what; `several`
    are all that have several responses.
    """

    models: Sequence[Rewarding]
    rewards: Array
    counts: Codes
    clusters: Codes
    several: Sequence[Prompt]
    of_prompts: int
    notes: Sequence[str]


def rewarding(sides: Sequence[Side], view: str | None) -> tuple[list[Rewarding], list[str]]:
    """Those of `sides` that rewarded responses, in `view` where they have it, else in their primary one; and a line for
    each that only compared. Raises UsageError where none has the view."""
    if view is not None and not any(view in side.views for side in sides):
        raise UsageError(unknown("view", view, list(dict.fromkeys(name for side in sides for name in side.views))))
    found, refused = list[Rewarding](), list[str]()
    for side in sides:
        if side.results[0][1].scale is None:
            refused.append(f"{side.name} has no distance: it only compared pairs, which leaves no reward of a response")
            continue
        judged = SideOutcomes(side, like=found[0].judged if found else None)
        found.append(Rewarding(side.name, judged, view if view in side.views and view else side.primary_view))
    return found, refused


def shared_rewards(models: Sequence[Rewarding]) -> tuple[SharedRewards, list[str]]:
    """What all of `models` rewarded, and a line for each that has no distance: without a prompt whose responses it gave
    numbers, or with the same number for all responses to each.

    A prompt counts where every model gave each of its responses a number that is finite. Raises ResultError where no
    two models, or no prompts, are left.
    """
    if not models:
        raise ResultError("no model is left; a distance needs two models that rewarded responses")
    prompts, notes = _prompts(models)
    several = [prompt for prompt in prompts if len(prompt.rows) > 1]
    if not several:
        raise ResultError("every prompt has a single response, and a reward is compared with others to the same prompt")
    if len(several) < len(prompts):
        notes.append(f"left out: {len(prompts) - len(several):,} of {len(prompts):,} prompts, with a single response")
    counts = np.array([len(prompt.rows) for prompt in several], np.intp)
    rewards = {model.name: rewards_of(model, model.view, several) for model in models}
    finite = {name: _all_finite(given, counts) for name, given in rewards.items()}
    refused = [
        f"{name} has no distance: to no prompt did it give every response a finite reward"
        for name, whole in finite.items()
        if not whole.any()
    ]
    left = [model for model in models if finite[model.name].any()]
    kept = np.all([finite[model.name] for model in left], axis=0)
    if len(left) > 1 and not kept.any():
        lacking = ", ".join(f"{model.name} {int((~finite[model.name]).sum()):,}" for model in left)
        raise ResultError(f"no prompt has rewards by all models; of {len(several):,} prompts lack some by {lacking}")
    for model in left:
        if missing := int((~finite[model.name]).sum()):
            share = f"{missing:,} of {len(several):,} prompts"
            notes.append(f"left out: {share}, with a response that {model.name} gave no finite reward")
    inside = np.repeat(kept, counts)
    alike = [model.name for model in left if not distance.norm(rewards[model.name][inside], counts[kept]) > 0]
    refused += [f"{name} has no distance: it gives all responses to a prompt the same reward" for name in alike]
    left = [model for model in left if model.name not in alike]
    if len(left) < 2:
        alone = f"only {left[0].name} is left" if left else "no model is left"
        raise ResultError("; ".join([*refused, f"{alone}; a distance needs two models that rewarded responses"]))
    clusters = cluster_codes([prompt.cluster for prompt, is_kept in zip(several, kept, strict=True) if is_kept])
    table = np.stack([rewards[model.name][inside] for model in left])
    return SharedRewards(left, table, counts[kept], clusters, several, len(prompts), notes), refused


def rewards_of(model: Rewarding, view: str, prompts: Sequence[Prompt]) -> Array:
    """The rewards [s] of a model's view for the responses to `prompts`, nan where there is none."""
    scores = [scores_of(outcome, view) for outcome in model.outcomes]
    return np.array([scores[row][at] for prompt in prompts for row, at in prompt.rows], float)


def scores_of(outcome: Outcome, view: str) -> Array:
    """The rewards [k] of an example's candidates in one view, nan where there is none."""
    seen = outcome.views.get(view)
    return np.full(len(outcome.labels), np.nan) if seen is None or seen.scores is None else np.asarray(seen.scores)


def _prompts(models: Sequence[Rewarding]) -> tuple[list[Prompt], list[str]]:
    """The responses to each prompt: an example's; where all examples have one response, those of the same prompt.

    Unless criteria were shown: what a response is asked under another one is another question.
    """
    outcomes = models[0].outcomes
    shown = {use for model in models for _, result in model.judged.side.results for use in result.subject.uses}
    if any(len(outcome.labels) > 1 for outcome in outcomes) or "criteria" in shown:
        return [
            Prompt(outcome.cluster, [(row, at) for at in range(len(outcome.labels))])
            for row, outcome in enumerate(outcomes)
        ], []
    by_prompt: dict[str, list[int]] = {}
    for row, outcome in enumerate(outcomes):
        by_prompt.setdefault(outcome.prompt or f"{row}", []).append(row)
    prompts = [Prompt(outcomes[rows[0]].cluster, [(row, 0) for row in rows]) for rows in by_prompt.values()]
    return prompts, [_JOINED] if any(len(prompt.rows) > 1 for prompt in prompts) else []


def _all_finite(rewards: Array, counts: Codes) -> NDArray[np.bool_]:
    """Whether all rewards [s] of each prompt are finite [p]."""
    return np.logical_and.reduceat(np.isfinite(rewards), np.cumsum(counts) - counts)
