"""rmbench beside one sequence at a time and the common loop on a real checkpoint and real text, in turning order.

    python benchmarks/real.py CHECKPOINT [--rounds 3] [--threads 2] [--clock wall] [--only "single pair"] [--quick]

CHECKPOINT is the folder of a decoder with one label; RMBENCH_DATA names the folder of the data. Every round runs each
way once, from messages to rewards. `rmbench, first run` makes the start-up check, `rmbench` has its verdict kept, as
from the second run on. Columns: seconds (median, and the least and most); how many times faster than one at a time and
than the common loop (eight of a kind, padded); the longest forward; the largest difference from one at a time as a
share of the largest reward. On a machine that others work on, `--clock processor --threads 1` measures own work alone.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from race.clock import deviation
from race.data import Workload
from race.real import workloads
from race.sides import Sides

from rmbench.forwards import fastpath
from rmbench.scoring import Asking, Session, Store
from rmbench.types import Question

ALONE, COMMON, FIRST, LATER = "one at a time", "common loop", "rmbench, first run", "rmbench"
HEAD = ("shape", "way", "s", "spread", "x one at a time", "x common loop", "longest forward, s", "deviation")


class Clock:
    """Seconds of the wall or of this process's processors, and those of the longest forward since `start`."""

    def __init__(self, kind: str) -> None:
        self.now = {"wall": time.perf_counter, "processor": time.process_time}[kind]
        self.started = self.forward = self.longest = 0.0

    def watch(self, module: Any) -> None:
        module.register_forward_pre_hook(self._before)
        module.register_forward_hook(self._after)

    def start(self) -> None:
        self.started, self.longest = self.now(), 0.0

    def _before(self, *_: Any) -> None:
        self.forward = self.now()

    def _after(self, *_: Any) -> None:
        self.longest = max(self.longest, self.now() - self.forward)


@dataclass
class Timed:
    """What each round of one way took, and what it gave."""

    seconds: list[float] = field(default_factory=list)
    longest: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


def main() -> None:
    """Reads the command line, measures, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall")
    parser.add_argument("--only", default="", help="part of a shape's name")
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it works, not how fast")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    if "RMBENCH_DATA" not in os.environ:
        raise SystemExit("RMBENCH_DATA is not set; expected the folder of the data")
    sides, clock = Sides(given.checkpoint), Clock(given.clock)
    for module in (sides.model.backbone, sides.whole.base_model):
        clock.watch(module)
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    for work in workloads(Path(os.environ["RMBENCH_DATA"]), sides.tokenizer, quick=given.quick):
        if given.only in work.name:
            with TemporaryDirectory() as folder:
                shape(sides, work, Path(folder), given.rounds, clock)
    load = os.getloadavg()[0]
    print(f"\n{given.clock} time, {given.threads} threads, torch {torch.__version__}; load average {load:.1f}")


def shape(sides: Sides, work: Workload, folder: Path, rounds: int, clock: Clock) -> None:
    """Prints the rows of one shape."""
    lengths = [len(one.ids) for one in sides.model.encode(work.requests)]
    kept = folder / "kept.sqlite"
    stores = iter(folder / f"{i}.sqlite" for i in range(rounds))
    ways: dict[str, Callable[[], list[float]]] = {
        ALONE: partial(sides.alone, work),
        COMMON: partial(sides.common, work),
        FIRST: lambda: scored(sides, work, next(stores)),
        LATER: lambda: scored(sides, work, kept),
    }
    few = Workload("", work.requests[:1], [0])
    sides.alone(few)
    sides.common(few)
    scored(sides, work, kept)  # whose verdict is kept from here on
    timed = {name: Timed() for name in ways}
    for turn in range(rounds):
        for name in list(ways)[:: -1 if turn % 2 else 1]:
            clock.start()
            timed[name].scores = ways[name]()
            timed[name].seconds.append(clock.now() - clock.started)
            timed[name].longest.append(clock.longest)
    title = f"{work.name}: {len(lengths)} x {sum(lengths) / len(lengths):,.0f} tokens"
    alone, common = (median(timed[name].seconds) for name in (ALONE, COMMON))
    for name, one in timed.items():
        seconds = median(one.seconds)
        cells = [
            f"{seconds:.2f}",
            f"{min(one.seconds):.2f}-{max(one.seconds):.2f}",
            f"{alone / seconds:.2f}",
            f"{common / seconds:.2f}",
            f"{median(one.longest):.2f}",
            f"{deviation(one.scores, timed[ALONE].scores):.1e}",
        ]
        print(f"| {title} | {name} | {' | '.join(cells)} |", flush=True)


def scored(sides: Sides, work: Workload, store: Path) -> list[float]:
    """What a process does with a loaded model that it has not run yet: check, plan, forwards, store; answers anew."""
    fastpath._routes.clear()
    with Store(store) as answers:
        session = Session(sides.model, Asking(answers, fresh=True))
        return [reward.value for reward in session.ask([Question(one) for one in work.requests]).rewards]


if __name__ == "__main__":
    main()
