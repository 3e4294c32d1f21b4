"""Checkpoints of five families, each trained for some minutes from real weights on real data, by those who train them:

    pip install "trl<1.14" gguf; python benchmarks/real_trained.py FOLDER [--steps 60] [--only NAME]

`real_weights.py` brings the weights, and RMBENCH_DATA names the folder of the data. What is in FOLDER stays.
`adapter` and `reward` are one reward model by TRL's RewardTrainer, as an adapter and merged, `process` is by
PRMTrainer (the last TRL that has it is 1.13), `policy` by DPOTrainer, its reference being the language model itself,
`verifier` by SFTTrainer to answer Yes or No, and `encoder` by transformers' Trainer. They know little: they are for
showing that what is trained is read as it was trained.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from real_weights import encoder as encoder_of
from real_weights import language_model

BATCH, LONGEST, SEED = 4, 256, 0
TRAINED = 1_000  # rows of each file that are trained on; what is measured comes after them
VERIFY = "Is this answer to the question right? Say Yes or No.\n\nQuestion: {question}\n\nAnswer: {answer}"

Row = dict[str, Any]


def dialogues(data: Path) -> Iterator[Row]:
    """Pairs of hh's harmless dialogues as `prompt`, `chosen` and `rejected` messages, where the prompts are alike."""
    with gzip.open(data / "hh_rlhf" / "test.jsonl.gz", "rt") as file:
        for line in file:
            row = json.loads(line)
            chosen, rejected = (turns(row[side]) for side in ("chosen", "rejected"))
            if chosen[:-1] == rejected[:-1] and chosen[-1]["role"] == rejected[-1]["role"] == "assistant":
                yield {"prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]}


def turns(text: str) -> list[dict[str, str]]:
    """A dialogue of hh as messages."""
    roles = {"Human": "user", "Assistant": "assistant"}
    parts = [part.partition(": ") for part in text.replace("\n\nHuman:", "\0Human:").replace(
        "\n\nAssistant:", "\0Assistant:").split("\0") if part]  # fmt: skip
    return [{"role": roles[role], "content": said.strip()} for role, _, said in parts]


def solutions(data: Path) -> Iterator[Row]:
    """ProcessBench's solutions step by step, as PRMTrainer takes them; from the first wrong step on they are wrong."""
    files = (json.loads((data / "processbench" / f"{name}.json").read_text()) for name in ("gsm8k", "math"))
    for row in chain.from_iterable(files):
        first = len(row["steps"]) if row["label"] < 0 else row["label"]
        labels = [at < first for at in range(len(row["steps"]))]
        yield {"prompt": row["problem"] + "\n", "completions": row["steps"], "labels": labels}


def answers(data: Path) -> Iterator[Row]:
    """GSM8K's problems with what four models answered: `question`, `answer` and whether it is `right`."""
    with (data / "gsm8k_solutions" / "example_model_solutions.jsonl").open() as file:
        for line in file:
            row = json.loads(line)
            for given in (one for one in row.values() if isinstance(one, dict)):
                yield {"question": row["question"], "answer": given["solution"], "right": given["is_correct"]}


def short(tokenizer: Any, rows: Iterator[Row]) -> Iterator[Row]:
    """Those of at most so many tokens, so that a step takes seconds."""
    return (row for row in rows if len(tokenizer(json.dumps(row))["input_ids"]) < LONGEST * 3 // 2)


def arguments(kind: Any, folder: Path, steps: int, **more: Any) -> Any:
    return kind(
        output_dir=str(folder / "trained"), max_steps=steps, per_device_train_batch_size=BATCH, logging_steps=5,
        report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no", disable_tqdm=True,
        seed=SEED, **more,
    )  # fmt: skip


def adapter(task: str) -> Any:
    from peft import LoraConfig

    kept = {"SEQ_CLS": ["score"], "TOKEN_CLS": ["score"]}.get(task)
    return LoraConfig(task_type=task, r=16, target_modules="all-linear", modules_to_save=kept)


def saved(trainer: Any, folder: Path, name: str, *, apart: str | None = None) -> None:
    """Writes what was trained merged as `name`, and as an adapter as `apart` where that is given."""
    trainer.train()
    if apart is not None:
        trainer.model.save_pretrained(folder / apart)
        trainer.processing_class.save_pretrained(folder / apart)
    model = trainer.model.merge_and_unload() if hasattr(trainer.model, "merge_and_unload") else trainer.model
    model.save_pretrained(folder / name)
    trainer.processing_class.save_pretrained(folder / name)


def headed(base: Path, kind: str, labels: int) -> tuple[Any, Any]:
    import torch
    import transformers

    torch.manual_seed(SEED)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    model = getattr(transformers, kind).from_pretrained(base, num_labels=labels, dtype=torch.float32)
    model.config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def reward(base: Path, data: Path, folder: Path, steps: int) -> None:
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer  # type: ignore[import-not-found,unused-ignore]

    model, tokenizer = headed(base, "AutoModelForSequenceClassification", 1)
    rows = list(short(tokenizer, islice(dialogues(data), TRAINED)))
    trainer = RewardTrainer(
        model=model,
        args=arguments(RewardConfig, folder, steps, max_length=LONGEST, learning_rate=3e-4),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=adapter("SEQ_CLS"),
    )
    saved(trainer, folder, "reward", apart="adapter")


def process(base: Path, data: Path, folder: Path, steps: int) -> None:
    from datasets import Dataset
    from trl.experimental.prm import PRMConfig, PRMTrainer  # type: ignore[import-not-found,unused-ignore]

    model, tokenizer = headed(base, "AutoModelForTokenClassification", 2)
    rows = list(short(tokenizer, islice(solutions(data), 300)))
    trainer = PRMTrainer(
        model=model,
        args=arguments(PRMConfig, folder, steps, max_length=2 * LONGEST, learning_rate=3e-4),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=adapter("TOKEN_CLS"),
    )
    saved(trainer, folder, "process")


def policy(base: Path, data: Path, folder: Path, steps: int) -> None:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = list(short(tokenizer, islice(dialogues(data), TRAINED)))
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        args=arguments(DPOConfig, folder, steps, max_length=LONGEST, learning_rate=3e-4, beta=0.1),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=adapter("CAUSAL_LM"),
    )
    saved(trainer, folder, "policy")


def verifier(base: Path, data: Path, folder: Path, steps: int) -> None:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = list(short(tokenizer, islice(answers(data), TRAINED)))
    random.Random(SEED).shuffle(rows)
    said = [{"prompt": [{"role": "user", "content": VERIFY.format(**row)}],
             "completion": [{"role": "assistant", "content": "Yes" if row["right"] else "No"}]}
            for row in rows]  # fmt: skip
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        args=arguments(SFTConfig, folder, steps, max_length=2 * LONGEST, learning_rate=3e-4, completion_only_loss=True),
        train_dataset=Dataset.from_list(said),
        processing_class=tokenizer,
        peft_config=adapter("CAUSAL_LM"),
    )
    saved(trainer, folder, "verifier")


