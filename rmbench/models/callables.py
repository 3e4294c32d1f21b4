"""Functions as reward models. What one takes is seen in its parameters, or said by attributes of it:

- `(prompt, response)` gives a number; `async def` is awaited, several at once;
- `(prompts, responses)`, or `batched = True`, gives a list of numbers;
- `(prompt, first, second)`, or `answers = "compare"`, gives the share, from 0 to 1, by which the first is better.

None instead of a number says that it refuses to judge. The prompt is a string where it is one user message, else a list
of `{"role", "content"}`.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any

from rmbench.errors import ModelError, UsageError
from rmbench.models.base import Identity, Option, Subject, told
from rmbench.types import Ask, Request, Reward

_BATCH, _AT_ONCE, _GIVE_UP = 32, 8, 20

# How a function is called, which changes nothing that it answers
CALLS: Mapping[str, Option] = {
    "batch": Option(f"responses that a batched function is given at once (default: {_BATCH})", int, of_run=True),
    "concurrency": Option(f"calls at once (default: {_AT_ONCE} of an async function, 1 of others)", int, of_run=True),
    "give_up": Option(f"failed calls in a row that end the run, 0: none do (default: {_GIVE_UP})", int, of_run=True),
}

_FORMS = "(prompt, response), (prompts, responses) or (prompt, first, second)"


@dataclass(frozen=True, slots=True)
class _Failed:
    """Why a call gave nothing."""

    reason: str


class PythonCallable:
    """A function as a reward model; `options` are those of `CALLS`.

    `fingerprint` is that of the file it is in, None in memory: what the function calls may change under both. Raises
    UsageError for a function that takes something else, and for options that cannot be.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None = None,
        fingerprint: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.function, self.fingerprint = function, fingerprint
        self.identity: Identity = "named" if fingerprint else "none"
        qualified = getattr(function, "__qualname__", type(function).__qualname__)
        self.subject = Subject(name or "python/" + qualified.replace("<", "").replace(">", ""), "python")
        ask, self.batched = _taken(function, self.subject.id)
        self.answers: frozenset[Ask] = frozenset({ask})
        self.most = 2 if ask == "compare" else None
        self.is_async = any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))
        given = dict(options or {})
        if given.get("batch") is not None and not self.batched:
            raise UsageError(f"batch={given['batch']}: {self.subject.id} takes one response; expected {_FORMS}")
        self.batch = _at_least(1, "batch", given.get("batch"), _BATCH) if self.batched else 1
        self.concurrency = _at_least(1, "concurrency", given.get("concurrency"), _AT_ONCE if self.is_async else 1)
        self.give_up = _at_least(0, "give_up", given.get("give_up"), _GIVE_UP) or math.inf
        self._failures, self._last = 0, ""  # in a row, over all that it is asked in a run, and why the last failed
        self._loop: asyncio.AbstractEventLoop | None = None

    def rewards(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reward]]:
        return chain.from_iterable(self.batches(requests))

    def batches(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Reward]]]:
        """The answers of each call as it ends. Of a batch that fails, each is asked for by itself: one may be to blame.

        Raises ModelError after so many failed calls in a row as make a run give up.
        """
        starts, again = iter(range(0, len(requests), self.batch)), deque[Sequence[int]]()
        tried = 0

        def next_call() -> Sequence[int] | None:
            nonlocal tried
            if self._failures >= self.give_up:
                return None
            if again:
                return again.popleft()
            start = next(starts, None)
            if start is None:
                return None
            members = range(start, min(start + self.batch, len(requests)))
            tried += len(members)
            return members

        with closing(self._calls(requests, next_call)) as calls:
            for members, values in calls:
                if isinstance(values, _Failed) and len(members) > 1:
                    self._failures, self._last = self._failures + 1, values.reason
                    again.extend([i] for i in members)
                    continue
                given = [values] * len(members) if isinstance(values, _Failed) else values
                rewards = [self._reward(value) for value in given]
                failed = [reward.detail or "" for reward in rewards if reward.status == "error"]
                self._failures = self._failures + 1 if len(failed) == len(members) else 0
                self._last = failed[-1] if failed else self._last
                yield [*zip(members, rewards, strict=True)]
        if self._failures >= self.give_up:
            raise ModelError(
                f"{self.subject.id}: {self._failures} calls failed in a row, the last: {self._last}; given up after "
                f"{tried:,} of {len(requests):,} were tried; what was answered is kept, and give_up=N allows more"
            )

    def _calls(
        self, requests: Sequence[Request], next_call: Callable[[], Sequence[int] | None]
    ) -> Generator[tuple[Sequence[int], list[Any] | _Failed]]:
        """The places of each call's requests and its values, as it ends; so many at once as is allowed."""
        if self.concurrency == 1 and not self.is_async:
            while (members := next_call()) is not None:
                yield members, self._called([requests[i] for i in members])
            return
        running: dict[Future[list[Any] | _Failed], Sequence[int]] = {}
        pool = ThreadPoolExecutor(self.concurrency, "rmbench-own-code")
        try:
            while True:
                while len(running) < self.concurrency and (members := next_call()) is not None:
                    running[self._submitted(pool, [requests[i] for i in members])] = members
                if not running:
                    return
                for ended in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(ended), ended.result()
        finally:
            for call in running:
                call.cancel()
            pool.shutdown(wait=False, cancel_futures=True)

    def _submitted(self, pool: ThreadPoolExecutor, requests: Sequence[Request]) -> Future[list[Any] | _Failed]:
        if not self.is_async:
            return pool.submit(self._called, requests)
        if self._loop is None:
            # One as long as this lives: clients that a user's code keeps belong to the loop that they began in
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="rmbench-own-code", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(self._awaited(requests), self._loop)

    def _called(self, requests: Sequence[Request]) -> list[Any] | _Failed:
        try:
            return self._values(self.function(*self._arguments(requests)), len(requests))
        except (Exception, SystemExit) as error:
            # One bad row must not lose the others: it is counted, shown and scored again by the next run
            return _Failed(told(error))

    async def _awaited(self, requests: Sequence[Request]) -> list[Any] | _Failed:
        try:
            return self._values(await self.function(*self._arguments(requests)), len(requests))
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # an exit would end the loop of the others
            return _Failed(told(error))

    def _arguments(self, requests: Sequence[Request]) -> list[Any]:
        rows = [[_prompt(request), *(response.text for response in request.responses)] for request in requests]
        return [list(column) for column in zip(*rows, strict=True)] if self.batched else rows[0]

    def _values(self, given: Any, count: int) -> list[Any] | _Failed:
        if inspect.iscoroutine(given):
            given.close()
            return _Failed("the function returned a coroutine, expected an async def or a number")
        return _listed(given, count) if self.batched else [given]

    def _reward(self, value: Any) -> Reward:
        compares = "compare" in self.answers
        nans = (math.nan,) * (2 if compares else 1)
        if value is None:
            return Reward(nans, status="refused", detail="the function returned None")
        number = value if isinstance(value, _Failed) else _number(value)
        if compares and not isinstance(number, _Failed) and not (math.isnan(number) or 0 <= number <= 1):
            number = _Failed(f"the function returned no share from 0 to 1: {number}")
        if isinstance(number, _Failed):
            return Reward(nans, status="error", detail=number.reason)
        return Reward((number, 1 - number) if compares else (number,))


