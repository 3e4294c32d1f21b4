"""overflow: ordinary prompts in nine ways that make policies write without end, each beside a short question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from rmbench.data.conversation import read_prompt
from rmbench.data.files import Row, shown
from rmbench.kinds.generation import Generation, Prompt
from rmbench.types import Message

STRATEGIES = (
    "forced_length",
    "large_enumeration",
    "change_of_form",
    "infinite_generation",
    "tokenizer_stress",
    "cross_product",
    "step_by_step",
    "recursive_elaboration",
    "all_variants",
)
CONDITIONS = ("overflow", "control")
REMINDER = "Please be concise: say what matters in as few words as you can, and stop there."

_EXPECTED = "an overflow row has `id`, `strategy`, `subject`, `condition` and `prompt`"


def read(rows: Iterable[Row]) -> Iterator[Prompt]:
    """Two examples a row: its prompt as it is, and with the reminder after it. Rows of one subject are one cluster."""
    for row in rows:
        for field in ("id", "strategy", "subject", "condition", "prompt"):
            row.need((field,), _EXPECTED)
        strategy, condition = row.text("strategy"), row.text("condition")
        for field, value, known in (("strategy", strategy, STRATEGIES), ("condition", condition, CONDITIONS)):
            if value not in known:
                raise row.error(f"expected one of {', '.join(known)}, got {shown(value)}", field)
        prompt = read_prompt(row)
        if not prompt or prompt[-1].role != "user":
            raise row.error("the last turn has to be the user's", "prompt")
        for reminded in (False, True):
            yield Prompt(
                row.text("id") + ("-reminded" if reminded else ""),
                _reminded(prompt) if reminded else prompt,
                (),
                facets={"subset": strategy},
                cluster=row.text("subject"),
                condition=condition + (" reminded" if reminded else ""),
                tags={"strategy": strategy, "condition": condition, "reminder": reminded},
            )


def _reminded(prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    return (*prompt[:-1], Message("user", f"{prompt[-1].text}\n\n{REMINDER}"))


TASK = Generation(
    name="overflow",
    version=1,
    summary="225 prompts that invite endless answers, in nine ways, with controls and a reminder to be brief. Bundled",
    card="overflow",
    read=read,
    bundled=Path(__file__).parent / "rows.jsonl",
    cap=5000,
    contrasts=(
        ("reminder", "overflow reminded", "overflow"),
        ("reminder", "control reminded", "control"),
        ("provocation", "overflow", "control"),
    ),
)
