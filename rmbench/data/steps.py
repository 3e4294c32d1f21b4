"""The steps of a response that comes without any."""

from __future__ import annotations

import re

from rmbench.types import Response

_BLANK_LINE = re.compile(r"\n\s*\n")


def split_steps(text: str) -> tuple[str, ...]:
    """The steps of `text`: its paragraphs where blank lines separate several, else its lines that are not blank.

    Steps have no white space around them, and nothing but white space is lost. White space alone is one empty step;
    only the empty text has none.
    """
    stripped = text.strip()
    if not stripped:
        return ("",) if text else ()
    parts = _BLANK_LINE.split(stripped)
    if len(parts) == 1:
        parts = stripped.split("\n")
    return tuple(part.strip() for part in parts)


def in_steps(response: Response) -> Response:
    """A response in the steps that the data give it, else in those of its text, or one a turn of a trajectory."""
    if response.steps is not None or response.messages is None:
        return response
    steps = split_steps(response.text or "") if len(response.messages) == 1 else "turns"
    return Response(response.messages, steps, response.tokens, response.finish, response.cap, response.top)
