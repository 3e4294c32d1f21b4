"""How much generation gains where prompts are shared and rows leave when they end, against `model.generate` on the same
batches: median ratios of interleaved runs on one core.

Floor of the model here (llama, 4 layers, 256 wide, 3.4 M weights used a token): 6.9 MFLOP a token, 13.7 MB of weights
read a step, 4 KiB of cache held a token, which a step reads once and copies once.

Predicted before it was built:
samples: 32 prompts of 200 tokens x 8 samples, cap 64. 51,200 + 16,128 tokens without sharing, 6,400 + 16,128 with it:
    at most 2.99 x were all tokens equal; a decoded one costs 2-3 prefilled ones, so 1.9-2.4 x.
ragged: 256 prompts that end after 1 to 256 tokens, 64 a batch. 64,800 rows x steps to the end of every batch, 32,900 to
    the end of every row: at most 1.97 x; with an eighth of the batch idle at times and its end thinning out, 1.5-1.8 x.

Learnt from a first run, on a machine loaded by others: samples gained 1.5 x (1.3-2.1), less than predicted. It was not
looked into; the guess is that a model so narrow is bound by its cache while it decodes, which is the same both ways.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from rmbench.checkpoints.forms import Form
from rmbench.models.base import Encoded, Subject
from rmbench.policies.decoding import shares
from rmbench.policies.drawing import Draw, uniform
from rmbench.policies.local import Local
from rmbench.types import GenerationRequest, Message

RUNS = 5
VOCAB, END = 2048, 3


class Numbers:
    """A tokenizer of prompts that are written as token ids."""

    tokenizer = SimpleNamespace(decode=lambda ids, **_: " ".join(map(str, ids)))

    def encode_forms(self, forms: Sequence[Form]) -> list[Encoded]:
        return [Encoded([int(word) for word in str(form.messages[0].text).split()], ()) for form in forms]


def policy() -> Local:
    """A random llama that fits into the caches of a core."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    rendering: Any = Numbers()
    return Local(
        Subject("bench", "local"), "bench", "tokens", model, rendering, frozenset({END}), 64 * 264, shares(model)
    )


def prompts(count: int, length: int, head: int = 0) -> list[tuple[Message, ...]]:
    """Different prompts of so many random tokens, the first `head` of them the same."""
    import torch

    ids = torch.randint(4, VOCAB, (count, length), generator=torch.Generator().manual_seed(1))
    ids[:, :head] = ids[:1, :head]
    return [(Message("user", " ".join(map(str, row))),) for row in ids.tolist()]


class Until(Draw):
    """Draws, but ends a response after the number of tokens, 1 to `longest`, that its key says."""

    longest = 0

    def __call__(self, scores: Any, keys: Sequence[str], positions: Sequence[int]) -> Any:
        tokens = super().__call__(scores, keys, positions)
        for row, (key, position) in enumerate(zip(keys, positions, strict=True)):
            ends = position >= int(uniform(key, -1) * Until.longest)
            tokens[row] = END if ends else 4 + int(tokens[row]) % (VOCAB - 4)
        return tokens


def compare(name: str, written: Local, asked: Sequence[GenerationRequest], longest: int) -> None:
    """Prints one line: seconds of both ways, and the median of their ratios."""
    Until.longest = longest
    ratios, seconds, texts = [], [], []
    for run in range(RUNS + 1):
        took = []
        for one in (written, replace(written, shares=False)):
            started = time.perf_counter()
            texts.append(dict(one.generate(asked)))
            took.append(time.perf_counter() - started)
        if run:  # the first warms up
            ratios.append(took[1] / took[0])
            seconds.append(took)
    same = sum(texts[0][index] == texts[1][index] for index in texts[0])
    shared, plain = (statistics.median(some) for some in zip(*seconds, strict=True))
    print(
        f"{name:>10}  {shared:.2f} s  model.generate {plain:.2f} s  median ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f}-{max(ratios):.2f})  same texts {same}/{len(asked)}"
    )


def main() -> None:
    """Prints the table."""
    import torch

    from rmbench.policies import local

    torch.set_num_threads(1)
    vars(local)["Draw"] = Until
    written, drawn = policy(), {"temperature": 1.0, "seed": 0}
    samples = [GenerationRequest(prompt, sample, 64, drawn) for prompt in prompts(32, 200) for sample in range(8)]
    compare("samples", written, samples, 10**9)
    compare("ragged", replace(written, token_budget=64 * 288),
            [GenerationRequest(prompt, 0, 256, drawn) for prompt in prompts(256, 32)], 256)  # fmt: skip
    compare("head", written, [GenerationRequest(prompt, 0, 64, drawn) for prompt in prompts(128, 200, 180)], 10**9)
    compare("nothing", written, [GenerationRequest(prompt, 0, 64, drawn) for prompt in prompts(128, 200)], 10**9)


if __name__ == "__main__":
    main()
