"""lengths: how long a policy writes, on any prompts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rmbench.data.conversation import facets, read_prompt
from rmbench.data.dataset import LeftOut
from rmbench.data.files import Row
from rmbench.kinds.generation import Generation, Prompt


def read(rows: Iterable[Row]) -> Iterator[Prompt | LeftOut]:
    """One example a prompt, named by its content; an answer that stands behind a prompt is no part of it."""
    seen = set()
    for row in rows:
        turns = read_prompt(row)
        if not turns:
            row.need(("prompt",), "a row has its prompt in `prompt`, `instruction`, `question`, `messages`, ...")
        prompt = turns[:-1] if turns and turns[-1].role == "assistant" else turns
        if not prompt:
            yield LeftOut("no prompt")
        elif prompt in seen:
            yield LeftOut("another row of the same prompt, which is asked once")
        else:
            seen.add(prompt)
            yield Prompt("", prompt, (), facets=facets(row, ("subset", "category", "dataset")))


TASK = Generation(
    name="lengths",
    version=1,
    summary="How long a policy writes on your prompts, and how often it runs into its cap: --data lengths=FILE",
    card="lengths",
    read=read,
    cap=5000,
)
