"""Wall, memory and where the time goes of `rmbench run` on a million candidates, and of a re-run from the store.

The data are seeded: prompts of 20 to 60 words with ten responses of 30 to 120, as JSON Lines or Parquet. The floor for
1,000,000 candidates (0.5 GB of text) on one core: 3 s to parse the JSON, 2 s to hash file and keys, 3 s for SQLite to
take a million rows in the order of their keys, and 1 to 2 us for each of some forty objects that a candidate
goes through, 40 to 80 s. The texts are held once, 0.7 GB as Python strings; requests, rewards and outcomes are another
0.9. The bounds are 360 s and 4 GiB for the run, and 15 s for a re-run of 100,000 rewards; more memory exits with 1.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESPONSES = 10
BOUND_SECONDS, BOUND_RERUN_SECONDS, BOUND_GIB = 360.0, 15.0, 4.0
RERUN = 100_000
CALLABLE = "def reward(prompt, response):\n    return float(len(response))\n"
# Functions of the flow whose time is told; each includes what it calls, and none calls another one of them
PARTS = {
    "read the data": "rmbench.runs.loading:read_tasks",
    "ask and score": "rmbench.scoring.session:Session.ask",
    "outcomes, records": "rmbench.results.judged:Judged.add",
    "calibration": "rmbench.results.figures:calibrate",
    "metrics": "rmbench.results.figures:_metrics",
    "write the result": "rmbench.results.files:write",
    "report page": "rmbench.report.page:write",
}
RUN = """
import importlib, json, resource, sys, time

parts, seconds = json.loads(sys.argv.pop(1)), {}


def timed(name, function):
    def call(*args, **kwargs):
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started
    return call


for name, where in parts.items():
    module, _, path = where.partition(":")
    holder = importlib.import_module(module)
    *outer, last = path.split(".")
    for part in outer:
        holder = getattr(holder, part)
    setattr(holder, last, timed(name, getattr(holder, last)))
sys.argv[0] = "rmbench"
from rmbench.__main__ import run
try:
    run()
finally:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    print(json.dumps({"mib": peak, **seconds}), file=sys.stderr)
"""


def main() -> int:
    """Prints the table; 1 where the memory is over its bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--format", choices=("jsonl", "parquet"), default="jsonl")
    parser.add_argument("--model", choices=("length", "python"), default="length")
    given = parser.parse_args()
    model = "length" if given.model == "length" else "python:lengths:reward"
    with tempfile.TemporaryDirectory(prefix="large-") as name:
        folder = Path(name)
        (folder / "lengths.py").write_text(CALLABLE)
        data = write(folder / f"data.{given.format}", given.candidates // RESPONSES)
        print(f"{given.candidates:,} candidates, {data.stat().st_size / 2**20:,.0f} MiB of {given.format}, {model}")
        peak = report("run", run(folder, model, data, "first"), BOUND_SECONDS * given.candidates / 1_000_000)
        if model == "length":
            some = write(
                folder / f"some.{given.format}", min(RERUN, given.candidates) // RESPONSES
            )  # its first prompts
            report(f"{RERUN:,} rewards from the store", run(folder, model, some, "again"), BOUND_RERUN_SECONDS)
    print(f"memory: {peak / BOUND_GIB:.2f} x the bound of {BOUND_GIB:g} GiB")
    return int(peak > BOUND_GIB)


def write(path: Path, prompts: int) -> Path:
    """Writes the data, a hundred prompts at a time, and returns where."""
    if path.suffix == ".jsonl":
        with path.open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows(prompts))
        return path
    import pyarrow as pa
    import pyarrow.parquet as pq

    some: list[dict[str, Any]] = []
    writer = None
    for number, row in enumerate(rows(prompts), 1):
        some.append(row)
        if len(some) == 10_000 or number == prompts:
            table = pa.Table.from_pylist(some)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
            some = []
    assert writer is not None
    writer.close()
    return path


def rows(prompts: int) -> Iterator[dict[str, Any]]:
    """One right response among ten, at a random place."""
    drawn = random.Random(0)
    words = ["".join(drawn.choices("abcdefghijklmnopqrstuvwxyz", k=drawn.randint(2, 9))) for _ in range(4000)]
    pool = drawn.choices(words, k=1 << 17)

    def text(least: int, most: int) -> str:
        count = drawn.randint(least, most)
        start = drawn.randrange(len(pool) - count)
        return " ".join(pool[start : start + count])

    for number in range(prompts):
        right = drawn.randrange(RESPONSES)
        yield {
            "id": f"e{number}",
            "prompt": f"{number} {text(20, 60)}",
            "candidates": [text(30, 120) for _ in range(RESPONSES)],
            "labels": [at == right for at in range(RESPONSES)],
        }


def run(folder: Path, model: str, data: Path, out: str) -> dict[str, float]:
    """Seconds of the whole command and of its parts, and its peak memory in MiB."""
    command = [sys.executable, "-c", RUN, json.dumps(PARTS), "run", "-m", model, "-t", "best_of_n",
               "--data", f"best_of_n={data}", "--out", str(folder / out)]  # fmt: skip
    environment = os.environ | {"RMBENCH_CACHE": str(folder / "cache")}
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"exit code {done.returncode}\n{done.stderr}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": seconds, "processor": used, **json.loads(done.stderr.splitlines()[-1])}


def report(what: str, found: dict[str, float], bound: float) -> float:
    """Prints one run and returns its peak memory in GiB."""
    wall, used, mib = found.pop("wall"), found.pop("processor"), found.pop("mib")
    print(f"\n{what}: {wall:.1f} s of wall, {wall / bound:.2f} x the bound of {bound:.0f} s")
    print(f"{used:.1f} s of processor, peak {mib:,.0f} MiB")
    for name, seconds in {**found, "the rest": wall - sum(found.values())}.items():
        print(f"{name:>18}  {seconds:7.1f} s")
    return mib / 1024


if __name__ == "__main__":
    sys.exit(main())
