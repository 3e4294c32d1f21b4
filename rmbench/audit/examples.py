"""What the examples of a task say against themselves, and what rules that read no text make of them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from rmbench.audit.findings import Finding, counted
from rmbench.data.dataset import Dataset, prompt_hash
from rmbench.kinds.base import Task
from rmbench.metrics.interval import Codes, cluster_codes, estimate, kish, whole_value
from rmbench.results.figures import subsets_of
from rmbench.types import Candidate, Example, Json, Outcome, Request, Response, Reward

_SHOWN = 5  # ids that a finding names
_LONG = 200  # characters from which a text that stops without an end looks cut
_ENDS = tuple(".!?:;)]}>\"'`*|。！？”’…$")  # noqa: RUF001
_AGREEMENTS = (0.7, 0.9)  # shares of examples that two models judge alike
_POWER = 0.8
_DRAWS = 200
_SHARED = {"examples": "example", "prompts": "prompt", "responses to a prompt": "response to a prompt"}  # many, and one

# Rules that read no text: what a response is worth to each, by its characters and its place
RULES: Mapping[str, Callable[[int, int], float]] = {
    "longer": lambda characters, place: float(characters),
    "shorter": lambda characters, place: -float(characters),
    "first": lambda characters, place: -float(place),
}


@dataclass(frozen=True, slots=True)
class SubsetAudit:
    """The whole or one subset: what rules score on it by the task's headline, and what its n can show.

    `metric` is the headline, or, where that is none of a subset, as a mean over parts that it lacks, the first share
    that the task's measure has of it.

    `detectable` is the smallest difference between two models that one test at 5 % finds in 80 % of such samples, by
    the share of examples that both judge alike; None with too few clusters, or where the headline is no share.
    """

    subset: str
    n: int
    clusters: int
    metric: str
    rules: Mapping[str, float | None]
    beaten: Sequence[str]
    detectable: Mapping[str, float | None]


@dataclass(frozen=True)
class TaskAudit:
    """What the examples of one task say against themselves."""

    task: str
    source: str
    kind: str
    headline: str
    examples: int
    candidates: int
    findings: Sequence[Finding]
    subsets: Sequence[SubsetAudit]
    notes: Sequence[str]

    @property
    def contradicts(self) -> bool:
        """Whether labels contradict one another."""
        return any(finding.contradicts for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "task": self.task, "source": self.source, "kind": self.kind, "headline": self.headline,
            "examples": self.examples, "candidates": self.candidates,
            "findings": [finding.to_json() for finding in self.findings],
            "subsets": [asdict(one) for one in self.subsets], "notes": list(self.notes),
        }  # fmt: skip


def audit_examples(name: str, task: Task, data: Dataset) -> TaskAudit:
    """What the examples that a task was read with say against themselves."""
    findings = [
        *_copies(data.examples),
        *_equal_candidates(data.examples),
        *_empty(data.examples),
        *_cut(data.examples),
    ]
    subsets, notes = _subsets(task, data)
    notes += [f"left out: {reason}: {count:,}" for reason, count in data.excluded.items()]
    candidates = sum(len(example.candidates) for example in data.examples)
    rules = [
        Finding(
            "rule", one.subset, f"always {rule} scores {one.rules[rule]:.3f}, above chance", values=_stated(one.rules)
        )
        for one in subsets
        for rule in one.beaten
    ]
    return TaskAudit(
        name, data.source, task.kind, task.measure.headline, len(data.examples), candidates, [*findings, *rules],
        subsets, notes,
    )  # fmt: skip


def audit_across(tasks: Mapping[str, Dataset]) -> list[Finding]:
    """What tasks share, two by two: examples, prompts, responses to one prompt, and pairs labelled the other way."""
    keys: dict[str, dict[str, set[object]]] = {
        name: {
            "examples": {*map(_responses_key, data.examples)},
            "prompts": {*map(_prompt_key, data.examples)},
            "responses to a prompt": {*_answers(data.examples)},
        }
        for name, data in tasks.items()
    }
    findings = []
    for one, other in combinations(tasks, 2):
        where = f"{one} and {other}"
        shared = {what: len(ours & keys[other][what]) for what, ours in keys[one].items()}
        if any(shared.values()):
            told = ", ".join(counted(count, _SHARED[what], what) for what, count in shared.items() if count)
            findings.append(Finding("shared", where, told, values=dict(shared)))
        opposite = _opposite_across(one, tasks[one].examples, other, tasks[other].examples) if shared["prompts"] else []
        if opposite:
            told = f"{counted(len(opposite), 'pair')} of responses labelled the other way round in the other"
            findings.append(Finding("opposite labels", where, told, examples=_ids(opposite)))
    return findings


def _opposite_across(one: str, ours: Sequence[Example], other: str, theirs: Sequence[Example]) -> list[str]:
    return _opposite([*ours, *theirs], [one] * len(ours) + [other] * len(theirs))


def _copies(examples: Sequence[Example]) -> Iterator[Finding]:
    """Examples that stood before, with the labels they had or with others; and prompts that repeat."""
    groups: dict[object, list[Example]] = defaultdict(list)
    for example in examples:
        if example.candidates and all(one.text is not None for one in example.candidates):
            groups[_responses_key(example)].append(example)
    same = [copies for copies in groups.values() if len(copies) > 1]
    alike = [copies for copies in same if len({_labels_key(example) for example in copies}) == 1]
    if same:
        count = sum(len(copies) - 1 for copies in same)
        told = f"{counted(count, 'copy', 'copies')} of an example before (same prompt and responses, in any order)"
        if len(alike) < len(same):
            told += f"; of {len(same) - len(alike):,} the labels differ"
        yield Finding(
            "duplicates", "all", told, values={"copies": count}, examples=_ids(copies[-1].id for copies in same)
        )
    other = [
        example.id
        for copies in same
        for place, example in enumerate(copies)
        if {_labels_key(before) for before in copies[:place]} - {_labels_key(example)}
    ]
    turned = _opposite(examples, [""] * len(examples))
    contrary = list(dict.fromkeys([*other, *turned]))
    if contrary:
        told = f"{counted(len(contrary), 'example')} labelled otherwise than one before on the same responses"
        yield Finding("opposite labels", "all", told, values={"examples": len(contrary)}, examples=_ids(contrary))
    prompts = Counter(_prompt_key(example) for example in examples if example.prompt)
    repeated = sum(count - 1 for count in prompts.values()) - sum(len(copies) - 1 for copies in same)
    if repeated > 0:
        yield Finding(
            "repeated prompts", "all", f"{counted(repeated, 'example')} more on a prompt that stood before, "
            "with other responses",
            values={"examples": repeated},
        )  # fmt: skip


def _opposite(examples: Sequence[Example], origins: Sequence[str]) -> list[str]:
    """Ids of examples that hold two responses to a prompt the other way round than one before does.

    Where origins are named, only what contradicts an example of another origin.
    """
    times = Counter(map(_prompt_key, examples))
    seen: dict[object, set[tuple[bool, str]]] = defaultdict(set)
    contrary = []
    for example, origin in zip(examples, origins, strict=True):
        prompt = _prompt_key(example)
        if times[prompt] < 2 or not example.prompt:
            continue
        contradicted = False
        for key, first_wins in _ordered(example, prompt):
            contradicted = contradicted or any(
                wins != first_wins and (not origin or other != origin) for wins, other in seen[key]
            )
            seen[key].add((first_wins, origin))
        if contradicted:
            contrary.append(example.id)
    return contrary


def _ordered(example: Example, prompt: str) -> Iterator[tuple[object, bool]]:
    """Every two responses of an example that differ in text and label, by their texts, and whether the first wins."""
    labelled = [(one.text, one.number) for one in example.candidates if one.text is not None and one.number is not None]
    for (text, label), (other, lower) in combinations(labelled, 2):
        if text == other or label == lower or math.isnan(label) or math.isnan(lower):
            continue
        criteria = (
            example.reference,
            example.criteria,
            tuple(sorted(example.facets.items())) if example.criteria else (),
        )
        yield (prompt, hash(min(text, other)), hash(max(text, other)), criteria), (label > lower) == (text < other)


def _equal_candidates(examples: Sequence[Example]) -> Iterator[Finding]:
    equal, contrary = [], []
    for example in examples:
        labels: dict[str, set[object]] = defaultdict(set)
        times = Counter(_written(one) for one in example.candidates if one.text is not None)
        for one in example.candidates:
            if one.text is not None:
                labels[_written(one)].add(_label_key(one))
        if max(times.values(), default=0) > 1:
            equal.append(example.id)
            if any(len(labels[text]) > 1 for text, count in times.items() if count > 1):
                contrary.append(example.id)
    if equal:
        told = f"{counted(len(equal), 'example')} with a response that stands twice in it"
        yield Finding("equal candidates", "all", told, values={"examples": len(equal)}, examples=_ids(equal))
    if contrary:
        told = f"{counted(len(contrary), 'example')} in which one text has different labels"
        yield Finding("opposite labels", "all", told, values={"examples": len(contrary)}, examples=_ids(contrary))


def _empty(examples: Sequence[Example]) -> Iterator[Finding]:
    prompts = [
        example.id
        for example in examples
        if not any(turn.says_something for turn in example.prompt)
        and all(one.text is not None for one in example.candidates)
    ]
    responses = [
        example.id
        for example in examples
        for one in example.candidates
        if one.text is not None and not one.text.strip()
    ]
    for what, ids in (("prompt", prompts), ("response", responses)):
        if ids:
            yield Finding("empty", "all", f"nothing in {counted(len(ids), what)}", examples=_ids(ids))


def _cut(examples: Sequence[Example]) -> Iterator[Finding]:
    """Responses that reached their cap, as the data say, and those that look cut, by what the label says of them."""
    reached, looks = [], []
    sides: dict[bool, list[bool]] = {True: [], False: []}
    for example in examples:
        numbers = [one.number for one in example.candidates if one.number is not None]
        for one in example.candidates:
            cut = _looks_cut(one.text)
            if _reached(one):
                reached.append(example.id)
            if cut:
                looks.append(example.id)
            if one.number is not None and len(set(numbers)) > 1:
                sides[one.number == max(numbers)].append(cut)
    if reached:
        yield Finding("cut", "all", f"{counted(len(reached), 'response')} reached the cap", examples=_ids(reached))
    if looks:
        told = f"{counted(len(looks), 'response')} of {_LONG} characters or more without an end, or in open code"
        if all(sides.values()):
            good, bad = (100 * sum(sides[side]) / len(sides[side]) for side in (True, False))
            told += f": {good:.1f} % of the best, {bad:.1f} % of the others"
        yield Finding("cut", "all", told, values={"responses": len(looks)}, examples=_ids(dict.fromkeys(looks)))


def _reached(one: Candidate) -> bool:
    if not isinstance(one.response, Response):
        return False
    tokens, cap = one.response.tokens, one.response.cap
    return one.response.finish == "length" or (tokens is not None and cap is not None and tokens >= cap)


def _looks_cut(text: str | None) -> bool:
    """Whether a long text stops within a sentence, or in a block of code that is not closed."""
    text = (text or "").rstrip()
    if len(text) < _LONG:
        return False
    if text.count("```") % 2:
        return True
    last = text.rsplit("\n", 1)[-1]
    return (text[-1].isalpha() or text[-1] in ",-–(") and not text.endswith(_ENDS) and len(last.split()) > 8  # noqa: RUF001


def _subsets(task: Task, data: Dataset) -> tuple[list[SubsetAudit], list[str]]:
    """What rules score by the task's own measure, on the whole and on each subset; and why nothing is said of some."""
    notes: list[str] = []
    ruled = _ruled(task, data, notes)
    views = {rule: _view(task, list(outcomes.values())) for rule, outcomes in ruled.items()}
    fits = {rule: task.measure.fit(list(outcomes.values()), views[rule]) for rule, outcomes in ruled.items()}
    clusters = [example.cluster or example.id for example in data.examples]
    scored = []
    for subset, places in subsets_of([example.facets for example in data.examples]).items():
        codes = cluster_codes([clusters[i] for i in places])
        scores = {
            rule: _scored(task, taken, views[rule], fits[rule])
            for rule, outcomes in ruled.items()
            if (taken := [outcomes[name] for i in places if (name := data.examples[i].id) in outcomes])
        }
        can_tell = task.subject == "reward_model" and all(score.is_share for score in scores.values())
        scored.append(
            SubsetAudit(
                subset,
                len(places),
                len(set(codes.tolist())),
                next((score.metric for score in scores.values()), task.measure.headline),
                {rule: score.value for rule, score in scores.items()},
                [rule for rule, score in scores.items() if score.above],
                {f"{share:.0%}": _detectable(share, codes) if can_tell else None for share in _AGREEMENTS},
            )
        )
    if scored and scored[0].rules.get("first") == 1:
        notes.append(
            "the right one stands first in every example, as files of chosen and rejected have it: a tie must not go "
            "to the first, and nobody may see this order"
        )
        scored = [replace(one, beaten=[rule for rule in one.beaten if rule != "first"]) for one in scored]
    return scored, notes


