"""What the doctor finds: a line for each check, and how far rewards that should be equal are apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from rmbench.types import Reward

Verdict = Literal["pass", "fail", "does not apply"]

# Every check, and what it is that holds where it passes
CHECKS: Mapping[str, str] = {
    "finite": "every answer is a number, of odd texts too",
    "deterministic": "asked twice, the same answer",
    "batch": "many at once get what each gets alone",
    "padding": "padded on the left or on the right, the same answer",
    "own-forward": "what is read is what the checkpoint's own class gives",
    "shared-prefix": "a forward that sequences share gives what each gives alone",
    "dtype": "ten pairs stand in one order in float32 and in 16 bit",
    "bos-eos": "not more than one BOS in front and one EOS at the end",
    "thinking": "thinking is neither left out nor added",
    "system-added": "no system prompt that nobody gave",
    "system-kept": "a system turn is read",
    "white-space": "white space around texts is read",
    "tools": "tools, calls and results are read",
    "control-tokens": "control tokens in a text are seen and counted",
    "tokenizer": "the loaded tokenizer splits as its tokenizer.json does",
    "positions": "what is longer than the model is refused or counted",
}
_HEADS_LEFT_OUT = ("verdict",)  # a decision at a threshold, which rounding may turn


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: its name in `CHECKS`, a verdict, the number it rests on, and one line about it.

    A number that is an int counts something; a float says how far rewards are apart, of their scale.
    """

    check: str
    verdict: Verdict
    number: int | float | None
    told: str

    @property
    def figure(self) -> str:
        """The number for a table."""
        if self.number is None or not math.isfinite(self.number):
            return "-"
        return f"{self.number:.1e}" if isinstance(self.number, float) and self.number else f"{int(self.number):,}"


@dataclass(frozen=True)
class Diagnosis:
    """What all checks found about `model`, one finding each in the order of `CHECKS`, and about its `members`."""

    model: str
    family: str
    findings: tuple[Finding, ...]
    members: tuple[Diagnosis, ...] = ()

    def __getitem__(self, check: str) -> Finding:
        """The finding of a check by its name. Raises KeyError."""
        for finding in self.findings:
            if finding.check == check:
                return finding
        raise KeyError(check)

    def of(self, verdict: Verdict) -> list[str]:
        """The checks with this verdict."""
        return [finding.check for finding in self.findings if finding.verdict == verdict]

    @property
    def failed(self) -> list[str]:
        """The checks that fail, those of members too."""
        return [*self.of("fail"), *(check for member in self.members for check in member.failed)]

    def to_json(self) -> dict[str, Any]:
        """As `rmbench doctor --json` prints it; a number that is none is left out as null."""
        rows = [asdict(one) for one in self.findings]
        for row in rows:
            if row["number"] is not None and not math.isfinite(row["number"]):
                row["number"] = None
        members = [member.to_json() for member in self.members]
        return {"model": self.model, "family": self.family, "findings": rows, "members": members}

    def __str__(self) -> str:
        failed = f", {len(self.failed)} fail ({', '.join(self.failed)})" if self.failed else ""
        return f"{self.model}: {len(self.of('pass'))} pass{failed}; not applicable: {len(self.of('does not apply'))}"


def absent(check: str, reason: str) -> Finding:
    """A check that does not apply."""
    return Finding(check, "does not apply", None, reason)


def counted(check: str, wrong: int, told: str) -> Finding:
    """A check that passes where it counts nothing."""
    return Finding(check, "fail" if wrong else "pass", wrong, told)


def equal(check: str, ours: Sequence[Reward], theirs: Sequence[Reward], limit: float, told: str) -> Finding:
    """Whether rewards of the same requests are equal up to rounding: `limit` of their scale."""
    off = apart(ours, theirs)
    if off <= limit:
        return Finding(check, "pass", off, f"{told}: rewards agree{'' if off else ' to the bit'}")
    much = (
        "one of them is no number" if math.isinf(off) else f"rewards are apart by more than {limit:.0e} of their scale"
    )
    return Finding(check, "fail", off, f"{told}: {much}")


def apart(ours: Sequence[Reward], theirs: Sequence[Reward]) -> float:
    """The largest difference of any number of rewards that should be equal, in units of the largest such number.

    Each kind of number (values, a head, steps, ...) has a scale of its own. Infinite where one is a number and the
    other is none.
    """
    names = set.intersection(*({name for one in side for name, _ in _numbers(one)} for side in (ours, theirs)))
    return max((_off(name, ours, theirs) for name in names), default=0.0)


def _off(name: str, ours: Sequence[Reward], theirs: Sequence[Reward]) -> float:
    one, other = (
        [dict(_numbers(reward)).get(name, ()) for reward in rewards] for rewards in (ours, theirs)
    )  # one entry a reward: its numbers of that name
    if [len(values) for values in one] != [len(values) for values in other]:
        return math.inf
    a, b = (np.array([number for values in many for number in values], float) for many in (one, other))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    if not np.isfinite([a[~same], b[~same]]).all():
        return math.inf
    scale = max(np.abs(a[np.isfinite(a)]).max(), np.abs(b[np.isfinite(b)]).max())
    return float(np.abs(a[~same] - b[~same]).max() / scale)


def _numbers(reward: Reward) -> Iterator[tuple[str, Sequence[float]]]:
    """All numbers of a reward by the name of what they are."""
    yield "values", reward.values
    yield "steps", reward.steps
    yield "tokens", reward.tokens
    yield "vectors", [number for vector in reward.vectors for number in vector]
    yield from ((f"head {name}", values) for name, values in reward.heads.items() if name not in _HEADS_LEFT_OUT)
    yield from ((f"step head {name}", one) for name, one in reward.step_heads.items() if name not in _HEADS_LEFT_OUT)
