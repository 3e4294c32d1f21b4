"""What the tasks of a run ask alike: answered for one of them, an answer serves the others too."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

_END = 8  # bytes of a key, of what is the request's own: of 10 million two are taken for one in one run of 400,000


class Sharing:
    """The distinct requests of each task of a run, by the ends of their keys, so that a million take 8 MB."""

    def __init__(self) -> None:
        self._ends: dict[str, np.ndarray[tuple[int], np.dtype[np.uint64]]] = {}

    def before(self, task: str | None, keys: Collection[bytes]) -> int:
        """How many of `keys`, which `task` asks now, another task asked already; 0 where no task asks."""
        if task is None or not keys:
            return 0
        ends = np.frombuffer(b"".join(key[-_END:] for key in keys), dtype=np.uint64)
        others = [asked for name, asked in self._ends.items() if name != task]
        self._ends[task] = np.concatenate([self._ends[task], ends]) if task in self._ends else ends
        return int(np.isin(ends, np.concatenate(others)).sum()) if others else 0
