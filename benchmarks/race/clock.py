"""Timing side by side, counting operations, and the one table that everything is printed in."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rmbench.device import devices
from rmbench.forwards.plan import Bin
from rmbench.forwards.tail import last_parts
from rmbench.models.base import Encoded, TokenModel

Run = Callable[[], list[float]]

HEAD = (
    "workload",
    "way",
    "s",
    "spread",
    "tok/s",
    "x common",
    "x one",
    "of peak",
    "padding",
    "outside",
    "deviation",
    "note",
)


_now = time.perf_counter


def of_processor() -> None:
    """From here on seconds are those of this process's processors, for a machine that others work on."""
    global _now  # noqa: PLW0603
    _now = time.process_time


class Meter:
    """Seconds and tokens of the forwards of the modules it watches, the same way for every side."""

    def __init__(self) -> None:
        self.seconds, self.tokens, self._started = 0.0, 0, 0.0

    def watch(self, module: Any) -> None:
        module.register_forward_pre_hook(self._before, with_kwargs=True)
        module.register_forward_hook(self._after)

    def reset(self) -> None:
        self.seconds, self.tokens = 0.0, 0

    def _before(self, _: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.tokens += (args[0] if args else named["input_ids"]).numel()
        self._started = _now()

    def _after(self, *_: Any) -> None:
        self.seconds += _now() - self._started


@dataclass(slots=True)
class Timed:
    """What each round of one way took: seconds, the share of them outside of the backbone, page faults; what it ran."""

    seconds: list[float] = field(default_factory=list)
    outside: list[float] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)
    tokens: int = 0
    scores: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def interleaved(
    ways: Mapping[str, Run], meter: Meter, rounds: int, top: Callable[[], float] | None = None
) -> tuple[dict[str, Timed], float]:
    """Every way once a round, in turning order, and the machine's matmul peak in these rounds (operations a second).

    `top` measures that peak, in float32 on the CPU unless another is given.
    """
    found, best = {name: Timed() for name in ways}, 0.0
    for at in range(rounds):
        best = max(best, (top or peak)())
        for name in list(ways)[:: -1 if at % 2 else 1]:
            one = found[name]
            meter.reset()
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            started = _now()
            one.scores = ways[name]()
            one.seconds.append(_now() - started)
            one.faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
            one.outside.append(1 - meter.seconds / one.seconds[-1])
            one.tokens = meter.tokens
    return found, best


def peak(n: int = 2048, dtype: str = "float32", device: str = "cpu") -> float:
    """Operations a second of a product of two square matrices, the best of three."""
    import torch

    here = devices()["cuda:0" if device == "cuda" else device]
    a, b = torch.randn(2, n, n, device=here.place, dtype=getattr(torch, dtype)).unbind()
    seconds = []
    for _ in range(4):  # the first one warms up, or is slower than the best anyway
        here.synchronise()
        started = _now()
        a @ b
        here.synchronise()
        seconds.append(_now() - started)
    return 2 * n**3 / min(seconds)


class Operations:
    """Matrix product operations of a backbone: counted from its linear layers, not by the planner's own cost.

    Poolers are left out (they see one token), and so are DeBERTa's products of content with relative positions.
    """

    def __init__(self, backbone: Any, *, causal: bool) -> None:
        import torch

        self.causal, config = causal, backbone.config
        self.token = 2 * sum(
            module.weight.numel()
            for name, module in backbone.named_modules()
            if isinstance(module, torch.nn.Linear) and "pooler" not in name
        )
        self.tail = 2 * sum(
            module.weight.numel()
            for part in last_parts(backbone)
            for module in part.modules()
            if isinstance(module, torch.nn.Linear)
        )
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.pair = 4 * width * config.num_attention_heads
        window = getattr(config, "sliding_window", None)
        kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
        self.windows = [None if kind == "full_attention" or not window else int(window) for kind in kinds]

    def sequences(self, lengths: Sequence[int]) -> float:
        """Each sequence by itself, without padding."""
        pairs = sum(self._pairs(n, window) for n in lengths for window in self.windows)
        return float(sum(lengths) * self.token + pairs * self.pair)

    def planned(self, bins: Sequence[Bin], encoded: Sequence[Encoded]) -> float:
        """What is left of them by a plan: prefixes once, the last layer where something is read, no padding counted."""
        total = 0.0
        for one in bins:
            if one.way == "shared" and one.tree is not None:
                seen = one.tree.positions + 1
                pairs = sum(int(np.minimum(seen, window or len(seen)).sum()) for window in self.windows)
                total += len(one.tree.ids) * self.token + pairs * self.pair
            else:
                total += self.sequences([len(encoded[i].ids) for i in one.members])
            if one.tree is not None:
                read = {place for places in one.tree.reads for place in places.tolist()}
                total -= (len(one.tree.ids) - len(read)) * self.tail
        return total

    def _pairs(self, n: int, window: int | None) -> int:
        if self.causal:
            near = n if window is None else min(n, window)
            return near * (near + 1) // 2 + (n - near) * near
        return n * n if window is None else sum(min(n, i + window + 1) - max(0, i - window) for i in range(n))


def by_itself(work: Callable[[], object], rounds: int) -> Timed:
    """`work` by itself, `rounds` times."""
    found = Timed()
    for _ in range(rounds):
        started = _now()
        work()
        found.seconds.append(_now() - started)
    return found


def operations(model: TokenModel) -> Operations:
    return Operations(model.backbone, causal=model.layout == "causal")


def deviation(scores: Sequence[float], reference: Sequence[float]) -> float:
    """The largest difference as a share of the largest score; nan where any score is."""
    assert len(scores) == len(reference)
    apart = np.abs(np.subtract(scores, reference)).max()  # unlike Python's own, this maximum lets no nan pass
    return float(apart / max(1e-6, np.abs(reference).max()))


@dataclass(slots=True)
class Table:
    """Rows of HEAD's columns; the one table is printed when all is measured."""

    rows: list[list[str]] = field(default_factory=list)

    def add(
        self,
        workload: str,
        way: str,
        timed: Timed | None = None,
        *,
        useful: int | None = None,
        common: Timed | None = None,
        one: Timed | None = None,
        of_peak: float | None = None,
        padding: float | None = None,
        off: float | None = None,
        note: str = "",
    ) -> None:
        seconds = [] if timed is None else timed.seconds
        median = statistics.median(seconds) if seconds else float("nan")
        outside = statistics.median(timed.outside) if timed and timed.tokens else None
        self.rows.append(
            [
                workload,
                way,
                f"{median:.3g}" if seconds else "-",
                f"{min(seconds):.3g}-{max(seconds):.3g}" if seconds else "-",
                f"{useful / median:,.0f}" if seconds and useful else "-",
                f"{common.median / median:.2f}" if seconds and common else "-",
                f"{one.median / median:.2f}" if seconds and one else "-",
                "-" if of_peak is None else f"{of_peak:.0%}",
                "-" if padding is None else f"{padding:.1%}",
                "-" if outside is None else f"{outside:.1%}",
                "-" if off is None else f"{off:.1e}",
                note,
            ]
        )
        print(" ".join(self.rows[-1]), file=sys.stderr, flush=True)

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(HEAD, *self.rows, strict=True)]
        lines = [HEAD, ["-" * width for width in widths], *self.rows]
        return "\n".join(
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
            for line in lines
        )
