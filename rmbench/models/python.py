"""Your own code: `python:module:attribute` names a callable `(prompt, response) -> float` or an object with a protocol.

The prompt is a string where it is one user message, else a list of `{"role", "content"}`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from rmbench.errors import ModelError, UsageError
from rmbench.models.base import (
    Derived,
    Identity,
    Judge,
    Model,
    Options,
    RewardModel,
    ScoreFile,
    Subject,
    TokenModel,
    subject_of,
    uses_of,
)
from rmbench.types import Ask, Request, Reward


class PythonCallable:
    """A callable `(prompt, response) -> float` as a reward model, known again by `fingerprint`, if at all."""

    answers: frozenset[Ask] = frozenset({"reward"})

    def __init__(self, function: Callable[..., float], name: str | None = None, fingerprint: str | None = None) -> None:
        self.function, self.fingerprint = function, fingerprint
        self.identity: Identity = "none" if fingerprint is None else "named"
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


class Named:
    """A RewardModel of own code that has no fingerprint of its own, known again by its file."""

    identity: Identity = "named"

    def __init__(self, model: RewardModel, fingerprint: str) -> None:
        self.rewards, self.fingerprint = model.rewards, fingerprint
        self.answers, self.uses, self.subject = model.answers, uses_of(model), subject_of(model)


def load(source: str, options: Options) -> Model:
    """What `module:attribute` is, known again by the hash of the file that it is written in."""
    module_name, colon, attribute = source.partition(":")
    if not colon or not module_name or not attribute:
        raise UsageError(f"python:{source} does not name a callable; write python:module:attribute")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = import_module(module_name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise UsageError(f"python:{source}: no module {module_name!r} here or among what is installed") from error
        raise ModelError(f"python:{source} cannot be imported: {type(error).__name__}: {error}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"python:{source}: module {module_name!r} has no {attribute!r}")
        found = getattr(found, part)
    if isinstance(found, type):
        try:
            found = found()
        except Exception as error:
            raise ModelError(f"python:{source} cannot be made: {type(error).__name__}: {error}") from error
    named = f"python:1:{source}:{code_sha256(source)}"
    if isinstance(found, RewardModel) and found.fingerprint is None:
        return Named(found, named)
    if isinstance(found, RewardModel | TokenModel | ScoreFile | Derived | Judge):
        return found
    if not callable(found):
        raise ModelError(f"python:{source} is a {type(found).__name__}; expected (prompt, response) -> float")
    return PythonCallable(found, f"python/{module_name}.{attribute}", named)


def _prompt(request: Request) -> str | list[dict[str, str]]:
    if len(request.prompt) == 1 and request.prompt[0].role == "user":
        return request.prompt[0].text
    return [{"role": message.role, "content": message.text} for message in request.prompt]


def code_sha256(source: str) -> str | None:
    """Hash of the file that `module:attribute` is written in; what that file imports is not looked into."""
    module = sys.modules.get(source.partition(":")[0])
    file = getattr(module, "__file__", None)
    return sha256(Path(file).read_bytes()).hexdigest() if file and Path(file).is_file() else None
