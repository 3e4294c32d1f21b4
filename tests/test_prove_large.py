"""Memory of a large run grows with its texts, held once, and with what is kept of a candidate, not with copies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from large import rows

pytestmark = pytest.mark.prove

PROMPTS = 10_000
BYTES_A_CANDIDATE = 2_000  # beside its text; a million with texts of 500 bytes then take 2.8 GiB
RUN = """
import resource, sys
from rmbench.cli import main

code = main(sys.argv[1:])
print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def peak(folder: Path, prompts: int) -> int:
    """Bytes of memory at the peak of a run."""
    text = "".join(json.dumps(row) + "\n" for row in rows(prompts))
    (folder / f"{prompts}.jsonl").write_text(text)
    command = [sys.executable, "-c", RUN, "run", "-m", "length", "-t", "best_of_n",
               "--data", f"best_of_n={prompts}.jsonl", "--out", f"out-{prompts}"]  # fmt: skip
    environment = os.environ | {"RMBENCH_CACHE": str(folder / f"cache-{prompts}")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    code, found = done.stdout.split()[-2:]
    assert code == "0"
    return int(found)


def test_memory_a_candidate(tmp_path: Path) -> None:
    small, large = peak(tmp_path, PROMPTS // 10), peak(tmp_path, PROMPTS)
    text = (tmp_path / f"{PROMPTS}.jsonl").stat().st_size * 0.9
    each = (large - small - text) / (PROMPTS * 9)
    print(f"\n{small / 2**20:,.0f} MiB for {PROMPTS:,} candidates, {large / 2**20:,.0f} for {10 * PROMPTS:,}; "
          f"{each:,.0f} bytes a candidate beside its text")  # fmt: skip
    assert each < BYTES_A_CANDIDATE
