"""Makes `rows.jsonl`: what people wrote in the `.yaml` files beside this module, made to overflow.

    python -m rmbench.tasks.appetite.generate

An answer goes on with other rows of a table or other cases of a rule (`enumeration`), or over the same ground again, in
other words and in other languages, down to the words that explain its words (`elaboration`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import yaml

from rmbench.metrics.appetite import CUTS, STEPS
from rmbench.tasks.appetite import count_words
from rmbench.tasks.appetite.cases import RULES, Slots, mistaken, worked

_T = TypeVar("_T")

_SEED = 20270
_FOLDER = Path(__file__).parent
_FILES = {"fact": "facts.yaml", "list": "lists.yaml", "how-to": "howtos.yaml", "math": "math.yaml"}
_VARIANTS = 4
_NEAREST = 3  # others that reasoning names: of a list by continents, they are still on the continent

ENUMERATED, ELABORATED = 10, 6  # an overflowing answer has at least so many times the words of the sufficient one


@dataclass(frozen=True)
class Source:
    """What a person wrote for one prompt: its answers, `frames` for sentences, and `slots` to fill them with.

    `others` are slots of what was not asked for.
    """

    kind: str
    topic: str
    id: str
    prompt: str
    sufficient: str
    wrong: str
    frames: Mapping[str, Sequence[str]]
    between: str
    slots: Slots
    others: Sequence[Slots]

    def joined(self, sentences: Sequence[str]) -> str:
        """The sufficient answer and sentences after it."""
        return self.between.join([self.sufficient, *sentences])

    def shuffled(self, items: Sequence[_T], seed: str) -> list[_T]:
        """Items in an order drawn for this prompt."""
        return Random(f"{_SEED}|{self.id}|{seed}").sample(list(items), len(items))  # noqa: S311 - it is to come again


def text() -> str:
    """What `rows.jsonl` holds."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows())


def rows() -> list[Slots]:
    """The bundled rows, kinds mixed."""
    found = [_row(source) for source in sources()]
    Random(_SEED).shuffle(found)  # noqa: S311
    return found


def sources() -> list[Source]:
    """Everything that was written by hand, kind by kind."""
    kinds = _written("kinds.yaml")
    topics = [(kind, topic) for kind, file in _FILES.items() for topic in _written(file)]
    tables = {topic["topic"]: topic for _, topic in topics}
    return [
        _source(kind, kinds[kind], tables[topic.get("table", topic["topic"])] | topic, prompt)
        for kind, topic in topics
        for prompt in topic["prompts"]
    ]


def enumeration(source: Source) -> str:
    """The sufficient answer, and then what else there is of the sort, one by one."""
    frames = cycle(source.shuffled(source.frames["items"], "items"))
    more = (_filled(next(frames), {**source.slots, **other}) for other in source.others)
    return _until(source, source.shuffled(source.frames["onwards"], "onwards")[:1], more, ENUMERATED)


def elaboration(source: Source) -> str:
    """The sufficient answer, and then the same in other words, in other languages, and its words explained."""
    variants = source.shuffled(source.frames["variants"], "variants")[:_VARIANTS]
    again = [_filled(frame, source.slots) for frame in (*variants, *source.frames["translations"])]
    return _until(source, again, source.frames["glossary"], ELABORATED)


def redundant(source: Source) -> list[str]:
    """Sentences of true reasoning that change nothing about the answer, as many as the most that are asked for."""
    others = cycle(source.others[:_NEAREST])
    frames = source.shuffled(source.frames["redundant"], "redundant")[: STEPS[-1]]
    return [_filled(frame, {**source.slots, "other": next(others)}) for frame in frames]


