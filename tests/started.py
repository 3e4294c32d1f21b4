"""Checkpoints started for as long as a test holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rmbench.models import classifier
from rmbench.policies import local


def start_classifier(
    source: str | Path, *, revision: str | None = None, device: str | None = "cpu", **options: Any
) -> classifier.Classifier:
    return classifier.open(str(source), options, revision).start(device)


def start_policy(source: str | Path, **options: Any) -> local.Local:
    return local.open(str(source), options).start("cpu")
