"""Makes `rows.jsonl`: what people wrote in the `.yaml` files beside this module, padded.

    python -m rmbench.tasks.length_bias.generate

An answer is padded in four ways, each with sentences drawn until their number of words fits, and drawn alike for the
right and the wrong answer of a prompt, so that the padding does not tell which one it stands beside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import yaml

from rmbench.tasks.length_bias import count_words

_T = TypeVar("_T")

_SEED = 20260
_FOLDER = Path(__file__).parent
_TRIES = 2000
_SUM = re.compile(r"(\S+) ([-+*/]) (\S+) = ([\d.]*\d)")

WEAK, STRONG = (0.3, 0.6), (1.2, 2.0)  # words of padding over words of the answer
_WITHIN = (1.2, 1.95)  # of a strong padding, so that both answers of a prompt stay inside STRONG

Padding = list[tuple[int, str]]  # sentences, each with the line of the answer that it stands before


@dataclass(frozen=True)
class Answer:
    """Lines of an answer, and what it comes to in other words."""

    lines: tuple[str, ...]
    says: tuple[str, ...]

    @property
    def sums(self) -> list[dict[str, str]]:
        """The sum of each line that has one, `a op b = c`."""
        found = (_SUM.search(line) for line in self.lines)
        return [dict(zip(("a", "op", "b", "c"), match.groups(), strict=True)) for match in found if match]


@dataclass(frozen=True)
class Source:
    """What a person wrote for one prompt. `topic` and `detours` are empty for math."""

    kind: str
    id: str
    prompt: str
    asks: str
    topic: str
    detours: tuple[str, ...]
    right: Answer
    wrong: Answer
    tightened: str

    def joined(self, lines: Sequence[str]) -> str:
        """Lines of an answer to this prompt as one text."""
        return (" " if self.kind == "question" else "\n").join(lines)


def text() -> str:
    """What `rows.jsonl` holds."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows())


def rows() -> list[dict[str, Any]]:
    """The bundled rows, kinds mixed."""
    found = [_row(source) for source in sources()]
    Random(_SEED).shuffle(found)  # noqa: S311 - no secret: the same rows are to come again
    return found


def sources() -> list[Source]:
    """Everything that was written by hand, kind by kind."""
    prose = {"question": "questions.yaml", "instruction": "instructions.yaml"}
    found = [_prose(kind, entry) for kind, file in prose.items() for entry in _written(file)]
    return found + [_math(entry) for entry in _written("math.yaml")]


def _written(file: str) -> Any:
    return yaml.safe_load((_FOLDER / file).read_text(encoding="utf-8"))


def _prose(kind: str, entry: dict[str, Any]) -> Source:
    return Source(
        kind,
        f"{kind}-{entry['id']}",
        entry["prompt"],
        entry["asks"],
        entry["topic"],
        tuple(entry["detours"]),
        Answer((entry["sufficient"],), tuple(entry["concludes"])),
        Answer((entry["wrong"],), tuple(entry["concludes_wrongly"])),
        entry["tightened"],
    )


def _math(entry: dict[str, Any]) -> Source:
    def solution(lines: Sequence[str]) -> Answer:
        number = _last_result(lines)
        answer = entry["answer"].format(number)
        return Answer((*lines, f"Answer: {answer}."), (answer, f"the number is {number}", f"the result is {number}"))

    right, wrong = solution(entry["right"]), solution(entry["wrong"])
    sums = ", ".join(f"{s['a']} {s['op']} {s['b']} = {s['c']}" for s in right.sums)
    tightened = f"{sums}.\n{right.lines[-1]}"
    return Source("math", f"math-{entry['id']}", entry["prompt"], entry["asks"], "", (), right, wrong, tightened)


def _last_result(lines: Sequence[str]) -> str:
    return str(_SUM.findall(lines[-1])[-1][-1])


def _row(source: Source) -> dict[str, Any]:
    candidates = [
        {"text": source.joined(source.right.lines), "label": True, "edit": "sufficient"},
        {"text": source.tightened, "label": True, "edit": "tightened"},
        {"text": source.joined(source.wrong.lines), "label": False, "edit": "wrong"},
        *_padded(source),
    ]
    Random(f"{_SEED}|{source.id}").shuffle(candidates)  # noqa: S311
    return {"id": source.id, "subset": source.kind, "prompt": source.prompt, "candidates": candidates}