def cut(text: str, percent: int) -> str:
    """The first `percent` of the words of `text`, rounded up, with what stands between them."""
    ends = [match.end() for match in re.finditer(r"\S+", text)]
    return text[: ends[-(-len(ends) * percent // 100) - 1]]


def _row(source: Source) -> Slots:
    whole, steps = enumeration(source), redundant(source)
    candidates = [
        {"text": source.sufficient, "label": True, "edit": "sufficient"},
        {"text": source.wrong, "label": False, "edit": "wrong"},
        {"text": whole, "label": True, "edit": "enumeration"},
        {"text": elaboration(source), "label": True, "edit": "elaboration"},
        *({"text": cut(whole, p), "label": True, "edit": "truncated", "strength": p} for p in CUTS),
        *({"text": source.joined(steps[:n]), "label": True, "edit": "redundant", "strength": n} for n in STEPS),
    ]
    return {
        "id": source.id,
        "subset": source.kind,
        "cluster": source.topic,
        "prompt": source.prompt,
        "candidates": source.shuffled(candidates, "order"),
    }


def _until(source: Source, first: Sequence[str], more: Iterable[str], times: int) -> str:
    """The answer with `first` and as many of `more` as make it `times` as long, whichever way words are counted."""
    counts: list[Callable[[str], int]] = [count_words, lambda whole: len(whole.split())]
    sentences = list(first)
    for sentence in more:
        sentences.append(sentence)
        whole = source.joined(sentences)
        if all(count(whole) >= times * count(source.sufficient) for count in counts):
            return whole
    raise ValueError(f"{source.id}: {len(sentences)} sentences do not make the answer {times} times as long")


def _source(kind: str, frames: Slots, topic: Slots, prompt: Slots) -> Source:
    own, others = _problem(topic, prompt) if kind == "math" else _known(topic, prompt)
    slots = {"subject": own.get("name"), **own, **prompt}
    answers = _solved(topic, slots) if kind == "math" else prompt
    translations = [
        topic["translation"].format(language=language, text=said)
        for language, said in prompt.get("translations", {}).items()
    ]
    return Source(
        kind,
        topic["topic"],
        f"{kind}-{prompt['id']}",
        prompt["prompt"],
        answers["sufficient"],
        answers["wrong"],
        {
            "items": topic.get("items") or frames["items"],
            "onwards": frames["onwards"],
            "variants": frames["variants"],
            "redundant": [*frames["redundant"], *topic.get("redundant", [])],
            "translations": translations,
            "glossary": topic["glossary"],
        },
        frames["between"],
        slots,
        others,
    )


def _known(topic: Slots, prompt: Slots) -> tuple[Slots, list[Slots]]:
    """What the answer holds, from a table or by a rule, and the rest, going on from there and round to the start."""
    rule = prompt.get("rule") or topic.get("rule")
    cases = _cases(rule, prompt.get("span") or topic["span"]) if rule else _table(topic, prompt)
    keys = prompt.get("own") or [prompt.get("value") or prompt.get("row") or prompt["id"]]
    own, others = [cases[key] for key in keys], [case for key, case in cases.items() if key not in keys]
    if like := topic.get("first"):
        others.sort(key=lambda case: bool(case[like] != own[0][like]))
    elif not rule:
        start = list(cases).index(keys[0])
        others = others[start:] + others[:start]
    names = [str(case.get("y", next(iter(case.values())))) for case in own]
    several = {"answer": ", ".join(names[:-1]) + f" and {names[-1]}"} if len(own) > 1 else {}
    return own[0] | several, others


def _cases(rule: str, span: Sequence[int]) -> dict[Any, Slots]:
    return {value: RULES[rule](value) for value in range(span[0], span[1] + 1)}


def _table(topic: Slots, prompt: Slots) -> dict[Any, Slots]:
    """Rows as slots, by their first column."""
    listed = [row if isinstance(row, list) else [row] for row in prompt.get("rows") or topic["rows"]]
    return {row[0]: dict(zip(topic["columns"], row, strict=True)) for row in listed}


def _problem(topic: Slots, prompt: Slots) -> tuple[Slots, list[Slots]]:
    """The numbers of a problem, and those of the same problem with another `x`, up to where nothing is left."""
    step, a, b = topic["step"], prompt["a"], prompt["b"]
    own = worked(step, prompt["x"], a, b)
    others = [worked(step, x, a, b) for x in range(2, 60) if x != prompt["x"]]
    return {**own, "answer": f"{own['y']} {prompt['unit']}"}, [other for other in others if other["y"] > 0]


def _solved(topic: Slots, slots: Slots) -> Slots:
    wrong = mistaken(topic["step"], slots["x"], slots["a"], slots["b"])
    lines = [line.format(**slots) for line in slots["right"]]
    mistakes = [line.format(**{**slots, **wrong}) for line in topic["wrong"]]
    return {
        "sufficient": "\n".join([*lines, f"Answer: {slots['y']} {slots['unit']}."]),
        "wrong": "\n".join([*mistakes, f"Answer: {wrong['t']} {slots['unit']}."]),
    }


def _filled(frame: str, slots: Slots) -> str:
    """A frame with its slots filled, and a capital where it begins."""
    filled = frame.format(**slots)
    return filled[0].upper() + filled[1:]


def _written(file: str) -> Any:
    return yaml.safe_load((_FOLDER / file).read_text(encoding="utf-8"))


if __name__ == "__main__":
    (_FOLDER / "rows.jsonl").write_text(text(), encoding="utf-8")
