"""The demo: a small reward model that comes with rmbench, trained from scratch on problems like rewardmath_mini's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from typing import Any

from rmbench.models import classifier
from rmbench.models.base import Subject

SOURCE = "none"
OPTIONS = classifier.OPTIONS


def open(source: str, options: Mapping[str, Any], revision: str | None = None) -> classifier.OpenedClassifier:
    """The packaged checkpoint, read like any other classifier; its card is README.md beside it."""
    opened = classifier.open(str(resources.files("rmbench.demo")), options, revision)
    return replace(opened, subject=Subject("rmbench/demo", "demo", None, opened.subject.settings))
