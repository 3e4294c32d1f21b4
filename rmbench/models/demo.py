"""The demo: a small reward model that comes with rmbench, trained from scratch on problems like rewardmath_mini's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from typing import Any

from rmbench.models import classifier
from rmbench.models.base import Options, Subject

SOURCE = "none"
OPTIONS = classifier.OPTIONS


def open(source: str, options: Mapping[str, Any], revision: str | None) -> classifier.Classifier:
    """The demo with the options of a classifier."""
    return load(source, Options(**options))


def load(source: str, options: Options) -> classifier.Classifier:
    """The packaged checkpoint, read like any other classifier; its card is README.md beside it."""
    model = classifier.load(str(resources.files("rmbench.demo")), options)
    return replace(model, subject=Subject("rmbench/demo", "demo", None, model.subject.settings))
