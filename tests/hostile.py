"""The command line in a process of its own for each call, with bounds on memory and time, told how it ended.

One server imports what the commands import, and forks for each call: a call costs what it does, and no start.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 20
PEAK = 2 << 30  # bytes that a call may hold at once
_CEILING = 6 << 30  # of addresses, where a call is stopped before it takes the machine's memory
_CODES = {0, 1, 2, 3}


@dataclass(frozen=True)
class Ended:
    """How a call ended: `code` is None where it was stopped by a signal, `peak` is in bytes."""

    code: int | None
    out: str
    err: str
    seconds: float
    peak: int

    @property
    def faults(self) -> list[str]:
        """What of it may never be, whatever was given."""
        lines = self.err.splitlines()
        errors = [line for line in lines if line.startswith("rmbench: error")]
        told = {
            "stopped by a signal, or out of time": self.code is None,
            f"exit code {self.code}": self.code is not None and self.code not in _CODES,
            f"{self.seconds:.1f} s": self.seconds > SECONDS,
            f"{self.peak / 2**20:.0f} MiB": self.peak > PEAK,
            "an error that nobody foresaw": "please report it" in self.err,
            "a traceback": "Traceback" in self.err + self.out,
            "failed without a word": self.code in (1, 2) and not self.err.strip() and not self.out.strip(),
            f"{len(errors)} errors": len(errors) > 1,
            "a line of more than 2,000 characters": any(len(line) > 2000 for line in lines),
        }
        return [what for what, is_so in told.items() if is_so]


class Server:
    """Runs `rmbench` with given arguments in a folder, with that folder's own store."""

    def __init__(self) -> None:
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self, folder: Path, *arguments: object, **environment: str) -> Ended:
        asked = {"folder": str(folder), "arguments": [*map(str, arguments)], "environment": environment}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate()


@contextmanager
def served() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.close()


def _serve() -> None:
    _import_all()
    for line in sys.stdin:
        print(json.dumps(_called(**json.loads(line))), flush=True)


def _import_all() -> None:
    """All that a call may import but torch, which forks badly."""
    from importlib import import_module
    from pkgutil import walk_packages

    import rmbench

    for module in walk_packages(rmbench.__path__, "rmbench."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    for name in ("pyarrow.parquet", "scipy.stats", "scipy.optimize", "rich.console", "rich.table"):
        import_module(name)


def _called(folder: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Mapping[str, Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            _call(folder, arguments, environment, out.fileno(), err.fileno())
        clock = threading.Timer(4 * SECONDS, os.kill, (child, signal.SIGKILL))
        clock.start()
        _, status, usage = os.wait4(child, 0)
        clock.cancel()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read(1 << 22).decode(errors="replace"))
    code = os.waitstatus_to_exitcode(status)
    return {
        "code": None if code < 0 else code,
        "out": texts[0],
        "err": texts[1],
        "seconds": usage.ru_utime + usage.ru_stime,  # of its own: other processes may hold the processors
        "peak": usage.ru_maxrss * 1024,
    }


def _call(folder: str, arguments: Sequence[str], environment: Mapping[str, str], out: int, err: int) -> None:
    from rmbench.cli import main

    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        resource.setrlimit(resource.RLIMIT_AS, (_CEILING, _CEILING))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS + 2, SECONDS + 5))
        os.chdir(folder)
        os.environ.update({"RMBENCH_CACHE": str(Path(folder) / ".cache"), "COLUMNS": "100", **environment})
        code = main(arguments)
    except BaseException as error:  # whatever is wrong is the test's to judge
        import traceback

        traceback.print_exception(error)
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
