"""What a result says of where it was made. No host, user or path."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_ENCODE = json.JSONEncoder().encode
OF_ONE_EXAMPLE = re.compile(r"(?<= )example (?:(?! example ).)*, candidate \d.*", re.DOTALL)
_PACKAGES = ("rmbench", "torch", "transformers", "tokenizers", "numpy", "peft")


def environment() -> dict[str, str]:
    """Versions and platform, without importing what they belong to."""
    versions = {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def examples_sha256(stated: Iterable[tuple[Any, ...]]) -> str:
    """Identity of what was judged: (id, what the data state of it) in any order, whatever file they came from."""
    return list_sha256(map(list, sorted(stated, key=_by_id)))


def responses_sha256(responses: Iterable[tuple[Any, ...]]) -> str:
    """Identity of the responses: (id, what is known of each of them) in any order."""
    return list_sha256(map(list, sorted(responses, key=_by_id)))


def _by_id(judged: tuple[Any, ...]) -> str:
    return str(judged[0])


def reason_of(detail: str | None) -> str:
    """Why a request has no reward, as it is counted: without what is of this one request, and no path in it.

    What follows a colon is of the one request, and so is the example that it names with its candidate.
    """
    reason = OF_ONE_EXAMPLE.sub("", detail or "").partition(":")[0]
    reason = re.sub(r"\S*[/\\]\S*", "...", re.sub(r"\d[\d,.]*", "#", reason))
    return " ".join(reason.split())[:100]


def columns_of(candidates: pa.Table, requests: pa.Table | None = None) -> dict[str, dict[str, str]]:
    """The hash of every column of the tables of a result, by table."""
    tables = {"candidates": candidates} | ({} if requests is None else {"requests": requests})
    return {name: column_hashes(table) for name, table in tables.items()}


def column_hashes(table: pa.Table) -> dict[str, str]:
    """The first 16 hex digits of a hash of each column of a table: of its values, whatever file they were kept in."""
    return {name: _column_hash(table[name])[:16] for name in table.column_names}


def _column_hash(column: pa.ChunkedArray) -> str:
    import pyarrow as pa

    digest = sha256()
    array = column.combine_chunks()
    for chunk in array.chunks if isinstance(array, pa.ChunkedArray) else [array]:
        _add_values(digest, chunk)
    return digest.hexdigest()


def _add_values(digest: Any, array: pa.Array) -> None:
    """Which values there are, how long each is, and the values themselves, lowest byte first."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    digest.update(len(array).to_bytes(8, "little"))
    digest.update(np.packbits(array.is_valid().to_numpy(zero_copy_only=False)).tobytes())
    array, kind = array.drop_null(), array.type
    digest.update(b"nested" if pa.types.is_nested(kind) else str(kind).encode())
    if pa.types.is_map(kind) or pa.types.is_list(kind):
        offsets = np.asarray(array.offsets)
        digest.update(np.diff(offsets).astype("<i8").tobytes())
        start, end = (int(offsets[0]), int(offsets[-1])) if len(offsets) else (0, 0)
        for part in [array.keys, array.items] if pa.types.is_map(kind) else [array.values]:
            _add_values(digest, part[start:end])
    elif pa.types.is_string(kind):
        digest.update(pc.binary_length(array).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        digest.update("".join(array.to_pylist()).encode())
    elif pa.types.is_boolean(kind):
        digest.update(np.packbits(array.to_numpy(zero_copy_only=False)).tobytes())
    elif len(array) and not pa.types.is_null(kind):
        values = array.to_numpy(zero_copy_only=False)
        digest.update(values.astype(values.dtype.newbyteorder("<")).tobytes())


def list_sha256(items: Iterable[object]) -> str:
    """Hex sha256 of the JSON of a list of `items`, which is never held as one text."""
    digest, separator = sha256(b"["), b""
    for item in items:
        digest.update(separator + _ENCODE(item).encode())
        separator = b", "
    digest.update(b"]")
    return digest.hexdigest()


def stated(value: Any) -> Any:
    """A part of a command as a result states it: files by name and hash, folders by name, URLs by their kind."""
    if isinstance(value, Mapping):
        return {name: stated(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [stated(item) for item in value]
    return _named(value) if isinstance(value, str | Path) else value


def _named(value: str | Path) -> Any:
    scheme, mark, _ = str(value).partition("://")
    if mark:
        return {"url": scheme}
    path = Path(value)
    with suppress(OSError, ValueError):  # too long for a path, or a NUL in it
        if path.is_file():
            return {"file": path.name, "sha256": _file_sha256(path)}
        if path.is_dir():
            return {"folder": path.resolve().name}
    return str(value)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def now() -> str:
    """UTC, to the second, ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def short_hash(config: Mapping[str, Any]) -> str:
    """First 8 hex digits of the sha256 of canonical JSON."""
    return sha256(json.dumps(config, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:8]
