"""Implicit rewards: how much likelier a policy finds a response than its reference does, times beta.

That is the reward which DPO maximises (huggingface/trl@f2cd577:trl/trainer/dpo_trainer.py, `_compute_loss`: sums over
the response's tokens; the mean over them is what its IPO loss trains). Both are members, asked for their likelihoods
(`models.likelihood` says which tokens count), so that what is kept serves every beta.

Without a reference the reward is the policy's own: the sum, the mean a token, or the incumbent's norm, -||log p||_2
(allenai/reward-bench@05a9005:rewardbench/dpo.py, `get_batch_logps`: what its class does unless told otherwise, while
`scripts/run_dpo.py` there takes the mean). All three are heads, with a reference too, and then the mean difference a
token is one. Sum and norm grow smaller with every token, so that they favour short responses.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rmbench import plugins
from rmbench.checkpoints.fingerprint import in_one_line
from rmbench.checkpoints.opened import chosen
from rmbench.errors import UsageError
from rmbench.models import likelihood
from rmbench.models.base import Option, Subject
from rmbench.models.likelihood import Look
from rmbench.models.options import given
from rmbench.models.spec import Spec, parse
from rmbench.types import Ask, Json, Message, Question, Request, Response, Reward

VERSION = 1  # of what is made of the likelihoods
SOURCE = "required"
_BETA = 0.1
OPTIONS: Mapping[str, Option] = {
    "reference": Option(
        "what it was trained from, as ID@REV or folder; in a file or from Python with options of its own behind a ?"
    ),
    "beta": Option("by what the difference to the reference is multiplied", float, _BETA),
    "free": Option("the reward where there is no reference (default: sum)", choices=("sum", "mean", "norm")),
    **likelihood.OPTIONS,
}

# Options that say what weights are read: the policy's, and of no use to its reference
ENTRIES_OF = "likelihood"  # what the table of known models may say is said of the policy
_OF_WEIGHTS = frozenset({"average", "weight", "adapter", "base", "entry"})
_PROBE = Request("reward", (Message("user", "Is 17 a prime?"),), (Response("Yes, no smaller prime divides it."),))


@dataclass(frozen=True)
class Implicit:
    """A Derived over the policy and, where there is one, its reference. Nothing is fitted."""

    subject: Subject
    fingerprint: str
    members: tuple[Spec, ...]
    beta: float
    free: str
    answers: frozenset[Ask] = frozenset({"reward", "tokens"})

    def needs(self, questions: Sequence[Question]) -> list[Sequence[Question]]:
        """The same of each member: values of tokens where these are asked for, else only their sums."""
        asked = [
            question if question.request.ask == "tokens"
            else question._replace(request=replace(question.request, ask="likelihood"))
            for question in questions
        ]  # fmt: skip
        return [asked for _ in self.members]

    def fit(self, questions: Sequence[Question], answers: list[list[Reward]]) -> Json | None:
        return None

    def combine(self, questions: Sequence[Question], answers: list[list[Reward]], fitted: Json | None) -> list[Reward]:
        return [self._of(*given) for given in zip(*answers, strict=True)]

    def _of(self, policy: Reward, reference: Reward | None = None) -> Reward:
        ((count,), (squares,)) = policy.heads["tokens"], policy.heads["squares"]
        mean = policy.value / count if count else math.nan
        views = {"free_sum": policy.value, "free_mean": mean, "free_norm": -math.sqrt(squares)}
        told = replace(policy, heads={})
        if reference is None:
            return replace(told, values=(views[f"free_{self.free}"],), heads=_heads(views))
        if policy.read != reference.read:
            detail = "policy and reference read different tokens"
            return replace(told, values=(math.nan,), tokens=(), status="error", detail=detail)
        value = self.beta * (policy.value - reference.value)
        tokens = tuple(self.beta * (a - b) for a, b in zip(policy.tokens, reference.tokens, strict=True))
        heads = _heads({"mean": value / count if count else math.nan, **views})
        return replace(told, values=(value,), tokens=tokens, heads=heads, status="ok")


def _heads(views: Mapping[str, float]) -> dict[str, tuple[float, ...]]:
    return {name: (value,) for name, value in views.items()}


@in_one_line
def open(source: str, options: Mapping[str, Any], revision: str | None = None) -> Implicit:
    """A policy and what it was trained from, both looked at but not loaded.

    Raises UsageError for options that cannot be, and where the two have different vocabularies or write a conversation
    differently, and ModelError where one of them is no causal language model.
    """
    asked = chosen(OPTIONS, options, "dpo")
    if not (math.isfinite(asked["beta"]) and asked["beta"] > 0):
        raise UsageError(f"beta={asked['beta']}: expected a number above 0")
    stated = given(options, OPTIONS)
    own = {name: value for name, value in stated.items() if name in likelihood.OPTIONS}
    policy = Spec("likelihood", source, revision, own, text=source)
    ours = likelihood.look(policy)
    settings = {**ours.settings, "rendering": ours.rendering.identity}
    commit = settings.pop("revision")
    if asked["reference"] is None:
        if "beta" in stated:
            raise UsageError(f"beta={asked['beta']}: it multiplies the difference to a reference; expected ?reference=")
        free = asked["free"] or "sum"
        subject = Subject(ours.id, "dpo", commit, {**settings, "free": free})
        return Implicit(subject, f"dpo:{VERSION}:{free}", (policy,), 1.0, free)
    if asked["free"] is not None:
        raise UsageError(f"free={asked['free']}: it is of a policy without reference, and {asked['reference']} is one")
    reference = _reference(asked["reference"], own)
    if reference == policy:
        warnings.warn(f"{ours.id}: its reference is the policy itself, so that every reward is 0", stacklevel=3)
    theirs = likelihood.look(reference)
    _check_alike(ours, theirs)
    settings |= {"beta": asked["beta"], "reference": {"id": theirs.id, **theirs.settings}}
    subject = Subject(ours.id, "dpo", commit, settings)
    return Implicit(subject, f"dpo:{VERSION}:{asked['beta']!r}", (policy, reference), asked["beta"], "sum")


def _reference(text: str, own: Mapping[str, Any]) -> Spec:
    """The reference as a spec, with the options of the policy that are not of its weights. Raises UsageError."""
    family, mark, _ = text.partition(":")
    if mark and family != "likelihood" and family in plugins.names(plugins.MODELS) and not Path(text).exists():
        raise UsageError(f"reference={text}: expected a causal language model as ID@REV or folder, got a {family}")
    spec = parse(text if family == "likelihood" and mark else f"likelihood:{text}")
    shared = {name: value for name, value in own.items() if name not in _OF_WEIGHTS}
    return replace(spec, options={**shared, **spec.options})


def _check_alike(policy: Look, reference: Look) -> None:
    """Raises UsageError where two models do not read the same tokens of the same conversation."""
    both = f"policy {policy.id} and reference {reference.id}"
    ids, others = policy.rendering.tokenizer.get_vocab(), reference.rendering.tokenizer.get_vocab()
    tokens = {token: word for word, token in others.items()}
    for word, token in sorted(ids.items(), key=lambda pair: pair[1]):
        if others.get(word, token) != token or tokens.get(token, word) != word:
            there = f"{others[word]}" if word in others else "none"
            raise UsageError(
                f"{both} have different vocabularies ({len(ids):,} and {len(others):,} tokens): {word!r} is {token},"
                f" there {there}"
            )
    (one,), (other,) = (each.rendering.encode([_PROBE]) for each in (policy, reference))
    if one.error is None and other.error is None and list(one.ids) != list(other.ids):
        raise UsageError(
            f"{both} write a conversation differently, {len(one.ids)} and {len(other.ids)} tokens of a short one:"
            " ?template=FILE has both write it alike"
        )
