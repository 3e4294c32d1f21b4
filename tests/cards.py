"""A GPU that is not there: what runs on it runs on a CPU, and its memory is counted and runs out as a GPU's does."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rmbench.device import Device, Memory


class Card(Device):
    """A device of `total` bytes, of which `taken` belong to weights and neighbours; a test may change both at any time.

    In a forward each new tensor takes what it holds until nobody has it any more, and beyond `total` memory runs out.
    `peak` is the most that forwards held at once, `released` how often freed memory was asked back. Without `counts`
    forwards take nothing, for kernels that cannot be watched.
    """

    def __init__(
        self, total: int, taken: int = 0, attention: Literal["flash", "flex"] = "flash", *, counts: bool = True
    ) -> None:
        super().__init__("cpu")
        self.kind = "cuda"
        self.attention = attention
        self.total, self.taken, self.counts = total, taken, counts
        self.held = self.peak = self.released = 0

    def __reduce__(self) -> Any:
        return partial(Card, counts=self.counts), (self.total, self.taken, self.attention)

    def described(self) -> str:
        return f"stand-in, {self.total / 2**30:.0f} GiB"

    def memory(self) -> Memory:
        return Memory(self.total - self.taken - self.held, self.total)

    def taken_by(self, forward: Callable[[], object]) -> int:
        before = self.peak = self.held
        forward()
        return self.peak - before

    @contextmanager
    def running(self) -> Iterator[None]:
        if not self.counts:
            yield
            return
        with _Counting(self):
            yield

    def release(self) -> None:
        self.released += 1

    def take(self, size: int) -> None:
        if self.taken + self.held + size > self.total:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes.")
        self.held += size
        self.peak = max(self.peak, self.held)

    def give(self, size: int) -> None:
        self.held -= size


class _Counting(TorchDispatchMode):
    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card
        self.counted: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {storage._cdata for storage in _storages((args, kwargs))}
        made = function(*args, **(kwargs or {}))
        for storage in _storages(made):
            key, size = storage._cdata, storage.nbytes()
            if key not in given and key not in self.counted:
                self.card.take(size)
                self.counted.add(key)
                weakref.finalize(storage, self._gone, key, size)
        return made

    def _gone(self, key: int, size: int) -> None:
        self.counted.discard(key)
        self.card.give(size)


def _storages(values: Any) -> list[Any]:
    return [value.untyped_storage() for value in tree_leaves(values) if isinstance(value, torch.Tensor)]
