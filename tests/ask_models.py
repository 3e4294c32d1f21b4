"""Requests to a model without a task around them: questions that come from nowhere, unless a test says from where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rmbench.models.base import Model
from rmbench.scoring import Asking, Session, Store, Tally, Writing
from rmbench.types import GenerationRequest, Question, Request, Response, Reward


def score(
    model: Model, requests: Sequence[Request | Question], *, tally: Tally | None = None, **asking: Any
) -> list[Reward]:
    """The reward of each request, in order."""
    questions = [Question(one) if isinstance(one, Request) else one for one in requests]
    with Session(model, Asking(usage=tally or Tally(), **asking)) as session:
        return session.ask(questions).rewards


def generate(
    policy: Any, requests: Sequence[GenerationRequest], *, store: Store | None = None, tally: Tally | None = None
) -> list[Response | None]:
    """The response to each request, in order."""
    return Writing(policy, Asking(store, usage=tally or Tally())).write(requests)
