"""What a process reward model is shown of a solution: its steps, and the tag at which each of them is read.

A shape is made of two patterns: `prompt`, with the field `{question}`, and `step`, with `{step}`, `{number}` and
`{tag}`, once for each step. Fields are put in as they are, and what they hold is no pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rmbench.checkpoints.forms import Form, Mark, Turn
from rmbench.checkpoints.template import plain
from rmbench.types import Message, Request, Response, turn_text

STEP, BEFORE, SEAM = Mark("step"), Mark("before"), Mark("seam")  # behind each tag, before it, and where pieces part
TAG_IN_TEXT = "the step tag stands in the text"
FIELDS: Mapping[str, frozenset[str]] = {
    "prompt": frozenset({"question", "tag"}),
    "step": frozenset({"step", "number", "tag"}),
}

_FIELD = re.compile(r"(\{\w+\})")
Place = Literal["tag", "first", "before"]
_Part = str | Mark


@dataclass(frozen=True, slots=True)
class Shape:
    """How a solution is written.

    `form`: one text; the template's turns with the steps as the answer; or a turn of the user for each step, in which
    `answer` is the model's. `read` is where: at the last token of the tag, at its first, or at the token before it, of
    `turns` before the answer. `apart`: question, steps and tags are tokenised each by itself, and a tag within a step
    as well if `lines`. `label` is put before a step that does not begin with one itself; `strip`: without the white
    space around it.
    """

    form: Literal["text", "chat", "turns"]
    prompt: str
    step: str
    tag: str = ""
    answer: str = ""
    read: Place = "tag"
    apart: bool = False
    lines: bool = False
    label: str = ""
    strip: bool = False

    def shown(self, request: Request) -> Form:
        """The form of a request whose response has steps."""
        steps = [step.strip() if self.strip else step for step in steps_of(request.responses[0]) or ()]
        if self.form == "turns":
            return Form(tuple(self._turns(request.prompt, steps)), own=(self.tag,) if self.tag else ())
        parts = [part for number, step in enumerate(steps, 1) for part in self._step(step, number)]
        if self.form == "chat":
            turns: list[Message | Turn] = [*request.prompt, Turn("assistant", parts)]
            return Form(turns, tools=request.tools, apart=self.apart, answered=1, own=(self.tag,))
        opening = _filled(self.prompt, {"question": (question_of(request.prompt),), "tag": (self.tag,)})
        return Form(texts=((*opening, *parts),), apart=self.apart, own=(self.tag,))

    def noted(self, request: Request) -> tuple[str, ...]:
        """A tag in what somebody wrote is read like any other text, and at no mark."""
        texts = [*(message.text for message in request.prompt), *(steps_of(request.responses[0]) or ())]
        is_text = bool(self.tag.strip())
        return (TAG_IN_TEXT,) if is_text and any(self.tag.strip() in text for text in texts) else ()

    def _step(self, step: str, number: int) -> Iterator[_Part]:
        word = self.label.partition("{")[0].strip()
        label = "" if step.strip().startswith((word, word.lower())) else self.label.replace("{number}", str(number))
        seam = (SEAM,) if self.apart else ()
        *inner, last = (f"{label}{step}").split(self.tag) if self.lines else (f"{label}{step}",)
        words = [part for line in inner for part in (*seam, line, *seam, self.tag)]
        fields = {
            "step": (*words, *seam, last),
            "number": (str(number),),
            "tag": (BEFORE, self.tag, STEP),
        }
        yield from _filled(self.step, fields)

    def _turns(self, prompt: Sequence[Message], steps: Sequence[str]) -> Iterator[Message | Turn]:
        asked = bool(prompt) and prompt[-1].role == "user"
        yield from prompt[:-1] if asked else prompt
        opening = "".join(map(str, _filled(self.prompt, {"question": (prompt[-1].text,)}))) if asked else ""
        if not steps:
            yield Message("user", opening)
        for number, step in enumerate(steps, 1):
            words = "".join(map(str, _filled(self.step, {"step": (step,), "number": (str(number),)})))
            yield Message("user", f"{opening if number == 1 else ''}{words}")
            yield Turn("assistant", (BEFORE, self.answer))

    @property
    def mark(self) -> str:
        """The name of the mark that each step has for sure."""
        return BEFORE.name if self.form == "turns" or self.read == "before" else STEP.name


def steps_of(response: Response) -> tuple[str, ...] | None:
    """The steps of a response as texts; None where it was not taken apart."""
    if response.steps == "turns":
        return tuple(turn_text(turn) for turn in response.turns)
    return response.steps


def question_of(prompt: Sequence[Message]) -> str:
    """A prompt in a text: the content of a single user turn, several turns as plain text."""
    return prompt[0].text if len(prompt) == 1 and prompt[0].role == "user" else plain(prompt)


def unknown_field(name: str, pattern: str) -> str | None:
    """A field of a pattern that this one, `prompt` or `step`, does not have."""
    return next((one for one in _FIELD.findall(pattern) if one[1:-1] not in FIELDS[name]), None)


def _filled(pattern: str, fields: Mapping[str, Sequence[_Part]]) -> Iterator[_Part]:
    for piece in _FIELD.split(pattern):
        if piece[1:-1] in fields and _FIELD.fullmatch(piece):
            yield from fields[piece[1:-1]]
        elif piece:
            yield piece
