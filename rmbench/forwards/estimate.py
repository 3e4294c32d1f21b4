"""The budget that forwards of a model begin with: as asked, usual, or what the free memory of its device holds."""

from __future__ import annotations

from collections.abc import Sequence

from rmbench.device import Device, device_of, out_of_memory
from rmbench.errors import UsageError
from rmbench.forwards.budget import USUAL, Pace, TokenBudget
from rmbench.forwards.cost import cost_of, flops_a_second
from rmbench.forwards.loop import hidden_states
from rmbench.forwards.plan import Bin
from rmbench.models.base import Encoded, TokenModel

_TOKENS = 512  # about as many have what memory a token takes, so that what every forward takes besides counts little
_PART = 0.7  # of the free memory: what a longer or packed forward takes besides was not measured


def budget_of(model: TokenModel, asked: int | None, encoded: Sequence[Encoded]) -> TokenBudget:
    """The budget that was asked for, else what suits the model's device: where it tells its memory, what that holds.

    That is measured on one of the sequences `encoded`, so that whatever the model wants of its inputs is there; without
    any the budget is the usual one. On a CPU forwards keep a pace besides. Raises UsageError for a budget that is none.
    """
    if asked is not None:
        if asked < 1:
            raise UsageError(f"token_budget={asked}: expected at least 1 token a forward")
        return TokenBudget(asked)
    device = device_of(model.backbone)
    if device.kind == "cpu":
        pace = Pace(USUAL["cpu"])
        pace.expect(flops_a_second(model.backbone) / max(1.0, cost_of(model.backbone).token) / 2)  # it may be slow
        return TokenBudget(pace.limit, pace=pace)
    if device.memory() is None or not encoded:
        return TokenBudget(USUAL.get(device.kind, USUAL["cpu"]))
    return TokenBudget(_fitting(model, encoded, device))


def _fitting(model: TokenModel, encoded: Sequence[Encoded], device: Device) -> int:
    """Tokens that the free memory holds by what a short forward takes, at most four times the usual."""
    sample = min(encoded, key=lambda item: abs(len(item.ids) - _TOKENS))
    copies = max(1, _TOKENS // len(sample.ids))
    tokens = copies * len(sample.ids)
    short = Bin("padded", list(range(copies)), tokens, 0.0)
    try:
        taken = device.taken_by(lambda: hidden_states(model, [sample] * copies, short))
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        taken = None
    if taken is None:  # outside of the handler, where the error still holds what it was about
        device.release()
        return tokens
    memory = device.memory()
    assert memory is not None  # noqa: S101
    return int(min(max(_PART * memory.free // max(1, taken // tokens), tokens), 4 * USUAL["cuda"]))
