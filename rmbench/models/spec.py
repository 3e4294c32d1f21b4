"""MODEL specs: `family:source@revision`, a bare hub id or folder, or the name of a built-in."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rmbench.errors import ModelError, UsageError
from rmbench.models.base import Derived, Judge, Model, Opened, Options, RewardModel, ScoreFile, TokenModel
from rmbench.models.fingerprint import locate
from rmbench.models.python import PythonCallable
from rmbench.plugins import did_you_mean, families

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Spec:
    """A model spec taken apart. `revision` is a branch, tag or commit on the hub."""

    family: str
    source: str
    revision: str | None = None


def parse(text: str) -> Spec:
    """Takes a spec apart; a bare id or folder gets its family from its config. Raises UsageError, ModelError."""
    family, colon, source = text.partition(":")
    known = families()
    for name in _sourceless():
        if text == name:
            return Spec(text, "")
        if text.startswith((f"{name}:", f"{name}@")):
            raise UsageError(f"model {text!r}: {name} is a model by itself, without source or revision")
    if colon and family in known:
        if not source:
            raise UsageError(f"model {text!r} names no source; write {family}:SOURCE")
        return Spec(family, *_revision(source)) if family != "python" else Spec(family, source)
    if text in known:
        raise UsageError(f"model {text!r} names no source; write {text}:SOURCE")
    if colon and not Path(text).exists():
        names = ", ".join(sorted(known))
        raise UsageError(f"unknown model family {family!r}{did_you_mean(family, known)}; families: {names}")
    source, revision = _revision(text)
    return Spec(_family_of(source, revision), source, revision)


def load_model(spec: str | Model | Callable[..., float], **options: Any) -> Model:
    """A model ready to score: from a spec, an object with a protocol's methods, or `(prompt, response) -> float`.

    `options` are the fields of `rmbench.models.base.Options`. Raises UsageError for a spec or option that does not
    exist, ModelError for a model that cannot be loaded.
    """
    unknown = set(options) - set(Options.__slots__)
    if unknown:
        name = min(unknown)
        raise UsageError(f"unknown model option {name!r}{did_you_mean(name, Options.__slots__)}")
    if isinstance(spec, str):
        parsed = parse(spec)
        given = Options(**options)
        if parsed.revision and given.revision and parsed.revision != given.revision:
            raise UsageError(f"{spec!r} asks for revision {parsed.revision!r}, the option for {given.revision!r}")
        model: Model = families()[parsed.family].load(
            parsed.source, replace(given, revision=parsed.revision or given.revision)
        )
        return model
    unheard = [name for name, value in options.items() if name != "seed" and value != getattr(Options(), name)]
    if unheard:
        raise UsageError(f"{unheard[0]}={options[unheard[0]]!r} cannot change a model that is loaded already")
    if isinstance(spec, RewardModel | TokenModel | ScoreFile | Derived | Judge):
        return spec
    if callable(spec):
        return PythonCallable(spec)
    raise UsageError(f"a model is a spec, an object with a protocol's methods or a callable, not {type(spec).__name__}")


def open_model(model: str | Model | Opened | Callable[..., float], **options: Any) -> Model | Opened:
    """A model at rest or ready, as `load_model` takes it."""
    return model if isinstance(model, Opened) else load_model(model, **options)


def _revision(source: str) -> tuple[str, str | None]:
    if "@" not in source or Path(source).exists():
        return source, None
    source, _, revision = source.rpartition("@")
    return source, revision or None


def _family_of(source: str, revision: str | None) -> str:
    path = Path(source)
    if path.is_file():
        raise UsageError(f"{source!r} is a file; to look its scores up write scores:{source}")
    if not path.is_dir() and not _HUB_ID.fullmatch(source):
        names = {*_sourceless(), *families()}
        raise UsageError(
            f"unknown model {source!r}{did_you_mean(source, names)}; a model is {', '.join(_sourceless())}, a folder, "
            "a hub id (org/name) or family:source"
        )
    checkpoint = locate(source, revision)
    config = checkpoint.json("adapter_config.json") or checkpoint.json("config.json")
    if config is None:
        raise ModelError(f"{source}: no config.json or adapter_config.json; a checkpoint has one")
    architectures = config.get("architectures") or []
    if config.get("task_type") == "SEQ_CLS" or "AutoModelForSequenceClassification" in config.get("auto_map", {}):
        return "classifier"
    if any(name.endswith("ForSequenceClassification") for name in architectures):
        return "classifier"
    found = ", ".join(architectures) or "no architecture"
    raise UsageError(
        f"{source!r} does not say what family it is ({found} in its config, no sequence classification head); "
        f"write FAMILY:{source} with one of {', '.join(sorted(families()))}"
    )


def _sourceless() -> list[str]:
    """Families that are a model by their name alone."""
    return sorted(name for name, family in families().items() if getattr(family, "SOURCELESS", False))
