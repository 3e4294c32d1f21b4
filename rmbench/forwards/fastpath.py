"""Which ways of running a model are open: a table of architectures that tests hold, and a check when a run begins."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from rmbench.checkpoints.fingerprint import first_line
from rmbench.checkpoints.weights import unsteady_ropes
from rmbench.device import device_of, out_of_memory
from rmbench.forwards.cost import Cost
from rmbench.forwards.loop import hidden_states
from rmbench.forwards.plan import Bin, Way, plan
from rmbench.models.base import Encoded, TokenModel, subject_of

# tests/test_packed.py holds each of them to one sequence at a time
DECODERS = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "olmo2", "starcoder2"}
    | {"mixtral", "qwen3_moe", "gpt_neox", "gpt2", "opt"}
)
ENCODERS = frozenset({"bert", "roberta", "xlm-roberta", "electra", "modernbert"})
# How far hidden states may be off, of their size: rounding makes 1e-6 of it in 32 bit and 1e-2 in 16
_TOLERANCE = {"float32": 1e-4, "float64": 1e-4}
_ROUGH = 3e-2
_LONG = 160  # tokens that reach over a local window


@dataclass(frozen=True, slots=True)
class Route:
    """`ways` that are open, and why the others are not. `alone`: not even padded together, one sequence a forward."""

    ways: frozenset[Way]
    reason: str = ""
    alone: bool = False


_FREE = Cost(token=1.0, pair=0.0, call=0.0, merge=0.0)  # whatever can be shared is
_PADDED: frozenset[Way] = frozenset({"padded"})
_routes: WeakKeyDictionary[Any, Route] = WeakKeyDictionary()


def route(model: TokenModel, encoded: Sequence[Encoded]) -> Route:
    """How `model` may be run, found once for a model: by the table, and by running a few of `encoded` both ways."""
    backbone = model.backbone
    if backbone not in _routes:
        path = tabled(model)
        try:
            failure = _disagreement(model, encoded, path) if len(path.ways) > 1 else None
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return Route(_PADDED, "memory ran out while packed forwards were tried")  # next time it may not
        if failure is not None:
            warnings.warn(f"{subject_of(model).id}: packed forwards are not used: {failure}", stacklevel=2)
            path = Route(_PADDED, failure)
        _routes[backbone] = path
    return _routes[backbone]


def tabled(model: TokenModel) -> Route:
    """What the table says of a model, before anything is run."""
    backbone = model.backbone
    config = getattr(backbone, "config", None)
    if config is None or not type(backbone).__module__.startswith("transformers.models."):
        return Route(_PADDED, f"{type(backbone).__name__} is not code of transformers")
    if rope := unsteady_ropes(config):
        return Route(_PADDED, f"rope type {', '.join(sorted(rope))} depends on the longest of a batch", alone=True)
    architectures = DECODERS if model.layout == "causal" else ENCODERS
    if config.model_type not in architectures:
        return Route(_PADDED, f"{config.model_type} is not in the table of tested architectures")
    devices = {weight.device for weight in backbone.parameters()}
    if len(devices) > 1 or device_of(backbone).attention is None:
        return Route(_PADDED, f"weights on {', '.join(sorted(map(str, devices)))}")
    if peculiarity := _peculiarity(config) if model.layout == "causal" else _locality(backbone, config):
        return Route(_PADDED, peculiarity)
    packed: frozenset[Way] = frozenset({"packed", "padded"})
    return Route(packed | {"shared"} if model.layout == "causal" else packed)


def _peculiarity(config: Any) -> str | None:
    """What of a decoder's attention is not plainly causal."""
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    others = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if others:
        return f"layers of type {', '.join(sorted(others))}"
    if window is not None and window < (config.max_position_embeddings or window + 1):
        return f"a sliding window of {window:,} tokens"
    for name, what in (("attn_logit_softcapping", "a soft cap on attention"), ("attention_chunk_size", "chunks")):
        if getattr(config, name, None):
            return what
    if getattr(config, "is_causal", True) is False or getattr(config, "use_bidirectional_attention", False):
        return "attention in both directions"
    return None


def _locality(backbone: Any, config: Any) -> str | None:
    """What of an encoder's attention its kernel does not know."""
    if device_of(backbone).attention == "flex" and getattr(config, "sliding_window", None):
        return "local attention, which the block mask of a GPU does not have"
    return None


def _disagreement(model: TokenModel, encoded: Sequence[Encoded], path: Route) -> str | None:
    """Why the packed forward of a few real sequences is not what each gives alone; None where it is.

    Raises what a forward of one sequence raises, and what says that memory ran out.
    """
    probe = _probe(model, encoded)
    alone = [hidden_states(model, [one], Bin("padded", [0], len(one.ids), 0.0))[0] for one in probe]
    packed: dict[int, Any] = {}
    try:
        for planned in plan(probe, _FREE, len(probe) * max(len(one.ids) for one in probe), path.ways - _PADDED):
            states = hidden_states(model, [probe[i] for i in planned.members], planned)
            packed.update(zip(planned.members, states, strict=True))
    except Exception as error:  # whatever a kernel or an architecture raises, the other way is still there
        if out_of_memory(error):
            raise
        return f"{type(error).__name__}: {first_line(error)}"
    off = [float((packed[i] - states).norm() / states.norm().clamp(min=1e-6)) for i, states in enumerate(alone)]
    tolerance = _TOLERANCE.get(str(alone[0].dtype).removeprefix("torch."), _ROUGH)
    if all(one <= tolerance for one in off):  # no nan is
        return None
    return f"hidden states are off by {max(off):.1e} of their size, more than {tolerance:.0e}"


def _probe(model: TokenModel, encoded: Sequence[Encoded]) -> list[Encoded]:
    """Two short sequences of those there are, and a longer one that begins with half of the first.

    They are read at every other position: their own reads would show less, one position each, or none where nothing
    was answered, and at all positions the last layer would not be narrowed.
    """
    first, *others = sorted(encoded, key=lambda item: len(item.ids))[:2]
    half = len(first.ids) // 2
    positions = getattr(model.backbone.config, "max_position_embeddings", None) or _LONG
    times = max(1, min(_LONG, positions - 2) // len(first.ids))  # RoBERTa has two positions fewer than it says
    longer = replace(
        first,
        ids=[*first.ids[:half], *reversed(first.ids[half:])] * times,
        type_ids=None if first.type_ids is None else [*first.type_ids] * times,
    )
    return [replace(item, reads=range(len(item.ids) - 1, -1, -2)) for item in (first, *others, longer)]
