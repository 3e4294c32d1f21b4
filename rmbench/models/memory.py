"""Memory that runs out: how it is told from other errors, and what is given back then."""

from __future__ import annotations

_SIGNS = ("out of memory", "can't allocate memory", "alloc_failed")  # CUDA, the CPU's allocator, cuBLAS


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out. torch has a type for it on accelerators, and a bare RuntimeError elsewhere."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS))


def release() -> None:
    """Gives freed memory of an accelerator back, so that another split of it fits."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
