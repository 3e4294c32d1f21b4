"""What a model is shown of a request: a form of messages or texts, in which marks may stand.

A mark is a place, never a text. To find it in what a template writes, the form is written twice: as it is, which is
what is read, and with a character that stands nowhere else in place of each mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rmbench.types import Json, Message

_FIRST = 0xF0000  # the first of 65,534 characters of a plane for private use, which texts hardly ever have


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a text whose last token before it is wanted. Several marks may have one name, such as `step`."""

    name: str


Text = str | Sequence[str | Mark]


@dataclass(frozen=True, slots=True)
class Turn:
    """A message whose text may have marks in it."""

    role: str
    text: Text


@dataclass(frozen=True, slots=True)
class Form:
    """Messages for the template, or one or two texts.

    `due`: the answer is still to come, so the template writes its generation prompt and nothing closes the text.
    `apart`: what lies between marks is tokenised piece by piece. `at_most` is how many tokens each such piece may have,
    or one limit a piece, None for any; a longer one loses its last. `answered` is how many of the last messages are
    the response. `own` are control tokens of the tokenizer that the family itself writes: they stand for no text.
    """

    messages: Sequence[Message | Turn] = ()
    texts: tuple[Text, ...] = ()
    tools: Sequence[Json] = ()
    due: bool = False
    apart: bool = False
    at_most: int | Sequence[int | None] | None = None
    answered: int = 0
    own: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for a form that can mean nothing."""
        if bool(self.messages) == bool(self.texts) or len(self.texts) > 2:
            raise ValueError("a form has messages, or one or two texts")
        if len(self.texts) == 2 and (self.due or self.apart):
            raise ValueError("a form of two texts can be neither due nor apart")

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The marks, in their order."""
        texts = [message.text for message in self.messages if isinstance(message, Turn)] or self.texts
        return tuple(part for text in texts if not isinstance(text, str) for part in text if isinstance(part, Mark))

    @property
    def is_whole(self) -> bool:
        """Whether nothing asks where in the text a token lies."""
        return not self.apart and self.at_most is None and not self.marks

    def limit(self, piece: int) -> int | None:
        """How many tokens a piece may have, counted from 0 over all texts."""
        if self.at_most is None or isinstance(self.at_most, int):
            return self.at_most
        return self.at_most[piece] if piece < len(self.at_most) else None


class MisplacedError(Exception):
    """A mark is not where it was put."""


def without_marks(form: Form) -> Form:
    """The form as it is read."""
    messages = [Turn(one.role, _unmarked(one.text)) if isinstance(one, Turn) else one for one in form.messages]
    return replace(form, messages=messages, texts=tuple(_unmarked(text) for text in form.texts))


def _unmarked(text: Text) -> str:
    return text if isinstance(text, str) else "".join(part for part in text if isinstance(part, str))


def marked(text: Text, signs: Iterator[str]) -> str:
    """The text with the next of `signs` in place of each mark."""
    if isinstance(text, str):
        return text
    return "".join(part if isinstance(part, str) else next(signs) for part in text)


def signs_for(marks: Sequence[Mark], text: str) -> list[str]:
    """A character for each mark that does not stand in `text`."""
    signs: list[str] = []
    code, taken = _FIRST, set(text)
    while len(signs) < len(marks):
        if chr(code) not in taken:
            signs.append(chr(code))
        code += 1
    return signs


def places(read: str, signed: str, signs: Sequence[str], marks: Sequence[Mark], writer: str) -> list[int]:
    """Where in `read` each mark stands, given the same text with a sign for each.

    White space beside a sign may be missing in `read`, since a template that trims a text does not trim a sign. Raises
    MisplacedError, in which `writer` is what wrote both, where anything else differs.
    """
    for sign, mark in zip(signs, marks, strict=True):
        if (count := signed.count(sign)) != 1:
            raise MisplacedError(f"{writer} {'drops' if not count else 'doubles'} the mark {mark.name!r}")
    at = [signed.index(sign) for sign in signs]
    for before, after, mark in zip(at, at[1:], marks[1:], strict=False):
        if after < before:
            raise MisplacedError(f"{writer} moves the mark {mark.name!r}")
    ends = [*at, len(signed)]
    pieces = [signed[start + (i > 0) : stop] for i, (start, stop) in enumerate(zip([0, *at], ends, strict=True))]
    if "".join(pieces) == read:
        return [place - i for i, place in enumerate(at)]
    last = len(pieces) - 1
    pattern = "()".join(_trimmable(piece, i > 0, i < last) for i, piece in enumerate(pieces))
    match = re.fullmatch(pattern, read)
    if match is None:
        names = ", ".join(sorted({repr(mark.name) for mark in marks}))
        raise MisplacedError(f"{writer} writes another text where the marks {names} stand")
    return [match.start(i + 1) for i in range(len(marks))]


def _trimmable(piece: str, left: bool, right: bool) -> str:
    """A pattern of the piece, whose white space at these sides may be missing."""
    start = len(piece) - len(piece.lstrip()) if left else 0
    stop = len(piece.rstrip()) if right else len(piece)
    stop = max(start, stop)
    before, core, after = piece[:start], piece[start:stop], piece[stop:]
    optional = ["".join(f"{re.escape(character)}?" for character in run) for run in (before, after)]
    return optional[0] + re.escape(core) + optional[1]
