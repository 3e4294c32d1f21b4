"""Your own code: `python:module:attribute` names a callable `(prompt, response) -> float` or an object with a protocol.

The prompt is a string where it is one user message, else a list of `{"role", "content"}`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from rmbench.errors import ModelError, UsageError
from rmbench.models.base import (
    Derived,
    Identity,
    Judge,
    Model,
    Option,
    RewardModel,
    ScoreFile,
    Subject,
    TokenModel,
    subject_of,
    uses_of,
)
from rmbench.plugins import own_code
from rmbench.types import Ask, Request, Reward

OPTIONS: Mapping[str, Option] = {}


class PythonCallable:
    """A callable `(prompt, response) -> float` as a reward model.

    `fingerprint` is that of the file it is in, None in memory: what the callable calls may change under both.
    """

    answers: frozenset[Ask] = frozenset({"reward"})

    def __init__(self, function: Callable[..., float], name: str | None = None, fingerprint: str | None = None) -> None:
        self.function, self.fingerprint = function, fingerprint
        self.identity: Identity = "named" if fingerprint else "none"
        qualified = getattr(function, "__qualname__", type(function).__qualname__)
        self.subject = Subject(name or "python/" + qualified.replace("<", "").replace(">", ""), "python")

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
        for index, request in enumerate(requests):
            yield index, self._reward(request)

    def _reward(self, request: Request) -> Reward:
        try:
            value = self.function(_prompt(request), request.responses[0].text)
            return Reward((float(value),))
        except (Exception, SystemExit) as error:
            # One bad row must not lose the others: it is counted, shown and scored again by the next run
            return Reward((float("nan"),), status="error", detail=f"{type(error).__name__}: {error}")


class OwnModel:
    """A model of a user's own without a fingerprint, known again by that of its code."""

    identity: Identity = "named"

    def __init__(self, model: RewardModel, fingerprint: str) -> None:
        self.model, self.fingerprint = model, fingerprint
        self.answers, self.uses, self.subject = model.answers, uses_of(model), subject_of(model)

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
        return self.model.rewards(requests)


def open(source: str, options: Mapping[str, Any], revision: str | None) -> Model:
    """What `module:attribute` names: a model that states its own fingerprint, else one known by the file it is in.

    A class is called without arguments. Raises UsageError where there is no such thing, ModelError where it cannot be
    imported or made and where it is neither a model nor a callable.
    """
    if revision is not None:
        raise UsageError(f"python:{source}@{revision}: own code has no revisions")
    value = own_code(source)
    if isinstance(value, type):
        try:
            value = value()
        except Exception as error:
            raise ModelError(f"python:{source} cannot be made: {type(error).__name__}: {error}") from error
    code = _code_sha256(source)
    if isinstance(value, RewardModel) and value.fingerprint is None and code is not None:
        return OwnModel(value, code)
    if isinstance(value, RewardModel | TokenModel | ScoreFile | Derived | Judge):
        return value
    if not callable(value):
        raise ModelError(f"python:{source} is a {type(value).__name__}; expected (prompt, response) -> float")
    return PythonCallable(value, f"python/{source.replace(':', '.')}", code)


def _code_sha256(source: str) -> str | None:
    """Hash of the attribute's name and of the file that its module is; what that file imports is not looked into."""
    module, _, attribute = source.partition(":")
    file = getattr(sys.modules[module], "__file__", None)
    if file is None or not Path(file).is_file():
        return None
    return f"python:1:{sha256(attribute.encode() + bytes(1) + Path(file).read_bytes()).hexdigest()}"


def _prompt(request: Request) -> str | list[dict[str, str]]:
    if len(request.prompt) == 1 and request.prompt[0].role == "user":
        return request.prompt[0].text
    return [{"role": message.role, "content": message.text} for message in request.prompt]
