"""The forward pass of a TokenModel: padded batches, hidden states read at known positions, halving on out-of-memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rmbench.models.base import Encoded, TokenModel
from rmbench.scoring.plan import batches
from rmbench.types import Reward

if TYPE_CHECKING:
    import torch


def forward(
    model: TokenModel, encoded: Sequence[Encoded], budget: int
) -> Iterator[tuple[list[int], list[Reward] | None]]:
    """Scores every sequence, a batch at a time: yields (indices into `encoded`, their rewards).

    Rewards are None for a single sequence that does not fit into memory by itself. `budget` is padded tokens a batch.
    A batch that does not fit is halved, and so is the budget of the batches after it.
    """
    lengths = [len(item.ids) for item in encoded]
    waiting = deque(batches(lengths, budget))
    while waiting:
        batch = waiting.popleft()
        rewards = _read(model, [encoded[index] for index in batch])
        if rewards is None and len(batch) > 1:
            budget = max(len(batch) // 2 * lengths[batch[0]], 1)
            left = [index for some in (batch, *waiting) for index in some]
            waiting = deque([left[i] for i in some] for some in batches([lengths[i] for i in left], budget))
            continue
        yield batch, rewards


def _read(model: TokenModel, encoded: Sequence[Encoded]) -> list[Reward] | None:
    """Rewards of one batch, or None where memory ran out. The exception is gone on return, and so are its tensors."""
    try:
        return model.read(_hidden(model, encoded), encoded)
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def _hidden(model: TokenModel, encoded: Sequence[Encoded]) -> list[torch.Tensor]:
    """Hidden states at the read positions, one [len(reads), h] tensor a sequence.

    Right padding: a causal model's real tokens never see what stands behind them, so it needs no mask; others get one
    unless nothing is padded. Which id fills the padding can therefore not matter.
    """
    import torch

    width = max(len(item.ids) for item in encoded)
    device = next(iter(model.backbone.parameters())).device
    inputs: dict[str, Any] = {"input_ids": _padded([item.ids for item in encoded], width).to(device)}
    if model.layout == "causal":
        inputs["use_cache"] = False
    elif any(len(item.ids) < width for item in encoded):
        inputs["attention_mask"] = _padded([[1] * len(item.ids) for item in encoded], width).to(device)
    types = [item.type_ids for item in encoded if item.type_ids is not None]
    if types:
        inputs["token_type_ids"] = _padded(types, width).to(device)
    with torch.inference_mode():
        states = model.backbone(**inputs).last_hidden_state
        return [states[row, list(item.reads)] for row, item in enumerate(encoded)]


def _padded(rows: Sequence[Sequence[int]], width: int) -> torch.Tensor:
    import torch

    padded = torch.zeros(len(rows), width, dtype=torch.long)
    for row, values in enumerate(rows):
        padded[row, : len(values)] = torch.tensor(values)
    return padded


def _is_out_of_memory(error: Exception) -> bool:
    # torch raises its own type on an accelerator and a bare RuntimeError from the CPU allocator
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text
