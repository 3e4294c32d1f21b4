"""What a result says of where it was made. No host, user or path."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_ENCODE = json.JSONEncoder().encode
_PACKAGES = ("rmbench", "torch", "transformers", "tokenizers", "numpy", "peft")


def environment() -> dict[str, str]:
    """Versions and platform, without importing what they belong to."""
    found = {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def examples_sha256(judged: Iterable[tuple[str, str | None, Sequence[float | None]]]) -> str:
    """Identity of what was judged: (id, cluster, labels) in any order, whatever file or format they came from."""
    return list_sha256(sorted(map(list, judged)))


def list_sha256(items: Iterable[object]) -> str:
    """Hex sha256 of the JSON of a list of `items`, which is never held as one text."""
    found, separator = sha256(b"["), b""
    for item in items:
        found.update(separator + _ENCODE(item).encode())
        separator = b", "
    found.update(b"]")
    return found.hexdigest()


def now() -> str:
    """UTC, to the second, ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def short_hash(config: Mapping[str, Any]) -> str:
    """First 8 hex digits of the sha256 of canonical JSON."""
    return sha256(json.dumps(config, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:8]
