"""What `--explain-plan` prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from rmbench.cli import tell

if TYPE_CHECKING:
    from rmbench.forwards.plan import Way
    from rmbench.scoring import Explanation

_WHAT = {
    "shared": "with others of the same beginning, computed once",
    "packed": "one behind the other, without padding",
    "padded": "sorted by length and padded",
}


def print_plans(explanations: Sequence[Explanation], *, as_json: bool) -> None:
    """A paragraph a model, or a JSON list with an object a model."""
    if as_json:
        click.echo(_json(explanations))
    else:
        tell("\n\n".join("\n".join(_lines(found)) for found in explanations))


def _json(explanations: Sequence[Explanation]) -> str:
    return json.dumps(
        [
            {
                "model": found.model,
                "requests": found.requests,
                "stored": found.stored,
                "left": found.left,
                "unreadable": found.unreadable,
                "same_tokens": found.same,
                "token_budget": found.token_budget,
                "reason": found.reason,
                "first": list(found.first),
                "ways": {
                    way: {
                        "sequences": share.sequences,
                        "tokens": share.tokens,
                        "computed": share.computed,
                        "forwards": share.forwards,
                        "seconds": found.seconds(way),
                    }
                    for way, share in found.ways.items()
                },
            }
            for found in explanations
        ],
        indent=1,
    )


def _lines(found: Explanation) -> list[str]:
    lines = [f"{found.model}: {found.requests:,} requests, {found.stored:,} in the store, {found.left:,} to run"]
    if found.unreadable:
        lines.append(f"  {found.unreadable:,} cannot be read and need no forward")
    if found.same:
        lines.append(f"  {found.same:,} read the same tokens as another and share its forward")
    for way, share in sorted(found.ways.items()):
        lines.append(
            f"  {way}: {share.sequences:,} sequences of {share.tokens:,} tokens, {_WHAT[way]}: "
            f"{share.computed:,} tokens in {share.forwards:,} forwards, {_seconds(found, way)}"
        )
    if found.ways:
        lines.append(f"  predicted: {_seconds(found, *found.ways)} at {found.token_budget:,} tokens a forward")
    if found.reason and found.left:
        lines.append(f"  not packed: {found.reason}" if found.ways else f"  {found.reason}")
    return [*lines, *(f"  {line}" for line in found.first)]


def _seconds(found: Explanation, *ways: Way) -> str:
    seconds = [found.seconds(way) for way in ways]
    known = [some for some in seconds if some is not None]
    return f"{sum(known):,.1f} s" if len(known) == len(seconds) else "an unknown time, as the forward tried did not fit"
