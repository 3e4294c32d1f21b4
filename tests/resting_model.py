"""A family whose model is loaded when it is started, which it counts in the file RESTING_LOG."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fake_models import TinyTokenModel

from rmbench.models.base import Opened, Option, Subject, TokenModel

OPTIONS: Mapping[str, Option] = {}
SOURCE = "none"


class Resting:
    """At rest until `started`, which takes RESTING_SECONDS."""

    answers = frozenset({"reward"})
    subject = Subject("tests/resting", "resting")
    fingerprint = "resting:1"

    @contextmanager
    def started(self, device: str | None = None) -> Iterator[TokenModel]:
        with Path(os.environ["RESTING_LOG"]).open("a") as log:
            log.write("started\n")
        time.sleep(float(os.environ.get("RESTING_SECONDS", "0")))
        yield TinyTokenModel(["reward"], "resting:1")


def open(source: str, options: Mapping[str, Any], revision: str | None) -> Opened:  # noqa: A001  as families call it
    return Resting()
