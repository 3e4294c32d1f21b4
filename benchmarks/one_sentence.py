"""Writes the samples of task `one_sentence` anew, or tries rewards on more of them, one trained on the same policy.

    pip install gguf; python benchmarks/one_sentence.py FOLDER [--write]
    pip install gguf trl; python benchmarks/one_sentence.py FOLDER --full [--prompts 200] [--samples 64] [--steps 100]

SmolLM2-135M-Instruct answers the prompts of `rmbench.tasks.one_sentence.prompts` at temperature 1, in float32 on one
thread, each response with the log-probability of its tokens. Without `--full` it says how many of the bundled responses
it wrote again, and `--write` puts what it wrote in their place. Another batch, or another processor, rounds a near-tie
otherwise now and then, and what follows is another text: the exit code is 1 where less than nine tenths are the same.

With `--full` there are 200 prompts and 64 samples each, the bundled prompts among them, and TRL's RewardTrainer trains
a reward model on pairs of better and worse samples of other prompts; `rmbench overoptimize` says what best-of-n by each
reward does. The exit code is 1 where length does not make the policy worse. What is in FOLDER stays, and an interrupted
run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from real_trained import SEED, adapter, arguments, headed, saved
from real_weights import language_model

import rmbench.tasks.one_sentence
from rmbench.cache import cache_folder
from rmbench.models.spec import open_model
from rmbench.runs.respond import Sampling, write_responses
from rmbench.scoring import Asking, Session, Store
from rmbench.tasks.one_sentence.constraints import met
from rmbench.tasks.one_sentence.prompts import Asked, bundled, prompts
from rmbench.types import Message, Question, Request, Response

NAME, CAP = "SmolLM2-135M-Instruct", 60
SAMPLES, ALIKE = 32, 0.9  # of the bundled pool, and how much of it has to be written again
FULL_PROMPTS, FULL_SAMPLES = 200, 64
TRAINED_PROMPTS, TRAINED_SAMPLES, PAIRS_A_PROMPT = 120, 8, 4
BUNDLED = Path(rmbench.tasks.one_sentence.__file__).with_name("rows.jsonl")

Row = dict[str, Any]


def sampled(base: Path, asked: Sequence[Asked], samples: int, file: Path) -> list[Row]:
    """A row a prompt with what the policy wrote; `file` is where the prompts are put."""
    file.write_text("".join(json.dumps({"prompt": one.prompt}) + "\n" for one in asked))
    written = write_responses(f"local:{base}", str(file), Sampling(samples, CAP, 1.0, 1.0, SEED))
    responses: dict[str, list[Row]] = {one.prompt: [] for one in asked}
    columns = [list(written.columns[name]) for name in ("prompt", "response", "finish")]
    for prompt, text, finish in zip(*columns, strict=True):
        responses[str(prompt)].append({"text": str(text), "finish": str(finish)})
    return [
        {"id": one.id, "subset": one.subset, "prompt": one.prompt, "words": list(one.words), "limit": one.limit,
         "policy": NAME, "responses": responses[one.prompt]}
        for one in asked
    ]  # fmt: skip


def with_likelihoods(base: Path, rows: Sequence[Row]) -> list[Row]:
    """The same rows, each response with the log-probability of its tokens, its end left out."""
    requests = [
        Request("likelihood", (Message("user", row["prompt"]),), (Response(one["text"]),))
        for row in rows
        for one in row["responses"]
    ]
    opened = open_model(f"likelihood:{base}?end=none")
    with Store(cache_folder() / "rewards.sqlite") as store, Session(opened, Asking(store=store)) as session:
        found = iter(session.ask([Question(request) for request in requests]).rewards)
    return [
        {**row, "responses": [{**one, "logprob": round(next(found).value, 3)} for one in row["responses"]]}
        for row in rows
    ]


def text_of(rows: Sequence[Row]) -> str:
    """Rows as the task reads them."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def pairs(rows: Sequence[Row]) -> Iterator[Row]:
    """Better and worse samples of a prompt, drawn; those that keep to as much are no pair."""
    rng = Random(SEED)
    for row in rows:
        texts = [one["text"] for one in row["responses"]]
        kept = {text: sum(met(text, row["words"], row["limit"]).values()) for text in texts if text.strip()}
        found = [(better, worse) for better in kept for worse in kept if kept[better] > kept[worse]]
        for better, worse in rng.sample(found, min(PAIRS_A_PROMPT, len(found))):
            turns = ([{"role": role, "content": text}] for role, text in
                     (("user", row["prompt"]), ("assistant", better), ("assistant", worse)))  # fmt: skip
            yield dict(zip(("prompt", "chosen", "rejected"), turns, strict=True))


