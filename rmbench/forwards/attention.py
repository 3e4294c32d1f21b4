"""Attention of a packed row of sequences, as an attention implementation of transformers: no modelling code is copied.

On a CPU each run of tokens attends to itself and then to the prefixes it shares, and the two are merged by the log of
the sum of their exponentials, which the kernel gives away; query heads look at the key heads they share in place. On
CUDA the same tree is a block mask for FlexAttention.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from rmbench.device import Device, device_of
from rmbench.forwards.prefixes import Ints, Span, Tree

if TYPE_CHECKING:
    import torch

NAME = "rmbench_packed"
_BAND = 256  # queries at once where each sees a window


@contextmanager
def attending(backbone: Any) -> Iterator[None]:
    """Packed attention in every layer of `backbone`, as long as this lasts."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)
    config = backbone.config
    before = config._attn_implementation
    # A name that the mask functions of transformers do not know: they make no mask, and this one needs none
    config._attn_implementation = "flex_attention" if device_of(backbone).attention == "flex" else NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def inputs_of(tree: Tree, backbone: Any, *, causal: bool) -> dict[str, Any]:
    """What the backbone's forward gets besides ids and positions."""
    device = device_of(backbone)
    if device.attention == "flex":
        return {"attention_mask": block_mask(tree, causal=causal, device=device)}
    return {"packed": tree, "packed_causal": causal}


def positions(tree: Tree, backbone: Any) -> Ints:
    """The positions [t] as the backbone counts them: RoBERTa's begin behind the pad id, and a pad id has that one."""
    embeddings: Any = getattr(backbone, "embeddings", None)
    if not hasattr(embeddings, "create_position_ids_from_input_ids"):
        return tree.positions
    padding = int(embeddings.padding_idx)
    counted = tree.ids != padding
    before = np.cumsum(counted)
    starts = np.repeat([start for start, _ in tree.runs], [stop - start for start, stop in tree.runs])
    own = before - (before - counted)[starts]
    counts: Ints = np.where(counted, own + padding, padding)
    return counts


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packed: Tree,
    packed_causal: bool,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """query [1, heads, t, d], key and value [1, key heads, t, d] -> [1, t, heads, d]."""
    import torch

    heads, t = query.shape[1:3]
    groups = key.shape[1]
    # [groups, heads of a group, t, d]: the heads of a group read the same key head where it stands
    query = query[0].view(groups, heads // groups, t, -1)
    key, value = (states[0][:, None].expand(-1, heads // groups, -1, -1) for states in (key, value))
    out = query.new_empty(t, groups, heads // groups, value.shape[-1])
    if not packed_causal:
        for run in packed.runs:
            out[slice(*run)] = _both_ways(query, key, value, run, scaling, sliding_window).permute(2, 0, 1, 3)
        return out.flatten(1, 2)[None], None
    precise = torch.promote_types(query.dtype, torch.float32)
    logs = query.new_empty(groups, heads // groups, t, dtype=precise)
    for run in packed.runs:
        own, log = _flash(query, key, value, run, run, scaling, causal=True)
        out[slice(*run)] = own.permute(2, 0, 1, 3)
        logs[..., slice(*run)] = log
    for span, prefix in packed.reaches:
        seen, log = _flash(query, key, value, span, prefix, scaling, causal=False)
        place = slice(*span)
        weight = torch.sigmoid(log - logs[..., place]).to(out.dtype)
        out[place].lerp_(seen.permute(2, 0, 1, 3), weight.permute(2, 0, 1).unsqueeze(-1))
        if packed.nested:
            logs[..., place] = torch.logaddexp(logs[..., place], log)
    return out.flatten(1, 2)[None], None


def block_mask(tree: Tree, *, causal: bool, device: Device) -> Any:
    """The same tree for FlexAttention: a token is seen from itself on up to `until`, or by all of its own run."""
    import torch
    from torch.nn.attention.flex_attention import create_block_mask

    t = len(tree.ids)
    until = torch.from_numpy(tree.until).to(device.place)
    if causal:

        def visible(b: Any, h: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
            return (q >= k) & (q < until[k])

    else:

        def visible(b: Any, h: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
            return until[q] == until[k]

    # Compiled, it never holds the whole mask [t, t]
    return create_block_mask(visible, None, None, t, t, device=device.place, _compile=device.compiles)


def _flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    queries: Span,
    keys: Span,
    scaling: float | None,
    *,
    causal: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention [groups, heads, q, d] of some queries to some keys, and its log-sum-exp [groups, heads, q]."""
    import torch

    q, k = slice(*queries), slice(*keys)
    attended: tuple[torch.Tensor, torch.Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query[..., q, :], key[..., k, :], value[..., k, :], 0.0, causal, scale=scaling
    )
    return attended


def _both_ways(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, run: Span, scaling: float | None, window: int | None
) -> torch.Tensor:
    """A run in which each token sees all others, or those fewer than `window` tokens away, [groups, heads, run, d]."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    start, stop = run
    if window is None or stop - start <= window:
        return _flash(query, key, value, run, run, scaling, causal=False)[0]
    bands = []
    for first in range(start, stop, _BAND):
        last = min(first + _BAND, stop)
        low, high = max(start, first - window + 1), min(stop, last + window - 1)
        apart = torch.arange(first, last)[:, None] - torch.arange(low, high)
        bands.append(
            scaled_dot_product_attention(
                query[..., first:last, :],
                key[..., low:high, :],
                value[..., low:high, :],
                attn_mask=apart.abs() < window,
                scale=scaling,
            )
        )
    return torch.cat(bands, 2)
