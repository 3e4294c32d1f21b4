"""The steps of a response that comes without any."""

from __future__ import annotations

import re

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
