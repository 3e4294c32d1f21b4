"""Data parallelism: one process a device, each with the same model, all on one plan and one store.

This process plans, runs on the first device and keeps what comes out; the others only compute bins.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

from rmbench.checkpoints.fingerprint import first_line
from rmbench.errors import ModelError, RmbenchError, UsageError
from rmbench.models.base import Encoded, TokenModel
from rmbench.models.spec import load_model
from rmbench.scoring.loop import Job, rewards_of
from rmbench.scoring.memory import held
from rmbench.scoring.plan import Bin
from rmbench.types import Reward

_PATIENCE = 5.0  # seconds that processes have to end by themselves

Rewards = list[Reward] | None


def devices_of(given: str) -> list[str]:
    """The devices of `0,1` (CUDA devices by number) or `cpu,cpu`. Raises UsageError."""
    parts = [part.strip() for part in given.split(",")]
    names = [f"cuda:{part}" if part.isdecimal() else "cuda:0" if part == "cuda" else part for part in parts]
    if not all(names) or "auto" in names:
        raise UsageError(f"devices {given!r}: expected one device a process, as in 0,1")
    doubled = next((name for name in names if name != "cpu" and names.count(name) > 1), None)
    if doubled:
        raise UsageError(f"devices {given!r}: {doubled} is there twice")
    return names


@dataclass(frozen=True, slots=True)
class _Seat:
    """A device that computes: this process where `line` is None, else the one at the line's other end."""

    device: str
    line: Connection | None = None

    def computed(self, model: TokenModel, planned: Bin, encoded: list[Encoded]) -> Rewards:
        if self.line is None:
            return rewards_of(model, encoded, planned)
        found: Rewards = self.answer((planned, encoded))
        return found

    def answer(self, asked: object = None) -> Any:
        """What the process says next, after `asked` where something is. Raises ModelError."""
        assert self.line is not None  # noqa: S101
        try:
            if asked is not None:
                self.line.send(asked)
            kind, value = self.line.recv()
        except (EOFError, OSError):
            raise ModelError(f"device {self.device}: its process ended before it answered; a script that starts"
                             " processes needs `if __name__ == \"__main__\":`") from None  # fmt: skip
        if kind == "failed":
            raise ModelError(f"device {self.device}: {value}")
        return value


class Processes:
    """Workers for the model that `spec` names: a process for each of `devices`, beside this one."""

    def __init__(self, spec: str, options: Mapping[str, Any], devices: Sequence[str], fingerprint: str) -> None:
        self._given = spec, options, devices, fingerprint
        self._seats = [_Seat("here")]
        self._processes: list[BaseProcess] = []

    def __enter__(self) -> Processes:
        """Starts them; each loads the model. Raises ModelError where one cannot, or loads another."""
        import torch

        spec, options, devices, fingerprint = self._given
        self._threads = torch.get_num_threads()
        threads = max(1, self._threads // (len(devices) + 1))
        torch.set_num_threads(threads)
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        try:
            for device in devices:
                ours, theirs = context.Pipe()
                given = (theirs, spec, {**options, "device": device}, threads)
                process = context.Process(target=_serve, args=given, daemon=True, name=f"rmbench {device}")
                process.start()
                theirs.close()
                self._seats.append(_Seat(device, ours))
                self._processes.append(process)
            for seat in self._seats[1:]:
                if seat.answer() != fingerprint:
                    raise ModelError(f"device {seat.device}: its process loaded another model than this one")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def work(self, model: TokenModel, bins: Iterator[Job]) -> Iterator[tuple[Bin, Rewards]]:
        """The rewards of each bin as they come; the next goes to whichever device is free."""
        free = list(self._seats)
        with ThreadPoolExecutor(len(free), thread_name_prefix="rmbench-device") as pool:
            busy: dict[Future[Rewards], tuple[_Seat, Bin]] = {}
            while True:
                while free and (job := next(bins, None)):
                    planned, encoded = job
                    seat = free.pop(0)
                    busy[pool.submit(seat.computed, model, planned, encoded)] = seat, planned
                if not busy:
                    return
                for done in wait(busy, return_when=FIRST_COMPLETED).done:
                    seat, planned = busy.pop(done)
                    free.append(seat)
                    yield planned, done.result()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        import torch

        torch.set_num_threads(self._threads)
        for seat in self._seats[1:]:
            if seat.line is not None:
                seat.line.close()  # an idle process ends by that
        until = time.monotonic() + _PATIENCE
        for process in self._processes:
            process.join(max(0.0, until - time.monotonic()))
            process.kill()


def _serve(line: Connection, spec: str, options: dict[str, Any], threads: int) -> None:
    """What a worker's process does: loads the model, says which it is, and answers bins until nobody asks any more."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    sys.stdout = sys.stderr  # what a checkpoint's code prints must not end up among the results
    torch.set_num_threads(threads)
    try:
        model = load_model(spec, **options)
        if not isinstance(model, TokenModel):
            raise UsageError(f"{spec!r} runs its own work; --devices is for checkpoints")
        line.send(("loaded", model.fingerprint))
        with held(options["device"]):
            while True:
                planned, encoded = line.recv()
                line.send(("rewards", rewards_of(model, encoded, planned)))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:  # it has to be told in the process that shows errors
        told = str(error) if isinstance(error, RmbenchError) else f"{type(error).__name__}: {first_line(error)}"
        line.send(("failed", told))
