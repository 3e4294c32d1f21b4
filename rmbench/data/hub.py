"""Data sets of the Hugging Face hub, each at the commit that it was read at.

What was read before at the commit that is wanted is taken from the cache of `datasets`, and only the commit is asked
for. Where the hub gives no answer (offline mode, no network, 429, 5xx) the newest commit in the cache is read instead,
which a warning says; never another one than a stated revision.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from rmbench.data.dataset import Source
from rmbench.data.files import rows_sha256
from rmbench.data.rows import Row, Tally
from rmbench.data.saved import with_images_as_bytes
from rmbench.errors import DataError

LOCAL = "local"
_TIMEOUT = 8.0  # seconds for the hub's first answer; without it nothing more is asked
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_CLIENTS = {"httpx", "requests.exceptions"}  # what the hub's client of one version or another asks with
_SITE = "https://huggingface.co"  # where terms are accepted, whatever mirror is asked for files


@dataclass(frozen=True, slots=True)
class HubRows:
    """The rows of a hub set, and where they are from."""

    rows: Iterator[Row]
    source: Source
    tally: Tally


class Prepared(NamedTuple):
    """What `datasets` keeps of a set: CONFIG/VERSION/COMMIT are the names of its folders."""

    config: str
    version: str
    commit: str


class _NoFilesError(ConnectionError):
    """`datasets` took another commit from its cache, since the hub gave no files of the one that was asked for."""


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

    @property
    def prepared(self) -> list[Prepared]:
        """What the cache has of it, the newest first; of its revision alone, where that is a commit."""
        folders = (_cache() / _folder_name(self.id)).glob(f"{self.config or '*'}/*/*")
        there = [folder for folder in folders if (folder / "dataset_info.json").is_file()]
        there.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
        wanted = self.revision or ""
        sets = [Prepared(*folder.parts[-3:]) for folder in there]
        return [one for one in sets if one.commit.startswith(wanted)]

    def load(self, task: str) -> HubRows:
        """The rows, for `task` (a name, for the error message). Raises DataError where they cannot be had."""
        try:
            with _quiet_client():
                commit, loaded = self._loaded()
        except Exception as error:  # whatever the hub, its client or the network raise
            raise DataError(
                f"{self._problem(error, task)}; with its rows in a file, give --data {task}=FILE"
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

    def _loaded(self) -> tuple[str | None, Any]:
        """The commit, and what `datasets` gives of it: one split or several."""
        import datasets

        try:
            commit = commit_of(self.id, self.revision)
            if commit == LOCAL:
                return commit, datasets.load_dataset(self.id, self.config, split=self.split)
            at_hand = next((one for one in self.prepared if one.commit == commit), None)
            if at_hand is not None:
                return commit, self._read(at_hand)
            loaded = datasets.load_dataset(self.id, self.config, split=self.split, revision=commit)
            if (read := _commit_read(loaded)) != commit and commit is not None:  # datasets' own way out
                raise _NoFilesError(f"no files of {commit[:12]}")
            return read, loaded
        except Exception as error:
            at_hand = next(iter(self.prepared), None) if _is_passing(error) else None
            if at_hand is None:
                raise
            if not _is_offline(error):
                told = f"{_said(error)}; read from the cache, at commit {at_hand.commit[:12]}"
                warnings.warn(f"hub set {self.id}: {told}", stacklevel=2)
            return at_hand.commit, self._read(at_hand)

    def _read(self, prepared: Prepared) -> Any:
        """What the cache has, without a word to the hub."""
        from datasets.packaged_modules.cache.cache import Cache

        builder = Cache(
            dataset_name=self.id.rpartition("/")[2],
            config_name=prepared.config,
            version=prepared.version,
            hash=prepared.commit,
            repo_id=self.id,
        )
        builder.download_and_prepare()
        return builder.as_dataset(split=self.split)

    def _problem(self, error: Exception, task: str) -> str:
        """One line on why it cannot be had, and on what to do."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

        at = f" at {self.revision}" if self.revision else ""
        cannot = f"hub set {self.id}{at} cannot be loaded"
        if _has(error, GatedRepoError) or any("gated dataset" in str(one) for one in _chain(error)):
            return (f"{cannot} (it is gated): accept its terms at {_SITE}/datasets/{self.id}, then log in with "
                    "`hf auth login`, or set HF_TOKEN")  # fmt: skip
        if _has(error, RevisionNotFoundError):
            return f"{cannot} (it has no such revision): expected a commit, a branch or a tag of {self.id}"
        if _has(error, RepositoryNotFoundError):
            return f"{cannot} (there is none, or it is private): one of your own wants `hf auth login`, or HF_TOKEN"
        if _is_offline(error):
            pinned = f" --revision {task}={self.revision}" if self.revision else ""
            return (f"{cannot} (HF_HUB_OFFLINE is set, and it is not in the cache): fetch it once where the hub can be "
                    f"reached, by `HF_HUB_OFFLINE=0 rmbench run -m length -t {task}{pinned} --limit 1`")  # fmt: skip
        missing = ", and it is not in the cache" if _is_passing(error) else ""
        return f"{cannot} ({_said(error)}{missing})"

    def _rows(self, values: Iterable[dict[str, Any]], tally: Tally) -> Iterator[Row]:
        for number, value in enumerate(values, 1):
            yield Row(tally.fields(value), Path(self.id).name, number, tally)


