"""Six models of five families on real weights and real conversations: each against its plain forward.

    pip install "trl<1.14" gguf; python benchmarks/real_families.py FOLDER [--steps 60] [--conversations 100]
        [--longest 256] [--few 24] [--only NAME] [--no-doctor]

`real_weights.py` and `real_trained.py` make in FOLDER what is not there yet. RMBENCH_DATA names the folder of the
data, of which nothing is measured that was trained on. Of each model: the largest difference from transformers alone,
one conversation at a time, as a share of the largest reward (of a policy, of the largest number that is subtracted);
accuracy with its interval, length bias and calibration error as a result has them; how many pairs of `--few`
conversations bfloat16 turns round; seconds of rmbench, of one at a time and of the common loop (eight at a time,
padded), over the same few; what `rmbench doctor` says. The exit code is 1 where one is further off than 1e-5, or the
doctor finds something.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from real_trained import SEED, TRAINED, VERIFY, Row, answers, dialogues, solutions, train
from real_weights import encoder, language_model

import rmbench
from rmbench.data.rows import Row as DataRow
from rmbench.kinds.grading import Grading
from rmbench.kinds.steps import Steps, until_first_error
from rmbench.metrics.grading import Grades
from rmbench.metrics.steps import Errors
from rmbench.models.spec import open_model
from rmbench.scoring import Asking, Session, Usage
from rmbench.types import Array, Ask, Candidate, Example, Message, Question, Request, Response, Reward

TOLERANCE, EIGHT = 1e-5, 8
# Of the doctor: the template of SmolLM2 is meant so, and margins of what was trained for minutes are small
ACCEPTED = ("system-added", "dtype")
BETA = 0.1
SHOWN = ("accuracy", "step_auc", "solution_auc", "auc", "accuracy_length_controlled", "length_spearman")

Ids = Sequence[int]
Logits = Any  # [tokens, labels or words]


@dataclass(frozen=True)
class Plain:
    """A model as its trainer leaves it, by transformers alone: `models` of one text, its `ids`, and what is `read`."""

    models: Sequence[Any]
    ids: Callable[[Row], Ids]
    read: Callable[[Sequence[Logits], Row, Ids], Sequence[float]]
    types: Callable[[Row], Ids] | None = None

    def scores(self, rows: Sequence[Row], size: int) -> list[list[float]]:
        """Of each row, so many at a time, padded behind."""
        import torch

        scores = []
        for start in range(0, len(rows), size):
            batched = rows[start : start + size]
            texts = [list(self.ids(row)) for row in batched]
            longest = max(map(len, texts))
            batch = {
                "input_ids": torch.tensor([text + [0] * (longest - len(text)) for text in texts]),
                "attention_mask": torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts]),
            }
            if self.types is not None:
                types = [list(self.types(row)) for row in batched]
                batch["token_type_ids"] = torch.tensor([one + [0] * (longest - len(one)) for one in types])
            with torch.inference_mode():
                logits = [model(**batch).logits.float() for model in self.models]
            for at, (row, text) in enumerate(zip(batched, texts, strict=True)):
                own = [one[at] for one in logits]
                scores.append(list(self.read(own, row, text)))
        return scores


@dataclass(frozen=True)
class Family:
    """A trained model: its spec, what it is asked, the rows it is measured on, the task that they are, and the plain
    way. `requests` gives that of a row, whose scores are in the same order."""

    name: str
    spec: str
    ask: Ask
    rows: Sequence[Row]
    requests: Callable[[Row], Request]
    task: Any
    data: Sequence[Mapping[str, Any]]
    plain: Plain
    subtracted: Sequence[float] = ()  # what rewards are the differences of, as long as the plain way has run


def loaded(folder: Path, kind: str, base: Path | None = None) -> Any:
    import torch
    import transformers

    auto = getattr(transformers, kind)
    options = {"num_labels": 1} if base is not None else {}
    model = auto.from_pretrained(base or folder, dtype=torch.float32, **options)
    if base is not None:
        from peft import PeftModel

        model.config.pad_token_id = transformers.AutoTokenizer.from_pretrained(folder).pad_token_id
        model = PeftModel.from_pretrained(model, folder)
    return model.eval()


def tokenizer_of(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def templated(tokenizer: Any, turns: Sequence[Mapping[str, str]], *, due: bool = False) -> list[int]:
    ids = tokenizer.apply_chat_template(list(turns), tokenize=True, return_dict=True, add_generation_prompt=due)
    return list(ids["input_ids"])


def messages(turns: Sequence[Mapping[str, str]]) -> tuple[Message, ...]:
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)


# dialogues: a reward model as an adapter and merged, and a policy


def said(row: Row) -> Request:
    return Request("reward", messages(row["prompt"]), (Response(row["said"][0]["content"]),))


def pairs(data: Path, tokenizer: Any, count: int, longest: int) -> tuple[list[Row], list[Row]]:
    """Dialogues that nothing was trained on: a row each, and as pairs."""
    kept: list[Row] = []
    for row in islice(dialogues(data), TRAINED, None):
        sizes = [len(templated(tokenizer, [*row["prompt"], *row[side]])) for side in ("chosen", "rejected")]
        if max(sizes) <= longest and len(kept) < count // 2:
            kept.append(row)
    sides = [{"prompt": row["prompt"], "said": row[side]} for row in kept for side in ("chosen", "rejected")]
    given = [{"id": str(at), "prompt": row["prompt"], "chosen": row["chosen"][0]["content"],
              "rejected": row["rejected"][0]["content"]} for at, row in enumerate(kept)]  # fmt: skip
    return sides, given


def rewarding(folder: Path, base: Path, rows: tuple[list[Row], list[Row]], *, adapter: bool) -> Family:
    tokenizer, name = tokenizer_of(folder), "adapter" if adapter else "reward"
    model = loaded(folder, "AutoModelForSequenceClassification", base if adapter else None)
    plain = Plain([model], lambda row: templated(tokenizer, [*row["prompt"], *row["said"]]), _pooled)
    spec = f"classifier:{folder}" + (f"?base={base}" if adapter else "")
    return Family(name, spec, "reward", rows[0], said, "preference", rows[1], plain)


def _pooled(logits: Sequence[Logits], row: Row, ids: Ids) -> Sequence[float]:
    return [float(logits[0].reshape(-1)[0])]


def implicit(folder: Path, base: Path, rows: tuple[list[Row], list[Row]]) -> Family:
    tokenizer = tokenizer_of(folder)
    models = [loaded(place, "AutoModelForCausalLM") for place in (folder, base)]
    subtracted: list[float] = []

    def read(logits: Sequence[Logits], row: Row, ids: Ids) -> Sequence[float]:
        import torch

        start = len(templated(tokenizer, row["prompt"], due=True))
        sums = []
        for one in logits:
            log_p = one[: len(ids)].log_softmax(-1)
            sums.append(log_p[start - 1 : len(ids) - 1].gather(1, torch.tensor(ids[start:])[:, None]).sum())
        subtracted.extend(BETA * float(one) for one in sums)
        return [BETA * float(sums[0] - sums[1])]

    plain = Plain(models, lambda row: templated(tokenizer, [*row["prompt"], *row["said"]]), read)
    spec = f"dpo:{folder}?reference={base}"
    return Family("policy", spec, "reward", rows[0], said, "preference", rows[1], plain, subtracted)


# solutions step by step


def process(folder: Path, data: Path, count: int, longest: int) -> Family:
    tokenizer = tokenizer_of(folder)
    ends = list(tokenizer.encode("\n", add_special_tokens=False))
    first = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]

    def parts(row: Row) -> list[list[int]]:
        """As PRMTrainer has them: the question, and each step with what ends it, tokenised by itself."""
        texts = (
            tokenizer(text, add_special_tokens=False)["input_ids"] for text in (row["prompt"], *row["completions"])
        )
        question, *steps = texts
        return [first + question, *(step + ends for step in steps)]

    def read(logits: Sequence[Logits], row: Row, ids: Ids) -> Sequence[float]:
        at = np.cumsum([len(part) for part in parts(row)])[1:] - 1
        return [float(one) for one in logits[0][at].softmax(-1)[:, 1]]

    def request(row: Row) -> Request:
        steps = tuple(row["completions"])
        return Request("steps", (Message("user", row["prompt"]),), (Response("\n".join(steps), steps),))

    rows = [row for row in islice(solutions(data), 300, None) if sum(map(len, parts(row))) <= longest][:count]
    given = [{"id": at, **row} for at, row in enumerate(rows)]
    plain = Plain([loaded(folder, "AutoModelForTokenClassification")], lambda row: [*chain(*parts(row))], read)
    task = Steps("solutions", 1, "the first wrong step", "", _solutions, measure=Errors(at=0.5))
    return Family("process", f"process:{folder}?aggregate=min", "steps", rows, request, task, given, plain)


def _solutions(rows: Iterable[DataRow]) -> Iterator[Example]:
    for row in rows:
        steps, right = tuple(row.value["completions"]), row.value["labels"]
        labels = until_first_error(len(steps), right.index(False) if False in right else None)
        candidate = Candidate(Response("\n".join(steps), steps), all(right), step_labels=labels)
        yield Example(str(row.value["id"]), (Message("user", row.text("prompt")),), (candidate,))


# answers to questions: a verifier and an encoder


def answered(row: Row) -> Request:
    return Request("reward", (Message("user", row["question"]),), (Response(row["answer"]),))


def graded(data: Path, tokenizer: Any, count: int, longest: int) -> list[Row]:
    fit = (
        row
        for row in islice(answers(data), TRAINED, None)
        if len(tokenizer(VERIFY.format(**row))["input_ids"]) <= longest
    )
    return list(islice(fit, count))


def _graded(rows: Iterable[DataRow]) -> Iterator[Example]:
    for row in rows:
        candidate = Candidate(row.text("answer"), bool(row.value["right"]))
        yield Example("", (Message("user", row.text("question")),), (candidate,), cluster=row.text("question"))


GRADED = Grading("graded", 1, "right or wrong", "", _graded, measure=Grades(at=0.5))


def verifying(folder: Path, data: Path, count: int, longest: int) -> Family:
    tokenizer = tokenizer_of(folder)
    question = folder / "question.jinja"
    question.write_text(VERIFY.format(question="{{ prompt }}", answer="{{ response }}"))
    words = [tokenizer.encode(word, add_special_tokens=False)[0] for word in ("Yes", "No")]

    def ids(row: Row) -> Ids:
        return templated(tokenizer, [{"role": "user", "content": VERIFY.format(**row)}], due=True)

    def read(logits: Sequence[Logits], row: Row, ids: Ids) -> Sequence[float]:
        return [float(logits[0][len(ids) - 1, words].softmax(-1)[0])]

    rows = graded(data, tokenizer, count, longest)
    plain = Plain([loaded(folder, "AutoModelForCausalLM")], ids, read)
    return Family("verifier", f"yesno:{folder}?question={question}", "reward", rows, answered, GRADED, rows, plain)


def encoding(folder: Path, data: Path, count: int, longest: int) -> Family:
    tokenizer = tokenizer_of(folder)

    def both(row: Row) -> Any:
        return tokenizer(row["question"], row["answer"])

    rows = graded(data, tokenizer, count, longest)
    plain = Plain([loaded(folder, "AutoModelForSequenceClassification")], lambda row: both(row)["input_ids"], _pooled,
                  lambda row: both(row)["token_type_ids"])  # fmt: skip
    task = Grading("graded", 1, "right or wrong", "", _graded, measure=Grades(at=0.0))
    return Family("encoder", f"classifier:{folder}?template=pair", "reward", rows, answered, task, rows, plain)


def families(base: Path, made: Path, count: int, longest: int, only: str) -> Iterator[Family]:
    """Those that are asked for, one loaded at a time."""
    data = Path(os.environ["RMBENCH_DATA"])
    kept = pairs(data, tokenizer_of(base), count, longest)
    ways: Mapping[str, Callable[[], Family]] = {
        "reward": lambda: rewarding(made / "reward", base, kept, adapter=False),
        "adapter": lambda: rewarding(made / "adapter", base, kept, adapter=True),
        "policy": lambda: implicit(made / "policy", base, kept),
        "process": lambda: process(made / "process", data, count, longest),
        "verifier": lambda: verifying(made / "verifier", data, count, longest),
        "encoder": lambda: encoding(made / "encoder", data, count, longest),
    }
    for name, way in ways.items():
        if only in name and (made / name).exists():
            yield way()


# what is measured


def ours(spec: str, requests: Sequence[Request], **options: Any) -> tuple[list[list[float]], float]:
    """What rmbench says of each request, and the seconds it scored; loading is left out."""
    usage = Usage()
    with Session(open_model(spec, **options), Asking(usage=usage)) as session:
        session.ask([Question(requests[0])])  # loads
        started = time.perf_counter()
        rewards = session.ask([Question(request) for request in requests]).rewards
        seconds = time.perf_counter() - started
    return [numbers(reward) for reward in rewards], seconds


def numbers(reward: Reward) -> list[float]:
    assert reward.status == "ok", reward.detail
    return list(reward.steps) or [reward.value]


def flat(scores: Sequence[Sequence[float]]) -> Array:
    return np.array([number for row in scores for number in row])


def turned(first: Array, others: Array) -> tuple[int, int]:
    """How many pairs of numbers stand in another order, and of how many."""
    above = np.triu_indices(len(first), 1)
    signs = [np.sign(one[:, None] - one[None])[above] for one in (first, others)]
    return int((signs[0] != signs[1]).sum()), len(above[0])


def figures(family: Family) -> str:
    """What a result has to say of it, each with its interval."""
    name = getattr(family.task, "name", family.task)
    (result,) = rmbench.evaluate(family.spec, [family.task], data={name: list(family.data)})
    view = result.primary_view
    parts = []
    for one in result.metrics:
        if one.view == view and one.subset == "all" and one.name in SHOWN:
            parts.append(with_interval(one.name, one))
    if result.calibration is not None:
        how = result.calibration.maps[0]
        parts += [with_interval(f"ece ({how.scope}, {how.map})", one) for one in how.figures if one.name == "ece"]
    return "; ".join(parts)


def with_interval(name: str, figure: Any) -> str:
    value, low, high = ("-" if end is None else f"{end:.3f}" for end in (figure.value, figure.ci_low, figure.ci_high))
    return f"{name} {value} [{low}, {high}]"


def measured(family: Family, few: int) -> list[str]:
    """The lines of a model, the first of them its difference from the plain way."""
    requests = [family.requests(row) for row in family.rows]
    alone = flat(family.plain.scores(family.rows, 1))
    said = flat(ours(family.spec, requests)[0])
    off = float(np.abs(said - alone).max() / np.abs([*alone, *family.subtracted]).max())
    lines = [f"{family.name}: {len(requests)} conversations, {off:.1e} of the scale from one at a time"]
    lines.append(f"  {figures(family)}")
    few_rows = family.rows[:few]
    narrow = flat(ours(family.spec, requests[:few], dtype="bfloat16")[0])
    count, of = turned(said[: len(narrow)], narrow)
    lines.append(
        f"  bfloat16 turns {count} of {of:,} pairs round, {np.abs(narrow - said[: len(narrow)]).max():.1e} off"
    )
    seconds = {"rmbench": ours(family.spec, requests[:few])[1]}
    for name, size in (("one at a time", 1), ("common loop", EIGHT)):
        started = time.perf_counter()
        family.plain.scores(few_rows, size)
        seconds[name] = time.perf_counter() - started
    lines.append("  seconds of " + ", ".join(f"{name} {spent:.1f}" for name, spent in seconds.items()))
    return lines


def doctor(spec: str) -> tuple[bool, str]:
    """Whether `rmbench doctor` finds nothing, and what it finds."""
    command = [sys.executable, "-m", "rmbench", "doctor", "-m", spec, "--json"]
    command += [word for check in ACCEPTED for word in ("--accept", check)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        return False, (done.stderr.strip().splitlines() or ["no answer"])[-1]
    return done.returncode == 0, _told(done.stdout)


def _told(text: str) -> str:
    """What fails, of the model and of those that it stands on, with the number."""
    (diagnosis,) = json.loads(text)
    findings = [one for each in (diagnosis, *diagnosis["members"]) for one in each["findings"]]
    failed = [f"{one['check']} ({one['told']})" for one in findings if one["verdict"] == "fail"]
    return f"{len(findings)} checks" + (f", failed: {'; '.join(failed)}" if failed else "")


def main() -> None:
    """Reads the command line, trains what is missing, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--conversations", type=int, default=100)
    parser.add_argument("--longest", type=int, default=256, help="tokens of a conversation")
    parser.add_argument("--few", type=int, default=24)
    parser.add_argument("--only", default="", help="part of a name")
    parser.add_argument("--no-train", action="store_true", help="measure what is there")
    parser.add_argument("--no-doctor", action="store_true")
    given = parser.parse_args()
    if "RMBENCH_DATA" not in os.environ:
        raise SystemExit("RMBENCH_DATA is not set; expected the folder of the data")
    base = language_model(given.folder / "language_model")
    if not given.no_train:
        train(base, encoder(given.folder / "encoder_base"), given.folder, given.steps)
    right = []
    with TemporaryDirectory() as cache:
        os.environ["RMBENCH_CACHE"] = cache
        for family in families(base, given.folder, given.conversations, given.longest, given.only):
            lines = measured(family, given.few)
            print("\n".join(lines), flush=True)
            right.append(float(lines[0].split(", ")[1].split()[0]) <= TOLERANCE)
            if not given.no_doctor:
                well, told = doctor(family.spec)
                print(f"  doctor: {'nothing' if well else 'something'} found, {told}", flush=True)
                right.append(well)
    print(f"seed {SEED}")
    if not all(right):
        sys.exit(f"{right.count(False)} of {len(right)} are not as they should be")


if __name__ == "__main__":
    main()
