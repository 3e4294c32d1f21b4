"""Your own code: `python:module:attribute` names a function `(prompt, response) -> float` or an object with a protocol.

Functions may be async, take lists or compare two responses, and return None where they refuse. What a function answered
is remembered as long as its file is unchanged.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from rmbench.errors import ModelError, UsageError
from rmbench.models.base import (
    SHAPES,
    Derived,
    Identity,
    Judge,
    Model,
    Option,
    RewardModel,
    ScoreFile,
    TokenModel,
    most_of,
    subject_of,
    uses_of,
)
from rmbench.models.callables import CALLS, PythonCallable
from rmbench.plugins import own_code
from rmbench.types import Request, Reward

OPTIONS: Mapping[str, Option] = CALLS


class OwnModel:
    """A model of a user's own without a fingerprint, known again by that of its code."""

    identity: Identity = "named"

    def __init__(self, model: RewardModel, fingerprint: str) -> None:
        self.model, self.fingerprint = model, fingerprint
        self.answers, self.uses, self.subject = model.answers, uses_of(model), subject_of(model)
        self.most = most_of(model)

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
        return self.model.rewards(requests)


def check(source: str, revision: str | None) -> None:
    """Raises what `open` raises for a module that cannot be imported or names no model, before anything is run."""
    if not isinstance(own_code(source), type):  # to make one may take long
        open(source, {}, revision)


def open(source: str, options: Mapping[str, Any], revision: str | None) -> Model:
    """What `module:attribute` names: a model that states its own fingerprint, else one known by the file it is in.

    A class is called without arguments. Raises UsageError where there is no such thing and for options of functions
    that are given to an object, ModelError where it cannot be imported or made and where it is neither a model nor a
    function.
    """
    if revision is not None:
        raise UsageError(f"python:{source}@{revision}: own code has no revisions")
    value = own_code(source)
    if isinstance(value, type):
        try:
            value = value()
        except (Exception, SystemExit) as error:
            raise ModelError(f"python:{source} cannot be made: {type(error).__name__}: {error}") from error
    code = _code_sha256(source, value)
    if isinstance(value, RewardModel | TokenModel | ScoreFile | Derived | Judge):
        for name, given in options.items():
            if given is not None:
                raise UsageError(f"{name}={given!r}: python:{source} has a protocol, and calls itself as it likes")
        if isinstance(value, RewardModel) and value.fingerprint is None and code is not None:
            return OwnModel(value, code)
        return value
    if not isinstance(value, str | bytes) and any(hasattr(value, method) for method in SHAPES):
        return value  # type: ignore[no-any-return]  # whoever asks for it says what it lacks
    if not callable(value):
        raise ModelError(f"python:{source} is a {type(value).__name__}; expected (prompt, response) -> float")
    return PythonCallable(value, f"python/{source.replace(':', '.')}", code, options)


def _code_sha256(source: str, value: object) -> str | None:
    """Hash of the attribute's name and of the files that name and define it; what these import is not looked into."""
    module, _, attribute = source.partition(":")
    defined = getattr(value, "__module__", None) or type(value).__module__
    files = [getattr(sys.modules.get(name), "__file__", None) for name in dict.fromkeys((module, defined))]
    paths = [Path(file) for file in files if file is not None and Path(file).is_file()]
    if not paths:
        return None
    digest = sha256(attribute.encode())
    for path in paths:
        digest.update(bytes(1) + path.read_bytes())
    return f"python:1:{digest.hexdigest()}"
