"""Requests to a model without a task around them: questions that come from nowhere, unless a test says from where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rmbench import scoring
from rmbench.models.base import Model
from rmbench.types import Question, Request, Reward


def score(model: Model, requests: Sequence[Request | Question], **options: Any) -> list[Reward]:
    """The reward of each request, in order."""
    questions = [Question(one) if isinstance(one, Request) else one for one in requests]
    return scoring.score(model, questions, **options)
