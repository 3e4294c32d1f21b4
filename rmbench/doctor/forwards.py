"""What rmbench runs, held to one sequence alone: again, in a batch, padded on the left, packed, by its own class."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from rmbench.checkpoints.fingerprint import first_line
from rmbench.device import device_of
from rmbench.doctor.findings import Finding, absent, apart, equal
from rmbench.errors import ModelError
from rmbench.forwards.cost import Cost
from rmbench.forwards.fastpath import route, tabled
from rmbench.forwards.loop import hidden_states, rewards_of
from rmbench.forwards.plan import Bin, plan
from rmbench.models.base import Encoded, TokenModel, subject_of
from rmbench.types import Reward

if TYPE_CHECKING:
    import torch

# Of the scale of rewards, what rounding may do; what is wrong does more
PRECISE = 1e-4
ROUGH = 3e-2
_FREE = Cost(token=1.0, pair=0.0, call=0.0, merge=0.0)  # whatever can be shared is
_BUDGET = 1 << 20
_MOST = 1024  # positions up to which a sequence as long as the model is run

Side = Literal["left", "right"]


@dataclass(frozen=True)
class Alone:
    """What a model gives for each of `encoded`, run by itself."""

    model: TokenModel
    encoded: Sequence[Encoded]
    rewards: Sequence[Reward]

    @property
    def dtype(self) -> str:
        """Of the weights that run."""
        return str(next(iter(self.model.backbone.parameters())).dtype).removeprefix("torch.")

    @property
    def limit(self) -> float:
        """How far rewards may be apart, of their scale, where only rounding differs."""
        return PRECISE if self.dtype in ("float32", "float64") else ROUGH


def alone(model: TokenModel, encoded: Sequence[Encoded]) -> Alone:
    """Runs each sequence by itself. Raises ModelError where one does not fit into memory, or the model raises."""
    return Alone(model, encoded, [_by_itself(model, one) for one in encoded])


def findings(one: Alone) -> Iterator[Finding]:
    """`deterministic`, `batch`, `padding`, `own-forward` and `shared-prefix`."""
    again = alone(one.model, one.encoded)
    steady = equal("deterministic", again.rewards, one.rewards, one.limit, f"{len(one.encoded)} sequences asked twice")
    yield steady
    if steady.verdict == "fail":
        checks = ("batch", "padding", "own-forward", "shared-prefix")
        yield from (absent(check, "it answers otherwise when it is asked again") for check in checks)
        return
    path = tabled(one.model)
    if path.alone:
        reason = f"each sequence is run by itself: {path.reason}"
        yield from (absent(check, reason) for check in ("batch", "padding"))
    else:
        batch = _together(one.model, one.encoded)
        told = f"{len(one.encoded)} sequences of {_lengths(one.encoded)} tokens in one batch"
        yield equal("batch", batch, one.rewards, one.limit, told)
        yield _padding(one, batch)
    yield _own_forward(one)
    yield _shared_prefix(one)


def at_its_end(model: TokenModel, one: Encoded, positions: int) -> str | None:
    """What is wrong with the hidden states of a sequence of all positions that a model has; None where nothing is.

    "" where that is too long to be tried.
    """
    if positions > _MOST:
        return ""
    times = -(-positions // len(one.ids))
    types = None if one.type_ids is None else ([*one.type_ids] * times)[:positions]
    reads = (positions - 1,) if any(one.reads) else (0,)
    longest = replace(one, ids=([*one.ids] * times)[:positions], type_ids=types, reads=reads)
    try:
        (states,) = hidden_states(model, [longest], Bin("padded", [0], positions, 0.0))
    except (RuntimeError, IndexError, ValueError) as error:
        return f"a sequence of {positions:,} tokens fails: {first_line(error)}"
    return None if states.isfinite().all() else f"hidden states at token {positions:,} are not finite"


def _by_itself(model: TokenModel, one: Encoded) -> Reward:
    return _together(model, [one])[0]


def _together(model: TokenModel, encoded: Sequence[Encoded]) -> list[Reward]:
    width = max(len(one.ids) for one in encoded)
    rewards = rewards_of(model, encoded, Bin("padded", [*range(len(encoded))], width * len(encoded), 0.0))
    if rewards is None:
        raise ModelError(f"{subject_of(model).id}: {len(encoded)} sequences of {width:,} tokens do not fit into memory")
    return rewards


def _padding(one: Alone, batch: Sequence[Reward]) -> Finding:
    """A batch that is padded on the left against the same `batch` as rmbench runs it, padded on the right."""
    backbone = one.model.backbone
    if getattr(backbone, "alone", False):
        return _own_padding(one)
    if not _takes(backbone, "attention_mask"):
        return absent("padding", f"{type(backbone).__name__} takes no attention mask")
    told = f"{len(one.encoded)} sequences padded left against right"
    return equal("padding", _padded(one.model, one.encoded, "left"), batch, one.limit, told)


def _own_padding(one: Alone) -> Finding:
    """What padding does to a class that rmbench gives one sequence at a time, because of that or of another rule."""
    try:
        sides = [_padded(one.model, one.encoded, side) for side in ("left", "right")]
    except Exception as error:  # of a class of any making
        return absent("padding", f"its class takes no padded batch: {first_line(error)}")
    left, right = (apart(side, one.rewards) for side in sides)
    what = f"its class by itself, padded on the left against alone: {left:.1e} of its scale, on the right {right:.1e}"
    off = max(left, right)
    return Finding("padding", "fail" if off > one.limit else "pass", off, f"{what}; rmbench runs each sequence alone")


def _padded(model: TokenModel, encoded: Sequence[Encoded], side: Side) -> list[Reward]:
    """What the model gives for one batch padded on that side, with a mask and, where it takes some, positions."""
    import torch

    backbone, width = model.backbone, max(len(one.ids) for one in encoded)
    place = next(iter(backbone.parameters())).device

    def filled(rows: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
        padding = [[filler] * (width - len(row)) for row in rows]
        whole = [[*pads, *row] if side == "left" else [*row, *pads] for pads, row in zip(padding, rows, strict=True)]
        return torch.tensor(whole, device=place)

    ids = filled([[int(token) for token in one.ids] for one in encoded], _filler(backbone))
    mask = filled([[1] * len(one.ids) for one in encoded], 0)
    inputs: dict[str, Any] = {"use_cache": False} if model.layout == "causal" else {}
    if _takes(backbone, "position_ids", named=True) and not _counts_by_ids(backbone):
        inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    types = [one.type_ids for one in encoded if one.type_ids is not None]
    if types:
        inputs["token_type_ids"] = filled(types, 0)
    with device_of(backbone).running(), torch.inference_mode():
        if getattr(backbone, "alone", False):
            states = backbone.logits(ids, mask, **inputs)[:, None]
        else:
            states = backbone(input_ids=ids, attention_mask=mask, **inputs).last_hidden_state
        first = [width - len(one.ids) if side == "left" and states.shape[1] == width else 0 for one in encoded]
        hidden = [states[row, [at + read for read in one.reads]]
                  for row, (at, one) in enumerate(zip(first, encoded, strict=True))]  # fmt: skip
        return model.read(hidden, encoded)


def _own_forward(one: Alone) -> Finding:
    own = getattr(one.model, "own", None)
    theirs = [] if own is None else [own(item) for item in one.encoded]
    if not theirs or None in theirs:
        return absent("own-forward", "its family reads it by a head of its own")
    whole = getattr(one.model, "whole", None)
    told = f"{len(theirs)} sequences against {'its own class' if whole is None else type(whole).__name__}"
    return equal("own-forward", one.rewards, theirs, one.limit, told)


def _shared_prefix(one: Alone) -> Finding:
    model, encoded = one.model, one.encoded
    possible = tabled(model)
    if possible.ways == {"padded"}:
        whole = isinstance(getattr(model, "whole", None), type(getattr(model.backbone, "model", 0)))
        return absent("shared-prefix", "the whole model is run, by a rule of its own" if whole else possible.reason)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the finding says it
        path = route(model, encoded)
    planned = plan(encoded, _FREE, _BUDGET, possible.ways - {"padded"})
    try:
        packed: dict[int, Reward] = {}
        for part in planned:
            rewards = rewards_of(model, [encoded[i] for i in part.members], part)
            packed.update(zip(part.members, rewards or (), strict=bool(rewards)))
    except Exception as error:  # whatever a kernel or an architecture raises, the other way is still there
        return Finding("shared-prefix", "fail", None, f"packed forwards fail, and are not used: {first_line(error)}")
    if len(packed) < len(encoded):
        return absent("shared-prefix", "memory ran out while packed forwards were tried")
    tokens, run = sum(len(item.ids) for item in encoded), sum(part.tokens for part in planned)
    told = f"{len(encoded)} sequences packed, {run:,} of their {tokens:,} tokens run"
    finding = equal("shared-prefix", [packed[i] for i in range(len(encoded))], one.rewards, one.limit, told)
    if path.ways == {"padded"}:
        return replace(finding, verdict="fail", told=f"packed forwards are not used: {path.reason}")
    return finding


def _lengths(encoded: Sequence[Encoded]) -> str:
    lengths = [len(one.ids) for one in encoded]
    return f"{min(lengths):,} to {max(lengths):,}"


def _takes(backbone: Any, name: str, *, named: bool = False) -> bool:
    """Whether the forward of a backbone has such a parameter or, unless it has to be `named`, takes any."""
    parameters = inspect.signature(backbone.forward).parameters
    return name in parameters or (not named and any(one.kind is one.VAR_KEYWORD for one in parameters.values()))


def _counts_by_ids(backbone: Any) -> bool:
    """Whether positions are counted by which ids are no pads, as RoBERTa's are."""
    return hasattr(getattr(backbone, "embeddings", None), "create_position_ids_from_input_ids")


def _filler(backbone: Any) -> int:
    """The id that fills a batch: the model's own pad token where it has one in its table."""
    config: Any = getattr(backbone, "config", None)
    pad = config.get_text_config().pad_token_id if hasattr(config, "get_text_config") else None
    return pad if pad is not None and pad >= 0 else 0
