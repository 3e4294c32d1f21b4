"""Trains the demo reward model from scratch, on a CPU.

    python -m rmbench.demo.train --seed 0 --out FOLDER

A decoder of one million weights reads a problem and a solution, and its reward is read at the last token, as in any
reward model. It trains on problems of the generator of rewardmath_mini, from the side of its split that is not bundled.
What is saved is a plain checkpoint: no code of this file is needed to use it.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from rmbench.tasks.rewardmath_mini.generate import LIMIT, Problem, problems

if TYPE_CHECKING:
    import torch

    from rmbench.results.schema import TaskResult

STEPS = 2500
BATCH = 8  # problems
WRONG = 6  # of the nine wrong solutions of a problem, so that there is time for more problems
WIDTH, LAYERS, HEADS = 128, 5, 4
HALF, HEAD = WIDTH // 2, WIDTH // HEADS
COMPARING = 3  # the layer that compares each token with what was expected there
ROPE = 100_000.0
RATE = 1e-3  # what mattered most in the prototype of this script: twice as much, and it learnt nothing

TEMPLATE = (
    "{% for message in messages %}{{ 'A:' if message['role'] == 'assistant' else 'Q:' }} {{ message['content'] }}\n"
    "{% endfor %}"
)
# "Step 3:" and every whole number are one token each, so that equal numbers are equal tokens wherever they stand
_WORD = r"Step \d+:|The answer is|[QA]:|\d+|[A-Za-z]+|[^\sA-Za-z\d]"


def make_tokenizer(seed: int) -> Any:
    """A tokenizer of whole words and numbers, with the words of two thousand problems, and the chat template."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True)
    words = ["[PAD]", "[UNK]", "Q:", "A:", "The answer is", *(f"Step {i}:" for i in range(1, 10)), *"=.+-*/"]
    words += [str(number) for number in range(LIMIT + 1)]
    stream = problems(seed, held_out=False)
    words += sorted({word for _ in range(2000) for word, _ in split.pre_tokenize_str(next(stream).text)})
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106
    backend.pre_tokenizer = split
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",  # noqa: S106
        unk_token="[UNK]",  # noqa: S106
        chat_template=TEMPLATE,
        model_input_names=["input_ids", "attention_mask"],
    )


