"""Which ways of running a model are open: a table of architectures that tests hold, and a check when a run begins."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

from rmbench.checkpoints.fingerprint import first_line
from rmbench.checkpoints.weights import unsteady_ropes
from rmbench.device import device_of, out_of_memory
from rmbench.forwards.budget import USUAL
from rmbench.forwards.cost import Cost
from rmbench.forwards.loop import hidden_states
from rmbench.forwards.plan import Bin, Way, plan
from rmbench.forwards.shallow import shallow
from rmbench.models.base import Encoded, TokenModel, subject_of
from rmbench.types import Json

# tests/test_packed.py holds each of them to one sequence at a time
DECODERS = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "olmo2", "olmo3", "starcoder2"}
    | {"mixtral", "qwen3_moe", "gpt_oss", "gemma2", "gemma3_text", "gpt_neox", "gpt2", "opt"}
)
ENCODERS = frozenset({"bert", "roberta", "xlm-roberta", "electra", "modernbert"})
# How far hidden states may be off, of their size: rounding makes 1e-6 of it in 32 bit and 1e-2 in 16
_TOLERANCE = {"float32": 1e-4, "float64": 1e-4}
_ROUGH = 3e-2
_LONG = 160  # tokens that reach over a local window
_LATE = 1024  # tokens beyond which no kernel, mask or position is known to do anything new, where no window ends later
_WORTH = 1.2  # times its own cost that a check has to save
_PART = 64  # read positions that are compared by themselves, so that a few late ones count


@dataclass(frozen=True, slots=True)
class Route:
    """`ways` that are open, and why the others are not. `alone`: not even padded together, one sequence a forward.

    `reach` is how many tokens the sequences had that a check ran, 0 where none did, and `rate` how many operations a
    second it made at best.
    """

    ways: frozenset[Way]
    reason: str = ""
    alone: bool = False
    reach: int = 0
    rate: float | None = None


class Verdicts(Protocol):
    """Where the verdict of a check on this model, in these versions and on this device, outlasts the process."""

    def get(self) -> Json | None: ...

    def put(self, verdict: Json) -> None: ...


_FREE = Cost(token=1.0, pair=0.0, call=0.0, merge=0.0)  # whatever can be shared is
_BUDGET = USUAL["cpu"]
_PADDED: frozenset[Way] = frozenset({"padded"})
_routes: WeakKeyDictionary[Any, Route] = WeakKeyDictionary()


def route(
    model: TokenModel,
    encoded: Sequence[Encoded],
    cost: Cost | None = None,
    verdicts: Verdicts | None = None,
    part: float = math.inf,
) -> Route:
    """How `model` may be run, found once for a model: by the table, and by running a few of `encoded` both ways.

    Where that would cost more than it saves, by `cost`, what is left is the plain way, until more is to be run. A check
    reaches as far as the longest sequence; a longer one has it made again. One that costs more than a `part` of what
    is to be run is left out, and the table believed meanwhile.
    """
    backbone = model.backbone
    if backbone not in _routes:
        _routes[backbone] = tabled(model)
        if (kept := _kept(verdicts)) is not None and kept.ways <= _routes[backbone].ways:
            _routes[backbone] = kept
            _warn(model, kept)
    path = _routes[backbone]
    longest = max((len(one.ids) for one in encoded), default=0)
    if len(path.ways) == 1 or not longest:
        return path
    late = _late(model)
    if path.reach >= min(longest, late, _positions(model)):
        return path
    reach = min(late, max(_LONG, longest if not path.reach else 2 * longest))  # longer ones are checked a few times
    probe, run = _probe(encoded, reach, _positions(model)), shallow(backbone, model.layout)
    price = 0.0 if cost is None else _price(probe, cost, run.share)
    if not path.reach and cost is not None and price > _saved(encoded, cost, path):
        return Route(_PADDED, "too little to run for a check of packed forwards to pay")
    if cost is not None and price > part * sum(one.cost for one in plan(encoded, cost, _BUDGET, path.ways)):
        return path
    try:
        failure, rate = _disagreement(cast(TokenModel, run), probe, path, run.share, cost or _FREE)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return Route(_PADDED, "memory ran out while packed forwards were tried")  # next time it may not
    decided = Route(path.ways if failure is None else _PADDED, failure or "", reach=reach, rate=rate if cost else None)
    _warn(model, decided)
    if verdicts is not None:
        verdicts.put(
            {"ways": sorted(decided.ways), "reason": decided.reason, "reach": decided.reach, "rate": decided.rate}
        )
    _routes[backbone] = decided
    return decided


def _kept(verdicts: Verdicts | None) -> Route | None:
    kept = None if verdicts is None else verdicts.get()
    if kept is None:
        return None
    return Route(frozenset(kept["ways"]), kept["reason"], reach=kept["reach"], rate=kept["rate"])


def _warn(model: TokenModel, path: Route) -> None:
    if path.reason:
        warnings.warn(f"{subject_of(model).id}: packed forwards are not used: {path.reason}", stacklevel=3)


def _positions(model: TokenModel) -> float:
    """How many tokens a sequence may have; RoBERTa has two positions fewer than it says."""
    positions = getattr(model.backbone.config, "max_position_embeddings", None)
    return math.inf if positions is None else positions - 2


def _late(model: TokenModel) -> int:
    """How many tokens a check has to reach over at most: past the end of a window, however far that is."""
    return max(_LATE, (getattr(model.backbone.config, "sliding_window", None) or 0) + _LONG)


def _price(probe: Sequence[Encoded], cost: Cost, share: float) -> float:
    """What a check costs: each of `probe` alone, and nearly as much packed."""
    return 1.75 * share * sum(len(one.ids) * cost.token + len(one.ids) ** 2 * cost.pair for one in probe)


def _saved(encoded: Sequence[Encoded], cost: Cost, path: Route) -> float:
    """What a check may save: the plain plan's cost above that of the best one, as far as it pays for the check."""
    if math.isinf(cost.start):
        return math.inf
    plans = [plan(encoded, cost, _BUDGET, ways) for ways in (_PADDED, path.ways)]
    plain, best = (sum(one.cost + cost.start for one in groups) for groups in plans)
    return (plain - best) / _WORTH


