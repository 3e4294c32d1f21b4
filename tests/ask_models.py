"""Requests to a model without a task around them: questions that come from nowhere, unless a test says from where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rmbench.models.base import Model, Opened
from rmbench.scoring import Asking, Session, Store, Usage, Writing
from rmbench.types import GenerationRequest, Question, Request, Response, Reward


def score(
    model: Model | Opened,
    requests: Sequence[Request | Question],
    *,
    usage: Usage | None = None,
    spec: str | None = None,
    options: Mapping[str, Any] | None = None,
    **asking: Any,
) -> list[Reward]:
    """The reward of each request, in order; `spec` and `options` are what other processes open the model by."""
    questions = [Question(one) if isinstance(one, Request) else one for one in requests]
    with Session(model, Asking(usage=usage or Usage(), **asking), spec, options) as session:
        return session.ask(questions).rewards


def generate(
    policy: Any, requests: Sequence[GenerationRequest], *, store: Store | None = None, usage: Usage | None = None
) -> list[Response | None]:
    """The response to each request, in order."""
    return Writing(policy, Asking(store, usage=usage or Usage())).write(requests)