def _view(task: Task, outcomes: Sequence[Outcome]) -> str:
    return task.primary_view(list(dict.fromkeys(view for outcome in outcomes for view in outcome.views)))


def _ruled(task: Task, data: Dataset, notes: list[str]) -> dict[str, dict[str, Outcome]]:
    """The outcomes by example where each rule answers a task; none where that asks for more than a reward."""
    if task.subject != "reward_model" or task.kind == "steps":
        notes.append(f"rules by length and place are not for the kind {task.kind}")
        return {}
    readable = [example for example in data.examples if all(one.text is not None for one in example.candidates)]
    if len(readable) < len(data.examples):
        lacking = counted(len(data.examples) - len(readable), "example")
        notes.append(f"rules by length and place leave out {lacking} whose responses have no texts")
    if not readable:
        return {}
    ruled: dict[str, dict[str, Outcome]] = {rule: {} for rule in RULES}
    for example in readable:
        questions = task.questions(example, frozenset({"reward"}), data.sha256)
        places = _places(example)
        shown = [(_characters(one.request), places[one.place.candidates[0]] if one.place else 0) for one in questions]
        for rule, worth in RULES.items():
            rewards = [Reward((worth(*seen),)) for seen in shown]
            ruled[rule][example.id] = task.outcome(example, questions, rewards)
    return ruled