def tabled(model: TokenModel) -> Route:
    """What the table says of a model, before anything is run."""
    backbone = model.backbone
    config = getattr(backbone, "config", None)
    if why := _solitude(model, config):
        return Route(_PADDED, why, alone=True)
    if config is None or not type(backbone).__module__.startswith("transformers.models."):
        return Route(_PADDED, f"{type(backbone).__name__} is not code of transformers")
    architectures = DECODERS if model.layout == "causal" else ENCODERS
    if config.model_type not in architectures:
        return Route(_PADDED, f"{config.model_type} is not in the table of tested architectures")
    devices = {weight.device for weight in backbone.parameters()}
    if len(devices) > 1 or device_of(backbone).attention is None:
        return Route(_PADDED, f"weights on {', '.join(sorted(map(str, devices)))}")
    if peculiarity := _peculiarity(backbone, config) if model.layout == "causal" else None:
        return Route(_PADDED, peculiarity)
    packed: frozenset[Way] = frozenset({"packed", "padded"})
    return Route(packed | {"shared"} if model.layout == "causal" else packed)


def _solitude(model: TokenModel, config: Any) -> str | None:
    """Why a sequence is another one where others are padded to its length, or it to theirs."""
    if rope := unsteady_ropes(config):
        return f"rope type {', '.join(sorted(rope))} depends on the longest of a batch"
    both = getattr(config, "is_causal", True) is False or getattr(config, "use_bidirectional_attention", False)
    return "attention in both directions" if model.layout == "causal" and both else None


