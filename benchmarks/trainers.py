"""Reward models in training, from memory in a callback and from the checkpoints that they save, against transformers
one text at a time. TRL's RewardTrainer makes them (whole, in mixed precision, LoRA), or transformers' (five labels).

    pip install trl; python benchmarks/trainers.py

Needs TRL, which rmbench does not: `make prove-full` installs it. In float32 all ways agree within 1e-5 of the spread of
rewards, checkpoints in bfloat16 too; what bfloat16 itself costs is printed, with the pairs that it turns round.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkpoints import make

import rmbench

STEPS, EVERY = 20, 10
TOLERANCE = 1e-5  # of the spread of rewards, in float32
COARSE = 0.1  # of it, in bfloat16
WORDS = ("train", "leaves", "noon", "two", "hours", "37", "58", "because", "minutes", "area", "square", "journey",
         "takes", "tens", "first", "water", "boils")  # fmt: skip
LABELS = ("reward", "correctness", "coherence", "complexity", "verbosity")

Turns = list[dict[str, str]]
Scores = np.ndarray[Any, np.dtype[np.float64]]


def pairs(count: int) -> list[tuple[Turns, Turns]]:
    """Chosen and rejected conversations: the chosen answer has fewer words `sorry`."""
    drawn = random.Random(0)

    def text(least: int, most: int) -> str:
        return " ".join(drawn.choices(WORDS, k=drawn.randint(least, most)))

    made = []
    for _ in range(count):
        asked = {"role": "user", "content": text(5, 40)}
        answers = [text(1, 40), f"sorry {text(1, 30)} sorry"]
        chosen, rejected = ([asked, {"role": "assistant", "content": answer}] for answer in answers)
        made.append((chosen, rejected))
    return made


def by_rmbench(model: Any, texts: Sequence[Turns], **options: Any) -> Scores:
    """[texts, labels]"""
    rewards = rmbench.score(model, texts, **options)
    assert {reward.status for reward in rewards} == {"ok"}
    return np.array([[head[0] for head in reward.heads.values()] or [reward.value] for reward in rewards])


def one_at_a_time(folder: Path, texts: Sequence[Turns], dtype: torch.dtype = torch.float32) -> Scores:
    """What transformers gives for each text alone, [texts, labels]."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if (folder / "adapter_config.json").exists():
        from peft import PeftConfig, PeftModel

        base = PeftConfig.from_pretrained(folder).base_model_name_or_path
        whole = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=dtype)
        whole.config.pad_token_id = tokenizer.pad_token_id
        model = PeftModel.from_pretrained(whole, folder)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype)
    model.eval()
    rows = []
    for turns in texts:
        ids = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            rows.append(model(input_ids=ids).logits[0].float().tolist())
    return np.array(rows)


def apart(some: Scores, others: Scores) -> float:
    """The largest deviation, in SDs of what is compared with."""
    return float(np.abs(some - others).max() / others.std())


class Watch:
    """What a callback sees of the model in memory, by step."""

    def __init__(self, texts: Sequence[Turns]) -> None:
        self.texts = texts
        self.seen: dict[int, Scores] = {}

    def callback(self) -> Any:
        from transformers import TrainerCallback

        watch = self

        class Callback(TrainerCallback):  # type: ignore[misc]
            def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **rest: Any) -> None:
                modes = [module.training for module in model.modules()]
                watch.seen[state.global_step] = by_rmbench((model, rest["processing_class"]), watch.texts)
                assert [module.training for module in model.modules()] == modes

        return Callback()


def arguments(kind: Any, folder: Path, **more: Any) -> Any:
    return kind(
        output_dir=str(folder), max_steps=STEPS, save_steps=EVERY, per_device_train_batch_size=8, learning_rate=3e-3,
        report_to="none", use_cpu=True, disable_tqdm=True, logging_steps=1000, **more,
    )  # fmt: skip


