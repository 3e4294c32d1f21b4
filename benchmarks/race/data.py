"""What is scored: texts of words that are one token each, so that lengths are as asked, and random checkpoints."""

from __future__ import annotations

import itertools
import math
import random
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import checkpoints

from rmbench.checkpoints.weights import quiet
from rmbench.types import Message, Request, Response

VOCABULARY = 32_000
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>")
WORDS = tuple(map("".join, itertools.islice(itertools.product(string.ascii_lowercase, repeat=4), VOCABULARY)))[
    : VOCABULARY - len(SPECIAL)
]
# A turn ends with two tokens, as those of ChatML do, so a part of a solution is no prefix of the tokens of all of it
CHAT = "<s>{% for message in messages %} <|{{ message.role }}|> {{ message.content }} <|end|> </s>{% endfor %}"
AROUND, CLOSING = 7, 2  # tokens of the template: around one turn of each side, and behind a turn
SWEEP = ((60, 300, 10), (200, 300, 10), (400, 100, 10), (1000, 200, 10), (200, 300, 2), (200, 300, 4), (400, 100, 2))

_LLAMA = {"hidden_size": 512, "num_hidden_layers": 8, "intermediate_size": 1408, "num_attention_heads": 8}
_ENCODER = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536, "num_attention_heads": 6}
_WINDOWED = {**_LLAMA, "num_key_value_heads": 2, "head_dim": 64, "sliding_window": 512, "max_position_embeddings": 8192}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {**_LLAMA, "num_key_value_heads": 2, "max_position_embeddings": 8192},
    "gemma2": {**_WINDOWED, "query_pre_attn_scalar": 64},  # every second layer has the window, all have soft caps
    "gpt_oss": {**_WINDOWED, "intermediate_size": 704, "num_local_experts": 2, "num_experts_per_tok": 2},
    "bert": {**_ENCODER, "max_position_embeddings": 2048},  # as the prototypes', so that no text is cut
    "modernbert": {
        **_ENCODER,
        "intermediate_size": 1024,  # gated: two matrices of that width, so as much work as BERT's
        "local_attention": 128,
        "global_attn_every_n_layers": 3,
        "max_position_embeddings": 8192,
    },
    "deberta-v2": {**_ENCODER, "position_buckets": 256},
}


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests in the order of a data set, and which of its prompt's candidates each is (0: the chosen one)."""

    name: str
    requests: list[Request]
    candidate: list[int]


def checkpoint(folder: Path, architecture: str, *, quick: bool) -> Path:
    """Writes a random checkpoint of `architecture` (a key of SHAPES) whose tokenizer knows WORDS, small if `quick`."""
    values = dict(SHAPES[architecture])
    if quick:
        values |= {"hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 256, "num_attention_heads": 4}
    ids: dict[str, Any] = {
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "cls_token_id": 2,
        "sep_token_id": 3,
    }
    with quiet():
        checkpoints.make(folder, architecture, vocab_size=VOCABULARY, initializer_range=0.02, **ids, **values)
    word_tokenizer().save_pretrained(folder)
    return folder


def word_tokenizer() -> Any:
    """A tokenizer in which each of WORDS is a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens=list(SPECIAL[4:]),
        model_input_names=["input_ids", "attention_mask"],
    )
    wrapped.chat_template = CHAT
    return wrapped


def rewardmath_like(prompts: int, candidates: int = 10, most: int | None = None, shrink: int = 1) -> Workload:
    """Prompts of 60-400 tokens, responses lognormal with median 300 (sigma .7, 50-1500), all cut to `most` tokens.

    `shrink` divides all lengths.
    """
    # the first seed whose six prompts and their responses are on average within 5 % of the expected 230 and 378 tokens
    draw = random.Random(9)
    sizes = []
    for _ in range(prompts):
        prompt = draw.randint(60, 400)
        for _ in range(candidates):
            response = min(1500, max(50, int(draw.lognormvariate(math.log(300), 0.7))))
            sizes.append((prompt // shrink, response // shrink))
    if most is not None:
        sizes = [(prompt, min(response, most - AROUND - prompt)) for prompt, response in sizes]
    return _workload("RewardMATH-like", sizes, candidates)


def fixed(prompt: int, response: int, candidates: int) -> Workload:
    """One prompt and its candidates, of the lengths given."""
    return _workload(f"{prompt}/{response}/{candidates}", [(prompt, response)] * candidates, candidates)


def step_prefixes(solutions: int, steps: int, prompt: int, step: int) -> Workload:
    """Each solution as far as its 1st, 2nd, ... step, as a process reward is asked of a model of whole responses."""
    draw, requests = random.Random(1), []
    for _ in range(solutions):
        asked = _words(draw, prompt)
        written = [_words(draw, draw.randint(step // 2, step * 3 // 2)) for _ in range(steps)]
        requests += [_request(asked, " ".join(written[: i + 1])) for i in range(steps)]
    return Workload("step prefixes", requests, [0] * len(requests))


def _workload(name: str, sizes: list[tuple[int, int]], candidates: int) -> Workload:
    draw, requests, prompt = random.Random(2), [], ""
    for i, (asked, answered) in enumerate(sizes):
        if i % candidates == 0:
            prompt = _words(draw, asked)
        requests.append(_request(prompt, _words(draw, answered)))
    return Workload(name, requests, [i % candidates for i in range(len(sizes))])


def _request(prompt: str, response: str) -> Request:
    return Request("reward", (Message("user", prompt),), (Response(response),))


def _words(draw: random.Random, count: int) -> str:
    return " ".join(draw.choices(WORDS, k=count))
