"""The last layer only where something is read: behind its attention no token needs another's hidden state any more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Parts of a layer behind its attention, by architecture; each takes and gives [1, t, ...] and treats every token alike
_PARTS = ("self_attn.o_proj", "mlp", "intermediate", "output")


@contextmanager
def only_at(backbone: Any, reads: torch.Tensor) -> Iterator[None]:
    """As long as this lasts, hidden states of `backbone`'s one row are right at `reads` [n] alone."""
    with ExitStack() as stack:
        for part in last_parts(backbone):
            stack.enter_context(_narrowed(part, reads))
        yield


def last_parts(backbone: Any) -> list[Any]:
    """The modules of the last layer that come after its attention; none where they are not known by name."""
    layers: Any = getattr(backbone, "layers", None) or getattr(getattr(backbone, "encoder", None), "layer", [])
    parts = []
    for path in _PARTS if len(layers) else ():
        part: Any = layers[-1]
        for name in path.split("."):
            part = getattr(part, name, None)
        if part is not None:
            parts.append(part)
    return parts


@contextmanager
def _narrowed(part: Any, reads: torch.Tensor) -> Iterator[None]:
    t = 0

    def before(_: Any, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        nonlocal t
        t = given[0].shape[1]
        return tuple(states[:, reads] for states in given)

    def after(_: Any, given: tuple[torch.Tensor, ...], made: Any) -> Any:
        if isinstance(made, tuple):  # experts give their router's scores besides
            return (after(_, given, made[0]), *made[1:])
        return made.new_zeros(1, t, made.shape[-1]).index_copy_(1, reads, made)

    hooks = [part.register_forward_pre_hook(before), part.register_forward_hook(after)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
