"""Tensors of a checkpoint that are no part of the model that transformers builds of it: its authors' own heads."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, Protocol

from rmbench.checkpoints.adapters import heads_of
from rmbench.checkpoints.files import has_weights, weight_paths
from rmbench.checkpoints.fingerprint import Checkpoint
from rmbench.errors import ModelError

BESIDE = "value_head.safetensors"  # as LLaMA-Factory saves a head, beside a model or an adapter


class Weighed(Protocol):
    """Weights of a checkpoint and its share in an average."""

    @property
    def base(self) -> Checkpoint: ...

    @property
    def adapter(self) -> Checkpoint | None: ...

    @property
    def share(self) -> float: ...


def is_apart(name: str, patterns: Sequence[str]) -> bool:
    """Whether a tensor is one of those that a family reads by itself."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def tensors_of(parts: Sequence[Weighed], patterns: Sequence[str]) -> dict[str, Any]:
    """The tensors whose names fit one of the patterns, of several parts their mean by shares, summed in float32.

    What an adapter brings stands before what lies in a file beside it, that before what lies beside its base, and that
    before the base's weights.
    Raises ModelError where parts have not the same tensors.
    """
    import torch

    first, *others = (_own(part, patterns) for part in parts)
    for part, held in zip(parts[1:], others, strict=True):
        differing = sorted(first.keys() ^ held.keys()) or [
            name for name in first if first[name].shape != held[name].shape
        ]
        if differing:
            named = (part.adapter or part.base).id
            raise ModelError(f"{named}: {differing[0]} is not alike in all; an average takes like tensors")
    if not others:
        return first
    means = {}
    for name, tensor in first.items():
        several = [tensor, *(held[name] for held in others)]
        wide = torch.promote_types(tensor.dtype, torch.float32)
        means[name] = sum(part.share * one.to(wide) for part, one in zip(parts, several, strict=True)).to(tensor.dtype)
    return means


def _own(part: Weighed, patterns: Sequence[str]) -> dict[str, Any]:
    from safetensors import safe_open

    paths = weight_paths(part.base) if part.base.commit is not None or has_weights(part.base) else []
    beside = [one.file(BESIDE) for one in (part.base, part.adapter) if one is not None]
    tensors: dict[str, Any] = {}
    for path in [*paths, *(path for path in beside if path is not None)]:
        with safe_open(str(path), framework="pt") as file:
            names = [name for name in file.keys() if is_apart(name, patterns)]  # noqa: SIM118
            tensors |= {name: file.get_tensor(name) for name in names}
    return tensors if part.adapter is None else tensors | heads_of(part.adapter, patterns)
