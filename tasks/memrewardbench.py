"""MemRewardBench: trajectories of the memory that an agent keeps of a long context (Tang et al., arXiv 2601.11969)."""

from __future__ import annotations

from rmbench.data.hub import HubSet
from rmbench.data.pairs import PairRows, named_after
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison

CATEGORIES = ("Long-context_Reasoning", "Multi-turn_Dialogue_Understanding", "Long-form_Generation")
LENGTHS = ("8k", "16k", "32k", "64k", "128k")


def _facets(row: Row) -> dict[str, str]:
    length, category, setting = row.value["ctx_length"], named_after(row, CATEGORIES), row.name(("subtask",))
    if length not in LENGTHS:
        raise row.error(f"expected one of {', '.join(LENGTHS)}, got {shown(length)}", "ctx_length")
    facets = {"category": category, "subset": row.text("task"), "setting": setting, "length": str(length)}
    return {name: value for name, value in facets.items() if value}


ROWS = PairRows(
    needs=("question", "chosen", "rejected", "task", "ctx_length"),
    expected="a MemRewardBench row has `question`, `chosen`, `rejected`, `task`, `subtask` and `ctx_length`",
    sides=("chosen", "rejected"),
    prompt=lambda row: row.text("question"),
    facets=_facets,
)
TASK = Comparison(
    name="memrewardbench",
    version=1,
    summary="MemRewardBench: trajectories of a memory of long contexts, by length from 8k to 128k tokens",
    card="memrewardbench",
    read=ROWS.read,
    sources=tuple(
        HubSet("LCM-Lab/MemRewardBench", config=category, split="train", facets={"category": category})
        for category in CATEGORIES
    ),
    null_verdict="loss",
)
