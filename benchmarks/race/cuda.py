"""Large shapes on a CUDA device: forwards only, random weights made on the device, float32 and then bfloat16."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from race.clock import Meter, Run, Table, deviation, interleaved, operations, peak
from race.sides import Steps, planned, run_bins
from rmbench.device import devices, release
from rmbench.models.base import Encoded

_QWEN = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen3 0.6B": (
        "Qwen3",
        {
            **_QWEN,
            "hidden_size": 1024,
            "num_hidden_layers": 28,
            "intermediate_size": 3072,
            "num_attention_heads": 16,
        },
    ),
    "Qwen3 4B": (
        "Qwen3",
        {
            **_QWEN,
            "hidden_size": 2560,
            "num_hidden_layers": 36,
            "intermediate_size": 9728,
            "num_attention_heads": 32,
        },
    ),
    "Llama 8B": (
        "Llama",
        {
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "intermediate_size": 14_336,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "vocab_size": 128_256,
        },
    ),
}
BUDGET = 32_768  # what rmbench takes on CUDA unless told otherwise
CANDIDATES = 10


def measure(table: Table, rounds: int, *, quick: bool) -> None:
    """Adds the rows of every shape, or one that says that there is no CUDA device."""
    if "cuda:0" not in devices():
        table.add("cuda", "all", note="no CUDA device here: nothing was measured")
        return
    for name in list(SHAPES)[: 1 if quick else None]:
        one_shape(table, name, *SHAPES[name], sequences(1 if quick else 6), rounds, "cuda")
        release()


def one_shape(
    table: Table, name: str, family: str, values: dict[str, Any], encoded: list[Encoded], rounds: int, device: str
) -> None:
    """Every way in float32 and then, with the same weights, in bfloat16; float32 alone is what all are held to."""
    import torch
    import transformers

    config = getattr(transformers, f"{family}Config")(max_position_embeddings=8192, **values)
    torch.manual_seed(0)
    with torch.device(device):
        backbone = getattr(transformers, f"{family}Model")(config).eval().requires_grad_(False)
        head = torch.nn.Linear(config.hidden_size, 1, bias=False).requires_grad_(False)
    meter = Meter()  # watches nothing: forwards on the device are over before they are done
    lengths = [len(one.ids) for one in encoded]
    reference: list[float] = []
    for dtype in ("float32", "bfloat16"):
        model = Steps(backbone.to(getattr(torch, dtype)), head)
        packed = planned(model, encoded, frozenset({"packed"}), BUDGET)
        shared = planned(model, encoded, frozenset({"shared", "packed"}), BUDGET)
        ways: dict[str, Run] = {
            "common loop": partial(common, model, encoded),
            "one at a time": partial(alone, model, encoded),
            "rmbench packed": partial(run_bins, model, encoded, packed, budget=BUDGET),
            "rmbench default": partial(run_bins, model, encoded, shared, budget=BUDGET),
        }
        for warm in ways.values():  # kernels are compiled and chosen
            warm()
        top = partial(peak, 8192 if device == "cuda" else 512, dtype, device)
        found, best = interleaved(ways, meter, rounds, top)
        reference = reference or found["one at a time"].scores
        count = operations(model)
        useful = count.sequences(lengths)
        for way, timed in found.items():
            left = count.planned(shared, encoded) if way == "rmbench default" else useful
            swapped, pairs = swaps(timed.scores, reference)
            table.add(
                f"{name}, {dtype}, {len(encoded)} sequences",
                way,
                timed,
                useful=sum(lengths),
                common=found["common loop"],
                one=found["one at a time"],
                of_peak=left / timed.median / best,
                off=deviation(timed.scores, reference),
                note=f"model FLOP utilisation {useful / timed.median / best:.0%} of {best / 1e12:.0f} T/s; "
                f"{swapped} of {pairs} pairs of a prompt stand otherwise than in float32",
            )


def common(model: Steps, encoded: Sequence[Encoded]) -> list[float]:
    """Chosen ones and then rejected ones, eight at a time, padded, with a mask and the cache that is the default."""
    import torch

    device, scores = model.head.weight.device, [0.0] * len(encoded)
    chosen = list(range(0, len(encoded), CANDIDATES))
    rejected = [i for i in range(len(encoded)) if i % CANDIDATES]
    for part in (chosen, rejected):
        for members in (part[start : start + 8] for start in range(0, len(part), 8)):
            width = max(len(encoded[i].ids) for i in members)
            ids, mask = torch.zeros(2, len(members), width, dtype=torch.long).unbind()
            for row, i in enumerate(members):
                ids[row, : len(encoded[i].ids)] = torch.as_tensor(encoded[i].ids)
                mask[row, : len(encoded[i].ids)] = 1
            with torch.inference_mode():
                states = model.backbone(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
                read = [states[row, encoded[i].reads[0]][None] for row, i in enumerate(members)]
                values = [reward.value for reward in model.read(read, [])]
            for i, value in zip(members, values, strict=True):
                scores[i] = value
    return scores


def alone(model: Steps, encoded: Sequence[Encoded]) -> list[float]:
    """One sequence at a time: no padding, no mask, no cache."""
    import torch

    scores = []
    for one in encoded:
        ids = torch.as_tensor(one.ids).long()[None].to(model.head.weight.device)
        with torch.inference_mode():
            states = model.backbone(input_ids=ids, use_cache=False).last_hidden_state
            scores.append(model.read([states[0, -1:]], [one])[0].value)
    return scores


def swaps(scores: Sequence[float], reference: Sequence[float]) -> tuple[int, int]:
    """How many of the pairs of a prompt's candidates are ordered otherwise, and how many pairs there are."""
    pairs = [
        (i, j)
        for start in range(0, len(scores), CANDIDATES)
        for i, j in itertools.combinations(range(start, min(start + CANDIDATES, len(scores))), 2)
    ]
    return sum(np.sign(scores[i] - scores[j]) != np.sign(reference[i] - reference[j]) for i, j in pairs), len(pairs)


def sequences(prompts: int) -> list[Encoded]:
    """Random ids with the lengths of RewardMATH-like data: prompts of 60-400 tokens, responses around 300."""
    draw, found = np.random.default_rng(0), []
    for _ in range(prompts):
        prompt = draw.integers(10, 30_000, draw.integers(60, 401), dtype=np.int32)
        for length in np.clip(draw.lognormal(np.log(300), 0.7, CANDIDATES), 50, 1500).astype(int):
            ids = np.concatenate([prompt, draw.integers(10, 30_000, length, dtype=np.int32)])
            found.append(Encoded(ids, (len(ids) - 1,)))  # type: ignore[arg-type]
    return found