def make_model(tokenizer: Any) -> Any:
    """A LlamaForSequenceClassification with random weights, some of them set as `_wire` says."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=320,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=256,
        num_labels=1,
        attention_bias=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE},
        initializer_range=0.05,
    )
    model = LlamaForSequenceClassification(config)
    _wire(model, tokenizer)
    return model


def _wire(model: Any, tokenizer: Any) -> None:
    """Starts the model with circuits for checking a solution, so that a short training need not find them.

    Nothing is frozen, and how much each of them helps was not measured one by one.
    The first half of the residual stream holds the token, the second half what is expected next. Layers before
    `COMPARING` copy the tokens they look at into the second half; that layer subtracts what the previous position
    expected from the token that came. Half the heads of the others start out looking for earlier copies of a token.
    """
    import torch

    with torch.no_grad():
        embedding = model.model.embed_tokens.weight.normal_(0, 0.3)
        for token, i in tokenizer.get_vocab().items():
            if token.isdigit():
                features = torch.tensor(_waves(int(token)))
                embedding[i, : len(features)] = 0.42 * features
        embedding[:, HALF:] *= 0.02
        one = torch.eye(HALF)
        for number, layer in enumerate(model.model.layers):
            heads = layer.self_attn
            copy = 0.7 * torch.linalg.qr(torch.randn(WIDTH, WIDTH))[0]
            heads.v_proj.weight.copy_(copy.T)  # what is looked at is passed on as it is
            heads.o_proj.weight.copy_(copy)
            for head in range(HEADS // 2):
                alike = 1.2 * torch.linalg.qr(torch.randn(WIDTH, HEAD))[0].T
                heads.q_proj.weight[head * HEAD : (head + 1) * HEAD] = alike
                heads.k_proj.weight[head * HEAD : (head + 1) * HEAD] = alike
            if number < COMPARING:
                heads.v_proj.weight.normal_(0, 0.01)[:, :HALF] += 0.7 * torch.cat([one, one])
                heads.o_proj.weight.normal_(0, 0.01)[HALF:] += 0.7 * torch.cat([one, one], 1)
            if number == COMPARING:
                heads.v_proj.weight[:HALF].normal_(0, 0.01)[:, HALF:] += 0.55 * one
                heads.o_proj.weight[:, :HALF].normal_(0, 0.01)[:HALF] -= 0.55 * one
            for head in {0: (2, 3), COMPARING: (0, 1)}.get(number, ()):
                _look_back(heads, head)


def _look_back(heads: Any, head: int) -> None:
    """Makes a head look at the position before: biases that the rotation by one position turns into each other."""
    first = head * HEAD
    for projection in (heads.q_proj, heads.k_proj):
        projection.weight[first : first + HEAD].normal_(0, 0.01)
    for i in range(4):
        angle = ROPE ** (-2 * i / HEAD)
        heads.k_proj.bias[first + i] = 7
        heads.q_proj.bias[first + i] = 7 * math.cos(angle)
        heads.q_proj.bias[first + HEAD // 2 + i] = -7 * math.sin(angle)


def _waves(number: int) -> list[float]:
    """Periodic features of a number and of its logarithm: sums are shifts of the first, products of the second."""
    turns = [number / period for period in (2, 5, 10, 20, 25, 50, 100, 200, 400, 1000)]
    turns += [math.log(number or 0.5) / period for period in (8, 4, 2, 1, 0.5, 0.25, 0.12, 0.06, 0.03)]
    return [wave(2 * math.pi * turn) for turn in turns for wave in (math.cos, math.sin)]


@dataclass(frozen=True, slots=True)
class Packed:
    """Problems with several solutions each, one row a problem: the right one, and each wrong one where it departs.

    A wrong solution shares the beginning of the right one, so only its own part is stored, as a branch that sees the
    beginning and itself. That takes a third of the tokens of a row per solution.
    """

    ids: torch.Tensor  # [problems, tokens]
    positions: torch.Tensor  # [problems, tokens]
    mask: torch.Tensor  # [problems, 1, tokens, tokens]: who sees whom
    branch: torch.Tensor  # [problems, tokens]: 0 for the right solution, -1 for padding
    in_solution: torch.Tensor  # [problems, tokens]
    ends: torch.Tensor  # [problems, solutions]: the last token of each, the right one's first


def pack(tokenizer: Any, batch: list[Problem], rng: Random) -> Packed:
    """Packs each problem with its right and `WRONG` of its wrong solutions."""
    import torch

    rows = [_packed_row(tokenizer, problem, rng) for problem in batch]
    length = max(len(ids) for ids, *_ in rows)

    def padded(column: int, fill: int) -> torch.Tensor:
        return torch.tensor([row[column] + [fill] * (length - len(row[column])) for row in rows])

    ids, positions, branch, departs = padded(0, 0), padded(1, 0), padded(2, -1), padded(3, 0)
    before = positions[:, None, :] <= positions[:, :, None]
    mask = (branch[:, :, None] == branch[:, None, :]) & before
    mask |= (branch[:, None, :] == 0) & (positions[:, None, :] < departs[:, :, None])
    answer = tokenizer.convert_tokens_to_ids("A:")
    in_solution = ((ids == answer).cumsum(1) > 0) & (branch >= 0)
    return Packed(ids, positions, mask[:, None], branch, in_solution, torch.tensor([row[4] for row in rows]))


def _packed_row(tokenizer: Any, problem: Problem, rng: Random) -> tuple[list[int], ...]:
    """The ids, positions, branches, where each token's branch departs, and the last token of each solution."""
    right, *wrong = problem.solutions
    trunk, *others = encode(tokenizer, problem.text, [right.text, *(one.text for one in rng.sample(wrong, WRONG))])
    ids, positions, branch, departs = list(trunk), list(range(len(trunk))), [0] * len(trunk), [0] * len(trunk)
    ends = [len(ids) - 1]
    for number, other in enumerate(others, 1):
        at = next(i for i, (a, b) in enumerate(zip(other, trunk, strict=False)) if a != b)
        ids += other[at:]
        positions += range(at, len(other))
        branch += [number] * (len(other) - at)
        departs += [at] * (len(other) - at)
        ends.append(len(ids) - 1)
    return ids, positions, branch, departs, ends


def encode(tokenizer: Any, prompt: str, solutions: list[str]) -> list[list[int]]:
    """Ids as rmbench's classifier family gives them to the model."""
    question = {"role": "user", "content": prompt}
    chats = [[question, {"role": "assistant", "content": solution}] for solution in solutions]
    texts = tokenizer.apply_chat_template(chats, tokenize=False)
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids


class Helpers:
    """Heads that only training needs: they turn one reward a solution into a lesson for every token."""

    def __init__(self) -> None:
        import torch
        from torch import nn

        self.expects = nn.Linear(WIDTH, WIDTH, bias=False)
        self.surprised = nn.Linear(WIDTH, 1)
        self.wrong = nn.Linear(WIDTH, 1)
        self.before_expects, self.before_surprised = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        with torch.no_grad():  # what is expected lies in the second half, and is named as a token of the first
            self.expects.weight.copy_(0.03 * torch.eye(WIDTH))
            self.expects.weight[:HALF, HALF:] += 0.6 * torch.eye(HALF)

    def parameters(self) -> list[torch.Tensor]:
        """All of their weights."""
        return [weight for module in vars(self).values() for weight in module.parameters()]


def rewards(model: Any, batch: Packed) -> tuple[torch.Tensor, Any]:
    """The reward of each solution, [problems, solutions], and the hidden states of every layer."""
    out = model.model(
        input_ids=batch.ids,
        position_ids=batch.positions,
        attention_mask=batch.mask,
        use_cache=False,
        output_hidden_states=True,
    )
    ends = batch.ends[:, :, None].expand(-1, -1, WIDTH)
    return model.score(out.last_hidden_state.gather(1, ends))[..., 0], out.hidden_states


