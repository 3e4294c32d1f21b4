"""A model whose weights are loaded when it is started, which it counts in a file: RESTING_LOG."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fake_models import TinyTokenModel

from rmbench.models.base import Subject, TokenModel


class Resting:
    answers = frozenset({"reward"})
    subject = Subject("tests/resting", "tiny")
    fingerprint = "resting:1"

    @contextmanager
    def started(self, device: str | None = None) -> Iterator[TokenModel]:
        with Path(os.environ["RESTING_LOG"]).open("a") as log:
            log.write("started\n")
        time.sleep(float(os.environ.get("RESTING_SECONDS", "0")))
        yield TinyTokenModel(["reward"], "resting:1")


MODEL = Resting()
