"""Data sets of the Hugging Face hub, each at the commit that it was read at."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rmbench.data.dataset import Source
from rmbench.data.files import rows_sha256
from rmbench.data.rows import Row, Tally
from rmbench.data.saved import with_images_as_bytes
from rmbench.errors import DataError

LOCAL = "local"
_TIMEOUT = 8.0  # seconds for the hub's first answer; without it nothing more is asked


@dataclass(frozen=True, slots=True)
class HubRows:
    """The rows of a hub set, and where they are from."""

    rows: Iterator[Row]
    source: Source
    tally: Tally


@dataclass(frozen=True, slots=True)
class HubSet:
    """A data set on the hub, or a local folder that `datasets.load_dataset` reads.

    `revision` is a commit, where whoever publishes figures on these rows states one; without it the newest is resolved
    at first use, and is the same for as long as the process runs. `split` None is the only one. Every example of it
    gets its `facets`.
    """

    id: str
    revision: str | None = None
    config: str | None = None
    split: str | None = None
    facets: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """What tells it from another set of the same id."""
        return " ".join(filter(None, (self.id, self.config, self.split)))

    def load(self, task: str) -> HubRows:
        """The rows, for `task` (a name, for the error message). Raises DataError where they cannot be had."""
        import datasets

        try:
            with _quiet_client():
                commit = commit_of(self.id, self.revision)
                revision = None if commit == LOCAL else commit
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
        loaded = with_images_as_bytes(loaded)
        name = Path(self.id).resolve().name if commit == LOCAL else self.id
        source = Source(name, commit, rows_sha256(loaded), len(loaded), self.config, self.split, self.facets)
        tally = Tally()
        return HubRows(self._rows(loaded, tally), source, tally)

    def _rows(self, values: Iterable[dict[str, Any]], tally: Tally) -> Iterator[Row]:
        for number, value in enumerate(values, 1):
            yield Row(tally.fields(value), Path(self.id).name, number, tally)


def is_cached(hub: HubSet) -> bool:
    """Whether a set was read here before, so that it can be read again without the hub."""
    if Path(hub.id).is_dir():
        return True
    folder = _cache() / hub.id.replace("/", "___")
    wanted = "*" if hub.config is None else hub.config
    return any(folder.glob(f"{wanted}/*/*/dataset_info.json"))


def _cache() -> Path:
    """Where `datasets` keeps what it prepared, without the second that importing it takes."""
    loaded = sys.modules.get("datasets")
    if loaded is not None:
        return Path(loaded.config.HF_DATASETS_CACHE)
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(os.environ.get("HF_DATASETS_CACHE") or Path(home, "datasets")).expanduser()


@cache
def commit_of(name: str, revision: str | None) -> str | None:
    """The commit that `revision` names, asked for once; in offline mode just `revision`, as nobody can be asked."""
    if Path(name).is_dir():
        return LOCAL
    import huggingface_hub
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        return huggingface_hub.HfApi().dataset_info(name, revision=revision, timeout=_TIMEOUT).sha
    except OfflineModeIsEnabled:
        return revision


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
