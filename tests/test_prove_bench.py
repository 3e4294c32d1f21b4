"""`benchmarks/speed.py --quick` measures every way and they agree; how fast they are is no test's business."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.prove

ROOT = Path(__file__).parents[1]
WAYS = [
    "common loop",
    "CrossEncoder.predict",
    "one at a time",
    "rmbench padded",
    "rmbench packed",
    "rmbench default",
    "rmbench default, forwards only",
]
STEPS = ["a forward a step", "a sequence a step, shared", "one forward a solution"]
THREADS = ["1 thread, memory not held", "2 threads, memory not held", "1 thread, memory held", "2 threads, memory held"]
COLD = ["rmbench run, 20 rows, tiny model", "import torch and transformers"]


def run(*arguments: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / "speed.py"), "--quick", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=900).stdout


def rows_of(out: str) -> list[dict[str, str]]:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("|")]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_every_way_is_measured_and_agrees_with_one_at_a_time() -> None:
    rows = rows_of(run())
    found: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault(", ".join(row["workload"].split(", ")[:2]), []).append(row)
    ways = {workload: [row["way"] for row in some] for workload, some in found.items()}
    assert list(ways) == [
        "llama, RewardMATH-like",
        "llama, 60/20/4",
        "llama, step prefixes",
        "llama, process model",
        "llama, sweep 30/10 x 4",
        "llama, sweep 10/30 x 2",
        "llama, threads",
        "overhead",
        "cold start",
        "bert, RewardMATH-like",
        "modernbert, RewardMATH-like",
        "deberta-v2, RewardMATH-like",
    ]
    for workload, some in ways.items():
        if workload.endswith(("like", "60/20/4", "prefixes")):
            assert some == [*WAYS, "matmul peak"], workload
        elif "sweep" in workload:
            assert some == ["packed", "shared"]
    assert ways["llama, process model"] == STEPS
    assert ways["llama, threads"] == THREADS
    assert ways["cold start"] == COLD
    assert len(ways["overhead"]) == 5

    # what was not measured says why, and is nothing else than a peer that is not there or what rmbench refuses
    unmeasured = {(row["workload"].split(",")[0], row["way"]) for row in rows if row["s"] == "-"}
    expected = {(shape, "matmul peak") for shape in ("llama", "bert", "modernbert", "deberta-v2")}
    expected.add(("deberta-v2", "rmbench packed"))
    if importlib.util.find_spec("sentence_transformers") is None:
        expected |= {(shape, "CrossEncoder.predict") for shape, _ in expected}
    assert unmeasured == expected
    assert all(row["note"] for row in rows if row["s"] == "-")

    deviations = [float(row["deviation"]) for row in rows if row["deviation"] != "-"]
    assert len(deviations) > 40
    assert all(one <= 1e-5 for one in deviations)  # none of them a nan


def test_without_cuda_the_cuda_part_says_so() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    (row,) = rows_of(run("--cuda"))
    assert row["note"] == "no CUDA device here: nothing was measured"
