"""A data set as a task sees it: examples, where they come from, and what was left out and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from hashlib import sha256 as _sha256

from rmbench.bounded import MOST_JUDGED
from rmbench.data.part import Draw, Part
from rmbench.data.rows import NO_PROMPT, told
from rmbench.errors import DataError
from rmbench.types import Candidate, Example, Image, Message, Response


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row, or a group of them, that makes no example. `reason` is what it is counted under."""

    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows were read: a hub id, `bundled`, or the name (never the path) of a file or folder.

    `revision` is a hub commit, `local` for files, None for bundled rows and where only the cache could be asked.
    `sha256` covers the rows as they were read, `rows` counts them, and `facets` are what every row of it got.
    """

    id: str
    revision: str | None
    sha256: str
    rows: int
    config: str | None = None
    split: str | None = None
    facets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """Examples and their provenance.

    `sha256` stands for these very examples: it covers what was read from all `sources` and changes when some examples
    are dropped. `excluded` counts what is no example by reason, `noted` what is one but odd, and what of the rows
    nobody read (`of_rows`). `renamed` are ids made because the data's own stood before. `part` says how the examples
    were chosen of all, "" where they are the whole.
    """

    sources: Sequence[Source]
    sha256: str
    examples: Sequence[Example]
    excluded: Mapping[str, int] = field(default_factory=dict)
    noted: Mapping[str, int] = field(default_factory=dict)
    renamed: Set[str] = frozenset()
    of_rows: Mapping[str, int] = field(default_factory=dict)
    part: str = ""

    @property
    def source(self) -> str:
        """The ids of its sources, each once."""
        return ", ".join(dict.fromkeys(source.id for source in self.sources))

    @property
    def revision(self) -> str | None:
        """The one revision that all of its sources have, None where they have several."""
        revisions = {source.revision for source in self.sources}
        return revisions.pop() if len(revisions) == 1 else None


class Collection:
    """The data set of what a task reads, item by item: a `part` of it, of which alone examples are held.

    An example whose id is "" is named by its content (`content_id`), never by its place, so that nothing recorded for
    other data joins it. An id that stood before gets `#2`, `#3`, ... An example without a cluster gets its
    prompt's, and without a prompt one of its own. With `part.deduplicate` an example is left out whose prompt and
    candidates (texts and labels) stood before; candidates without text, known only to a score file, are told apart by
    their prompt alone.
    """

    def __init__(self, part: Part | None = None, usable: Callable[[Example], bool] = lambda example: True) -> None:
        self._part = part or Part()
        self._draw = Draw(self._part)
        self._usable, self.is_usable = usable, False
        self._excluded: Counter[str] = Counter()
        self._times: Counter[str] = Counter()
        self._names: set[str] = set()
        self._renamed: set[str] = set()
        self._contents: set[bytes] = set()

    @property
    def seen(self) -> int:
        """How many examples were added."""
        return len(self._names)

    def add(self, item: Example | LeftOut, place: str) -> None:
        """Adds what was read of a file or a hub set. Raises DataError for an example that has too many candidates, or
        is of a subset called `all`, as the whole is in results.
        """
        if isinstance(item, LeftOut):
            self._excluded[item.reason] += 1
            return
        wanted = item.id or content_id(item)
        if (count := len(item.candidates)) > MOST_JUDGED:
            raise DataError(f"{place}: example {wanted!r}: expected at most {MOST_JUDGED:,} responses, got {count:,}")
        name = _unused(wanted, self._names, self._times)
        for facet, value in item.facets.items():
            if facet == "all" or "=" in facet or not facet:
                raise DataError(f"{place}: example {name!r} has a facet {facet!r}; expected a name without =")
            if value == "all":
                whole = f"which is what results call the whole; rename the {facet}"
                raise DataError(f"{place}: example {name!r} is of a {facet} 'all', {whole}")
        self._names.add(name)
        if item.id and name != wanted:
            self._renamed.add(name)
        self.is_usable = self.is_usable or self._usable(item)
        cluster = item.cluster or (prompt_hash(item.prompt) if item.prompt else name)
        example = replace(item, id=name, cluster=cluster)
        if self._part.deduplicate:
            content = _content(example)
            if content in self._contents:
                self._excluded["duplicate"] += 1
                return
            self._contents.add(content)
        self._draw.add(example, place)

    def dataset(self, sources: Sequence[Source], of_rows: Mapping[str, int] | None = None) -> Dataset:
        """What was read from `sources`; `of_rows` is what is noted of their rows. Raises DataError where there is no
        example, UsageError for a subset that there is none of."""
        noted = dict(of_rows or {})
        if not self._names:
            raise nothing_left(", ".join(dict.fromkeys(one.id for one in sources)), self._excluded, noted)
        examples = self._draw.examples()
        told = self._draw.told(len(examples))
        chosen = ["deduplicated"] if self._excluded["duplicate"] and self._part.deduplicate else []
        chosen += [f"{self._part.subset} limit={self._part.limit} seed={self._part.seed}"] if told else []
        digest = _sources_sha256(sources)
        for how in chosen:
            digest = _sha256(f"{digest}|{how}".encode()).hexdigest()
        excluded = {reason: count for reason, count in self._excluded.items() if count}
        odd = oddities(examples, self._renamed)
        renamed = frozenset(self._renamed)
        return Dataset(tuple(sources), digest, examples, excluded, {**odd, **noted}, renamed, noted, told)


def collect(
    items: Iterable[Example | LeftOut],
    sources: Sequence[Source],
    of_rows: Mapping[str, int] | None = None,
    part: Part | None = None,
) -> Dataset:
    """The data set, or a `part` of it, of what was read from `sources` (`Collection`). Raises DataError, UsageError."""
    collection = Collection(part)
    place = ", ".join(dict.fromkeys(one.id for one in sources))
    for item in items:
        collection.add(item, place)
    return collection.dataset(sources, of_rows)


def nothing_left(source: str, excluded: Mapping[str, int], of_rows: Mapping[str, int]) -> DataError:
    """The error of data of which every row is left out: why, and which columns nobody read."""
    reasons = ", ".join(f"{reason}: {count}" for reason, count in excluded.items()) or "nothing in it"
    lines = [line for line in told(of_rows) if line.startswith("columns")]
    option = "; --columns prompt=COLUMN reads another column as the prompt" if NO_PROMPT in excluded else ""
    return DataError(f"{source}: no usable example ({'; '.join([reasons, *lines])}){option}")


def _sources_sha256(sources: Sequence[Source]) -> str:
    """The hash of one source is that of its rows; of several it is over all of theirs, with what each adds to them."""
    if len(sources) == 1:
        return sources[0].sha256
    parts = [[one.sha256, dict(one.facets)] for one in sources]
    return _sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def prompt_hash(prompt: Sequence[Message]) -> str:
    """The first 12 hex digits of the sha256 of a prompt's turns: roles, texts, images by their hashes, tool calls."""
    return _short_hash([_turn(message) for message in prompt])


