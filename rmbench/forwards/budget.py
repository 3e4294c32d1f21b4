"""How many tokens a forward may have: what suits the device, and what is learnt when memory runs out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rmbench.errors import UsageError
from rmbench.models.base import TokenModel

USUAL = {"cpu": 8192, "cuda": 32768, "mps": 8192}  # a CPU gains nothing from more, and is slower with less
_PATIENCE = 8  # bins that fit before a budget that was halved is tried larger


@dataclass(slots=True)
class Budget:
    """Tokens a forward: halved when memory runs out, doubled after some that fit, but never beyond `limit`.

    A size that fails again as soon as it is tried once more has to wait twice as long before the next time.
    """

    limit: int
    now: int = 0
    patience: int = _PATIENCE
    fitted: int = 0
    grown: bool = False  # the last change was to a larger one

    def __post_init__(self) -> None:
        self.now = self.now or self.limit

    def failed(self, tokens: int) -> None:
        """A forward of `tokens` did not fit."""
        if self.grown and self.fitted < self.patience:
            self.patience *= 2
        self.now, self.fitted, self.grown = max(1, min(self.now, tokens) // 2), 0, False

    def worked(self) -> bool:
        """A forward did fit. Whether the budget is larger now."""
        self.fitted += 1
        if self.now == self.limit or self.fitted < self.patience:
            return False
        self.now, self.fitted, self.grown = min(self.limit, self.now * 2), 0, True
        return True


def budget_of(model: TokenModel, asked: int | None) -> Budget:
    """The budget that was asked for, else what suits the model's device: on CUDA, what its free memory holds.

    Raises UsageError for one that is none.
    """
    if asked is not None:
        if asked < 1:
            raise UsageError(f"token_budget={asked}: expected at least 1 token a forward")
        return Budget(asked)
    device = next(iter(model.backbone.parameters())).device
    if device.type != "cuda":
        return Budget(USUAL.get(device.type, USUAL["cpu"]))
    return Budget(_fitting(model.backbone, device))


def _fitting(backbone: Any, device: Any) -> int:
    """Tokens that 70 % of the free memory holds by what a short forward takes, at most four times the usual."""
    import torch

    tokens = min(512, getattr(backbone.config, "max_position_embeddings", None) or 512)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    with torch.inference_mode():
        backbone(input_ids=torch.zeros(1, tokens, dtype=torch.long, device=device))
    each = max(1, (torch.cuda.max_memory_allocated(device) - before) // tokens)
    unused = torch.cuda.memory_reserved(device) - before
    free = torch.cuda.mem_get_info(device)[0] + unused
    return int(min(max(0.7 * free // each, tokens), 4 * USUAL["cuda"]))
