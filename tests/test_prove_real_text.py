"""Real text end to end: a locally made checkpoint on RMB's BoN groups, GSM8K's solutions and hh-rlhf, as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoints import make

import rmbench
from rmbench.results.schema import TaskResult

pytestmark = pytest.mark.prove

EXPECTED = {
    # examples, candidates, rows left out, what is noted, what no winner metric counts
    "rmb/BoN_set": ("best_of_n", 1559, 5153, {}, {}),
    "gsm8k_solutions/example_model_solutions.jsonl": (
        "best_of_n",
        1319,
        5276,
        {},
        {"no correct candidate": 432, "no wrong candidate": 156},
    ),
    "hh_rlhf/test.jsonl.gz": ("preference", 2307, 4614, {"prompts differ": 5}, {}),
}


@pytest.mark.parametrize("source", EXPECTED)
def test_real_text_end_to_end(source: str, tmp_path: Path, rmbench_data: Path) -> None:
    task, examples, candidates, excluded, left_out = EXPECTED[source]
    checkpoint = make(tmp_path / "tiny-llama", "llama", max_position_embeddings=32768)
    (result,) = rmbench.evaluate(
        str(checkpoint), [task], data={task: rmbench_data / source}, max_length=512, device="cpu", out=tmp_path / "out"
    )
    print(f"\n{source}: {describe(result)}")
    assert (result.dataset.examples, result.dataset.candidates) == (examples, candidates)
    assert result.dataset.excluded == excluded
    assert result.left_out.get("default", {}) == left_out
    assert result.statuses == {"ok": candidates}
    assert result.metric("accuracy").n == examples - sum(left_out.values())
    assert result.records.num_rows == candidates


def describe(result: TaskResult) -> str:
    accuracy, timing = result.metric("accuracy"), result.timing
    return (
        f"{result.dataset.examples:,} examples, {result.dataset.candidates:,} candidates; left out "
        f"{result.dataset.excluded}, not in winner metrics {result.left_out.get('default', {})}, noted "
        f"{result.dataset.noted}; {result.truncated} cut; accuracy {accuracy.value:.3f} "
        f"[{accuracy.ci_low:.3f}, {accuracy.ci_high:.3f}] over {accuracy.n:,} in {accuracy.clusters:,} clusters; "
        f"{timing.scored:,} of {timing.requests:,} scored in {timing.scoring_seconds:.0f} s"
    )
