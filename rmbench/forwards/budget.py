"""How many tokens a forward may have: a limit, what is learnt when memory runs out, and how long forwards last."""

from __future__ import annotations

from dataclasses import dataclass, field

USUAL = {"cpu": 8192, "cuda": 32768, "mps": 8192}  # more than these gain nothing
_PATIENCE = 8  # bins that fit before a budget that was halved is tried larger
LONGEST = 5.0  # seconds of a forward: so much is lost at most where a job is stopped
_SMALL = 512  # tokens of the first forward, whatever is known
_SLOWER = 0.95  # of the operations a second of the size before
_TRIED = 2  # forwards of a size before it is called slower: the first one also pays for memory


@dataclass(slots=True)
class Pace:
    """How many tokens have a forward last seconds: `size`, and `most` where sequences that begin alike stay together.

    The size starts small and is doubled as long as the double lasts no more than LONGEST by what was measured, but not
    beyond `limit`. A size that is slower than its half, in operations a second, is given up for that.
    """

    limit: int
    size: int = _SMALL
    most: int = 2 * _SMALL
    rates: dict[int, list[float]] = field(default_factory=dict)  # of each size that was tried, operations a second
    settled: bool = False

    def expect(self, speed: float) -> None:
        """So many tokens a second are to be expected; heard once forwards have run it changes nothing."""
        if not self.rates:
            self.most = max(1, int(LONGEST * speed))
            self.size = max(1, min(_SMALL, self.limit, self.most // 2))

    def ran(self, tokens: int, operations: float, seconds: float) -> bool:
        """A forward of `tokens` has run. Whether later ones are to have another size."""
        size, most = self.size, max(1, int(LONGEST * tokens / max(seconds, 1e-6)))
        full = 2 * tokens > size
        if full or seconds > LONGEST:  # a short one tells little of long ones
            changed = not self.most / 1.5 <= most <= self.most * 1.5
            self.most = most if changed else self.most
        else:
            changed = False
        if full and tokens <= size:
            self.rates.setdefault(size, []).append(operations / max(seconds, 1e-6))
        if size > self.most:
            self.size, self.settled = self.most, False
        elif full and self._slower():
            if len(self.rates[size]) >= _TRIED:
                self.size, self.settled = size // 2, True
        elif full and not self.settled and size < self.limit and 2 * size <= self.most:
            self.size = min(2 * size, self.limit)
        return changed or self.size != size

    def _slower(self) -> bool:
        rates, before = self.rates.get(self.size, ()), self.rates.get(self.size // 2)
        return before is not None and len(rates) > 0 and max(rates) < _SLOWER * max(before)


@dataclass(slots=True)
class TokenBudget:
    """Tokens a forward: halved when memory runs out, doubled after some that fit, but never beyond `limit`.

    A size that fails again as soon as it is tried once more has to wait twice as long before the next time. `pace` has
    forwards smaller than memory would allow, where they last long.
    """

    limit: int
    now: int = 0
    patience: int = _PATIENCE
    fitted: int = 0
    grown: bool = False  # the last change was to a larger one
    pace: Pace | None = None

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
