"""Data sets of the Hugging Face hub, pinned to the commit they were read at."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from rmbench.data.files import Row
from rmbench.errors import DataError

_LOCAL = "local"
_TIMEOUT = 8.0  # seconds for the hub's first answer; without it nothing more is asked


@dataclass(frozen=True, slots=True)
class Loaded:
    """The rows of a hub set, its id (a folder: its name), its commit (None where only the cache could be asked), and
    the sha256 of the rows."""

    rows: Iterator[Row]
    source: str
    revision: str | None
    sha256: str


@dataclass(frozen=True, slots=True)
class HubSet:
    """A data set on the hub, or a local folder that `datasets.load_dataset` reads. `split` None is the only one."""

    id: str
    split: str | None = None
    revision: str | None = None
    config: str | None = None

    def load(self, task: str) -> Loaded:
        """The rows, for `task` (a name, for the error message). Raises DataError where they cannot be had."""
        import datasets

        try:
            with _quiet_client():
                commit = self._commit()
                revision = None if commit == _LOCAL else commit
                loaded = datasets.load_dataset(self.id, self.config, split=self.split, revision=revision)
        except Exception as error:  # whatever the hub, its client or the network raise, the way out is the same
            cause = str(error).partition("\n")[0]
            raise DataError(
                f"hub set {self.id} cannot be loaded ({type(error).__name__}: {cause}); with its rows in a file, give "
                f"--data {task}=FILE; where it was loaded before, HF_HUB_OFFLINE=1 takes it from the cache"
            ) from error
        if isinstance(loaded, dict):
            if len(loaded) > 1:
                raise DataError(f"hub set {self.id} has the splits {', '.join(loaded)}; the task names none of them")
            (loaded,) = loaded.values()
        source = Path(self.id).resolve().name if commit == _LOCAL else self.id
        return Loaded(self._rows(loaded), source, commit, _rows_sha256(loaded))

    def _commit(self) -> str | None:
        """The commit that `revision` names now; in offline mode just `revision`, as nobody can be asked."""
        if Path(self.id).is_dir():
            return _LOCAL
        import huggingface_hub
        from huggingface_hub.errors import OfflineModeIsEnabled

        try:
            return huggingface_hub.HfApi().dataset_info(self.id, revision=self.revision, timeout=_TIMEOUT).sha
        except OfflineModeIsEnabled:
            return self.revision

    def _rows(self, values: Iterable[dict[str, Any]]) -> Iterator[Row]:
        for number, value in enumerate(values, 1):
            yield Row(value, Path(self.id).name, number)


@contextmanager
def _quiet_client() -> Iterator[None]:
    """Without the hub client's warnings: "Retrying in 1s" is no news beside the one line that says what to do."""
    client = logging.getLogger("huggingface_hub")
    level = client.level
    client.setLevel(logging.ERROR)
    try:
        yield
    finally:
        client.setLevel(level)


def _rows_sha256(values: Iterable[dict[str, Any]]) -> str:
    digest = sha256()
    for value in values:
        digest.update(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode() + b"\n")
    return digest.hexdigest()
