"""Answers on their way to the store, from another thread."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ask_models import score
from fake_models import Scripted

from rmbench.errors import ModelError, ResultError
from rmbench.scoring import Store
from rmbench.scoring.writer import Writer
from rmbench.types import Message, Request, Response, Reward

LONG = 3600.0


def requests(count: int) -> list[Request]:
    return [Request("reward", (Message("user", "Why?"),), (Response("x" * n),)) for n in range(1, count + 1)]


class Gated(Store):
    """A store whose transactions wait until they are let through, and are counted."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.open = threading.Event()
        self.open.set()
        self.transactions: list[int] = []

    def put(self, values: Any) -> None:
        rows = list(values)
        assert self.open.wait(10)
        super().put(rows)
        self.transactions.append(len(rows))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Gated]:
    with Gated(tmp_path / "s.sqlite") as store:
        yield store


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_each_put_without_a_window_is_one_transaction_in_order(store: Gated) -> None:
    with Writer(store) as writer:
        for size in (1, 3, 2):
            writer.put((bytes([size, i]), i) for i in range(size))
    assert store.transactions == [1, 3, 2]
    assert store.count() == 6


def test_at_most_one_batch_is_in_flight(store: Gated) -> None:
    store.open.clear()
    handed: list[int] = []

    def hand() -> None:
        for number in range(3):
            writer.put([(bytes([number]), number)])
            handed.append(number)

    with Writer(store) as writer:
        thread = threading.Thread(target=hand)
        thread.start()
        until(lambda: handed == [0])
        time.sleep(0.05)
        assert handed == [0], "the second waits for the first to be committed"
        store.open.set()
        thread.join()
    assert store.transactions == [1, 1, 1]


def test_replies_within_a_window_are_committed_together(store: Gated) -> None:
    with Writer(store, LONG) as writer:
        writer.put([(b"first", 0)])
        assert store.transactions == [1], "nothing was committed before it"
        for number in range(100):
            writer.put([(bytes([number]), number)])
        assert store.transactions == [1]
    assert store.transactions == [1, 100]


def test_a_reply_after_the_window_is_committed_before_the_next_is_asked(store: Gated) -> None:
    with Writer(store, 0.01) as writer:
        for number in range(4):
            writer.put([(bytes([number]), number)])
            assert len(store.transactions) == number + 1
            time.sleep(0.02)


def test_what_came_within_a_window_is_committed_when_it_is_over_though_nothing_follows(store: Gated) -> None:
    with Writer(store, 0.05) as writer:
        writer.put([(b"a", 0)])
        writer.put([(b"b", 0)])
        until(lambda: store.count() == 2)


def test_a_slow_model_has_each_reply_committed_before_the_next_is_asked(store: Gated) -> None:
    class Slow:
        answers, fingerprint = frozenset({"reward"}), "slow:1"
        safe: list[int]

        def rewards(self, asked: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
            self.safe = []
            for index in range(len(asked)):
                self.safe.append(store.count())
                time.sleep(0.06)
                yield index, Reward((1.0,))

    model = Slow()
    score(model, requests(4), store=store)  # type: ignore[arg-type]
    assert model.safe == [0, 1, 2, 3]


def test_a_fast_model_has_few_transactions(store: Gated) -> None:
    score(Scripted(lambda request: 1.0), requests(2000), store=store)
    assert sum(store.transactions) == 2000
    assert len(store.transactions) < 200


def full(self: Store, values: Any) -> None:
    list(values)
    raise ResultError("cannot keep rewards: the disk is full")


def write(store: Store, window: float, puts: list[int]) -> None:
    with Writer(store, window) as writer:
        for number in range(100):
            puts.append(number)
            writer.put([(bytes([number]), number)])


@pytest.mark.parametrize("window", [0.0, LONG])
def test_a_failed_write_stops_the_run(store: Gated, monkeypatch: pytest.MonkeyPatch, window: float) -> None:
    monkeypatch.setattr(Gated, "put", full)
    puts: list[int] = []
    with pytest.raises(ResultError, match="the disk is full"):
        write(store, window, puts)
    assert len(puts) <= 2


def test_a_failed_last_write_is_an_error_too(store: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
    def only_once(self: Gated, values: Any) -> None:
        monkeypatch.setattr(Gated, "put", full)
        Store.put(self, values)

    monkeypatch.setattr(Gated, "put", only_once)
    puts: list[int] = []
    with pytest.raises(ResultError, match="the disk is full"):
        write(store, LONG, puts)
    assert len(puts) == 100
    assert store.count() == 1


def test_a_run_that_fails_keeps_what_came_before_and_its_own_error(store: Gated) -> None:
    def answer(request: Request) -> float:
        if len(request.responses[0].text or "") == 500:
            raise RuntimeError("the endpoint went away")
        return 1.0

    model = Scripted(answer)
    with pytest.raises(ModelError, match="the endpoint went away"):
        score(model, requests(1000), store=store)
    assert store.count() == len(model.seen) - 1


KILLED = """
import time
from pathlib import Path
from rmbench.scoring import Store
from rmbench.scoring.writer import Writer

with Store(Path("killed.sqlite")) as store, Writer(store, 0.05) as writer:
    for number in range(10**6):
        time.sleep(0.06)
        writer.put([(number.to_bytes(4, "big"), number)])
        print(number, flush=True)
"""


def test_slow_replies_survive_kill_9(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(10)]
        process.kill()
        lines += process.stdout.readlines()
    with Store(tmp_path / "killed.sqlite") as store:
        assert len(lines) <= store.count() <= len(lines) + 1


def test_no_thread_is_left(store: Gated) -> None:
    before = threading.active_count()
    score(Scripted(lambda request: 1.0), requests(10), store=store)
    with pytest.raises(ModelError):
        score(Scripted(lambda request: 1 / 0, fingerprint="f2"), requests(10), store=store)
    assert threading.active_count() == before
