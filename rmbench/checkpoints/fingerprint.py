"""Which weights a model has: where a checkpoint lies, what is in it, and one hash of all that its rewards depend on."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit
from urllib.request import getproxies

from rmbench.errors import ModelError, RmbenchError, UsageError

_Opening = TypeVar("_Opening", bound=Callable[..., Any])
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_REMOTE = "transformers_modules"  # the package in which transformers loads code that came with a checkpoint
_NAMED_BY_VERSION = ("transformers", "torch")
_MOST_JSON = 1 << 27  # bytes of a JSON file: indices of shards and tokenizers take some tens of MB
_WAIT = 10.0  # seconds until nobody answers
PANIC = "PanicException"  # of the Rust libraries, which is no Exception


def digest(parts: Mapping[str, Any]) -> str:
    """The sha256 of `parts` as canonical JSON, in hex."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on the hub at one commit, or in a local folder (`commit` is None)."""

    source: str
    commit: str | None

    @property
    def id(self) -> str:
        """The hub id, or `local/<folder name>`: a name, never a path."""
        return self.source if self.commit else f"local/{Path(self.source).resolve().name}"

    def file(self, name: str) -> Path | None:
        """The local path of the checkpoint's file `name`, downloaded where need be; None if it has no such file."""
        if self.commit is None:
            path = Path(self.source, name)
            return path if path.is_file() else None
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            return Path(hf_hub_download(self.source, name, revision=self.commit))
        except EntryNotFoundError:
            return None

    def json(self, name: str) -> dict[str, Any] | None:
        """The checkpoint's JSON file `name`, or None. Raises ModelError where it is no JSON object."""
        path = self.file(name)
        if path is None:
            return None
        try:
            if (size := path.stat().st_size) > _MOST_JSON:
                raise ModelError(f"{self.id}: {name} has {size:,} bytes; expected at most {_MOST_JSON:,}")
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError, OSError) as error:
            raise ModelError(f"{self.id}: {name} is not JSON: {first_line(error)}") from None
        if not isinstance(content, dict):
            raise ModelError(f"{self.id}: {name} holds a {type(content).__name__}, not an object")
        return content

    def content(self, files: Sequence[str]) -> str:
        """What pins the weights: `id@commit` on the hub, the sha256 of `files` of a local folder."""
        if self.commit:
            return f"{self.source}@{self.commit}"
        with ThreadPoolExecutor() as pool:  # hashing releases the GIL, and shards are gigabytes
            hashes = pool.map(_file_sha256, [Path(self.source, name) for name in files])
            return digest(dict(zip(files, hashes, strict=True)))


def locate(source: str, revision: str | None = None) -> Checkpoint:
    """Finds `source`, a local folder or a hub id, and on the hub the commit that `revision` (a branch, tag, commit) is.

    Raises UsageError for a folder with a revision, and ModelError where `source` is neither, or the hub cannot be
    reached and the cache does not hold it.
    """
    if Path(source).is_dir():
        if revision is not None:
            raise UsageError(f"revision {revision!r}: {source} is a folder, and only models on the hub have revisions")
        folder = Checkpoint(source, None)
        _check_regular(folder)
        return folder
    if not _HUB_ID.fullmatch(source) or source.startswith("."):
        raise ModelError(f"{source}: there is no such folder, and a hub id has the form org/name")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    cached = not _is_reached()
    for name in ("config.json", "adapter_config.json"):
        try:
            # files in the hub's cache lie in snapshots/<commit>/
            path = hf_hub_download(source, name, revision=revision, local_files_only=cached)
            return Checkpoint(source, Path(path).parent.name)
        except EntryNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ModelError(f"{source}: {first_line(error)}") from None
    raise ModelError(
        f"{source}: there is no such folder, and on the hub no config.json is found under this name"
        " (offline, it would have to be in the cache)"
    )


def _is_reached() -> bool:
    """Whether the hub can be reached, looked at once: its client tries every file six times, for half a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if getproxies().keys() & {"http", "https", "all"}:  # who is reached through one need not be reached without
        return True
    hub = urlsplit(constants.ENDPOINT)
    try:
        with socket.create_connection((hub.hostname or "", hub.port or (80 if hub.scheme == "http" else 443)), _WAIT):
            return True
    except OSError:
        return False


def _check_regular(folder: Checkpoint) -> None:
    """Raises ModelError for a pipe, a device or a socket, whose reading need not end."""
    with os.scandir(folder.source) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            try:
                kind = entry.stat().st_mode
            except OSError:  # a link to nothing is no file, and its lack is for loading to tell
                continue
            if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
                raise ModelError(f"{folder.id}: {entry.name} is a pipe, device or socket; expected files")


@contextmanager
def told_of(name: str) -> Iterator[None]:
    """Whatever a library raises about the files of a checkpoint becomes one line that begins with `name`."""
    try:
        yield
    except (RmbenchError, Warning):  # a warning is raised where somebody wants it so
        raise
    except Exception as error:
        raise ModelError(f"{name}: {type(error).__name__}: {first_line(error)}") from error
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        raise ModelError(f"{name}: {first_line(error)}") from error


def in_one_line(opening: _Opening) -> _Opening:
    """A family's `open` or `start`, of which whatever a library raises becomes one line."""

    @wraps(opening)
    def told(first: Any, *others: Any, **named: Any) -> Any:
        with told_of(name_of(first) if isinstance(first, str) else first.subject.id):
            return opening(first, *others, **named)

    return cast(_Opening, told)


def name_of(source: str) -> str:
    """What a source is called in messages: a hub id, or `local/<folder name>`."""
    return Checkpoint(source, None).id if Path(source).is_dir() else source


def tokenizer_hash(tokenizer: Any) -> str:
    """The sha256 of what a transformers tokenizer does: its backend with vocabulary, or its vocabulary and settings."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        does = json.loads(backend.to_str())
        does.update(truncation=None, padding=None)  # state that every call sets anew
    else:
        does = {"class": type(tokenizer).__qualname__, "vocabulary": tokenizer.get_vocab()}
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return digest({"backend": does, "special": special})


def sources(*classes: type) -> list[list[str]]:
    """Name and sha256 of each source file that defines `classes` or their bases outside of transformers and torch.

    For code that came with a checkpoint, also of the files that those import from beside them.
    """
    from transformers.dynamic_module_utils import get_relative_import_files

    files: set[Path] = set()
    for module in {base.__module__ for one in classes for base in one.__mro__}:
        package = module.partition(".")[0]
        file = getattr(sys.modules.get(module), "__file__", None)
        if file is None or package in _NAMED_BY_VERSION or package in sys.stdlib_module_names:
            continue
        files.add(Path(file))
        if package == _REMOTE:
            files.update(map(Path, get_relative_import_files(file)))
    # one file may lie in two folders of the cache, whose names are of the checkpoint's place
    return sorted([name, sha256] for name, sha256 in {(file.name, _file_sha256(file)) for file in files})


def class_name(one: type) -> str:
    """Module and qualified name of a class, without the place that code of a checkpoint was loaded from."""
    module = one.__module__
    return f"{module.rpartition('.')[2] if module.startswith(_REMOTE + '.') else module}.{one.__qualname__}"


def first_line(error: BaseException) -> str:
    """The first line of an error of another library, for an error message of one line; with the next after a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    while len(lines) > 1 and lines[0].endswith(":"):
        lines[:2] = [f"{lines[0]} {lines[1]}"]
    return lines[0] if lines else type(error).__name__


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
