"""The first layers of a backbone, to try at a fraction of its price what each kind of layer does."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

from rmbench.forwards.loop import share_turns

_LEAST = 2  # what the first layer makes wrong, the next one has to look at


@dataclass(frozen=True, slots=True)
class Shallow:
    """What `hidden_states` needs of a model, with as few layers as show every kind of them; `share` of all layers."""

    backbone: Any
    layout: Literal["causal", "encoder"]
    share: float


def shallow(backbone: Any, layout: Literal["causal", "encoder"]) -> Shallow:
    """A view of `backbone` that ends behind the first layer of the last kind; the backbone itself is not touched.

    Its weights, settings and hooks are those of the backbone. Where no list of layers is known it is the whole.
    """
    config = getattr(backbone, "config", None)
    path, layers = _layers(backbone, getattr(config, "num_hidden_layers", None))
    kinds = [_kind(layer, config, place) for place, layer in enumerate(layers)]
    count = max([_LEAST, *(kinds.index(kind) + 1 for kind in set(kinds))])
    if count >= len(layers):
        return Shallow(backbone, layout, 1.0)
    view = parent = _opened(backbone)
    for name in path[:-1]:
        parent._modules[name] = parent = _opened(parent._modules[name])
    parent._modules[path[-1]] = layers[:count]
    share_turns(view, backbone)  # what makes a forward packed is set on the settings, which both have
    return Shallow(view, layout, count / len(layers))


def _layers(backbone: Any, count: int | None) -> tuple[list[str], Any]:
    """Where the list of layers is, and the list; nothing where there is none of `count`."""
    import torch

    for name, module in backbone.named_modules():
        if name and isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return name.split("."), module
    return [], []


def _opened(module: Any) -> Any:
    """The same module with a table of parts that can be changed."""
    opened = copy.copy(module)
    opened._modules = dict(module._modules)
    return opened


def _kind(layer: Any, config: Any, place: int) -> str:
    """What a layer does, apart from its weights' values: code, settings, shapes, and what was put into it."""
    own = []
    for name, module in layer.named_modules():
        settings = {
            key: value if isinstance(value, bool | int | float | str | None) else type(value).__name__
            for key, value in vars(module).items()
            if key not in ("layer_idx", "layer_id")
        }
        hooks = [len(one) for one in (module._forward_hooks, module._forward_pre_hooks)]
        weights = [
            (key, tuple(one.shape), str(one.dtype)) for key, one in module._parameters.items() if one is not None
        ]
        own.append((name, type(module).__qualname__, sorted(settings.items(), key=repr), hooks, weights))
    types = getattr(config, "layer_types", None)
    return repr((types[place] if types and place < len(types) else None, own))
