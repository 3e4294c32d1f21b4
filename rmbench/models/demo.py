"""The demo: a small reward model that comes with rmbench, trained from scratch on problems like rewardmath_mini's."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources

from rmbench.models import classifier
from rmbench.models.base import Options, Subject

SOURCELESS = True


def load(source: str, options: Options) -> classifier.Classifier:
    """The packaged checkpoint, read like any other classifier; its card is README.md beside it."""
    model = classifier.load(str(resources.files("rmbench.demo")), options)
    return replace(model, subject=Subject("rmbench/demo", "demo", None, model.subject.settings))