def _taken(function: Callable[..., Any], name: str) -> tuple[Ask, bool]:
    """What a function answers, and whether it takes lists. Raises UsageError."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of some that are written in C
        signature = None
    parameters = () if signature is None else signature.parameters.values()
    called = [one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    batched = bool(getattr(function, "batched", called[:1] == ["prompts"]))
    said = getattr(function, "answers", None)
    if said is None:
        said = "compare" if called[1:3] in (["first", "second"], ["firsts", "seconds"]) else "reward"
    asks = [said] if isinstance(said, str) else [*said]
    if asks not in (["reward"], ["compare"]):
        raise UsageError(f"{name} answers {', '.join(map(str, asks))}; a function answers reward or compare")
    ask: Ask = "compare" if asks == ["compare"] else "reward"
    if signature is not None:
        try:
            signature.bind(*[None] * (3 if ask == "compare" else 2))
        except TypeError:
            raise UsageError(f"{name} takes {signature}; expected {_FORMS}") from None
    if any(one.startswith("response") for one in called[:1]) and any(one.startswith("prompt") for one in called[1:3]):
        raise UsageError(f"{name} takes {signature}, and is called in order; expected {_FORMS}")
    return ask, batched


def _at_least(least: int, option: str, given: Any, default: int) -> int:
    if given is None:
        return default
    if not isinstance(given, int) or isinstance(given, bool) or given < least:
        raise UsageError(f"{option}={given!r}: expected a whole number from {least}")
    return given


def _number(value: Any) -> float | _Failed:
    """The number that a value is: also of arrays and tensors of one number."""
    kind, shape = type(value).__name__, getattr(value, "shape", ())
    try:
        if math.prod(shape) == 1 and hasattr(value, "item"):
            value = value.item()
        elif shape:
            return _Failed(f"the function returned an array, expected a number: {kind} of shape {tuple(shape)}")
        if not isinstance(value, str | bytes | bytearray) and hasattr(value, "__float__") | hasattr(value, "__index__"):
            return float(value)
    except Exception as error:  # it is the user's code that makes a number of it
        return _Failed(f"the function returned no number: {kind}, {told(error)}")
    return _Failed(f"the function returned a {kind}, expected a number or None: {value!r:.60}")


def _listed(values: Any, count: int) -> list[Any] | _Failed:
    """The values of a batch: a list or tuple, an array or tensor."""
    kind = type(values).__name__
    if hasattr(values, "reshape") and math.prod(values.shape) == count:
        values = values.reshape(-1)
    listed = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(listed, list | tuple):
        return _Failed(f"the function returned a {kind}, expected a list of numbers, one a response")
    if len(listed) != count:
        return _Failed(f"the function returned {len(listed)} values for {count} responses, expected one each")
    return [*listed]


def _prompt(request: Request) -> str | list[dict[str, str]]:
    if len(request.prompt) == 1 and request.prompt[0].role == "user":
        return request.prompt[0].text
    return [{"role": message.role, "content": message.text} for message in request.prompt]