def trained(base: Path, rows: Sequence[Row], folder: Path, steps: int) -> Path:
    """The folder of a reward model of such pairs, made where it is not there."""
    if not (folder / "reward").exists():
        from datasets import Dataset
        from trl import RewardConfig, RewardTrainer  # type: ignore[import-not-found,unused-ignore]

        model, tokenizer = headed(base, "AutoModelForSequenceClassification", 1)
        trainer = RewardTrainer(
            model=model,
            args=arguments(RewardConfig, folder, steps, max_length=256, learning_rate=3e-4),
            train_dataset=Dataset.from_list(list(pairs(rows))),
            processing_class=tokenizer,
            peft_config=adapter("SEQ_CLS"),
        )
        saved(trainer, folder, "reward")
    return folder / "reward"


def full(base: Path, folder: Path, count: int, samples: int, steps: int) -> bool:
    """Whether best-of-n by length ends below chance on so many prompts x samples; prints what each reward does."""
    series = list(islice(prompts(), FULL_PROMPTS + TRAINED_PROMPTS))
    others = sampled(base, series[FULL_PROMPTS:], TRAINED_SAMPLES, folder / "prompts_trained.jsonl")
    reward = trained(base, others, folder, steps)
    pool = folder / "full.jsonl"
    pool.write_text(text_of(sampled(base, series[:count], samples, folder / "prompts_full.jsonl")))
    models = ["length", "random", "shortest", "demo", f"trained={reward}"]
    models += [f"{how}=ensemble:shortest,{reward}?how={how}&scale=z" for how in ("mean", "min", "and")]
    results, made = folder / "results", folder / "overoptimized"
    asked = [word for model in models for word in ("-m", model)]
    rmb("run", *asked, "-t", "one_sentence", "--data", f"one_sentence={pool}", "--out", str(results))
    rmb("overoptimize", str(results), "--out", str(made))
    report = json.loads((made / "overoptimize.json").read_text())
    by_length = next(one for one in report["entrants"] if one["name"] == "rmbench/length")
    return bool(by_length["gain_at_end"]["high"] < 0)


def rmb(*words: str) -> None:
    """Runs the command line; what it prints is the record."""
    print("$ rmbench", *words, flush=True)
    subprocess.run([sys.executable, "-m", "rmbench", *words], check=True)


def again(base: Path, folder: Path, *, writes: bool) -> bool:
    """Whether nearly all bundled responses were written again as they are; `writes` puts these in their place."""
    rows = sampled(base, bundled(), SAMPLES, folder / "prompts.jsonl")
    text = text_of(with_likelihoods(base, rows))
    before = [json.loads(line) for line in BUNDLED.read_text().splitlines()] if BUNDLED.exists() else []
    known = {(row["id"], at): one["text"] for row in before for at, one in enumerate(row["responses"])}
    same = [known.get((row["id"], at)) == one["text"] for row in rows for at, one in enumerate(row["responses"])]
    print(f"{sum(same):,} of {len(same):,} responses are those of {BUNDLED.name}")
    if writes:
        BUNDLED.write_text(text)
    return writes or sum(same) >= ALIKE * len(same)


def main() -> None:
    """Reads the command line."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true", help="put the rows in place of the bundled ones")
    parser.add_argument("--full", action="store_true", help="try rewards, one of them trained here")
    parser.add_argument("--prompts", type=int, default=FULL_PROMPTS, help=f"with --full, at most {FULL_PROMPTS}")
    parser.add_argument("--samples", type=int, default=FULL_SAMPLES, help="with --full, of each prompt")
    parser.add_argument("--steps", type=int, default=100, help="that the reward model is trained")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    os.environ.setdefault("RMBENCH_CACHE", str(given.folder / "cache"))
    base = language_model(given.folder / NAME)
    if given.full:
        well = full(base, given.folder, given.prompts, given.samples, given.steps)
    else:
        well = again(base, given.folder, writes=given.write)
    sys.exit(0 if well else "not as it should be")


if __name__ == "__main__":
    main()
