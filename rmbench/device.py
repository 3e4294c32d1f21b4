"""The devices that models run on, and all that is true of one kind of them only: names, memory, kernels.

Loading, policies and the engine ask here and not torch, so that a test on a CPU can stand in for a GPU: `standing_in`
puts other devices in place of those that are there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from rmbench.errors import UsageError

_NAME = re.compile(r"cpu|mps|cuda:\d+")
_SIGNS = ("out of memory", "can't allocate memory", "alloc_failed")  # CUDA, the CPU's allocator, cuBLAS


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a device: those that a forward can have now, and all."""

    free: int
    total: int


class Device:
    """A device of torch of which nothing special is known. The kinds below say what is special of them.

    `place` is where torch puts tensors that are on it, `kind` cpu, cuda or mps. `attention` is the kernel that packed
    rows have there: `flash`, which gives its log-sum-exp away, or `flex` with a block mask; None where there is none.
    """

    attention: Literal["flash", "flex"] | None = None
    compiles = False  # whether a block mask is made by a compiled kernel

    def __init__(self, place: str) -> None:
        self.place = place
        self.kind = place.partition(":")[0]

    def described(self) -> str:
        """What a person calls it."""
        return "available"

    def memory(self) -> Memory | None:
        """What is free and what there is; None where a forward may take what it likes."""
        return None

    def taken_by(self, forward: Callable[[], object]) -> int:
        """The most bytes that `forward` holds at once, besides what was held before; only where memory is told."""
        raise NotImplementedError(f"the memory of a {self.kind} device is not told")

    def running(self) -> AbstractContextManager[Any]:
        """What a forward runs in."""
        return nullcontext()

    def synchronise(self) -> None:
        """Returns when all that was started on it is done."""

    def release(self) -> None:
        """Gives freed memory back, so that another split of it fits."""


class Cpu(Device):
    """All cores; forwards are done when they return."""

    attention = "flash"


class Cuda(Device):
    """A GPU of CUDA: its memory is its own, forwards return before they are done, freed memory stays with torch."""

    attention = "flex"
    compiles = True

    def described(self) -> str:
        import torch

        properties = torch.cuda.get_device_properties(self.place)
        return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"

    def memory(self) -> Memory:
        import torch

        free, total = torch.cuda.mem_get_info(self.place)
        unused = torch.cuda.memory_reserved(self.place) - torch.cuda.memory_allocated(self.place)
        return Memory(free + unused, total)

    def taken_by(self, forward: Callable[[], object]) -> int:
        import torch

        before = torch.cuda.memory_allocated(self.place)
        torch.cuda.reset_peak_memory_stats(self.place)
        forward()
        return int(torch.cuda.max_memory_allocated(self.place) - before)

    def running(self) -> AbstractContextManager[Any]:
        import torch

        return torch.cuda.device(self.place)  # kernels that are compiled here start on the current device

    def synchronise(self) -> None:
        import torch

        torch.cuda.synchronize(self.place)

    def release(self) -> None:
        import torch

        torch.cuda.empty_cache()


_KINDS = {"cpu": Cpu, "cuda": Cuda}
_stand_ins: Mapping[str, Device] | None = None


@contextmanager
def standing_in(stand_ins: Mapping[str, Device] | None) -> Iterator[None]:
    """As long as this lasts, the machine has these devices and no others, in every thread. For tests.

    `stand_ins` are by the names that `--device` and `--devices` take, the best first; a GPU on a CPU is a subclass of
    `Device` with `place` cpu and `kind` cuda. Where several are in one place, what runs there runs on the first. Each
    process of `--devices` is handed a copy of its own. With None the devices are those that are there.
    """
    global _stand_ins  # noqa: PLW0603
    before, _stand_ins = _stand_ins, stand_ins
    try:
        yield
    finally:
        _stand_ins = before


def stand_in(name: str) -> Mapping[str, Device] | None:
    """What another process on the device `name` has to stand in for; None where devices are those that are there."""
    return None if _stand_ins is None else {own: device for own, device in _stand_ins.items() if own == name}


def devices() -> Mapping[str, Device]:
    """The devices of this machine by name, the best first."""
    if _stand_ins is not None:
        return _stand_ins
    import torch

    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    names += ["mps"] if torch.backends.mps.is_available() else []
    return {name: _at(name) for name in (*names, "cpu")}


def device_of(module: Any) -> Device:
    """The device of a torch module: the one of its first weight."""
    place = str(next(iter(module.parameters())).device)
    return next((device for device in (_stand_ins or {}).values() if device.place == place), None) or _at(place)


def ran_on(module: Any) -> str:
    """What a result says of the device of a torch module: its kind, and its name where it has one of its own."""
    device = device_of(module)
    return device.kind if device.kind == "cpu" else f"{device.kind}: {device.described()}"


def full_name(given: str) -> str:
    """The name of a device: a number is a GPU's, as in CUDA_VISIBLE_DEVICES, and `cuda` the first of them."""
    return f"cuda:{given}" if given.isdecimal() else "cuda:0" if given == "cuda" else given


def picked(asked: str | None) -> str:
    """The place of the device that was asked for, of the best one for None. Raises UsageError."""
    there = devices()
    if asked is None:
        return next(iter(there.values())).place
    name = full_name(asked)
    if not _NAME.fullmatch(name):
        raise UsageError(f"device {asked!r}: one of cpu, cuda, cuda:N, mps, auto")
    if name not in there:
        raise UsageError(f"device {asked!r} is not there; here are {', '.join(there)}")
    return there[name].place


@contextmanager
def without_autocast() -> Iterator[None]:
    """Forwards in the dtype that weights have, whatever the training around them runs in."""
    import torch

    with ExitStack() as stack:
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def release() -> None:
    """Gives freed memory of every device back."""
    for device in devices().values():
        device.release()


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out. torch has a type for it on accelerators, and a bare RuntimeError elsewhere."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS))


@cache
def _at(place: str) -> Device:
    return _KINDS.get(place.partition(":")[0], Device)(place)