def content_id(example: Example) -> str:
    """The first 12 hex digits of the sha256 of the prompt, the candidates' turns and the tools; labels have no part."""
    content = [[_turn(message) for message in example.prompt], [_response(one) for one in example.candidates]]
    return _short_hash([*content, list(example.tools)] if example.tools else content)


def _turn(message: Message) -> list[object]:
    """A message as JSON; of one that is text alone its role and text."""
    if message.is_plain:
        return [message.role, message.text]
    parts = [{"image": part.sha256} if isinstance(part, Image) else part for part in message.parts]
    calls = [[call.name, call.arguments, call.id] for call in message.tool_calls]
    turn: list[object] = [message.role, parts, calls, message.tool_call_id, message.name]
    return [*turn, message.extras] if message.extras else turn


def _response(candidate: Candidate) -> object:
    """A response as JSON; one message that is text alone is that text."""
    if isinstance(candidate.response, str) or candidate.response.messages is None:
        return candidate.text
    messages = candidate.response.messages
    if len(messages) == 1 and messages[0].is_plain and messages[0].role == "assistant":
        return messages[0].text
    return [_turn(message) for message in messages]


def _short_hash(value: object) -> str:
    return _sha256(json.dumps(value, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:12]


def _unused(wanted: str, taken: Container[str], times: Counter[str]) -> str:
    """`wanted`, or `wanted#n` with an n from 2 that is not taken. `times` counts the names tried so far for each."""
    while True:
        times[wanted] += 1
        name = wanted if times[wanted] == 1 else f"{wanted}#{times[wanted]}"
        if name not in taken:
            return name


def _content(example: Example) -> bytes:
    candidates = [
        [
            _response(c),
            c.steps,
            c.label if c.number is None else c.number,
            list(map(repr, c.annotations)),
            c.step_labels,
        ]
        for c in example.candidates
        if isinstance(c.response, str) or c.response.messages is not None
    ]
    criteria = [[one.text, one.weight] for one in example.criteria]
    content = [[_turn(message) for message in example.prompt], candidates, example.tools, criteria]
    return _sha256(json.dumps(content, sort_keys=True).encode()).digest()


def oddities(examples: Sequence[Example], renamed: Set[str]) -> dict[str, int]:
    """What of examples is one but odd, with how many of them; `renamed` are ids made because one stood before."""
    responses = [[_response(c) for c in example.candidates] for example in examples]
    told = [
        [one if isinstance(one, str) else json.dumps(one) for one in of_one if one is not None] for of_one in responses
    ]
    written = [
        example for example, of_one in zip(examples, told, strict=True) if len(of_one) == len(example.candidates)
    ]
    noted = {
        "copies of an example before": _copies(written),
        "empty prompts": sum(not any(turn.says_something for turn in example.prompt) for example in examples),
        "empty responses": sum(isinstance(one, str) and not one.strip() for of_one in responses for one in of_one),
        "examples with identical responses": sum(len(set(of_one)) < len(of_one) for of_one in told),
        "repeated ids": sum(example.id in renamed for example in examples),
        "tool calls whose arguments are not JSON": sum(map(_broken_calls, examples)),
    }
    return {what: count for what, count in noted.items() if count}


def _copies(examples: Sequence[Example]) -> int:
    """How many examples stood before. What they begin with is looked at first, as most differ there."""
    begin = [
        (*(turn.parts for turn in example.prompt[-1:]), *(one.text for one in example.candidates[:1]))
        for example in examples
    ]
    times = Counter(begin)
    alike = [example for example, start in zip(examples, begin, strict=True) if times[start] > 1]
    return len(alike) - len(set(map(_content, alike)))


def _broken_calls(example: Example) -> int:
    turns = [
        example.prompt,
        *(c.response.messages or () for c in example.candidates if isinstance(c.response, Response)),
    ]
    return sum(not _is_json(call.arguments) for messages in turns for turn in messages for call in turn.tool_calls)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
