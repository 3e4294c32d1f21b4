"""lengths: how long a policy writes, on any prompts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rmbench.data.conversation import PREFILLED, PROMPT, attempt, check_asked, facets, read_asked
from rmbench.data.dataset import LeftOut
from rmbench.data.messages import read_tools
from rmbench.data.rows import Row
from rmbench.kinds.generation import Generation, Prompt


def read(rows: Iterable[Row]) -> Iterator[Prompt | LeftOut]:
    """One example a prompt, named by its content; an answer that ends a conversation is no part of it."""
    seen = set()
    for row in rows:
        prompt = attempt(row, _prompt)
        if not isinstance(prompt, Prompt):
            yield prompt
        elif (prompt.prompt, str(prompt.tools)) in seen:
            yield LeftOut("another row of the same prompt, which is asked once")
        else:
            seen.add((prompt.prompt, str(prompt.tools)))
            yield prompt


def _prompt(row: Row) -> Prompt:
    turns = read_asked(row)
    if row.number == 1:
        row.need((*PROMPT, "history"), "a row has its prompt in `prompt`, `instruction`, `question`, ...")
    check_asked(row, turns)
    if turns[-1].role == "assistant":
        row.note(PREFILLED)
    return Prompt("", turns, (), read_tools(row), facets=facets(row, ("subset", "category", "dataset")))


TASK = Generation(
    name="lengths",
    version=1,
    summary="How long a policy writes on your prompts, and how often it runs into its cap: --data lengths=FILE",
    card="lengths",
    read=read,
    cap=5000,
)
