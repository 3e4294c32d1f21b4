"""Attention of a packed row of sequences, as an attention implementation of transformers: no modelling code is copied.

On a CPU each run of tokens attends to itself and then to the prefixes it shares, and the two are merged by the log of
the sum of their exponentials, which the kernel gives away; query heads look at the key heads they share in place. On
CUDA the same tree is a block mask for FlexAttention.

What a layer's attention has of its own, transformers hands to the implementation, so nothing of it is looked up in a
config, and each is exact where parts are merged. `softcap` changes a score before it is summed, so that sums of
exponentials add up as they do without. `sliding_window` leaves out the keys of which a query is that many positions or
more behind; positions count along a sequence, so a tree's row is masked by them and not by places, and a part nobody
sees is left out. `s_aux`, the sinks, are one more exponential in a query's sum, which joins when all parts are merged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from rmbench.device import Device, device_of
from rmbench.forwards.prefixes import Ints, Span, Tree

if TYPE_CHECKING:
    import torch

    Places = slice | torch.Tensor  # of queries in the row
    Part = tuple[Places, Span, torch.Tensor | None]  # queries, keys, and what they see of them [q, k]

NAME = "rmbench_packed"
_FLEX = "rmbench_packed_flex"
_BAND = 256  # queries at once where not each sees all keys, or scores are held


@contextmanager
def attending(backbone: Any) -> Iterator[None]:
    """Packed attention in every layer of `backbone`, as long as this lasts."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)
    AttentionInterface.register(_FLEX, _flex)
    config = backbone.config
    before = config._attn_implementation
    # Names that the mask functions of transformers do not know: they make no mask, and these need none
    config._attn_implementation = _FLEX if device_of(backbone).attention == "flex" else NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def inputs_of(tree: Tree, backbone: Any, *, causal: bool) -> dict[str, Any]:
    """What the backbone's forward gets besides ids and positions."""
    device = device_of(backbone)
    if device.attention == "flex":
        return {"packed_masks": _Masks(partial(block_mask, tree, causal=causal, device=device))}
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
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """query [1, heads, t, d], key and value [1, key heads, t, d], s_aux [heads] -> [1, t, heads, d]."""
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
    attend = partial(_flash if softcap is None else partial(_capped, cap=softcap), query, key, value)
    for queries, keys, mask in _own(packed, sliding_window, whole=softcap is None):
        own, log = attend(queries, keys, scaling, causal=mask is None, mask=mask)
        out[queries] = own.permute(2, 0, 1, 3)
        logs[..., queries] = log
    for queries, keys, mask in _reached(packed, sliding_window, whole=softcap is None):
        seen, log = attend(queries, keys, scaling, causal=False, mask=mask)
        weight = torch.sigmoid(log - logs[..., queries]).to(out.dtype).permute(2, 0, 1).unsqueeze(-1)
        part = out[queries].lerp_(seen.permute(2, 0, 1, 3), weight)
        if not isinstance(queries, slice):  # then it is a copy
            out[queries] = part
        if packed.nested or s_aux is not None:
            logs[..., queries] = torch.logaddexp(logs[..., queries], log)
    if s_aux is not None:
        share = torch.sigmoid(logs - s_aux.view(groups, -1, 1).to(precise))
        out *= share.to(out.dtype).permute(2, 0, 1).unsqueeze(-1)
    return out.flatten(1, 2)[None], None


def _own(tree: Tree, window: int | None, *, whole: bool) -> Iterator[Part]:
    """What the queries of each run see of it, without a mask where each sees all up to itself.

    A run is one part as far as no window ends, if it may be `whole`; what is left is cut into bands.
    """
    for start, stop in tree.runs:
        first = start
        if whole:
            first = stop if window is None else min(stop, start + window)
            yield slice(start, first), (start, first), None
        for begin in range(first, stop, _BAND):
            queries = slice(begin, min(begin + _BAND, stop))
            keys = (start if window is None else max(start, begin - window + 1), queries.stop)
            yield queries, keys, _visible(tree, queries, keys, window)


def _reached(tree: Tree, window: int | None, *, whole: bool) -> Iterator[Part]:
    """What queries see of the prefixes in other runs, without a mask where each sees all of one."""
    import torch

    for (start, stop), (low, high) in tree.reaches:
        if window is None or tree.positions[start:stop].max() - tree.positions[low] < window:
            band = stop - start if whole else _BAND
            for begin in range(start, stop, band):
                yield slice(begin, min(begin + band, stop)), (low, high), None
            continue
        near = start + np.flatnonzero(tree.positions[start:stop] - tree.positions[high - 1] < window)
        keys = (max(low, high - window + 1), high)
        for queries in torch.split(torch.from_numpy(near), _BAND) if len(near) else ():
            yield queries, keys, _visible(tree, queries, keys, window)


