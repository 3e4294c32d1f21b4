"""What the rewards of all steps of a solution cost beside one plain packed forward over the same tokens.

    python benchmarks/steps.py [--solutions 4] [--rounds 3] [--threads 1] [--clock processor] [--quick]

The model is a random Llama of 38.9M (512 wide, 8 layers) with 32,000 words, read as Math-Shepherd is: two words of its
vocabulary behind each step. Two solutions of a question have 8 steps of 30 to 90 tokens each. Ways, in turning order:
`forward`, the backbone over all solutions in one row, nothing read but the last token; `steps`, what the family gives,
over the same row; `steps, from text`, the same with rendering and tokenising; `steps, shared`, as a run plans it, a
question once; `a forward a step`, each step's beginning by itself, as an outcome reward model has to be asked. Columns:
seconds (median, least and most), how many times those of `forward`, the largest difference of a step's reward from
that of `a forward a step`. `steps` may take 1.3 times `forward`, or the exit code is 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast

import torch
from race.clock import deviation
from race.data import SHAPES, VOCABULARY, WORDS, word_tokenizer
from race.sides import BUDGET, planned

import rmbench
from rmbench.checkpoints.weights import quiet
from rmbench.forwards.budget import TokenBudget
from rmbench.forwards.loop import run
from rmbench.forwards.memory import held
from rmbench.forwards.plan import Way
from rmbench.models.base import Encoded, TokenModel
from rmbench.types import Ask, Message, Request, Response, Reward

BOUND = 1.3
STEPS, TAG, GOOD, BAD = 8, *WORDS[:3]
FORWARD, OURS, TEXT, SHARED, EACH = "forward", "steps", "steps, from text", "steps, shared", "a forward a step"
PACKED: frozenset[Way] = frozenset({"packed"})
ALL: frozenset[Way] = frozenset({"packed", "shared", "padded"})
ALONE: frozenset[Way] = frozenset({"padded"})


@dataclass
class Plain:
    """The backbone alone."""

    backbone: Any
    fingerprint: str = "benchmark"
    layout: Literal["causal", "encoder"] = "causal"
    answers: frozenset[Ask] = frozenset({"steps"})

    def encode(self, requests: Sequence[Request]) -> list[Encoded]:
        raise NotImplementedError

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        return [Reward((0.0,), steps=(float(states[-1, 0]),)) for states in hidden]


def main() -> int:
    """Reads the command line, measures, prints the table; 1 where the bound is passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solutions", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "processor"), default="processor")
    parser.add_argument("--quick", action="store_true", help="a small model: whether it works, not how fast")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    now = {"wall": time.perf_counter, "processor": time.process_time}[given.clock]
    with TemporaryDirectory() as folder:
        model = opened(Path(folder), quick=given.quick)
        asked = requests(given.solutions)
        ways = ways_of(model, asked)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        values: dict[str, list[float]] = {}
        for at in range(given.rounds):
            for name in list(ways)[:: -1 if at % 2 else 1]:
                started = now()
                values[name] = ways[name]()
                seconds[name].append(now() - started)
        tokens = sum(len(one.ids) for one in model.encode(asked))
    print(f"{len(asked)} solutions of {STEPS} steps, {tokens:,} tokens\n")
    print("| way | s | least and most | x forward | deviation |\n|---|---|---|---|---|")
    middle = {name: median(each) for name, each in seconds.items()}
    for name, each in seconds.items():
        off = "" if name == FORWARD else f"{deviation(values[name], values[EACH]):.1e}"
        ratio = middle[name] / middle[FORWARD]
        print(f"| {name} | {middle[name]:.2f} | {min(each):.2f}-{max(each):.2f} | {ratio:.2f} | {off} |")
    return int(middle[OURS] > BOUND * middle[FORWARD])


def ways_of(model: TokenModel, asked: Sequence[Request]) -> dict[str, Callable[[], list[float]]]:
    """The rewards of all steps of all solutions, by each way."""
    encoded = model.encode(asked)
    plain = [replace(one, reads=(len(one.ids) - 1,)) for one in encoded]
    return {
        FORWARD: partial(rewards, cast(TokenModel, Plain(model.backbone)), plain, PACKED),
        OURS: partial(rewards, model, encoded, PACKED),
        TEXT: lambda: rewards(model, model.encode(asked), PACKED),
        SHARED: partial(rewards, model, encoded, ALL),
        EACH: partial(rewards, model, model.encode([one for request in asked for one in apart(request)]), ALONE, 1),
    }


def rewards(model: TokenModel, encoded: Sequence[Encoded], ways: frozenset[Way], budget: int = BUDGET) -> list[float]:
    """The last steps' rewards where a sequence is a step's, all of them otherwise."""
    bins = planned(model, encoded, ways, budget)
    read: list[tuple[float, ...]] = [()] * len(encoded)
    with held("cpu"):
        for one, made in run(model, encoded, lambda *_: bins, TokenBudget(budget)):
            assert made is not None  # the memory did suffice
            for i, reward in zip(one.members, made, strict=True):
                read[i] = reward.steps[-1:] if ways == ALONE else reward.steps
    return [value for values in read for value in values]


def apart(request: Request) -> list[Request]:
    """A solution as far as its first step, its second, and so on."""
    steps = request.responses[0].steps or ()
    return [replace(request, responses=(_solution(steps[: i + 1]),)) for i in range(len(steps))]


def requests(solutions: int) -> list[Request]:
    """Questions of 60 to 200 words, each with two solutions."""
    draw, made, question = random.Random(0), [], ""
    for number in range(solutions):
        if number % 2 == 0:
            question = " ".join(draw.choices(WORDS[3:], k=draw.randint(60, 200)))
        steps = [" ".join(draw.choices(WORDS[3:], k=draw.randint(30, 90))) for _ in range(STEPS)]
        made.append(Request("steps", (Message("user", question),), (_solution(steps),)))
    return made


def _solution(steps: Sequence[str]) -> Response:
    return Response(" ".join(steps), tuple(steps))


def opened(folder: Path, *, quick: bool) -> TokenModel:
    """A random language model, as the family of process models opens it."""
    import transformers

    small = {"hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 256} if quick else {}
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "vocab_size": VOCABULARY}
    torch.manual_seed(0)
    with quiet():
        config = transformers.LlamaConfig(**{**SHAPES["llama"], **small, **ids})
        transformers.LlamaForCausalLM(config).eval().save_pretrained(folder)
        word_tokenizer().save_pretrained(folder)
        made = rmbench.load_model(f"process:{folder}?step_tag={TAG}&good={GOOD}&bad={BAD}", device="cpu")
    return cast(TokenModel, made)


if __name__ == "__main__":
    sys.exit(main())
