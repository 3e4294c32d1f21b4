"""Memory of forwards on a CPU: kept between them.

glibc gives large blocks back to the system as soon as they are freed, so each activation of each layer is mapped and
zeroed again page by page, by one thread while the others wait: on the 39M Llama shape a third of the elementwise time.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEEP = 2**31 - 1
_USUAL = {_M_MMAP_THRESHOLD: 32 * 2**20, _M_TRIM_THRESHOLD: 64 * 2**20}  # where glibc's own adjusting ends


_users = 0
_changing = Lock()


@contextmanager
def held(device: str) -> Iterator[None]:
    """As long as this lasts, what forwards on a CPU free stays with the process; then it goes back to the system.

    Afterwards glibc keeps the sizes at which its own adjusting ends. Where a MALLOC_ variable asks for others, nothing
    is changed.
    """
    libc = _glibc() if device == "cpu" and not any(name.startswith("MALLOC_") for name in os.environ) else None
    if libc is None:
        yield
        return
    _use(libc, 1)
    try:
        yield
    finally:
        _use(libc, -1)


def _use(libc: ctypes.CDLL, change: int) -> None:
    """Counts those that hold memory, in any thread: the first changes the sizes, the last one changes them back."""
    global _users  # noqa: PLW0603
    with _changing:
        _users += change
        if (change, _users) == (1, 1):
            for option in _USUAL:
                libc.mallopt(option, _KEEP)
        elif not _users:
            for option, usual in _USUAL.items():
                libc.mallopt(option, usual)
            libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library where it is GNU's, which alone has both functions."""
    try:
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):
            return libc
    except OSError:
        pass
    return None