def _places(example: Example) -> list[int]:
    """Where each candidate stood: as the data say of a pair (the tag `chosen_position` of the worse), else in order."""
    places = list(range(len(example.candidates)))
    stated = {str(one.tags.get("chosen_position")) for one in example.candidates} & {"A", "B"}
    if len(places) != 2 or len(stated) != 1:
        return places
    first, second = (one.number or 0.0 for one in example.candidates)
    better = 0 if first >= second else 1
    return [int((place == better) == (stated == {"B"})) for place in places]


def _characters(request: Request) -> int:
    return sum(len(response.text or "") for response in request.responses)


@dataclass(frozen=True, slots=True)
class _Score:
    """The figure of a rule, whether it is a share, and whether its interval is above what a drawn reward gets."""

    metric: str
    value: float | None
    is_share: bool
    above: bool


def _scored(task: Task, outcomes: Sequence[Outcome], view: str, fitted: Json) -> _Score:
    by_name = {one.name: one for one in task.measure.statistics(outcomes, view, fitted)}
    codes = cluster_codes([outcome.cluster for outcome in outcomes])
    headline = task.measure.headline
    shares = [one.name for one in by_name.values() if one.kind != "number" and one.better == "higher"]
    able = (
        name for name in [headline, *shares] if name in by_name and not math.isnan(whole_value(by_name[name], codes))
    )
    metric = next(able, None)
    if metric is None:
        return _Score(headline, None, headline in shares, False)
    chance = by_name.get(f"{metric}_chance")
    measured, *drawn = estimate([by_name[metric], *([] if chance is None else [chance])], codes, draws=_DRAWS)
    pairs = metric in shares and all(len(outcome.labels) == 2 for outcome in outcomes)
    level = drawn[0].value if drawn else 0.5 if pairs else math.inf
    return _Score(metric, float(measured.value), by_name[metric].kind != "number", bool(measured.ci_low > level))


