"""How many tokens a forward may have: a limit, and what is learnt when memory runs out."""

from __future__ import annotations

from dataclasses import dataclass

USUAL = {"cpu": 8192, "cuda": 32768, "mps": 8192}  # a CPU gains nothing from more, and is slower with less
_PATIENCE = 8  # bins that fit before a budget that was halved is tried larger


@dataclass(slots=True)
class TokenBudget:
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
