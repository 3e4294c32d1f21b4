"""Memory of forwards on a CPU: kept between them.

glibc gives large blocks back to the system as soon as they are freed, so each activation of each layer is mapped and
zeroed again page by page, by one thread while the others wait: on the 39M Llama shape a third of the elementwise time.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEEP = 2**31 - 1
_USUAL = {_M_MMAP_THRESHOLD: 32 * 2**20, _M_TRIM_THRESHOLD: 64 * 2**20}  # where glibc's own adjusting ends


@contextmanager
def held(device: str) -> Iterator[None]:
    """As long as this lasts, what forwards on a CPU free stays with the process; then it goes back to the system."""
    libc = _glibc() if device == "cpu" else None
    if libc is None:
        yield
        return
    for option in _USUAL:
        libc.mallopt(option, _KEEP)
    try:
        yield
    finally:
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