def encoder(base: Path, data: Path, folder: Path, steps: int) -> None:
    """A cross-encoder of question and answer with one label, trained to say whether the answer is right."""
    from datasets import Dataset
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    model, tokenizer = headed(base, "AutoModelForSequenceClassification", 1)
    model.config.problem_type = "multi_label_classification"  # binary cross-entropy of one logit
    rows = list(islice(answers(data), TRAINED))
    random.Random(SEED).shuffle(rows)
    made = [tokenizer(row["question"], row["answer"], truncation=True, max_length=LONGEST) | {
        "labels": [float(row["right"])]} for row in rows]  # fmt: skip
    trainer = Trainer(
        model=model,
        args=arguments(TrainingArguments, folder, steps, learning_rate=1e-4),
        train_dataset=Dataset.from_list([dict(one) for one in made]),
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )
    saved(trainer, folder, "encoder")


MAKERS: Mapping[str, Callable[[Path, Path, Path, int], None]] = {
    "reward": reward, "process": process, "policy": policy, "verifier": verifier, "encoder": encoder,
}  # fmt: skip


def train(language_model: Path, encoder_model: Path, folder: Path, steps: int, only: str = "") -> None:
    """Makes what is not there yet."""
    import time

    data = Path(os.environ["RMBENCH_DATA"])
    for name, maker in MAKERS.items():
        if (folder / name).exists() or only not in name:
            continue
        started = time.perf_counter()
        maker(encoder_model if name == "encoder" else language_model, data, folder, steps)
        print(f"{name}: {steps} steps of {BATCH} in {time.perf_counter() - started:,.0f} s", flush=True)


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--only", default="", help="part of a name")
    given = parser.parse_args()
    bases = language_model(given.folder / "language_model"), encoder_of(given.folder / "encoder_base")
    train(*bases, given.folder, given.steps, given.only)


if __name__ == "__main__":
    main()