def _padded(source: Source) -> Iterator[dict[str, Any]]:
    for way in WAYS:
        name = way.__name__
        for label, answer, edit in ((True, source.right, name), (False, source.wrong, f"wrong_{name}")):
            weak, strong = _drawn(way, source, answer)
            if label:
                yield {"text": _inserted(source, answer, weak), "label": label, "edit": edit, "strength": "weak"}
            yield {"text": _inserted(source, answer, strong), "label": label, "edit": edit, "strength": "strong"}


def _drawn(way: Callable[[Source, Answer, Random], Padding], source: Source, answer: Answer) -> tuple[Padding, Padding]:
    """Weak padding, and strong padding that goes on from it."""
    rng = Random(f"{_SEED}|{source.id}|{way.__name__}")  # noqa: S311
    words = count_words(source.joined(answer.lines))
    for _ in range(_TRIES):
        pool = way(source, answer, rng)
        weak, strong = (_fitting(pool, low * words, high * words) for low, high in (WEAK, _WITHIN))
        if weak and strong:
            return weak, strong
    raise ValueError(f"{source.id}: no padding by {way.__name__} has a fitting length")


def _fitting(pool: Padding, low: float, high: float) -> Padding:
    """The first sentences of `pool` that have at least `low` words, [] where they have more than `high`."""
    total = 0
    for count, (_, sentence) in enumerate(pool, 1):
        total += count_words(sentence)
        if total >= low:
            return pool[:count] if total <= high else []
    return []


def _inserted(source: Source, answer: Answer, padding: Padding) -> str:
    lines: list[str] = []
    for at in range(len(answer.lines) + 1):
        here = [sentence for place, sentence in padding if place == at]
        lines += [" ".join(here)] if here else []
        lines += answer.lines[at : at + 1]
    return source.joined(lines)


def filler(source: Source, answer: Answer, rng: Random) -> Padding:
    """Sentences that say nothing, before and after the answer."""
    places = {"before": 0, "after": len(answer.lines)}
    pool = [
        (places[place], sentence)
        for kind in ("any", source.kind)
        for place, sentences in _FRAMES["filler"][kind].items()
        for sentence in sentences
    ]
    return _shuffled(pool, rng)


def restating(source: Source, answer: Answer, rng: Random) -> Padding:
    """The prompt said again before the answer."""
    frames = _FRAMES["restating"]
    asks = [frame.format(asks=source.asks) for frame in _shuffled(frames[source.kind], rng)]
    if source.kind == "math":
        facts = re.split(r"(?<=[.?]) ", source.prompt)
        again = [f.format(given=fact) for f, fact in zip(_shuffled(frames["given"], rng), facts[:-1], strict=False)]
    else:
        again = [frame.format(topic=source.topic) for frame in _shuffled(frames["topic"], rng)]
    return [(0, sentence) for sentence in _alternating(again, asks)]


def redundant_steps(source: Source, answer: Answer, rng: Random) -> Padding:
    """Steps that lead nowhere: detours before an answer in prose, checks after the lines of a sum."""
    frames = _FRAMES["redundant_steps"]
    if source.kind != "math":
        steps = [frame.format(topic=source.topic) for frame in _shuffled(frames[source.kind], rng)]
        return [(0, step) for step in (*_shuffled(source.detours, rng), *steps)]
    checks = {
        frame: (at, frame.format(**{name: s[name] for name in "abc"}))
        for at, s in _shuffled(list(enumerate(answer.sums, 1)), rng)
        for frame in (*frames[s["op"]], *frames["any"])
    }
    return _shuffled(list(checks.values()), rng)


def repeated_conclusion(source: Source, answer: Answer, rng: Random) -> Padding:
    """What the answer comes to, again and again after it."""
    frames = _shuffled(_FRAMES["repeated_conclusion"], rng)
    says = _shuffled(answer.says, rng)
    return [(len(answer.lines), frame.format(says=says[i % len(says)])) for i, frame in enumerate(frames)]


def _alternating(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """One of each in turn while there are both, then the rest."""
    both = min(len(first), len(second))
    turns = [sentence for pair in zip(first, second, strict=False) for sentence in pair]
    return [*turns, *first[both:], *second[both:]]


def _shuffled(items: Sequence[_T], rng: Random) -> list[_T]:
    return rng.sample(list(items), len(items))


WAYS = (filler, restating, redundant_steps, repeated_conclusion)
_FRAMES: dict[str, Any] = _written("padding.yaml")

if __name__ == "__main__":
    (_FOLDER / "rows.jsonl").write_text(text(), encoding="utf-8")
