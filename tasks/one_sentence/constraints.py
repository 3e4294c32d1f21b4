"""Which of the stated constraints a text meets: code decides, and no judgement is in it.

A word is a run of letters and digits, with apostrophes and hyphens within it. A given word has to be one of the text's
words as it stands, whatever its case: neither `lanterns` nor `lantern's` is `lantern`. A sentence ends with `.`, `!`,
`?` or the one-character ellipsis, with quotes and brackets behind it, where white space follows and no small letter
after that, or nothing at all; so `e.g. this` goes on and `Dr. Brown` does not. One sentence is a text without a line
break that ends where its only sentence ends. Nothing written meets nothing, not even a limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_CLOSING = "\"'\u201d\u2019»)\\]*_"  # Markdown's emphasis closes like a quote
_END = re.compile(rf"[.!?…]+[{_CLOSING}]*(?=\s|$)")


def words_of(text: str) -> list[str]:
    """The words of a text, in small letters.

    >>> words_of("The well-known cook didn't _taste_ 2 soups.")
    ['the', 'well-known', 'cook', "didn't", 'taste', '2', 'soups']
    """
    return _WORD.findall(text.lower())


def sentences_in(text: str) -> int:
    """How many sentences end in a text; what stands behind the last end is none.

    >>> [sentences_in(text) for text in ("No end", '"Stop!" he said.', "One. Two", "At 3.5 m, i.e. low.")]
    [0, 1, 1, 1]
    """
    return sum(not text[end.end() :].lstrip()[:1].islower() for end in _END.finditer(text))


def is_one_sentence(text: str) -> bool:
    """Whether a text is one whole sentence on one line; white space around it does not matter.

    >>> [is_one_sentence(text) for text in ("A cat sat. ", "A cat sat", "A cat. A dog.", "A cat. A dog", "A\\ncat.")]
    [True, False, False, False, False]
    """
    bare = text.strip()
    ends = [end.end() for end in _END.finditer(bare)]
    whole = bool(ends) and ends[-1] == len(bare) and bool(words_of(bare))
    return whole and sentences_in(bare) == 1 and len(bare.splitlines()) == 1


def met(text: str, words: Sequence[str], limit: int) -> Mapping[str, bool]:
    """Each constraint by its name, in the order in which they are stated here, and whether `text` meets it.

    >>> met("The Anchor is in the attic!", ["anchor", "oven"], 6)
    {'limit': True, 'anchor': True, 'oven': False, 'one sentence': True}
    """
    written = words_of(text)
    given = {word: word.lower() in written for word in words}
    return {"limit": 1 <= len(written) <= limit, **given, "one sentence": is_one_sentence(text)}