def _detectable(agreement: float, codes: Codes) -> float | None:
    """The smallest difference of two models that judge this share of examples alike: (t.975 + t.8) standard errors.

    A cluster counts once, however many examples it has: as much as these may depend on one another.
    """
    from scipy.special import stdtrit

    sizes = np.bincount(codes).astype(float)
    if len(sizes) < 2:
        return None
    quantiles = float(stdtrit(len(sizes) - 1, np.array([0.975, _POWER])).sum())
    return min(1.0, quantiles * math.sqrt((1 - agreement) / float(kish(sizes))))


def _prompt_key(example: Example) -> str:
    return prompt_hash(example.prompt)


def _responses_key(example: Example) -> object:
    return (
        _prompt_key(example),
        tuple(sorted(_written(one) for one in example.candidates)),
        example.reference,
        example.criteria,
        repr(example.tools),
        repr([one.steps for one in example.candidates]) if any(one.step_labels for one in example.candidates) else "",
    )


def _labels_key(example: Example) -> object:
    """Which text has which label, in any order; and of the same data under other facets, which these are."""
    return tuple(sorted((_written(one), repr(_label_key(one))) for one in example.candidates))


def _label_key(one: Candidate) -> object:
    return (one.label if isinstance(one.label, str) else one.number, one.step_labels)


def _written(one: Candidate) -> str:
    """A response as it is compared: its text, of a trajectory all of its turns."""
    if isinstance(one.response, str) or one.response.messages is None or len(one.response.messages) == 1:
        return one.text or ""
    return prompt_hash(one.response.messages)


def _answers(examples: Iterable[Example]) -> Iterator[object]:
    for example in examples:
        prompt = _prompt_key(example)
        for one in example.candidates:
            if one.text:
                yield prompt, one.text


def _stated(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _ids(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(given))[:_SHOWN]
