"""What a likelihood costs beside one plain packed forward over the same tokens, in turning order.

    python benchmarks/likelihood.py [--prompts 3] [--rounds 3] [--threads 1] [--clock processor] [--quick]
    python benchmarks/likelihood.py --drift CHECKPOINT

The model is random and of SmolLM2-135M's shape (30 layers of 576, 49,152 words), whose vocabulary is a fifth of its
products. Texts are random ids, a prompt with two responses, as DPO's data are. Ways: `forward`, the backbone over all
sequences in one row, nothing of the vocabulary; `forward and logits`, the same and the logits of every token at once,
their log-softmax and a gather, as trainers without padding have it; `likelihood`, the family's, over the same row, and
`likelihood, shared`, as a run plans it, a prompt once. Columns: seconds (median, least and most), how many times the
seconds of `forward` and of `forward and logits`, the largest difference of a sum from that of `forward and logits`
as a share of the largest. `likelihood` may take 1.3 times `forward`, or the exit code is 1.

`--drift`: how far log-probabilities in bfloat16, with logits in float32 and in bfloat16, are from those in float32, on
RM-Bench's first chats (RMBENCH_DATA names the folder of the data), in nats.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from race.clock import deviation
from race.sides import planned, run_bins

import rmbench
from rmbench.checkpoints.rendering import Limits, Rendering
from rmbench.checkpoints.vocabulary import Vocabulary
from rmbench.forwards.plan import Way
from rmbench.models.base import Encoded
from rmbench.models.likelihood import Likelihood
from rmbench.types import Ask, Request, Reward

BOUND = 1.3
SHAPE = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
         "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 2048}  # fmt: skip
QUICK = {"hidden_size": 72, "intermediate_size": 144, "num_hidden_layers": 2, "vocab_size": 4096}
FORWARD, LOGITS, OURS, SHARED = "forward", "forward and logits", "likelihood", "likelihood, shared"
PACKED: frozenset[Way] = frozenset({"packed"})
ALL: frozenset[Way] = frozenset({"packed", "shared", "padded"})


@dataclass
class Model:
    """A TokenModel of sequences that are encoded already. `way` is what is made of their hidden states."""

    backbone: Any
    vocabulary: Vocabulary
    way: str
    fingerprint: str = "benchmark"
    layout: Literal["causal", "encoder"] = "causal"
    answers: frozenset[Ask] = frozenset({"likelihood"})

    def encode(self, requests: Sequence[Request]) -> list[Encoded]:
        raise NotImplementedError

    def read(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        with torch.inference_mode():
            if self.way == FORWARD:
                return [Reward((float(states[-1, 0]),)) for states in hidden]
            if self.way == LOGITS:
                return self._at_once(hidden, encoded)
            rule = Likelihood(self.vocabulary, Rendering(None, "plain", Limits()), "left", counts_end=True)
            return rule.read(hidden, encoded)

    def _at_once(self, hidden: Sequence[torch.Tensor], encoded: Sequence[Encoded]) -> list[Reward]:
        """Every token of the row by every word, and then the response's tokens, as a trainer does."""
        logits = torch.cat(list(hidden)) @ self.vocabulary.weight.T
        ids = torch.from_numpy(np.concatenate([[*one.ids[1:], 0] for one in encoded]))
        each = logits.log_softmax(-1).gather(1, ids[:, None])[:, 0].double()
        rows = torch.split(each, [len(one.ids) for one in encoded])
        answered = [states[one.note : -1].sum() for states, one in zip(rows, encoded, strict=True)]
        return [Reward((float(one),)) for one in answered]


