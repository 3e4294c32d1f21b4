"""rmbench's scoring against the common ways, side by side on the same texts, models and machine, in one table.

    python benchmarks/speed.py [--quick] [--rounds 3] [--threads 2] [--encoders | --windows | --cuda]
        [--clock processor]

Every workload has its ways timed in turning order over several rounds, with the machine's float32 matmul peak measured
in between. Columns: median seconds and their spread; tokens of the requests a second; how many times faster than the
common loop and than one sequence at a time; operations a second as a share of the peak, where useful operations count
(for `rmbench default` those that are left once prefixes are shared); the share of padding in what was run; the share of
time outside of the backbone; the largest difference from one sequence at a time as a share of the largest score.

Common loop: that of RewardBench and its kin. `rmbench default` is what `rmbench run` does, from messages to rewards in
a new store; `forwards only` is the same without rendering, tokenising, planning and store. Models are random.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median_low
from tempfile import TemporaryDirectory
from typing import Any, cast

import checkpoints
from race import clock, data
from race.clock import Meter, Run, Table, deviation, interleaved, operations
from race.cuda import measure, sequences
from race.data import Workload
from race.sides import BUDGET, Sides, Steps, by_default, loaded, planned, run_bins

from rmbench.checkpoints.weights import quiet
from rmbench.forwards.cost import cost_of
from rmbench.forwards.fastpath import route
from rmbench.forwards.plan import Bin, Way, plan
from rmbench.models.base import Encoded
from rmbench.scoring import Store

COMMON, CROSS, ALONE = "common loop", "CrossEncoder.predict", "one at a time"
DEFAULT, FORWARDS = "rmbench default", "rmbench default, forwards only"
FORCED: dict[str, Way] = {"rmbench padded": "padded", "rmbench packed": "packed"}
SHARED: frozenset[Way] = frozenset({"shared", "packed", "padded"})


def main() -> None:
    """Reads the command line, measures, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes and models: whether it works, not how fast")
    parser.add_argument("--rounds", type=int, help="3, or 2 where it is quick")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--encoders", action="store_true", help="only those")
    parser.add_argument("--windows", action="store_true", help="only decoders with windows, soft caps and sinks")
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall", help="whose seconds")
    parser.add_argument("--cuda", action="store_true", help="instead: large shapes on a CUDA device")
    given = parser.parse_args()
    import torch

    started, table = time.perf_counter(), Table()
    torch.set_num_threads(given.threads)
    if given.clock == "processor":
        clock.of_processor()
    if given.cuda:
        measure(table, given.rounds or 3, quick=given.quick)
    else:
        with TemporaryDirectory() as folder:
            rounds = given.rounds or (2 if given.quick else 3)
            race = Race(table, Path(folder), rounds, given.threads, given.quick)
            (race.windows if given.windows else race.encoders if given.encoders else race.measure)()
    print(table)
    cuda = "there" if torch.cuda.is_available() else "none"
    print(
        f"\n{time.perf_counter() - started:.0f} s; {given.threads} threads, torch {torch.__version__}, CUDA: {cuda}; "
        f"load average {os.getloadavg()[0]:.1f}"
    )


