"""From result files to one pool: what each sample is worth, and what every reward says of it, read one at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rmbench.errors import ResultError, UsageError
from rmbench.metrics.pools import LARGEST, Codes, Pools
from rmbench.optimise.columns import Columns, columns_of
from rmbench.results import collection, files
from rmbench.results.schema import TaskResult
from rmbench.types import Array, Example

Place = tuple[str, int]  # an example's id and a candidate
Gold = Path | str | Mapping[Place, float]
OWN_LABELS = "the labels of the data"
_NAMED = 4  # policies that an error names
Kept = NDArray[np.bool_]


@dataclass(frozen=True)
class Proxy:
    """What one view of one result says of the samples [s]: `rewards`, and their `spread` where the model tells one.

    `members` are the heads of the model, as those of an ensemble; none of another view. `statuses` count requests.
    """

    name: str
    view: str
    result: str
    rewards: Array
    spread: Array | None
    members: Mapping[str, Array]
    statuses: Mapping[str, int]

    @property
    def title(self) -> str:
        """Its name, with the view where that is not the reward itself."""
        return self.name if self.view == "default" else f"{self.name} ({self.view})"

    def of(self, samples: Kept) -> Proxy:
        """The same of some of the samples."""
        members = {name: rewards[samples] for name, rewards in self.members.items()}
        spread = None if self.spread is None else self.spread[samples]
        return replace(self, rewards=self.rewards[samples], spread=spread, members=members)


@dataclass(frozen=True)
class Pool:
    """The samples that count for every proxy, of prompts that have `samples` of them, the fewest and the most.

    `left_out` counts prompts by reason. Curves go to n = `size`.
    """

    task: str
    version: int
    gold: str
    policy: str
    pools: Pools
    proxies: Sequence[Proxy]
    left_out: Mapping[str, int]
    samples: tuple[int, int]
    size: int
    notes: Sequence[str] = field(default_factory=list)


@dataclass
class _Common:
    """What results of one task have in common, from the first of them; `answers`, `policies` (codes), `texts` (hashes,
    0 where unknown) and `likelihood` [s] from the first that knows them."""

    path: Path
    result: TaskResult
    examples: list[str]
    counts: Codes
    clusters: Codes
    gold: Array
    answers: Codes
    policies: list[str | None]
    texts: NDArray[np.uint64]
    likelihood: Array


def read_pool(
    paths: Sequence[Path],
    *,
    gold: Gold | None = None,
    gold_name: str = OWN_LABELS,
    views: Sequence[str] = (),
    up_to: int | None = None,
) -> Pool:
    """The pool of the results in `paths`, files or folders of them, of one task and the same examples.

    Each of `views` of each result is a proxy, else the primary one of each. What a sample is worth is its label, else
    `gold`: the reward in a result of the same examples, a tag that is a number, or a number by place. A prompt of which
    a sample lacks that, or the reward of a proxy, is left out for all of them. Raises ResultError and UsageError.
    """
    wanted = collection.result_files(paths)
    truth = collection.result_files([gold]) if isinstance(gold, Path) else []
    wanted = [file for file in wanted if file.resolve() not in {one.resolve() for one in truth}]
    if not wanted and truth:
        raise ResultError(f"{gold}: the gold is all that is given; expected a result besides, of another model")
    if not wanted:
        raise collection.nothing_in(paths)
    named = list(zip(collection.names([files.read(file) for file in wanted]), wanted, strict=True))
    common, proxies = _first(wanted[0], named[0][0], gold, views)
    for name, file in named[1:]:
        proxies += _proxies(_same(common, file, _read(file)), name, views)
    if isinstance(gold, Path):
        gold_name = _with_gold_of(common, truth, gold)
    elif isinstance(gold, Mapping):
        common.gold = _by_place(common, gold, gold_name)
    _check_different(proxies)
    return _counted(common, proxies, gold_name, up_to)


def _read(file: Path) -> Columns:
    """A result with its tables, which are many times as large as what is kept of them."""
    result = collection.read_checked(file)
    if result.scale is None:
        raise ResultError(
            f"{file}: {result.subject.id} only compared pairs; what optimising does needs a reward of each sample"
        )
    try:
        return columns_of(result)
    except ValueError as error:
        raise ResultError(f"{file.with_suffix('.parquet')}: no records of a result ({error})") from error


def _first(file: Path, name: str, gold: Gold | None, views: Sequence[str]) -> tuple[_Common, list[Proxy]]:
    """What the first result knows of the samples, and what it says of them."""
    columns = _read(file)
    proxies = _proxies(columns, name, views)
    return _common(file, columns, gold), proxies


def _proxies(columns: Columns, name: str, views: Sequence[str]) -> list[Proxy]:
    return [_proxy(name, columns, view) for view in _views(columns.result, views)]


def _views(result: TaskResult, views: Sequence[str]) -> list[str]:
    for view in views:
        if view not in result.views:
            there = ", ".join(result.views)
            raise UsageError(f"{result.subject.id}: unknown view {view!r}; there is {there}")
    return list(dict.fromkeys(views)) or [result.primary_view]


def _data(result: TaskResult) -> str:
    """What a line calls the samples."""
    return f"{result.task.name} of {result.dataset.source}"


def _without_tables(result: TaskResult) -> TaskResult:
    result._records = result._requests = None
    return result


def _common(file: Path, columns: Columns, gold: Gold | None) -> _Common:
    """What is kept of the first result, whose tables are let go."""
    worth = columns.tag_number(gold) if isinstance(gold, str) else columns.number("label")
    if isinstance(gold, str) and np.isnan(worth).all():
        there = ", ".join(columns.tags()) or "none"
        raise UsageError(f"gold {gold!r} is no tag of the samples that is a number; there is {there}")
    if gold is None and np.isnan(worth).all():
        classes = columns.has("class")
        raise _no_gold(_data(columns.result), *["labels that are classes, which are worth no number"] * classes)
    named = columns.of_examples("cluster")
    clusters = {name or example: 0 for name, example in zip(named, columns.examples, strict=True)}
    numbers = {name: code for code, name in enumerate(clusters)}
    codes = [numbers[name or example] for name, example in zip(named, columns.examples, strict=True)]
    answers, policies = columns.codes("tag_answer"), columns.values("tag_policy")
    texts, likelihood = columns.hashes("text_hash"), columns.tag_number("logprob")
    examples, counts, result = columns.examples, columns.counts, _without_tables(columns.result)
    return _Common(
        file, result, examples, counts, np.array(codes, np.intp), worth, answers, policies, texts, likelihood
    )


def _no_gold(where: str, problem: str = "no gold: no sample has a label") -> ResultError:
    """The error of samples that nobody says the worth of."""
    expected = "--gold names a column or tag, a model, a result of the same samples, or a file of rewards"
    return ResultError(f"{where}: {problem}; {expected}")


def check_samples(where: str, examples: Sequence[Example], *, is_judged: bool) -> None:
    """Raises ResultError for samples of several policies, or that nobody says the worth of, unless that `is_judged`."""
    samples = [sample for example in examples for sample in example.candidates]
    if not (is_judged or any(_is_number(sample.label) for sample in samples)):
        raise _no_gold(where)
    _only_policy(where, Counter(sample.tags.get("policy") for sample in samples))


def _is_number(label: object) -> bool:
    return isinstance(label, int | float) and not math.isnan(label)


def _same(common: _Common, file: Path, columns: Columns) -> Columns:
    """The columns of another result in the order of the first; what it knows that the first does not is taken over.

    Raises ResultError where it is of other samples.
    """
    result = columns.result
    named = f"{common.path} and {file}"
    if common.result.task.name != result.task.name:
        tasks = f"{common.result.task.name} and {result.task.name}"
        raise ResultError(
            f"{named} are of different tasks: {tasks}; expected results of one task, such as results/*/*/TASK.json"
        )
    reason = collection.why_not(common.result, result)
    if reason is not None and not reason.startswith("different orders"):
        raise ResultError(f"{named} have {reason}; rewards are held against each other on the same samples")
    columns = columns.ordered(common.examples)
    texts = columns.hashes("text_hash")
    known = (texts != 0) & (common.texts != 0)
    if (texts != common.texts)[known].any():
        at = int(np.flatnonzero(known & (texts != common.texts))[0])
        example = int(np.searchsorted(np.cumsum(common.counts), at, side="right"))
        raise ResultError(f"{named} have different responses: a sample of {common.examples[example]} is another text")
    common.texts = np.where(common.texts == 0, texts, common.texts)
    if (common.answers < 0).all():
        common.answers = columns.codes("tag_answer")
    if np.isnan(common.likelihood).all():
        common.likelihood = columns.tag_number("logprob")
    if common.policies == [None]:
        common.policies = columns.values("tag_policy")
    return columns


def _proxy(name: str, columns: Columns, view: str) -> Proxy:
    heads = columns.heads() if view == "default" else []
    spread = columns.number("spread") if view == "default" else np.full(1, np.nan)
    return Proxy(
        name,
        view,
        str(files.result_path(columns.result)),
        columns.view(view),
        spread if np.isfinite(spread).any() else None,
        {head: columns.view(head) for head in heads} if len(heads) > 1 else {},
        columns.result.statuses,
    )


def _with_gold_of(common: _Common, truth: Sequence[Path], gold: Path) -> str:
    """Puts the rewards of the result `gold` in the place of the labels; the name of what gave them."""
    if len(truth) != 1:
        raise ResultError(f"{gold}: {len(truth)} results in it; expected one, of the same samples, to be the gold")
    columns = _same(common, truth[0], _read(truth[0]))
    common.gold = columns.view(columns.result.primary_view)
    return f"the reward of {columns.result.subject.id}"


def _by_place(common: _Common, numbers: Mapping[Place, float], name: str) -> Array:
    """The numbers of a file in the order of the samples, nan where it has none."""
    places = [
        (example, at) for example, count in zip(common.examples, common.counts, strict=True) for at in range(count)
    ]
    gold = np.array([numbers.get(place, np.nan) for place in places])
    if np.isnan(gold).all():
        where = _data(common.result)
        raise ResultError(f"{name}: none is of a sample of {where}; expected rows with its example_id and candidate")
    return gold


def _check_different(proxies: Sequence[Proxy]) -> None:
    """Raises ResultError where the same result stands there twice."""
    seen: dict[tuple[str, str], Proxy] = {}
    for proxy in proxies:
        other = seen.setdefault((proxy.result, proxy.view), proxy)
        if other is not proxy and np.array_equal(other.rewards, proxy.rewards, equal_nan=True):
            raise ResultError(f"the same result twice: {proxy.result}")


def _counted(common: _Common, proxies: Sequence[Proxy], gold_name: str, up_to: int | None) -> Pool:
    """The prompts that count. Raises ResultError where none does, or where nothing can be chosen by or among."""
    where = _data(common.result)
    kept, left_out = _kept(common, proxies, up_to)
    if not kept.any():
        told = ", ".join(f"{reason}: {count:,}" for reason, count in left_out.items())
        is_short = common.counts.max() < (up_to or 2)
        few, most = ("too few samples: ", f"; the most of a prompt are {common.counts.max()}") if is_short else ("", "")
        raise ResultError(f"{where}: {few}no prompt counts ({told}){most}")
    of_kept = np.repeat(kept, common.counts)
    several = len(common.policies) == len(of_kept)
    wrote = np.array(common.policies, object)[of_kept].tolist() if several else common.policies
    policy = _only_policy(where, Counter(wrote))
    counts = common.counts[kept]
    pools = Pools(
        common.gold[of_kept],
        counts,
        np.unique(common.clusters[kept], return_inverse=True)[1].astype(np.intp),
        _within_prompts(common.answers[of_kept], counts),
        _within_prompts(_numbered(common.texts[of_kept]), counts),
        common.likelihood[of_kept],
    )
    samples = int(counts.min()), int(counts.max())
    _check_size(f"{where}: gold", pools.gold)
    if _same_within(pools.gold, pools):
        raise ResultError(f"{where}: all samples of every prompt are worth the same by {gold_name}; there is no choice")
    chosen, notes = _telling([proxy.of(of_kept) for proxy in proxies], pools)
    if part := common.result.dataset.part:
        notes.append(f"of a part of the task: {part}")
    size = min(up_to or samples[0], samples[0])
    if samples[0] < samples[1] and up_to is None:
        fewest = int((counts == samples[0]).sum())
        notes.append(
            f"prompts have {samples[0]} to {samples[1]} samples, and curves go to n = {samples[0]}, which {fewest:,} "
            f"of {len(counts):,} have; --up-to N goes on and leaves those out that have fewer"
        )
    return Pool(
        common.result.task.name,
        common.result.task.version,
        gold_name,
        policy,
        pools,
        chosen,
        left_out,
        samples,
        size,
        notes,
    )


def _kept(common: _Common, proxies: Sequence[Proxy], up_to: int | None) -> tuple[Kept, dict[str, int]]:
    """Which prompts count for every proxy, and how many do not, by their first reason."""
    starts = np.cumsum(common.counts) - common.counts
    reasons: list[tuple[str, Kept]] = [
        (f"fewer than {up_to or 2} samples", common.counts < (up_to or 2)),
        ("no gold", np.logical_or.reduceat(np.isnan(common.gold), starts)),
        ("infinite gold", np.logical_or.reduceat(np.isinf(common.gold), starts)),
    ]
    for proxy in proxies:
        lacking = np.logical_or.reduceat(np.isnan(proxy.rewards), starts)
        reasons.append((f"no reward by {proxy.name}", lacking))
    kept, left_out = np.ones(len(common.counts), bool), Counter[str]()
    for reason, lacking in reasons:
        left_out[reason] += int((lacking & kept).sum())
        kept &= ~lacking
    return kept, {reason: count for reason, count in left_out.items() if count}


def _only_policy(where: str, wrote: Counter[str | None]) -> str:
    """Who wrote all of the samples, "" where nobody says. Raises ResultError for samples of several."""
    if len(wrote) > 1:
        told = ", ".join(f"{policy or 'not said'} {count:,}" for policy, count in wrote.most_common(_NAMED))
        more = ", ..." if len(wrote) > _NAMED else ""
        raise ResultError(
            f"{where}: best-of-n is of one policy (tag `policy`), and these samples are by {told}{more}; give the "
            "samples of one of them"
        )
    return next(iter(wrote)) or ""


def _telling(proxies: Sequence[Proxy], pools: Pools) -> tuple[list[Proxy], list[str]]:
    """The proxies that tell samples of some prompt apart, and a line for each of the others and for infinite rewards.

    Raises ResultError where none is left.
    """
    for proxy in proxies:
        _check_size(f"{proxy.title}: a reward", proxy.rewards)
    constant = [proxy for proxy in proxies if _same_within(proxy.rewards, pools)]
    said = "gives all samples of every prompt the same reward, so that nothing is chosen by it"
    lines = [f"{proxy.title} {said}; left out" for proxy in constant]
    if len(constant) == len(proxies):
        raise ResultError(f"{proxies[0].title} {said}")
    chosen = [proxy for proxy in proxies if proxy not in constant]
    for proxy in chosen:
        if infinite := int(np.isinf(proxy.rewards).sum()):
            lines.append(
                f"{proxy.title}: {infinite:,} infinite rewards, which are above or below all others and have no "
                "mean, so that the curves of its reward and of its tilted policy have no figures"
            )
    return chosen, lines


def _check_size(what: str, values: Array) -> None:
    """Raises ResultError for numbers too large to be squared and summed."""
    if (large := values[np.isfinite(values) & (np.abs(values) > LARGEST)]).size:
        raise ResultError(f"{what} of {large[0]:g}; expected {-LARGEST:g} to {LARGEST:g}, else infinite")


def _same_within(values: Array, pools: Pools) -> bool:
    """Whether all samples of every prompt have the same value."""
    firsts = np.repeat(values[pools.starts], pools.counts)
    return bool((values == firsts).all())


def _numbered(hashes: NDArray[np.uint64]) -> Codes:
    """Numbers for hashes [s], -1 for 0."""
    codes = np.unique(hashes, return_inverse=True)[1].astype(np.intp)
    return np.where(hashes == 0, -1, codes)


def _within_prompts(codes: Codes, counts: Codes) -> Codes:
    """Codes [s] as small numbers from 0 within each prompt; what is below 0 is -1."""
    prompts = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((codes, prompts))
    sorted_codes, sorted_prompts = codes[order], prompts[order]
    begins = np.r_[True, sorted_prompts[1:] != sorted_prompts[:-1]]
    is_new = (np.r_[True, sorted_codes[1:] != sorted_codes[:-1]] | begins) & (sorted_codes >= 0)
    reached = np.cumsum(is_new)
    before = np.repeat((reached - is_new)[begins], counts)
    numbers = np.empty(len(codes), np.intp)
    numbers[order] = np.where(sorted_codes >= 0, reached - before - 1, -1)
    return numbers