def _visible(tree: Tree, queries: Places, keys: Span, window: int | None) -> torch.Tensor:
    """Which of some keys, none of another path, each query sees [q, k]: by their positions."""
    import torch

    places = torch.from_numpy(tree.positions)
    apart = places[queries][:, None] - places[slice(*keys)]
    return apart >= 0 if window is None else (apart >= 0) & (apart < window)


class _Masks(dict[int | None, Any]):
    """Block masks by the window that a layer has, each made where the first layer asks for it."""

    def __init__(self, made: Callable[[int | None], Any]) -> None:
        self.made = made

    def __missing__(self, window: int | None) -> Any:
        self[window] = mask = self.made(window)
        return mask


def _flex(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    *,
    packed_masks: _Masks,
    sliding_window: int | None = None,
    **given: Any,
) -> tuple[torch.Tensor, Any]:
    """The FlexAttention of transformers, which knows soft caps, with the mask of this layer's window."""
    from transformers.integrations.flex_attention import flex_attention_forward

    made: tuple[torch.Tensor, Any] = flex_attention_forward(
        module, query, key, value, packed_masks[sliding_window], **given
    )
    return made


def block_mask(tree: Tree, window: int | None = None, *, causal: bool, device: Device) -> Any:
    """The same tree for FlexAttention: a token is seen from itself on up to `until`, or by all of its own run, and
    with a `window` only by those of which the position is fewer than that many away.
    """
    import torch
    from torch.nn.attention.flex_attention import and_masks, create_block_mask

    t = len(tree.ids)
    until, places = (torch.from_numpy(each).to(device.place) for each in (tree.until, tree.positions))
    reach = t if window is None else window

    def behind(b: Any, h: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return (q >= k) & (q < until[k])

    def together(b: Any, h: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return until[q] == until[k]

    def near(b: Any, h: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return (places[q] - places[k]).abs() < reach

    visible = behind if causal else together
    seen = visible if window is None else and_masks(visible, near)
    # Compiled, it never holds the whole mask [t, t]
    return create_block_mask(seen, None, None, t, t, device=device.place, _compile=device.compiles)


def _flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    queries: Places,
    keys: Span,
    scaling: float | None,
    *,
    causal: bool,
    mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention [groups, heads, q, d] of some queries to some keys, and its log-sum-exp [groups, heads, q].

    `mask` [q, k] is what they see of them, at least one each. `causal`: without one, each sees all up to itself.
    """
    import torch

    k = slice(*keys)
    added = None if mask is None else query.new_zeros(mask.shape).masked_fill_(~mask, -torch.inf)
    attended: tuple[torch.Tensor, torch.Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query[..., queries, :], key[..., k, :], value[..., k, :], 0.0, causal, attn_mask=added, scale=scaling
    )
    return attended


def _capped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    queries: Places,
    keys: Span,
    scaling: float | None,
    *,
    cap: float,
    causal: bool,
    mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same where a score s is cap tanh(s / cap), which no kernel of a CPU knows: the scores are held."""
    import torch

    part, k = query[..., queries, :], slice(*keys)
    scale = (part.shape[-1] ** -0.5 if scaling is None else scaling) / cap
    # [groups, heads q, d]: the key head of a group is not copied for its heads
    rows = (part * scale).flatten(1, 2)
    scores = (rows @ key[:, 0, k].transpose(1, 2)).to(torch.promote_types(query.dtype, torch.float32))
    scores = scores.tanh_().mul_(cap).view(*part.shape[:3], -1)
    if mask is not None:
        scores.masked_fill_(~mask, -torch.inf)
    most = scores.amax(-1, keepdim=True)
    total = scores.sub_(most).exp_().sum(-1, keepdim=True)
    summed = (scores.to(value.dtype).flatten(1, 2) @ value[:, 0, k]).view(*part.shape[:3], -1)
    return summed / total.to(value.dtype), (total.log() + most).squeeze(-1)


def _both_ways(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, run: Span, scaling: float | None, window: int | None
) -> torch.Tensor:
    """A run in which each token sees all others, or those fewer than `window` tokens away, [groups, heads, run, d]."""
    import torch

    start, stop = run
    if window is None or stop - start <= window:
        return _flash(query, key, value, slice(*run), run, scaling, causal=False)[0]
    bands = []
    for first in range(start, stop, _BAND):
        last = min(first + _BAND, stop)
        low, high = max(start, first - window + 1), min(stop, last + window - 1)
        near = (torch.arange(first, last)[:, None] - torch.arange(low, high)).abs() < window
        bands.append(_flash(query, key, value, slice(first, last), (low, high), scaling, causal=False, mask=near)[0])
    return torch.cat(bands, 2)
