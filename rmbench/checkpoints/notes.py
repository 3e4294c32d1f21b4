"""What may be noted of how a model was shown a request: short reasons, counted in results and printed a line each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol

LEFT_OUT = "the template leaves out part of the response"
SYSTEM_LEFT_OUT = "the template leaves out the system turn"
CONTROLS = "control tokens of the tokenizer in the text"
CONTROLS_AS_TEXT = "control tokens of the tokenizer in the text, read as text"
NOT_TRAINED_WITH_SYSTEM = "a system turn, which the model's authors give it none of"
PROMPT_CUT = "the prompt was cut"
RESPONSE_CUT = "the response was cut"
COMPARISON_CUT = "the text with both responses was cut"
BEFORE_PADS = "the reward is read before pad tokens that end the sequence"

LAST = "last"  # the head of a reward read at the very last token, where that is not the reward itself

_HINTS: Mapping[str, str] = {
    LEFT_OUT: "the option template chooses another",
    NOT_TRAINED_WITH_SYSTEM: "the option fold_system puts it into the first user turn",
    SYSTEM_LEFT_OUT: "the option fold_system puts it into the first user turn",
    CONTROLS: "the option control_tokens=text reads them as text",
    BEFORE_PADS: f"the view {LAST!r} is of the very last token, and the option pooling chooses",
}


class Noted(Protocol):
    """A reward, or an encoded request."""

    @property
    def noted(self) -> tuple[str, ...]: ...


def counted(many: Iterable[Noted]) -> dict[str, int]:
    """How many have each reason noted."""
    return dict(sorted(Counter(reason for one in many for reason in one.noted).items()))


def lines(noted: Mapping[str, int], total: int) -> list[str]:
    """One line a reason: how many of `total` requests, and what can be done about it."""
    return [
        f"{count:,} of {total:,} requests: {'; '.join(filter(None, [reason, _HINTS.get(reason)]))}"
        for reason, count in noted.items()
    ]
