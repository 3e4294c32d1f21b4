"""Data parallelism: one process a device, each with the same model, all on one plan and one store.

This process plans, runs on the first device and keeps what comes out; the others only compute bins. They outlast the
models that they compute for: the members of a Derived come and go, one at a time, and the processes stay.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

from rmbench.checkpoints.fingerprint import first_line
from rmbench.device import Device, device_of, full_name, release, stand_in, standing_in
from rmbench.errors import ModelError, RmbenchError, UsageError
from rmbench.forwards.loop import Job, Workers, rewards_of
from rmbench.forwards.memory import held
from rmbench.forwards.plan import Bin
from rmbench.models.base import Encoded, TokenModel
from rmbench.models.spec import Spec, load_model
from rmbench.types import Reward

_PATIENCE = 5.0  # seconds that processes have to end by themselves

Rewards = list[Reward] | None


def devices_of(given: str) -> list[str]:
    """The devices of `0,1` (CUDA devices by number) or `cpu,cpu`. Raises UsageError."""
    names = [full_name(part.strip()) for part in given.split(",")]
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
    process: BaseProcess | None = None

    def computed(self, model: TokenModel, planned: Bin, encoded: list[Encoded]) -> Rewards:
        if self.line is None:
            return rewards_of(model, encoded, planned)
        self.tell((planned, encoded))
        rewards: Rewards = self.answer()
        return rewards

    def tell(self, what: object) -> None:
        """Raises ModelError where its process has ended."""
        assert self.line is not None  # noqa: S101
        try:
            self.line.send(what)
        except OSError:
            raise self._ended() from None

    def answer(self) -> Any:
        """What the process says next. Raises ModelError."""
        assert self.line is not None  # noqa: S101
        try:
            kind, value = self.line.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        if kind == "failed":
            raise ModelError(f"device {self.device}: {value}")
        return value

    def _ended(self) -> ModelError:
        return ModelError(f"device {self.device}: its process ended before it answered; a script that starts processes"
                          " needs `if __name__ == \"__main__\":`")  # fmt: skip


class Processes:
    """A process for each of `devices`, beside this one, for one model after the other.

    They start with the first model that is held, and end with `close` or the `with` that holds them:

        with Processes(["cuda:1", "cuda:2"]) as processes:
            for spec in members:
                ...
                with processes.holding(spec, options, model.fingerprint) as workers:
                    score(model, requests, workers=workers)

    One that ended meanwhile is started anew for the next model.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        self._devices = tuple(devices)
        self._seats: dict[int, _Seat] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def holding(self, spec: str | Spec, options: Mapping[str, Any], fingerprint: str | None) -> Iterator[Workers]:
        """Workers for the model that `spec` names, loaded by each process and freed at the end, whatever happens.

        Raises ModelError where a process cannot load it, or loads another.
        """
        import torch

        threads = torch.get_num_threads()
        own = max(1, threads // (len(self._devices) + 1))
        torch.set_num_threads(own)
        try:
            try:
                seats = self._started(own)
                self._load(seats, spec, options, fingerprint)
            except (KeyboardInterrupt, SystemExit):  # answers that nobody heard would be taken for the next ones
                self.close()
                raise
            yield _Shared([_Seat("here"), *seats])
        finally:
            torch.set_num_threads(threads)
            for seat in self._seats.values():
                with suppress(ModelError):
                    seat.tell(None)

    def close(self) -> None:
        """Ends the processes, those that do not end by themselves after a while."""
        for seat in self._seats.values():
            if seat.line is not None:
                seat.line.close()  # an idle process ends by that
        until = time.monotonic() + _PATIENCE
        for seat in self._seats.values():
            if seat.process is not None:
                seat.process.join(max(0.0, until - time.monotonic()))
                seat.process.kill()
                seat.process.join()
        self._seats.clear()

    def _started(self, threads: int) -> list[_Seat]:
        """A seat for each device, with a process that is alive."""
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        for number, device in enumerate(self._devices):
            seat = self._seats.get(number)
            if seat is not None and seat.process is not None and seat.process.is_alive():
                continue
            ours, theirs = context.Pipe()
            given = (theirs, device, stand_in(device), threads)
            process = context.Process(target=_serve, args=given, daemon=True, name=f"rmbench {device}")
            process.start()
            theirs.close()
            self._seats[number] = _Seat(device, ours, process)
        return [self._seats[number] for number in range(len(self._devices))]

    @staticmethod
    def _load(seats: Sequence[_Seat], spec: str | Spec, options: Mapping[str, Any], fingerprint: str | None) -> None:
        """Has all load at once, and hears each of them out before the first failure is raised."""
        failures = []
        for seat in seats:
            with suppress(ModelError):  # told by its answer
                seat.tell((spec, {**options, "device": seat.device}))
        for seat in seats:
            try:
                if seat.answer() != fingerprint:
                    raise ModelError(f"device {seat.device}: its process loaded another model than this one")
            except ModelError as error:
                failures.append(error)
        if failures:
            raise failures[0]


class _Shared:
    """Workers on these seats."""

    def __init__(self, seats: Sequence[_Seat]) -> None:
        self._seats = seats

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


def _serve(line: Connection, device: str, stand_ins: Mapping[str, Device] | None, threads: int) -> None:
    """What a worker's process does: loads one model after the other, says which each is, and answers its bins.

    Each thing asked has one answer, but None, which ends the use of a model.
    """
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    sys.stdout = sys.stderr  # what a checkpoint's code prints must not end up among the results
    torch.set_num_threads(threads)
    with standing_in(stand_ins), suppress(EOFError, OSError):
        while True:
            spec, options = line.recv()
            _serve_one(line, spec, options)
            gc.collect()
            release()


def _serve_one(line: Connection, spec: str | Spec, options: dict[str, Any]) -> None:
    """Loads the model, and answers until nobody asks for it any more."""
    try:
        model = load_model(spec, **options)
        if not isinstance(model, TokenModel):
            raise UsageError(f"{spec!r} runs its own work; --devices is for checkpoints")
    except Exception as error:  # it has to be told in the process that shows errors
        line.send(("failed", _line_of(error)))
        line.recv()  # None: nobody asks what could not be loaded
        return
    line.send(("loaded", model.fingerprint))
    with held(device_of(model.backbone).kind):
        while (job := line.recv()) is not None:
            planned, encoded = job
            try:
                line.send(("rewards", rewards_of(model, encoded, planned)))
            except Exception as error:
                line.send(("failed", _line_of(error)))


def _line_of(error: Exception) -> str:
    return str(error) if isinstance(error, RmbenchError) else f"{type(error).__name__}: {first_line(error)}"