def is_cached(hub: HubSet) -> bool:
    """Whether a set was read here before, so that it can be read again without the hub."""
    return Path(hub.id).is_dir() or bool(hub.prepared)


@cache
def commit_of(name: str, revision: str | None) -> str | None:
    """The commit that `revision` names, or the newest, asked for once. Raises what the hub's client raises."""
    if Path(name).is_dir():
        return LOCAL
    import huggingface_hub

    return huggingface_hub.HfApi().dataset_info(name, revision=revision, timeout=_TIMEOUT).sha


def _cache() -> Path:
    """Where `datasets` keeps what it prepared, without the second that importing it takes."""
    loaded = sys.modules.get("datasets")
    if loaded is not None:
        return Path(loaded.config.HF_DATASETS_CACHE)
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(os.environ.get("HF_DATASETS_CACHE") or Path(home, "datasets")).expanduser()


def _folder_name(name: str) -> str:
    """What `datasets` calls the folder of a set: `org___set_name`, as its `camelcase_to_snakecase` has it."""
    *owner, last = name.split("/")
    last = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", last)
    return "___".join([*owner, re.sub(r"([a-z\d])([A-Z])", r"\1_\2", last).lower()])


def _commit_read(loaded: Any) -> str | None:
    """The commit whose files were read, which `datasets` says in their path."""
    (first, *_) = loaded.values() if isinstance(loaded, dict) else [loaded]
    files = first.cache_files
    name = Path(files[0]["filename"]).parent.name if files else ""
    return name if _COMMIT.fullmatch(name) else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it stems from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _has(error: Exception, kind: type[Exception]) -> bool:
    return any(isinstance(one, kind) for one in _chain(error))


def _is_offline(error: Exception) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    return _has(error, OfflineModeIsEnabled)


def _status(error: Exception) -> int | None:
    """The status of the first answer of the hub that an error stems from."""
    responses = (getattr(one, "response", None) for one in _chain(error))
    return next((status for one in responses if isinstance(status := getattr(one, "status_code", None), int)), None)


def _is_passing(error: Exception) -> bool:
    """Whether it says nothing of the set: offline mode, no network, too many requests, an error of the server's."""
    status = _status(error)
    if status is not None:
        return status == 429 or status >= 500
    return _is_offline(error) or any(
        isinstance(one, ConnectionError | TimeoutError) or _CLIENTS & {base.__module__ for base in type(one).__mro__}
        for one in _chain(error)
    )


def _said(error: Exception) -> str:
    """What went wrong, in a line, and which mirror was asked."""
    from huggingface_hub import constants

    status, asked = _status(error), "the hub" if constants.ENDPOINT == _SITE else constants.ENDPOINT
    if status is not None and _is_passing(error):
        return f"{asked} answers {status}"
    if isinstance(error, _NoFilesError):
        return f"{asked} gives {error}"
    return f"{asked}: {type(error).__name__}: {str(error).partition(chr(10))[0]}"


@contextmanager
def _quiet_client() -> Iterator[None]:
    """Without the clients' warnings: "Retrying in 1s" is no news beside the one line that says what to do."""
    levels = {client: client.level for client in map(logging.getLogger, ("huggingface_hub", "datasets"))}
    for client in levels:
        client.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for client, level in levels.items():
            client.setLevel(level)