class Race:
    """All that is measured on a CPU."""

    def __init__(self, table: Table, folder: Path, rounds: int, threads: int, quick: bool) -> None:
        self.table, self.folder, self.rounds, self.threads, self.quick = table, folder, rounds, threads, quick

    def measure(self) -> None:
        self.decoder()
        self.encoders()

    def encoders(self) -> None:
        quick = self.quick
        for architecture in ("bert", "modernbert"):
            texts = data.rewardmath_like(2, 3 if quick else 10, shrink=8 if quick else 1)
            self.ways(self.sides(architecture), architecture, texts)
        # at the full 512 CrossEncoder sees a cut and writes its idea of the template's ending over the last word
        short = data.rewardmath_like(2, 3 if quick else 5, most=511, shrink=8 if quick else 1)
        self.ways(self.sides("deberta-v2"), "deberta-v2", short)

    def windows(self) -> None:
        """Six answers to a prompt that is longer than the window."""
        for architecture in ("gemma2", "gpt_oss"):
            self.ways(
                self.sides(architecture), architecture, data.fixed(*((60, 20, 4) if self.quick else (1000, 150, 6)))
            )

    def decoder(self) -> None:
        quick = self.quick
        llama = self.sides("llama")
        work = data.rewardmath_like(2 if quick else 6, 3 if quick else 10, shrink=8 if quick else 1)
        rate = self.ways(llama, "llama", work)
        self.ways(llama, "llama", data.fixed(*((60, 20, 4) if quick else (1000, 200, 10))))
        self.ways(llama, "llama", data.step_prefixes(*((1, 4, 20, 10) if quick else (1, 10, 200, 60))))
        self.process(llama, *((1, 4, 20, 10) if quick else (1, 10, 200, 60)))
        self.sweep(llama)
        self.thread_count(llama, data.rewardmath_like(1, 3 if quick else 10, shrink=8 if quick else 1))
        self.overheads(llama, work, rate)

    def sides(self, architecture: str) -> Sides:
        return Sides(data.checkpoint(self.folder / architecture, architecture, quick=self.quick))

    def ways(self, sides: Sides, shape: str, work: Workload) -> float:
        """Every way of scoring a workload; the tokens a second that rmbench scores."""
        encoded = sides.model.encode(work.requests)
        bins = by_default(sides.model, encoded)
        lengths = [len(one.ids) for one in encoded]
        runs: dict[str, Run] = {COMMON: partial(sides.common, work)}
        missing: dict[str, str] = {}
        if sides.cross is None:
            missing[CROSS] = "sentence-transformers is not installed: pip install -e '.[bench]'"
        else:
            runs[CROSS] = partial(sides.cross_encoder, work)
        runs[ALONE] = partial(sides.alone, work)
        for name, way in FORCED.items():
            if sides.takes(way, work):
                runs[name] = partial(sides.forced, work, way)
            else:
                missing[name] = "rmbench does not run this architecture so"
        runs[DEFAULT] = partial(sides.public, work)
        runs[FORWARDS] = partial(run_bins, sides.model, encoded, bins)
        few = Workload("", work.requests[:2], work.candidate[:2])
        for warm in (sides.common, sides.alone, sides.public):
            warm(few)
        if sides.cross is not None:
            sides.cross_encoder(few)

        found, peak = interleaved(runs, sides.meter, self.rounds)
        count, useful = operations(sides.model), sum(lengths)
        title = f"{shape}, {work.name}, {len(lengths)} x {useful / len(lengths):.0f}"
        for name in (COMMON, CROSS, ALONE, *FORCED, DEFAULT, FORWARDS):
            if name in missing:
                self.table.add(title, name, note=missing[name])
                continue
            timed, ours = found[name], name in (DEFAULT, FORWARDS)
            left = count.planned(bins, encoded) if ours else count.sequences(lengths)
            kinds = sorted({f"{one.way}" for one in bins}) if ours else []
            self.table.add(
                title,
                name,
                timed,
                useful=useful,
                common=found[COMMON],
                one=found[ALONE],
                of_peak=left / timed.median / peak,
                padding=_padding(bins, lengths) if ours else 1 - useful / timed.tokens,
                off=deviation(timed.scores, found[ALONE].scores),
                note=f"{', '.join(kinds)}: {timed.tokens / useful:.0%} of the tokens run" if ours else "",
            )
        self.table.add(
            title, "matmul peak", note=f"{peak / 1e9:.0f} Gop/s; useful {count.sequences(lengths) / 1e9:.3g} Gop"
        )
        return useful / found[DEFAULT].median

    def process(self, sides: Sides, solutions: int, steps: int, prompt: int, step: int) -> None:
        """A process model: a forward for each step's end, and one that reads them all."""
        work, model = (
            data.step_prefixes(solutions, steps, prompt, step),
            Steps(sides.model.backbone, cast(Any, sides.model).head),
        )
        each, joined = _step_ends(sides.model.encode(work.requests), steps)
        one_each: frozenset[Way] = frozenset({"padded"})
        plans = {
            "a forward a step": (each, planned(model, each, one_each, budget=1)),
            "a sequence a step, shared": (each, planned(model, each, SHARED)),
            "one forward a solution": (joined, planned(model, joined, one_each, budget=1)),
        }
        runs: dict[str, Run] = {name: partial(run_bins, model, *one) for name, one in plans.items()}
        found, peak = interleaved(runs, sides.meter, self.rounds)
        first, count = found["a forward a step"], operations(model)
        useful = sum(len(one.ids) for one in each)
        for name, (some, bins) in plans.items():
            self.table.add(
                f"llama, process model, {solutions} x {steps} steps",
                name,
                found[name],
                useful=useful,
                one=first,
                of_peak=count.planned(bins, some) / found[name].median / peak,
                padding=_padding(bins, [len(one.ids) for one in some]),
                off=deviation(found[name].scores, first.scores),
                note=f"{found[name].tokens / useful:.0%} of the tokens run",
            )

    def sweep(self, sides: Sides) -> None:
        """What sharing gains over packing, measured, by the planner's cost and by tokens."""
        model = sides.model
        for prompt, response, k in ((30, 10, 4), (10, 30, 2)) if self.quick else data.SWEEP:
            encoded = model.encode(data.fixed(prompt, response, k).requests)
            packed, shared = planned(model, encoded, frozenset({"packed"})), planned(model, encoded, SHARED)
            runs: dict[str, Run] = {
                "packed": partial(run_bins, model, encoded, packed),
                "shared": partial(run_bins, model, encoded, shared),
            }
            found, peak = interleaved(runs, sides.meter, self.rounds)
            gain = found["packed"].median / found["shared"].median
            by_cost = sum(one.cost for one in packed) / sum(one.cost for one in shared)
            by_tokens = (prompt + response) / (prompt / k + response)
            count, useful = operations(model), sum(len(one.ids) for one in encoded)
            for name, bins in (("packed", packed), ("shared", shared)):
                self.table.add(
                    f"llama, sweep {prompt}/{response} x {k}",
                    name,
                    found[name],
                    useful=useful,
                    of_peak=count.planned(bins, encoded) / found[name].median / peak,
                    off=deviation(found[name].scores, found["packed"].scores),
                    note=f"gain x{gain:.2f}; by cost x{by_cost:.2f}; by tokens x{by_tokens:.2f}" * (name == "shared"),
                )

    def thread_count(self, sides: Sides, work: Workload) -> None:
        """The forwards of the default at one and more threads, with memory held between them and without."""
        import torch

        encoded = sides.model.encode(work.requests)
        bins = by_default(sides.model, encoded)

        def at(threads: int, hold: bool) -> list[float]:
            torch.set_num_threads(threads)
            try:
                return run_bins(sides.model, encoded, bins, hold=hold)
            finally:
                torch.set_num_threads(self.threads)

        cells = [(threads, hold) for hold in (False, True) for threads in (1, max(2, self.threads))]
        names = {
            cell: f"{cell[0]} thread{'s' * (cell[0] > 1)}, memory {'' if cell[1] else 'not '}held" for cell in cells
        }
        runs: dict[str, Run] = {names[cell]: partial(at, *cell) for cell in cells}
        found, _ = interleaved(runs, sides.meter, self.rounds)
        for threads, hold in cells:
            timed, single = found[names[threads, hold]], found[names[1, hold]]
            self.table.add(
                f"llama, threads, {len(encoded)} sequences",
                names[threads, hold],
                timed,
                useful=sum(len(one.ids) for one in encoded),
                off=deviation(timed.scores, single.scores),
                note=f"x{single.median / timed.median:.2f} of one thread; {median_low(timed.faults):,} page faults",
            )

    def overheads(self, sides: Sides, work: Workload, rate: float) -> None:
        """What is not a forward, each by itself, and a run from the process's start to its end."""
        model, encoded = sides.model, sides.model.encode(work.requests)
        cost = cost_of(model.backbone)
        for prompts in (20, 50) if self.quick else (483, 10_000):
            many = sequences(prompts)
            # 100,000 take seconds to plan, so once is exact enough beside the hours of their forwards
            took = clock.by_itself(partial(plan, many, cost, BUDGET, SHARED), self.rounds if prompts < 1000 else 1)
            forwards = sum(len(one.ids) for one in many) / rate
            note = f"{took.median / forwards:.2%} of the {forwards:,.0f} s of rmbench default at its rate above"
            self.table.add("overhead", f"plan {len(many):,} sequences", took, note=note)
            del many
        tokens = clock.by_itself(lambda: model.encode(work.requests), self.rounds)
        self.table.add("overhead", f"render and tokenise {len(encoded)} sequences", tokens)
        answers = [(i.to_bytes(32), {"values": [0.5], "n_tokens": 500, "read": "0" * 16}) for i in range(len(encoded))]

        def keep() -> None:
            with TemporaryDirectory() as folder, Store(Path(folder) / "answers.sqlite") as store:
                for i in range(0, len(answers), 8):
                    store.put(answers[i : i + 8])

        kept = clock.by_itself(keep, self.rounds)
        self.table.add("overhead", f"new store, {len(answers)} answers by eight", kept)
        fresh = iter([loaded(self.folder / "llama") for _ in range(self.rounds)])
        checked = clock.by_itself(lambda: route(next(fresh), encoded), self.rounds)
        self.table.add("overhead", "check of the ways", checked, note="once a run; no part of the rows above")
        self.cold_start()

    def cold_start(self) -> None:
        with quiet():
            tiny = checkpoints.make(self.folder / "tiny", "llama", max_position_embeddings=8192)
        run = [
            sys.executable,
            "-m",
            "rmbench",
            "run",
            "-m",
            f"classifier:{tiny}",
            "-t",
            "best_of_n",
            "--limit",
            "20",
            "--device",
            "cpu",
        ]
        imports = "import torch; from transformers import AutoTokenizer, LlamaForSequenceClassification"
        out = iter(range(self.rounds + 1))

        def start(command: list[str]) -> None:
            environment = os.environ | {"RMBENCH_CACHE": str(self.folder / "cache")}
            subprocess.run(command, check=True, env=environment, capture_output=True)

        def fresh() -> list[float]:
            # its own folder each time, and the cache emptied, or there would be nothing to score
            at = self.folder / f"run{next(out)}"
            start([*run, "--out", str(at)])
            for file in (self.folder / "cache").glob("*"):
                if file.is_file():
                    file.unlink()
            return []

        def importing() -> list[float]:
            start([sys.executable, "-c", imports])
            return []

        found, _ = interleaved({"rmbench run": fresh, "imports": importing}, Meter(), 1 if self.quick else self.rounds)
        share = found["imports"].median / found["rmbench run"].median
        self.table.add("cold start", "rmbench run, 20 rows, tiny model", found["rmbench run"])
        self.table.add("cold start", "import torch and transformers", found["imports"], note=f"{share:.0%} of the run")


def _padding(bins: Sequence[Bin], lengths: Sequence[int]) -> float:
    """The share of padding in all the tokens that a plan runs."""
    padding = sum(one.tokens - sum(lengths[i] for i in one.members) for one in bins if one.tree is None)
    return padding / sum(one.tokens for one in bins)


def _step_ends(prefixes: Sequence[Encoded], steps: int) -> tuple[list[Encoded], list[Encoded]]:
    """Solutions as one sequence for each step's end, and as one sequence that is read at all of them."""
    each, joined = [], []
    for at in range(0, len(prefixes), steps):
        ends = [len(one.ids) - data.CLOSING - 1 for one in prefixes[at : at + steps]]
        whole = list(prefixes[at + steps - 1].ids)
        each += [Encoded(whole[: end + 1], (end,), ask="steps") for end in ends]
        joined.append(Encoded(whole[: ends[-1] + 1], tuple(ends), ask="steps"))
    return each, joined


if __name__ == "__main__":
    main()