def loaded(base: Path, labels: Sequence[str]) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    named = {} if len(labels) == 1 else {"id2label": dict(enumerate(labels))}
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=len(labels), dtype=torch.float32, ignore_mismatched_sizes=True, **named
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def reward_trained(base: Path, folder: Path, rows: Sequence[tuple[Turns, Turns]], watch: Watch, name: str) -> None:
    """By TRL: pairs of conversations, the whole model, the same under autocast, or an adapter of it."""
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer  # type: ignore[import-not-found,unused-ignore]

    config = None
    if name == "LoRA":
        from peft import LoraConfig

        config = LoraConfig(task_type="SEQ_CLS", r=4, target_modules="all-linear", modules_to_save=["score"])
    model, tokenizer = loaded(base, ("reward",))
    data = Dataset.from_list([{"chosen": chosen, "rejected": rejected} for chosen, rejected in rows])
    RewardTrainer(
        model=model,
        args=arguments(RewardConfig, folder, max_length=512, bf16=name == "mixed"),
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=config,
        callbacks=[watch.callback()],
    ).train()


def classified(base: Path, folder: Path, rows: Sequence[tuple[Turns, Turns]], watch: Watch) -> None:
    """By transformers: five numbers a conversation."""
    from datasets import Dataset
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    model, tokenizer = loaded(base, LABELS)
    model.config.problem_type = "regression"
    drawn = np.random.default_rng(0)
    texts = [turns for pair in rows for turns in pair]
    ids = [tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"] for turns in texts]
    data = Dataset.from_list([{"input_ids": one, "labels": drawn.normal(size=len(LABELS)).tolist()} for one in ids])
    Trainer(
        model=model,
        args=arguments(TrainingArguments, folder),
        train_dataset=data,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        callbacks=[watch.callback()],
    ).train()


def in_bfloat16(folder: Path, target: Path) -> Path:
    """The same checkpoint with its weights rounded."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(target)
    AutoTokenizer.from_pretrained(folder).save_pretrained(target)
    return target


def compared(name: str, folder: Path, watch: Watch) -> list[bool]:
    """Of every checkpoint in a folder, how far memory and file are from transformers one text at a time."""
    right = []
    for step, seen in sorted(watch.seen.items()):
        checkpoint = folder / f"checkpoint-{step}"
        expected = one_at_a_time(checkpoint, watch.texts)
        ways = apart(seen, expected), apart(by_rmbench(checkpoint, watch.texts, dtype="float32"), expected)
        print(f"{name:>12} step {step:2}: in memory {ways[0]:.1e}, its checkpoint {ways[1]:.1e} SD from one at a time")
        right.append(max(ways) <= TOLERANCE)
    assert len(right) == STEPS // EVERY
    return right


def rounded(folder: Path, target: Path, watch: Watch) -> list[bool]:
    """Weights in bfloat16, read in float32 and run in bfloat16: how far off, and how many orders are others."""
    checkpoint = in_bfloat16(folder, target)
    wide, narrow = one_at_a_time(checkpoint, watch.texts), one_at_a_time(checkpoint, watch.texts, torch.bfloat16)
    ours = {dtype: by_rmbench(checkpoint, watch.texts, dtype=dtype) for dtype in ("float32", "bfloat16")}
    exact = apart(ours["float32"], wide)
    off, theirs = apart(ours["bfloat16"], wide), apart(narrow, wide)

    def order(scores: Scores) -> Scores:
        return np.sign(scores - scores.T)[np.triu_indices(len(scores), 1)]

    flips, their_flips = (int((order(some) != order(wide)).sum()) for some in (ours["bfloat16"], narrow))
    print(f"bf16 weights: in float32 {exact:.1e} SD from one at a time; of {len(order(wide)):,} pairs of texts")
    print(f"  run in bfloat16 {off:.1e} SD off, {flips} turned round; transformers so {theirs:.1e}, {their_flips}")
    return [exact <= TOLERANCE, off <= max(COARSE, 2 * theirs)]


def main() -> None:
    rows = pairs(200)
    texts = [turns for pair in rows[:60] for turns in pair]
    right: list[bool] = []
    with tempfile.TemporaryDirectory() as made:
        home = Path(made)
        base = make(home / "base", "llama")
        os.environ["RMBENCH_CACHE"] = str(home / "cache")
        for name in ("whole", "mixed", "LoRA"):
            watch = Watch(texts)
            reward_trained(base, home / name, rows, watch, name)
            right += compared(name, home / name, watch)
        right += rounded(home / "whole" / f"checkpoint-{STEPS}", home / "rounded", watch)
        watch = Watch(texts)
        classified(base, home / "five", rows, watch)
        right += compared("five labels", home / "five", watch)
    if not all(right):
        sys.exit(f"{right.count(False)} of {len(right)} comparisons are further apart than they should be")


if __name__ == "__main__":
    main()
