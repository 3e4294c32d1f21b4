"""Weights of several checkpoints as one."""

from __future__ import annotations

from typing import Any

from rmbench.checkpoints.quantise import is_quantised
from rmbench.checkpoints.weights import listed
from rmbench.errors import ModelError


def averaged(model: Any, other: Any, share: float, names: tuple[str, str]) -> None:
    """Puts `share` of `other` and the rest of `model` in the place of the model's weights, summed in float32 at least.

    Raises ModelError where they do not have the same tensors; `names` are what the two are called.
    """
    import torch

    if is_quantised(other):
        raise ModelError(f"{names[1]}: its weights are quantised, and cannot be averaged")
    own, others = model.state_dict(), other.state_dict()
    differing = sorted(own.keys() ^ others.keys())
    differing = differing or [name for name, tensor in own.items() if tensor.shape != others[name].shape]
    if differing:
        raise ModelError(f"{names[1]}: {listed(differing)} not alike in {names[0]}; an average takes like tensors")
    with torch.no_grad():
        seen: set[int] = set()  # tied weights are one tensor under two names
        for name, tensor in own.items():
            if tensor.is_floating_point() and tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                wide = torch.promote_types(tensor.dtype, torch.float32)
                part = others[name].to(tensor.device, wide)
                tensor.copy_(tensor.to(wide) * (1 - share) + part * share)
