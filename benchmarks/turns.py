"""Two commits against each other: each way of scoring that is rmbench's own, in turning order, in one run.

    python benchmarks/turns.py OTHER [--turns 9] [--only packed] [--quick]

OTHER is a checkout of the other commit with an environment of its own in OTHER/.venv. A process of either commit loads
the same checkpoints and waits; each turn has one of them score a workload in one way while the other sleeps, and the
order changes with the turn, so that a slow minute of the machine meets both. Printed is the median of this commit's
seconds over the other's, turn by turn, with the interval of that median (binomial, at least 95 %).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from math import comb
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve().parent
WAYS = ("public", "padded", "packed", "one forward each")
ARCHITECTURES = ("llama", "bert")


def main() -> None:
    """Reads the command line, runs the turns, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="a checkout of the other commit")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--only", default="", help="part of a `workload, way` to be measured alone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it works, not how fast")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        size = ["--quick"] if given.quick else []
        arguments = [folder, str(given.threads), *size]
        # The checkpoints are made by one of them, so that both load the same bytes
        sides = [_start(HERE.parent, arguments), _start(given.other.resolve(), arguments)]
        tasks = [task for task in _asked(sides[0], "tasks") if given.only in ", ".join(task)]
        for side in sides:
            for task in tasks:
                _asked(side, task)  # warm
        print("| workload | way | this, s | other, s | median ratio | interval |\n|---|---|---|---|---|---|")
        for task in tasks:
            pairs = []
            for turn in range(given.turns):
                seconds: dict[int, float] = {}
                for at in (0, 1) if turn % 2 else (1, 0):
                    seconds[at] = _asked(sides[at], task)
                pairs.append((seconds[0], seconds[1]))
            ratios = sorted(mine / theirs for mine, theirs in pairs)
            low, high = _interval(ratios)
            mine, theirs = (median(pair[side] for pair in pairs) for side in (0, 1))
            row = [*task, f"{mine:.3f}", f"{theirs:.3f}", f"{median(ratios):.3f}", f"[{low:.3f}, {high:.3f}]"]
            print(f"| {' | '.join(row)} |", flush=True)
        for side in sides:
            _say(side, None)
            side.wait()


def _interval(ratios: list[float]) -> tuple[float, float]:
    """The narrowest pair of order statistics that holds the median with 95 % or more, whatever the distribution."""
    n = len(ratios)
    for skip in range(n // 2, -1, -1):
        held = 1 - 2 * sum(comb(n, i) for i in range(skip)) / 2**n
        if held >= 0.95:
            return ratios[max(skip - 1, 0)], ratios[n - max(skip, 1)]
    return ratios[0], ratios[-1]


def _start(checkout: Path, arguments: list[str]) -> subprocess.Popen[str]:
    """A process of one checkout's environment, with its own benchmarks on its path, that runs `_serve` of this file."""
    own = f"sys.path.insert(0, {str(checkout / 'benchmarks')!r})"
    code = f"import runpy, sys; {own}; runpy.run_path({__file__!r}, run_name='__main__')"
    command = [str(checkout / ".venv" / "bin" / "python"), "-c", code, "serve", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=checkout)


def _say(side: subprocess.Popen[str], what: Any) -> None:
    assert side.stdin is not None
    side.stdin.write(json.dumps(what) + "\n")
    side.stdin.flush()


def _asked(side: subprocess.Popen[str], what: Any) -> Any:
    assert side.stdout is not None
    _say(side, what)
    line = side.stdout.readline()
    if not line:
        raise SystemExit("a side ended before it answered")
    return json.loads(line)


def _serve(folder: str, threads: str, *size: str) -> None:
    """Answers `tasks` and each [workload, way] with the seconds it took, until it hears null."""
    import torch
    from race import data
    from race.sides import Sides

    out, sys.stdout = sys.stdout, sys.stderr
    torch.set_num_threads(int(threads))
    quick = bool(size)
    sides: dict[str, Any] = {}
    for architecture in ARCHITECTURES:
        place = Path(folder) / architecture
        sides[architecture] = Sides(place if place.exists() else data.checkpoint(place, architecture, quick=quick))
    works = {
        "llama": [
            data.rewardmath_like(1, 3 if quick else 10, shrink=8 if quick else 1),
            data.fixed(*((60, 20, 4) if quick else (1000, 200, 10))),
            data.step_prefixes(*((1, 4, 20, 10) if quick else (1, 10, 200, 60))),
        ],
        "bert": [data.rewardmath_like(1, 3 if quick else 10, shrink=8 if quick else 1)],
    }
    by_name = {f"{kind}, {work.name}": (sides[kind], work) for kind, some in works.items() for work in some}
    for line in sys.stdin:
        what = json.loads(line)
        if what is None:
            return
        answer: Any
        if what == "tasks":
            answer = [
                [name, way]
                for name, (side, work) in by_name.items()
                for way in WAYS
                if way in ("public", "one forward each") or side.takes(way, work)
            ]
        else:
            side, work = by_name[what[0]]
            started = time.perf_counter()
            if what[1] == "public":
                side.public(work)
            elif what[1] == "one forward each":
                side.alone(work)
            else:
                side.forced(work, what[1])
            answer = time.perf_counter() - started
        out.write(json.dumps(answer) + "\n")
        out.flush()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        _serve(*sys.argv[2:])
    else:
        main()
