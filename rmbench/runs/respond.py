"""From a policy and prompts to what it wrote, and from that to results: `rmbench generate` and `rmbench run -p`."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from rmbench.cache import cache_folder
from rmbench.data.conversation import read_prompt
from rmbench.data.dataset import prompt_hash
from rmbench.data.files import Rows
from rmbench.data.rows import Row, told
from rmbench.errors import IncompleteRunError, UsageError
from rmbench.kinds.base import Task
from rmbench.kinds.generation import Generation, Prompt
from rmbench.models.base import Subject, identity_of, subject_of
from rmbench.plugins import task_names
from rmbench.policies.base import OpenedPolicy, Policy
from rmbench.policies.outputs import Outputs
from rmbench.policies.spec import open_policy, parse
from rmbench.results import files, provenance, records, written
from rmbench.results.figures import bootstrap
from rmbench.results.judged import sources_of, task_info
from rmbench.results.schema import Config, DatasetInfo, Fitted, SubjectInfo, TaskResult
from rmbench.runs.evaluate import check_name, threads, timing
from rmbench.runs.loading import TaskData, load_tasks
from rmbench.runs.rows import STDIN, input_file, is_one_text, joined, prompt_of
from rmbench.scoring import Asking, Progress, Store, Usage, Writing
from rmbench.scoring.usage import busy
from rmbench.types import Candidate, GenerationRequest, Message, Response

_CANNOT = r"(can(not|['\u2019]?t)|can not|won['\u2019]?t|will not|(am |['\u2019]m )?(unable|not able))\b"
_REFUSAL = re.compile(  # with a straight apostrophe, a curly one or none
    rf"\W*((i(['\u2019]?m| am)( \w+)? sorry|sorry|i apologi[sz]e|unfortunately)\b.{{0,60}}?\bi ?{_CANNOT}|as an ai\b|"
    rf"i must decline\b|i ?{_CANNOT}(?! (wait|believe|help but)))",
    re.IGNORECASE,
)
_LONGEST_REFUSAL = 1000  # characters


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a policy writes: `samples` a prompt, at most `cap` new tokens each, drawn at `temperature` and `top_p`.

    None leaves the choice: one sample, the task's cap, and 1.0 for both. Outputs that are written already have as many
    samples as the file has. Raises UsageError for numbers that mean nothing.
    """

    samples: int | None = None
    cap: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if any(number is not None and number < 1 for number in (self.samples, self.cap)) or self.seed < 0:
            given = f"samples={self.samples}, cap={self.cap}, seed={self.seed}"
            raise UsageError(f"{given}: expected samples and cap from 1, and a seed from 0")
        if self.temperature is not None and not (0 <= self.temperature < math.inf):
            raise UsageError(f"temperature={self.temperature}: expected a number from 0, which takes the likeliest")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"top_p={self.top_p}: expected a share above 0 and up to 1")
        if self.temperature == 0 and (self.samples or 1) > 1:
            raise UsageError(f"samples={self.samples} at temperature 0 would be the same text {self.samples} times")


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a prompt; `response` is None where the policy left it out."""

    example: Prompt
    number: int
    response: Response | None

    @property
    def refused(self) -> bool:
        """Whether it looks like a refusal: it is not cut, short, and opens with an apology or `I can't`."""
        text = self.text
        return self.finish != "length" and len(text) <= _LONGEST_REFUSAL and _REFUSAL.match(text) is not None

    @property
    def empty(self) -> bool:
        """Whether there is a response, without a visible character; blanks up to the cap are no end of writing."""
        return self.response is not None and self.finish != "length" and not self.text.strip()

    @property
    def text(self) -> str:
        return "" if self.response is None else self.response.text or ""

    @property
    def finish(self) -> str | None:
        return None if self.response is None else self.response.finish

    @property
    def tokens(self) -> int | None:
        return None if self.response is None else self.response.tokens

    @property
    def cap(self) -> int | None:
        return None if self.response is None else self.response.cap

    @property
    def status(self) -> str:
        """As `rmbench.metrics.tails` has it."""
        if self.response is None:
            return "missing"
        return "empty" if self.empty else "refused" if self.refused else "ok"


@dataclass(frozen=True)
class Written:
    """`columns` have one value a sample of a prompt, in the order of the prompts, the user's own first. `missing` is
    how many of these a policy left out.
    """

    columns: Mapping[str, Any]
    prompts: int
    missing: int
    notes: Sequence[str]


def write_responses(
    policies: str | Policy | Mapping[str, tuple[str, Mapping[str, Any]]],
    source: str,
    sampling: Sampling,
    *,
    columns: Mapping[str, str] | None = None,
    skip_bad_rows: bool = False,
    limit: int | None = None,
    subset: Mapping[str, str | Sequence[str]] | None = None,
    progress: Callable[[str], Progress] | None = None,
    **options: Any,
) -> Written:
    """Has a policy answer every prompt of `source`: a generation task, or a file or folder of prompts (`-`: of standard
    input), whose other columns go along.

    `policies` is one, whose `options` are those that its kind declares, or several by the name that their columns get,
    each a spec and its own options. A sample that the policy left out has no row; of several policies, one that all
    left out. `progress` makes what tells how a policy of that spec goes. Responses are kept in the store as they come,
    so the same call continues where an interrupted one stopped. Raises UsageError, DataError, ModelError.
    """
    path = Path(source)
    is_file = source not in task_names() and (path.exists() or path.suffix != "" or "/" in source or source == STDIN)
    name = "lengths" if is_file else source
    with input_file(path) as given:
        reading: dict[str, Any] = {"columns": columns, "skip_bad_rows": skip_bad_rows}
        chosen = {"limit": limit, "subset": subset, "seed": sampling.seed}
        [item] = load_tasks([name], data={name: given} if is_file else None, **chosen, **reading)
        task = _generation(item.task)
        own = _own_columns(task, Rows(given, **reading)) if is_file else {}
    several = policies if isinstance(policies, Mapping) else {"": (policies, options)}
    samples: dict[str, dict[tuple[str, int], Sample]] = {}
    ids = {}
    for called, (policy, responses) in several.items():
        said = progress(policy) if progress and isinstance(policy, str) else None
        with busy(said, "opening"):
            opened = open_policy(policy, **responses)
        with _writing(opened, sampling, said) as writing:
            samples[called] = {(one.example.id, one.number): one for one in _samples(writing, item, sampling)}
        ids[called] = subject_of(opened).id
    missing = sum(one.response is None for responses in samples.values() for one in responses.values())
    made, moved = _columns(item, samples, ids, own)
    counts = [f"{count:,} rows give no prompt to answer: {reason}" for reason, count in item.data.excluded.items()]
    noted = told(item.data.noted) if is_file else []
    notes = [*(counts if task.name == "lengths" else []), *(f"noted: {line}" for line in noted), *moved]
    return Written(made, len(item.data.examples), missing, notes)


def _own_columns(task: Generation, rows: Rows) -> dict[tuple[Message, ...], dict[str, Any]]:
    """What the first row of each prompt has besides that prompt."""
    own: dict[tuple[Message, ...], dict[str, Any]] = {}
    for row in rows:
        for example in task.read([row]):
            if isinstance(example, Prompt):
                said = "prompt" in row.given and read_prompt(Row({"prompt": row.given["prompt"]}, "", 0))
                kept = {name: value for name, value in row.given.items() if name != "prompt" or said != example.prompt}
                own.setdefault(example.prompt, kept)
    return own


def evaluate_policy(
    policy: str | Policy | OpenedPolicy,
    tasks: Sequence[str | Task | TaskData],
    sampling: Sampling | None = None,
    *,
    data: Mapping[str, str | Path] | None = None,
    limit: int | None = None,
    subset: Mapping[str, str | Sequence[str]] | None = None,
    out: str | Path | None = None,
    name: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> list[TaskResult]:
    """Has `policy` answer the prompts of generation tasks and returns one result per task, as `rmbench.evaluate` does.

    `sampling` says how it writes, `options` are those that the policy's kind declares. Each result is written under
    `out` as its task ends; a task that fails loses nothing of the others, as with `rmbench.evaluate`. Raises UsageError
    for a task that asks a reward model.
    """
    sampling = sampling or Sampling()
    check_name(name)
    loaded = load_tasks(tasks, data=data, limit=limit, subset=subset, seed=sampling.seed)
    for item in loaded:
        _generation(item.task)
    if out is not None:
        files.check_writable(Path(out))
    with busy(progress, "opening"):
        opened = open_policy(policy, **options)
    subject = subject_of(opened) if name is None else replace(subject_of(opened), id=name)
    command = _command(policy, options, sampling)
    results, failures = list[TaskResult](), dict[str, Exception]()
    with _writing(opened, sampling, progress) as writing:
        for item in loaded:
            started = time.perf_counter()
            writing.asking.usage = usage = Usage(token_budget=getattr(opened, "token_budget", None))
            try:
                samples = _samples(writing, item, sampling)
                seconds = time.perf_counter() - started
                result = _result(item, samples, opened, subject, sampling, usage, seconds, command, writing.device)
                if out is not None:
                    files.write(result, Path(out))
            except Exception as error:  # a task that fails loses nothing of the others
                failures[item.task.name] = error
            else:
                results.append(result)
    if failures and not results:
        raise next(iter(failures.values()))
    if failures:
        raise IncompleteRunError(failures, results)
    return results


def _command(policy: object, options: Mapping[str, Any], sampling: Sampling) -> dict[str, Any]:
    """What was asked for, as parsed; no path of this machine."""
    spec = parse(policy) if isinstance(policy, str) else None
    named = {"family": spec.family, "source": spec.source, "revision": spec.revision} if spec else subject_of(policy).id
    stated: dict[str, Any] = provenance.stated({"policy": named, "options": options, "sampling": asdict(sampling)})
    return stated


def _generation(task: Task) -> Generation:
    if not isinstance(task, Generation):
        raise UsageError(f"{task.name} is judged by a reward model, not answered by a policy; give one with -m")
    return task


@contextmanager
def _writing(policy: Policy | OpenedPolicy, sampling: Sampling, progress: Progress | None) -> Iterator[Writing]:
    """The policy, started when somebody has to write, and the store of what it wrote."""
    if isinstance(policy, Outputs):
        _check_unchanged(sampling)
    asking = Asking(progress=progress)
    with Store(cache_folder() / "rewards.sqlite") as asking.store:
        writing = Writing(policy, asking)
        try:
            yield writing
        finally:
            writing.rest()


def _samples(writing: Writing, item: TaskData, sampling: Sampling) -> list[Sample]:
    """The samples of a task, prompt by prompt."""
    settings = {
        "temperature": 1.0 if sampling.temperature is None else sampling.temperature,
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
        "seed": sampling.seed,
    }
    asked = [
        (example, GenerationRequest(example.prompt, number, _cap(item, sampling), settings, example.tools))
        for example in cast(Sequence[Prompt], item.data.examples)
        for number in range(_count(writing.policy, example.prompt, sampling))
    ]
    responses = writing.write([request for _, request in asked])
    return [
        Sample(example, request.sample, response) for (example, request), response in zip(asked, responses, strict=True)
    ]


def _check_unchanged(sampling: Sampling) -> None:
    for option, value in (
        ("--max-new-tokens", sampling.cap),
        ("--temperature", sampling.temperature),
        ("--top-p", sampling.top_p),
    ):
        if value is not None:
            raise UsageError(f"{option} {value} cannot change outputs that are written already")


def _cap(item: TaskData, sampling: Sampling) -> int:
    return sampling.cap or _generation(item.task).cap


def _count(policy: Policy | OpenedPolicy, prompt: tuple[Message, ...], sampling: Sampling) -> int:
    if sampling.samples is not None:
        return sampling.samples
    return policy.samples(prompt) if isinstance(policy, Outputs) else 1


def _columns(
    item: TaskData,
    samples: Mapping[str, Mapping[tuple[str, int], Sample]],
    ids: Mapping[str, str],
    own: Mapping[tuple[Message, ...], Mapping[str, Any]],
) -> tuple[dict[str, Any], list[str]]:
    """A row for each sample of a prompt that some policy gave; what each wrote has columns of its own if there are
    several. Prompts are texts where all of them are one user message, else lists of messages."""
    import pyarrow as pa

    numbers: dict[str, set[int]] = {}
    for responses in samples.values():
        for (name, number), sample in responses.items():
            if sample.response is not None:
                numbers.setdefault(name, set()).add(number)
    places = [(example, number) for example in item.data.examples for number in sorted(numbers.get(example.id, ()))]
    as_text = all(is_one_text(example.prompt) for example, _ in places)
    prompts: Any = [prompt_of(example.prompt, as_text=as_text) for example, _ in places]
    message = pa.struct({"role": pa.string(), "content": pa.string()})
    numbered = {"sample": pa.array([number for _, number in places], pa.int32())}
    is_plain = all(turn.is_plain for example, _ in places for turn in example.prompt)
    made: dict[str, Any] = {"prompt": prompts if as_text or not is_plain else pa.array(prompts, pa.list_(message))}
    for called, responses in samples.items():
        behind = f":{called}" if len(samples) > 1 else ""
        written = [_given(responses, example.id, at) for example, at in places]
        made[f"response{behind}"] = pa.array([one and one.text for one in written], pa.string())
        made |= numbered
        made[f"tokens{behind}"] = pa.array([one and one.tokens for one in written], pa.int32())
        made[f"finish{behind}"] = pa.array([one and one.finish for one in written], pa.string())
        made[f"cap{behind}"] = pa.array([one and one.cap for one in written], pa.int32())
        made[f"policy{behind}"] = pa.array([one and ids[called] for one in written], pa.string())
    return joined([own.get(example.prompt, {}) for example, _ in places], made)


def _given(samples: Mapping[tuple[str, int], Sample], example: str, number: int) -> Sample | None:
    """A sample that the policy gave."""
    sample = samples.get((example, number))
    return sample if sample is not None and sample.response is not None else None


def _result(
    item: TaskData,
    samples: Sequence[Sample],
    policy: Policy | OpenedPolicy,
    subject: Subject,
    sampling: Sampling,
    usage: Usage,
    seconds: float,
    command: Mapping[str, Any],
    device: str | None,
) -> TaskResult:
    task, data = _generation(item.task), item.data
    counted = any(sample.tokens is not None for sample in samples)
    unit = getattr(policy, "unit", f"tokens of {subject.id}" if counted else None)
    asked = {} if isinstance(policy, Outputs) else {
        "max_new_tokens": _cap(item, sampling),
        "temperature": 1.0 if sampling.temperature is None else sampling.temperature,
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
    }  # fmt: skip
    rows, drawn = [_row(sample) for sample in samples], bootstrap(sampling.seed)
    table = records.generation_table(rows)
    fields = written.fields_of(rows, task.contrasts, drawn)
    identity = identity_of(policy)
    result = TaskResult(
        task=task_info(task),
        dataset=DatasetInfo(
            sources=sources_of(data),
            sha256=data.sha256,
            excluded=dict(data.excluded),
            noted=dict(data.noted),
            part=data.part,
            **written.dataset_of(rows),
        ),
        subject=SubjectInfo(
            kind="policy",
            id=subject.id,
            family=subject.family,
            revision=subject.revision,
            fingerprint=policy.fingerprint,
            identity=identity,
            may_change=identity != "content",
            uses=[],
            answers=[],
        ),
        fitted=Fitted(**fields.pop("fitted")),
        bootstrap=drawn,
        columns=provenance.columns_of(table),
        timing=timing(usage, seconds),
        environment=provenance.environment(),
        config=Config(
            model={**subject.settings, **asked, "samples": sampling.samples, "unit": unit or "characters"},
            data={**item.choice, "seed": sampling.seed},
            task=dict(item.own),
            run={"device": device, "threads": threads()},
            command={**command, "task": task.name, **item.choice},
        ),
        created=provenance.now(),
        **fields,
    )
    result._records = table
    result._responses = {(one.example.id, one.number): one.text for one in samples if one.response is not None}
    statuses = result.statuses
    if "missing" in statuses:
        first = next(sample for sample in samples if sample.response is None)
        result._problems = [f"{statuses['missing']:,} responses are missing, first sample {first.number} of "
                            f"example {first.example.id}"]  # fmt: skip
    return result


def _row(sample: Sample) -> dict[str, Any]:
    missing = sample.response is None
    return {
        "example_id": sample.example.id,
        "candidate": sample.number,
        "facets": dict(sample.example.facets),
        "cluster": sample.example.cluster,
        "prompt": prompt_hash(sample.example.prompt),
        "text_hash": None if missing else records.text_hash(Candidate(sample.text)),
        "condition": sample.example.condition,
        "status": "missing" if missing else "ok",
        "refused": None if missing else sample.refused,
        "empty": None if missing else sample.empty,
        "tokens": sample.tokens,
        "characters": None if missing else len(sample.text),
        "finish": sample.finish,
        "cap": sample.cap,
        "tags": sample.example.tags,
    }
