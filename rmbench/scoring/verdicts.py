"""What start-up checks found, kept in a store: the next process that runs the same model need not check again."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import version

from rmbench.device import Device
from rmbench.scoring.store import Store
from rmbench.types import Json


class StoredVerdicts:
    """The verdict on one model, under its `identity`, the versions that run it and the device it runs on.

    Without a store, for a model that none may keep anything of, nothing is known and nothing kept. What is put is
    written by `keep`, since while forwards run the store belongs to whoever writes their answers.
    """

    def __init__(self, store: Store | None, identity: Callable[[], str], device: Callable[[], Device]) -> None:
        self._store, self._identity, self._device = store, identity, device
        self._new: Json | None = None

    def get(self) -> Json | None:
        if self._store is None:
            return None
        key = self._key()
        return self._new or self._store.get([key]).get(key)

    def put(self, verdict: Json) -> None:
        self._new = verdict

    def keep(self) -> None:
        """Writes what was put, if anything was."""
        if self._store is not None and self._new is not None:
            self._store.put([(self._key(), self._new)])
            self._new = None

    def _key(self) -> bytes:
        import torch

        device = self._device()
        kernels = torch.backends.cpu.get_cpu_capability() if device.kind == "cpu" else device.described()
        place = f"{device.kind} {kernels} {torch.get_num_threads()} threads"
        versions = " ".join(f"{name} {version(name)}" for name in ("rmbench", "torch"))
        return sha256(f"ways {self._identity()} {versions} {place}".encode()).digest()