def _peculiarity(backbone: Any, config: Any) -> str | None:
    """What of a decoder's attention is more than packed attention knows."""
    others = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if others:
        return f"layers of type {', '.join(sorted(others))}"
    if getattr(config, "attention_chunk_size", None):
        return "chunks"
    sinks = any(name.endswith(".sinks") for name, _ in backbone.named_parameters())
    if sinks and device_of(backbone).attention == "flex":
        return "sinks in the attention, which were not measured with the block mask of a GPU"
    return None


def _disagreement(
    model: TokenModel, probe: Sequence[Encoded], path: Route, share: float, cost: Cost
) -> tuple[str | None, float]:
    """Why the packed forward of a few real sequences is not what each gives alone; None where it is. And how many
    operations a second were made at best.

    Raises what a forward of one sequence raises, and what says that memory ran out.
    """
    alone, rate, start = [], 0.0, 0.0 if math.isinf(cost.start) else cost.start
    for one in probe:
        started = time.perf_counter()
        alone += hidden_states(model, [one], Bin("padded", [0], len(one.ids), 0.0))
        device_of(model.backbone).synchronise()
        rate = max(rate, share * (cost.token * len(one.ids) + start) / (time.perf_counter() - started))
    packed: dict[int, Any] = {}
    try:
        for planned in plan(probe, _FREE, len(probe) * max(len(one.ids) for one in probe), path.ways - _PADDED):
            states = hidden_states(model, [probe[i] for i in planned.members], planned)
            packed.update(zip(planned.members, states, strict=True))
    except Exception as error:  # whatever a kernel or an architecture raises, the other way is still there
        if out_of_memory(error):
            raise
        return f"{type(error).__name__}: {first_line(error)}", rate
    off = [one for i, states in enumerate(alone) for one in _off(packed[i], states)]
    tolerance = _TOLERANCE.get(str(alone[0].dtype).removeprefix("torch."), _ROUGH)
    if all(one <= tolerance for one in off):  # no nan is
        return None, rate
    return f"hidden states are off by {max(off):.1e} of their size, more than {tolerance:.0e}", rate


def _off(packed: Any, alone: Any) -> Iterator[float]:
    """How far hidden states are off, of their size, some neighbouring positions at a time."""
    for one, other in zip(packed.split(_PART), alone.split(_PART), strict=True):
        yield float((one - other).norm() / other.norm().clamp(min=1e-6))


def _probe(encoded: Sequence[Encoded], reach: int, positions: float) -> list[Encoded]:
    """The beginnings of the two shortest sequences, and one of `reach` tokens, or as many as there are `positions`,
    that begins with half of the first; where that is long, another that parts from it late.

    They are read at every other position: their own reads would show less, one position each, or none where nothing
    was answered, and at all positions the last layer would not be narrowed.
    """
    first, *others = (_begun(one, _LONG) for one in sorted(encoded, key=lambda item: len(item.ids))[:2])
    longer = _repeated(first, min(reach, positions), len(first.ids) // 2)
    probe = [first, *others, longer]
    if reach > _LONG:
        probe.append(_repeated(longer, len(longer.ids), len(longer.ids) * 3 // 4))
    return [replace(item, reads=range(len(item.ids) - 1, -1, -2)) for item in probe]


def _begun(item: Encoded, tokens: int) -> Encoded:
    return replace(item, ids=item.ids[:tokens], type_ids=None if item.type_ids is None else item.type_ids[:tokens])


def _repeated(item: Encoded, tokens: float, shared: int) -> Encoded:
    """`tokens` of the beginning of `item` and what stands behind it backwards, over and over."""
    length = int(tokens)
    times = -(-length // len(item.ids))
    ids = [*item.ids[:shared], *reversed(item.ids[shared:])]
    types = None if item.type_ids is None else ([*item.type_ids] * times)[:length]
    return replace(item, ids=(ids * times)[:length], type_ids=types)
