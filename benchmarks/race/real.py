"""Real text in the shapes that people score: chat, best of n, dialogues, one long prompt, a pair, long singles.

Read from the folder that RMBENCH_DATA names, as the tasks read it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from race.data import Workload
from rmbench.runs.loading import load_tasks
from rmbench.types import Message, Request, Response

_PROMPT, _ANSWER, _SINGLE = 1000, 150, 2000  # tokens of the long shapes


def workloads(data: Path, tokenizer: Any, *, quick: bool = False) -> list[Workload]:
    """Each shape with as much of its data as takes some seconds; less where it is `quick`."""
    chats = _rm_bench(data / "rm_bench" / "chat_filtered.json", 1 if quick else 2)
    texts = [request.responses[0].text or "" for request in _rm_bench(data / "rm_bench" / "chat_filtered.json", 20)[0]]
    parts = _cut(" ".join(texts), tokenizer, _PROMPT // (8 if quick else 1), 1)
    answers = [_cut(text, tokenizer, _ANSWER // (8 if quick else 1), 1)[0] for text in texts[2::3][:12]]
    long = _cut(" ".join(texts), tokenizer, _SINGLE // (8 if quick else 1), 4)
    pair = _task("preference", data / "hh_rlhf" / "test.jsonl.gz", 1)
    return [
        Workload("RM-Bench chat, 6 a prompt", *chats),
        Workload("RMB best of n", *_task("best_of_n", data / "rmb" / "BoN_set", 2 if quick else 4)),
        Workload("hh dialogues, pairs", *_task("preference", data / "hh_rlhf" / "test.jsonl.gz", 3 if quick else 6)),
        Workload(
            "one long prompt, 12 answers", [_request(f"Sum it up: {parts[0]}", one) for one in answers], [*range(12)]
        ),
        Workload("a single pair", *pair),
        Workload("four long singles", [_request("Write on.", one) for one in long], [0] * 4),
    ]


def _rm_bench(path: Path, prompts: int) -> tuple[list[Request], list[int]]:
    rows = json.loads(path.read_text())[:prompts]
    answers = [[*row["chosen"], *row["rejected"]] for row in rows]
    requests = [_request(row["prompt"], one) for row, some in zip(rows, answers, strict=True) for one in some]
    return requests, [i for some in answers for i in range(len(some))]


def _task(task: str, path: Path, limit: int) -> tuple[list[Request], list[int]]:
    (loaded,) = load_tasks([task], data={task: path}, limit=limit)
    requests, candidate = [], []
    for example in loaded.data.examples:
        for i, one in enumerate(example.candidates):
            response = one.response if isinstance(one.response, Response) else Response(one.response)
            requests.append(Request("reward", example.prompt, (response,)))
            candidate.append(i)
    return requests, candidate


def _cut(text: str, tokenizer: Any, tokens: int, pieces: int) -> list[str]:
    """The first pieces of a text, of so many tokens each."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) >= tokens * pieces or pieces == 1
    return [tokenizer.decode(ids[i * tokens : (i + 1) * tokens]) for i in range(pieces)]


def _request(prompt: str, response: str) -> Request:
    return Request("reward", (Message("user", prompt),), (Response(response),))
