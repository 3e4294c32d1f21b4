"""Data parallelism: one process a device, each with the same model, all on one plan and one store.

This process plans, runs on the first device and keeps what comes out; the others only compute bins.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from rmbench.errors import ModelError, UsageError
from rmbench.models.base import Encoded, TokenModel
from rmbench.models.spec import load_model
from rmbench.scoring.loop import Job, rewards_of
from rmbench.scoring.memory import held
from rmbench.scoring.plan import Bin
from rmbench.types import Reward

Rewards = list[Reward] | None


def devices_of(given: str) -> list[str]:
    """The devices of `0,1` (CUDA devices by number) or `cpu,cpu`. Raises UsageError."""
    names = [f"cuda:{name}" if name.isdecimal() else name for name in (part.strip() for part in given.split(","))]
    if not all(names) or "auto" in names:
        raise UsageError(f"devices {given!r}: expected one device a process, as in 0,1")
    doubled = next((name for name in names if name != "cpu" and names.count(name) > 1), None)
    if doubled:
        raise UsageError(f"devices {given!r}: {doubled} is there twice")
    return names


class Processes:
    """Workers for the model that `spec` names: a process for each of `devices`, beside this one."""

    def __init__(self, spec: str, options: Mapping[str, Any], devices: Sequence[str], fingerprint: str) -> None:
        """Starts them; each loads the model. Raises ModelError where one cannot, or loads another."""
        import torch

        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self._threads = torch.get_num_threads()
        threads = max(1, self._threads // (len(devices) + 1))
        torch.set_num_threads(threads)
        self._lines: list[Connection] = []
        self._processes = []
        for device in devices:
            ours, theirs = context.Pipe()
            given = (theirs, spec, {**options, "device": device}, threads)
            process = context.Process(target=_serve, args=given, daemon=True, name=f"rmbench {device}")
            process.start()
            theirs.close()
            self._lines.append(ours)
            self._processes.append(process)
        for device, line in zip(devices, self._lines, strict=True):
            loaded = _received(line, device)
            if loaded != fingerprint:
                raise ModelError(f"device {device}: its process loaded another model than this one")

    def work(self, model: TokenModel, bins: Iterator[Job]) -> Iterator[tuple[Bin, Rewards]]:
        """The rewards of each bin as they come; the next goes to whichever device is free."""
        seats: list[Connection | None] = [None, *self._lines]  # None is this process
        with ThreadPoolExecutor(len(seats), thread_name_prefix="rmbench-device") as pool:
            busy: dict[Future[Rewards], tuple[Connection | None, Bin]] = {}
            while True:
                while seats and (job := next(bins, None)):
                    planned, encoded = job
                    seat = seats.pop(0)
                    busy[pool.submit(_computed, seat, model, planned, encoded)] = seat, planned
                if not busy:
                    return
                for done in wait(busy, return_when=FIRST_COMPLETED).done:
                    seat, planned = busy.pop(done)
                    seats.append(seat)
                    yield planned, done.result()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        import torch

        torch.set_num_threads(self._threads)
        for line in self._lines:
            line.close()  # which ends the process behind it
        for process in self._processes:
            process.join(5)
            process.kill()


def _computed(seat: Connection | None, model: TokenModel, planned: Bin, encoded: list[Encoded]) -> Rewards:
    if seat is None:
        return rewards_of(model, encoded, planned)
    seat.send((planned, encoded))
    found: Rewards = _received(seat, "a device's process")
    return found


def _received(line: Connection, what: str) -> Any:
    try:
        kind, value = line.recv()
    except EOFError:
        raise ModelError(f"{what}: ended before it answered") from None
    if kind == "failed":
        raise ModelError(f"{what}: {value}")
    return value


def _serve(line: Connection, spec: str, options: dict[str, Any], threads: int) -> None:
    """What a worker's process does: loads the model, says which it is, and answers bins until nobody asks any more."""
    import torch

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
    except EOFError:
        return
    except Exception as error:  # it has to be told in the process that shows errors
        last = traceback.format_exception_only(error)[-1].strip()
        line.send(("failed", last))
