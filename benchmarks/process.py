"""What reading all steps of solutions costs beside plain forwards over the same tokens: `python benchmarks/process.py`

    python benchmarks/process.py [--quick] [--rounds 5] [--threads 1]

Both sides start from the same texts and end with the same numbers, in turning order. Plain: the backbone on the ids of
one solution after the other, without padding, tokenised before the clock runs, and two rows of the head at the tags.
rmbench: from messages to rewards, by the family `process`. Seconds are the processor's.
Above 1.3 times the plain side the exit code is 1.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from race import data

from rmbench.checkpoints.weights import quiet
from rmbench.models import process
from rmbench.scoring import Asking, Session
from rmbench.types import Message, Question, Request, Response

BOUND = 1.3
TAG, GOOD, BAD = "<|end|>", data.WORDS[0], data.WORDS[1]


def main() -> None:
    """Reads the command line, measures, prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it works, not how fast")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    print("| workload | tokens | plain, s | rmbench, s | times plain | largest difference |\n|---|---|---|---|---|---|")
    with TemporaryDirectory() as folder:
        checkpoint = language_model(Path(folder) / "lm", quick=given.quick)
        problems, steps = (2, 3) if given.quick else (12, 8)
        ratios = [
            measure("alone", checkpoint, solutions(problems, 1, steps), given.rounds),
            measure("four a problem", checkpoint, solutions(problems // 2, 4, steps), given.rounds),
        ]
    if max(ratios) > BOUND and not given.quick:
        raise SystemExit(1)


def language_model(folder: Path, *, quick: bool) -> Path:
    """A random language model of the benchmarks' Llama, whose tokenizer has the tag as one token."""
    import torch
    import transformers

    data.checkpoint(folder, "llama", quick=quick)
    config = transformers.AutoConfig.from_pretrained(folder)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def solutions(problems: int, each: int, steps: int) -> list[Request]:
    """So many solutions of each problem, of 200 words, in steps of 20 to 60."""
    draw, requests = random.Random(3), []
    for _ in range(problems):
        prompt = (Message("user", " ".join(draw.choices(data.WORDS, k=200))),)
        for _ in range(each):
            written = tuple(" ".join(draw.choices(data.WORDS, k=draw.randint(20, 60))) for _ in range(steps))
            requests.append(Request("steps", prompt, (Response(" ".join(written), written),)))
    return requests


def measure(name: str, checkpoint: Path, requests: list[Request], rounds: int) -> float:
    """One row of the table; how many times the plain side's seconds rmbench takes."""
    options = {"step_tag": TAG, "good": GOOD, "bad": BAD, "step": "{step} {tag} ", "scale": "logit"}
    with process.open(str(checkpoint), options).started("cpu") as model:
        ids = [list(one.ids) for one in model.encode(requests)]
        ways: dict[str, Callable[[], list[float]]] = {
            "plain": lambda: plain(checkpoint, model.backbone, ids),
            "rmbench": lambda: rated(model, requests),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        numbers = {way: run() for way, run in ways.items()}  # warms both up
        for at in range(rounds):
            for way in list(ways)[:: -1 if at % 2 else 1]:
                started = time.process_time()
                ways[way]()
                seconds[way].append(time.process_time() - started)
    off = max(abs(a - b) for a, b in zip(numbers["plain"], numbers["rmbench"], strict=True))
    scale = max(map(abs, numbers["plain"]))
    took = {way: statistics.median(some) for way, some in seconds.items()}
    ratio = took["rmbench"] / took["plain"]
    print(
        f"| {len(requests)} solutions, {name} | {sum(map(len, ids)):,} | {took['plain']:.2f} | {took['rmbench']:.2f} |"
        f" {ratio:.2f} | {off / scale:.1e} of the scale |",
        flush=True,
    )
    return ratio


def plain(checkpoint: Path, backbone: Any, ids: list[list[int]]) -> list[float]:
    """The log-odds of the two tokens at every tag, one solution after the other."""
    import torch

    head, tag = plain_head(checkpoint)
    made: list[float] = []
    with torch.inference_mode():
        for row in ids:
            given = torch.tensor([row])
            states = backbone(input_ids=given, use_cache=False).last_hidden_state[0, given[0] == tag]
            logits = states @ head.T
            made += (logits[:, 0] - logits[:, 1]).tolist()
    return made


@cache
def plain_head(checkpoint: Path) -> tuple[Any, int]:
    """The two rows of the head and the tag's id, read once, before the clock runs."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    tag, good, bad = (tokenizer(one, add_special_tokens=False)["input_ids"][-1] for one in (TAG, GOOD, BAD))
    with quiet():
        model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    return model.lm_head.weight[[good, bad]].detach(), tag


def rated(model: Any, requests: list[Request]) -> list[float]:
    """The same by a session that keeps nothing."""
    with Session(model, Asking()) as session:
        rewards = session.ask([Question(request) for request in requests]).rewards
    return [step for reward in rewards for step in reward.steps]


if __name__ == "__main__":
    main()
