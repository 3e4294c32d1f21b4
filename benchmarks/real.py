"""rmbench beside one sequence at a time and the common loop on a real checkpoint and real text, in turning order.

    python benchmarks/real.py CHECKPOINT [--rounds 3] [--threads 2] [--only "single pair"] [--quick]

CHECKPOINT is the folder of a decoder with one label; RMBENCH_DATA names the folder of the data. Every round runs each
way once, from messages to rewards. `rmbench, first run` makes the start-up check and keeps its verdict in a new store,
`rmbench` has both from then on. Columns: x one at a time, x the common loop (eight of a kind, padded), from medians;
the longest forward; the largest difference from one at a time as a share of the largest reward.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from race.clock import Meter, Run, deviation, interleaved
from race.data import Workload
from race.real import workloads
from race.sides import Sides

from rmbench.forwards import fastpath
from rmbench.scoring import Asking, Session, Store
from rmbench.types import Question

ALONE, COMMON, FIRST, LATER = "one at a time", "common loop", "rmbench, first run", "rmbench"
HEAD = ("shape", "way", "s", "spread", "x one at a time", "x common loop", "longest forward, s", "deviation")


class Longest(Meter):
    """Also the longest of the forwards."""

    longest = 0.0

    def reset(self) -> None:
        super().reset()
        self.longest = 0.0

    def _after(self, *_: object) -> None:
        before = self.seconds
        super()._after()
        self.longest = max(self.longest, self.seconds - before)


def main() -> None:
    """Reads the command line, measures, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--only", default="", help="part of a shape's name")
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it works, not how fast")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    if "RMBENCH_DATA" not in os.environ:
        raise SystemExit("RMBENCH_DATA is not set; expected the folder of the data")
    sides = Sides(given.checkpoint, Longest())
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    for work in workloads(Path(os.environ["RMBENCH_DATA"]), sides.tokenizer, quick=given.quick):
        if given.only in work.name:
            with TemporaryDirectory() as folder:
                shape(sides, work, Path(folder), given.rounds)
    print(f"\n{given.threads} threads, torch {torch.__version__}; load average {os.getloadavg()[0]:.1f}")


def shape(sides: Sides, work: Workload, folder: Path, rounds: int) -> None:
    """Prints the rows of one shape."""
    lengths = [len(one.ids) for one in sides.model.encode(work.requests)]
    longest: dict[str, list[float]] = {}
    kept = folder / "kept.sqlite"
    stores = iter(folder / f"{i}.sqlite" for i in range(rounds))

    def timed(name: str, way: Callable[[], list[float]]) -> list[float]:
        scores = way()
        assert isinstance(sides.meter, Longest)
        longest.setdefault(name, []).append(sides.meter.longest)
        return scores

    ways: dict[str, Callable[[], list[float]]] = {
        ALONE: partial(sides.alone, work),
        COMMON: partial(sides.common, work),
        FIRST: lambda: scored(sides, work, next(stores)),
        LATER: lambda: scored(sides, work, kept),
    }
    few = Workload("", work.requests[:1], [0])
    sides.alone(few)
    scored(sides, few, kept)
    runs: dict[str, Run] = {name: partial(timed, name, way) for name, way in ways.items()}
    found, _ = interleaved(runs, sides.meter, rounds)
    title = f"{work.name}: {len(lengths)} x {sum(lengths) / len(lengths):,.0f} tokens"
    for name, one in found.items():
        cells = [
            f"{one.median:.2f}",
            f"{min(one.seconds):.2f}-{max(one.seconds):.2f}",
            f"{found[ALONE].median / one.median:.2f}",
            f"{found[COMMON].median / one.median:.2f}",
            f"{median(longest[name]):.2f}",
            f"{deviation(one.scores, found[ALONE].scores):.1e}",
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
