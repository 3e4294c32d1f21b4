"""What a forward costs, in floating point operations or what takes as long: the planner's yardstick."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rmbench.device import device_of


@dataclass(frozen=True, slots=True)
class Machine:
    """What a kind of device does: operations a second in matrix products, seconds to launch attention, bytes a second.

    Orders of magnitude are enough, because they only decide between plans. They are constants and not measured when a
    run starts, so that the same data have the same plan each time.
    """

    flops: float
    launch: float
    bandwidth: float
    steady: bool = False  # what it does a second hardly depends on the size of a forward


_MACHINES = {
    "cpu": Machine(flops=1.0e11, launch=3e-5, bandwidth=1e10, steady=True),
    "mps": Machine(flops=5.0e12, launch=5e-5, bandwidth=2e11),
    "cuda": Machine(flops=2.0e14, launch=1e-5, bandwidth=2e12),
}

_LAUNCHES = 5  # of a layer, each about as long as that of its attention


@dataclass(frozen=True, slots=True)
class Cost:
    """Operations of one model, over all of its layers.

    `token`: what one token takes outside attention; `pair`: one query looking at one key; `call`: launching attention
    once in each layer; `merge`: joining two attentions of one token; `start`: what a forward takes however short it is.
    Of a device that small forwards leave idle it is infinite: as few of them as there can be are best.
    """

    token: float
    pair: float
    call: float
    merge: float
    start: float = math.inf

    def padded(self, lengths: Sequence[int]) -> float:
        """A batch filled up to its longest sequence."""
        width = max(lengths)
        return len(lengths) * (width * self.token + width * width * self.pair) + self.call

    def filling(self, width: int, length: int) -> float:
        """What a sequence takes besides its own where it is filled up to `width`."""
        return (width - length) * self.token + (width**2 - length**2) * self.pair

    def packed(self, lengths: Sequence[int]) -> float:
        """The sequences one behind the other, each attending to itself."""
        return sum(length * self.token + length * length * self.pair + self.call for length in lengths)

    def tree(self, tokens: int, pairs: int, calls: int, merged: int) -> float:
        """Sequences that share prefixes: `pairs` of queries and keys, `merged` tokens of two attentions."""
        return tokens * self.token + pairs * self.pair + calls * self.call + merged * self.merge


def cost_of(backbone: Any) -> Cost:
    """The cost of a torch module with a transformers config; attention is left out where the config does not tell."""
    import torch

    machine = _machine(backbone)
    tables = {id(m.weight) for m in backbone.modules() if isinstance(m, torch.nn.Embedding)}
    weights = sum(weight.numel() for weight in backbone.parameters() if id(weight) not in tables)
    config = getattr(backbone, "config", None)
    layers, heads = (getattr(config, name, None) or 1 for name in ("num_hidden_layers", "num_attention_heads"))
    hidden = getattr(config, "hidden_size", 0)
    width = heads * (getattr(config, "head_dim", None) or hidden // heads)
    stored = sum(weight.numel() * weight.element_size() for weight in backbone.parameters() if id(weight) not in tables)
    launched = _LAUNCHES * layers * machine.launch
    moved = 6 * 4 * width * layers  # bytes: read two attentions and their weights, write one
    return Cost(
        token=2.0 * weights,
        pair=4.0 * width * layers,
        call=machine.launch * layers * machine.flops,
        merge=moved / machine.bandwidth * machine.flops,
        start=(stored / machine.bandwidth + launched) * machine.flops if machine.steady else math.inf,
    )


def flops_a_second(backbone: Any) -> float:
    """About how many operations a second the device of a torch module does."""
    return _machine(backbone).flops


def _machine(backbone: Any) -> Machine:
    return _MACHINES.get(device_of(backbone).kind, _MACHINES["cpu"])