def losses(model: Any, helpers: Helpers, batch: Packed) -> dict[str, torch.Tensor]:
    """What the sum of is minimised: the first is the task, the others say where a solution goes wrong, and why."""
    import torch
    from torch.nn import functional

    ranked, states = rewards(model, batch)
    right = batch.in_solution & (batch.branch == 0)
    departs = batch.branch != functional.pad(batch.branch[:, :-1], (1, 0))
    departs &= batch.in_solution & (batch.branch > 0)
    surprised = helpers.surprised(helpers.before_surprised(states[LAYERS - 1]))[..., 0]
    wrong = helpers.wrong(states[-1])[..., 0][batch.in_solution]

    following = right[:, :-1] & right[:, 1:]
    expected = helpers.expects(helpers.before_expects(states[COMPARING]))[:, :-1][following]
    return {
        # the right solution is to have the highest reward
        "reward": functional.cross_entropy(ranked, torch.zeros(len(ranked), dtype=torch.long)),
        # after each token: has the solution departed from the right one?
        "wrong": functional.binary_cross_entropy_with_logits(wrong, (batch.branch > 0)[batch.in_solution].float()),
        # at the very token where it does, one layer earlier
        "departure": functional.softplus(-surprised[departs]).mean() / 2
        + functional.softplus(surprised[right]).mean() / 2,
        # the next token of the right solution: whoever can write it can check it
        "next": functional.cross_entropy(expected @ model.model.embed_tokens.weight.T, batch.ids[:, 1:][following]),
    }


def batches(seed: int, rng: Random) -> Iterator[list[Problem]]:
    """Batches without end, each of problems of about one length, so that little is padding."""
    stream = problems(seed, held_out=False)
    while True:
        pool = [next(stream) for _ in range(8 * BATCH)]
        pool.sort(key=lambda problem: len(problem.text) + len(problem.solutions[0].text))
        chunks = [pool[i : i + BATCH] for i in range(0, len(pool), BATCH)]
        rng.shuffle(chunks)
        yield from chunks


def train(seed: int, steps: int = STEPS, out: Path | None = None) -> tuple[Any, Any]:
    """Model and tokenizer after that many steps, saved to `out` where it is given.

    The same seed and steps give the same model on the same machine with as many threads.
    """
    import torch

    torch.manual_seed(seed)
    rng = Random(seed)  # noqa: S311 - no secret: the same model is to come again
    tokenizer = make_tokenizer(seed)
    model, helpers = make_model(tokenizer).train(), Helpers()
    weights = [*model.parameters(), *helpers.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=RATE, betas=(0.9, 0.98), weight_decay=0.05)
    # warmed up over 100 steps, then down along a cosine
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 100) * (0.515 + 0.485 * math.cos(math.pi * step / steps))
    )
    started, mean = time.monotonic(), dict.fromkeys(("reward", "wrong", "departure", "next"), 0.0)
    stream = batches(seed, rng)
    for step in range(1, steps + 1):
        parts = losses(model, helpers, pack(tokenizer, next(stream), rng))
        optimizer.zero_grad()
        torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        mean = {name: mean[name] + part.item() / 100 for name, part in parts.items()}
        if step % 100 == 0:
            shown = ", ".join(f"{name} {value:.3f}" for name, value in mean.items())
            print(f"step {step}, {(time.monotonic() - started) / 60:.1f} min: {shown}", flush=True)  # noqa: T201
            mean = dict.fromkeys(mean, 0.0)
    model.eval()
    if out is not None:
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    return model, tokenizer


def against_each_kind(result: TaskResult) -> dict[str, list[float]]:
    """Per kind of error: how often the right solution has a higher reward than a wrong one, and of how many.

    [share, count] over all of that kind, then over those without another error.
    """
    rows = result.records.to_pylist()
    right = {row["example_id"]: row["reward"] for row in rows if row["label"]}
    found: dict[str, list[float]] = {}
    for kind in sorted({row["tag_kind"] for row in rows if row["tag_kind"]}):
        of_kind = [row for row in rows if row["tag_kind"] == kind]
        for some in (of_kind, [row for row in of_kind if row["tag_errors"] == "1"]):
            won = sum(right[row["example_id"]] > row["reward"] for row in some)
            found.setdefault(kind, []).extend((won / max(len(some), 1), len(some)))
    return found


def main() -> None:
    """Trains, saves, and scores the bundled problems."""
    import torch

    import rmbench

    parser = argparse.ArgumentParser(prog="python -m rmbench.demo.train", description="Train the demo reward model.")
    parser.add_argument("--seed", type=int, default=0, help="of the problems and of the weights")
    parser.add_argument("--steps", type=int, default=STEPS, help="how long to train; the card says how long it takes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="the folder to save the checkpoint to")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    train(asked.seed, asked.steps, asked.out)
    (result,) = rmbench.evaluate(str(asked.out), ["rewardmath_mini"])
    print(result.metric("accuracy"))  # noqa: T201
    for kind, (share, count, alone, count_alone) in against_each_kind(result).items():
        print(f"{kind}: {share:.3f} of {count}, without another error {alone:.3f} of {count_alone}")  # noqa: T201


if __name__ == "__main__":
    main()