def main() -> int:
    """Reads the command line, measures, prints the table; 1 where the bound is passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "processor"), default="processor")
    parser.add_argument("--quick", action="store_true", help="a small model: whether it works, not how fast")
    parser.add_argument("--drift", type=Path, metavar="CHECKPOINT", help="instead: the folder of a language model")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.drift is not None:
        return drift(given.drift)
    now = {"wall": time.perf_counter, "processor": time.process_time}[given.clock]
    model = language_model({**SHAPE, **QUICK} if given.quick else SHAPE)
    vocabulary = Vocabulary(model.lm_head.weight.detach(), torch.float32)
    encoded = sequences(given.prompts, len(vocabulary.weight))
    everywhere = [replace(one, reads=range(len(one.ids))) for one in encoded]
    ways = {
        name: partial(measured, Model(model.model, vocabulary, name), some, plans)
        for name, some, plans in (
            (FORWARD, encoded, PACKED), (LOGITS, everywhere, PACKED), (OURS, encoded, PACKED), (SHARED, encoded, ALL)
        )
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    values: dict[str, list[float]] = {}
    for at in range(given.rounds):
        for name in list(ways)[:: -1 if at % 2 else 1]:
            started = now()
            values[name] = ways[name]()
            seconds[name].append(now() - started)
    tokens, answered = sum(len(one.ids) for one in encoded), sum(len(one.reads) for one in encoded)
    print(f"{len(encoded)} sequences, {tokens:,} tokens, of which {answered:,} are responses'\n")
    print("| way | s | least and most | x forward | x forward and logits | deviation |\n|---|---|---|---|---|---|")
    middle = {name: median(some) for name, some in seconds.items()}
    for name, some in seconds.items():
        off = "" if name == FORWARD else f"{deviation(values[name], values[LOGITS]):.1e}"
        print(f"| {name} | {middle[name]:.2f} | {min(some):.2f}-{max(some):.2f} | {middle[name] / middle[FORWARD]:.2f} "
              f"| {middle[name] / middle[LOGITS]:.2f} | {off} |")  # fmt: skip
    return int(middle[OURS] > BOUND * middle[FORWARD])


def drift(folder: Path) -> int:
    """Prints how far each way is from float32, token by token and in the sum of a response."""
    rows = json.loads(Path(os.environ["RMBENCH_DATA"], "rm_bench", "chat_filtered.json").read_text())[:2]
    chats = [(row["prompt"], text) for row in rows for text in (*row["chosen"], *row["rejected"])]
    exact: list[Reward] = []
    print("| weights | logits | s | a token, mean | a token, most | a response, rms |\n|---|---|---|---|---|---|")
    for dtype, head in (("float32", "float32"), ("bfloat16", "float32"), ("bfloat16", "bfloat16")):
        started = time.process_time()
        spec = f"dpo:{folder}?dtype={dtype}&head_dtype={head}"
        rewards = rmbench.score(spec, chats, ask="tokens", fresh=True)
        seconds, exact = time.process_time() - started, exact or rewards
        pairs = list(zip(rewards, exact, strict=True))
        each = np.abs(np.concatenate([np.subtract(one.tokens, other.tokens) for one, other in pairs]))
        moved = np.sqrt(np.mean([(one.value - other.value) ** 2 for one, other in pairs]))
        print(f"| {dtype} | {head} | {seconds:.1f} | {each.mean():.3f} | {each.max():.3f} | {moved:.3f} |")
    print(f"\n{len(chats)} responses of {sum(len(one.tokens) for one in exact):,} tokens")
    return 0


def measured(model: Model, encoded: Sequence[Encoded], ways: frozenset[Way]) -> list[float]:
    return run_bins(model, encoded, planned(model, encoded, ways))


def language_model(shape: dict[str, int]) -> Any:
    import transformers

    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape, tie_word_embeddings=True)).eval()


def sequences(prompts: int, words: int) -> list[Encoded]:
    """Prompts of 50 to 250 tokens, each with two responses of 100 to 400, read as a likelihood is."""
    draw = np.random.default_rng(0)
    made = []
    for _ in range(prompts):
        prompt = draw.integers(3, words, draw.integers(50, 250))
        for _ in range(2):
            ids = [*prompt, *draw.integers(3, words, draw.integers(100, 400))]
            start = len(prompt) - 1
            reads = range(start, len(ids) - 1)
            made.append(Encoded([int(one) for one in ids], reads, ask="likelihood", note=start))
    return made


if __name__ == "__main__":
    sys.exit(main())
