"""Members of a Derived are in memory one at a time: its peak is that of one of them, not of all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import make

pytestmark = pytest.mark.prove

RUN = """
import json, resource, sys
from collections.abc import Sequence
from rmbench import evaluate
from rmbench.models.base import Subject
from rmbench.types import Reward

class Mean:
    answers, fingerprint, subject = frozenset({"reward"}), "mean:1", Subject("tests/mean", "derived")

    def __init__(self, members):
        self.members = members

    def needs(self, questions):
        return [questions for _ in self.members]

    def fit(self, questions, answers):
        return None

    def combine(self, questions, answers, fitted):
        return [Reward((sum(one.value for one in some) / len(some),)) for some in zip(*answers)]

(result,) = evaluate(Mean(tuple(sys.argv[1:])), ["best_of_n"], limit=4)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([result.metric("accuracy").n, peak]))
"""


def test_two_members_take_the_memory_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 4}
    members = [str(make(tmp_path / f"m{seed}", "llama", seed=seed, **sizes)) for seed in range(2)]
    weights = sum(path.stat().st_size for path in Path(members[0]).glob("*.safetensors"))

    def peak(*given: str) -> int:
        # A cache each, so that nothing is known from the run before
        monkeypatch.setenv("RMBENCH_CACHE", str(tmp_path / f"cache-{len(given)}"))
        done = subprocess.run([sys.executable, "-c", RUN, *given], capture_output=True, text=True, check=True)
        count, found = json.loads(done.stdout.splitlines()[-1])
        assert count == 4
        return int(found)

    one, both = peak(members[0]), peak(*members)
    print(f"weights {weights / 2**20:.0f} MiB; peak with one {one / 2**20:.0f} MiB, with two {both / 2**20:.0f} MiB")
    assert both < one + weights / 4
