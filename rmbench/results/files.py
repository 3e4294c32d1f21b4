"""Result files: `DIR/<org>__<model>/<revision or local>-<hash of the run>/<task>.{json,parquet}`, written atomically.

The JSON is written last, so where there is a result its tables are there too.
"""

from __future__ import annotations

import glob
import math
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rmbench import bounded
from rmbench.errors import ResultError
from rmbench.results.provenance import short_hash
from rmbench.results.schema import SCHEMA_VERSION, TaskResult

if TYPE_CHECKING:
    import pyarrow as pa


def result_folder(result: TaskResult) -> Path:
    """The folder of the run that a result is of, relative to the output folder. Raises ResultError for a bad id."""
    check_ids(result)
    revision = re.sub(r"[^\w.-]", "_", result.subject.revision or "local")[:12]
    config = {"model": result.config.model, "data": result.config.data}
    identity = {"fingerprint": result.subject.fingerprint, **config}
    return Path(_model_folder(result.subject.id)) / f"{revision}-{short_hash(identity)}"


def result_path(result: TaskResult) -> Path:
    """Where a result belongs, relative to the output folder; what is not its task's own is hashed into its name."""
    own = result.config.task
    name = f"{result.label}-{short_hash(own)}" if own else result.task.name
    return result_folder(result) / f"{name}.json"


def _model_folder(name: str) -> str:
    """`org__model`; of an id that could not be told again from that, as `a__b`, a hash of it stands behind a ~."""
    folder = re.sub(r"[^\w.-]", "_", name.replace("/", "__"))
    return folder if folder.replace("__", "/") == name else f"{folder}~{sha256(name.encode()).hexdigest()[:16]}"


def check_ids(result: TaskResult) -> None:
    """Raises ResultError where the model's id or the task's name could lead out of a folder, or names a device."""
    tasks = ("task.name", result.task.name), ("config.task.name", result.label)
    for field, name in (("subject.id", result.subject.id), *tasks):
        parts = re.split(r"[/\\]", name)
        leads_out = bool({".", ".."} & {part.strip() for part in parts}) or not parts[0].strip()
        device = any(_DEVICE.fullmatch(part.partition(".")[0].strip()) for part in parts)
        if (
            leads_out
            or device
            or "\0" in name
            or re.match(r"[A-Za-z]:", name)
            or len(_model_folder(name).encode()) > _LONGEST_ID
        ):
            raise ResultError(f"{field}: {name!r:.80} cannot name a file; expected a name, as in org/model")
    for field, name in tasks:
        if not _TASK.fullmatch(name):
            raise ResultError(f"{field}: {name!r:.80} cannot name a file; expected letters, digits, _ or -")


def check_writable(out: Path) -> None:
    """Raises ResultError where results could not be written; better before scoring than after."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out) as probe:  # without a name, so that a kill leaves none
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise ResultError(f"{out}: cannot write results here ({error.strerror}); --out names another folder") from error


def write(result: TaskResult, out: Path) -> Path:
    """Writes a result with its tables and returns the JSON's path. Raises ResultError; what was scored is kept.

    A result of another model is never overwritten, as where a file system does not tell `Org` from `org`.
    """
    target = out / result_path(result)
    if target.exists() and (there := read(target).subject.id) != result.subject.id:
        raise ResultError(f"{target}: holds a result of {there!r}; expected one of {result.subject.id!r}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_table(result.records, target.with_suffix(".parquet"))
        if result.requests is not None:
            _write_table(result.requests, requests_path(target))
        else:
            requests_path(target).unlink(missing_ok=True)
        atomically(target, lambda path: path.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8"))
    except OSError as error:
        raise ResultError(
            f"{target}: cannot write the result ({error.strerror or error}); the rewards are kept, so the same "
            "command with another --out finishes without scoring again"
        ) from error
    return target


def requests_path(path: Path) -> Path:
    """Where the table of requests of the result at `path` stands, if it has one."""
    return path.with_suffix(".requests.parquet")


def read(path: Path, *, tables: bool = False) -> TaskResult:
    """Reads a result file, and its tables if asked. Raises ResultError naming the field that is wrong."""
    try:
        text = bounded.read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ResultError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    try:
        result = TaskResult.model_validate_json(text)
    except ValidationError as error:
        places = {".".join(str(part) for part in one["loc"]) or "the file": one for one in reversed(error.errors())}
        if "schema_version" in places:
            version = places["schema_version"]["input"]
            raise ResultError(
                f"{path}: schema version {version!r}; this rmbench reads {SCHEMA_VERSION}; run it again"
            ) from error
        field, first = [*places.items()][-1]
        raise ResultError(f"{path}: no result file: {field}: {first['msg']}") from error
    _check_finite(path, result)
    if unknown := {metric.name for metric in result.metrics} - set(result.statistics):
        raise ResultError(f"{path}: metrics has {min(unknown)!r:.80}, and statistics do not say what it is")
    if tables:
        result._records = _read_table(path.with_suffix(".parquet"))
        result._requests = _read_table(requests_path(path)) if requests_path(path).exists() else None
    return result


def _check_finite(path: Path, result: TaskResult) -> None:
    """Raises ResultError for a number that is none, where the schema takes anything: JSON has none such, and what reads
    it again would find another run.
    """
    attested = result.model_dump(include={"subject", "config", "fitted"})
    for place, number in _numbers("", attested):
        if not math.isfinite(number):
            raise ResultError(f"{path}: {place} is {number}; expected a finite number")


def _numbers(place: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, float):
        yield place.removeprefix("."), value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _numbers(f"{place}.{name}", item)
    elif isinstance(value, list | tuple):
        for at, item in enumerate(value):
            yield from _numbers(f"{place}[{at}]", item)


def _write_table(table: pa.Table, target: Path) -> None:
    import pyarrow.parquet as pq

    atomically(target, lambda path: pq.write_table(table, path, compression="zstd"))


def _read_table(path: Path) -> object:
    import pyarrow as pa

    if not path.exists():
        raise ResultError(f"{path}: missing; a result goes with the records beside it")
    try:
        with bounded.opened(path) as stream:
            return bounded.table(stream, path.stat().st_size).read()
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise ResultError(f"{path}: the records of this result cannot be read ({reason})") from error


def atomically(target: Path, write_to: Callable[[Path], object]) -> None:
    """Has `write_to` write a file beside `target`, which is then moved into its place."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        if not _is_written(left.name):
            left.unlink(missing_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        write_to(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def put(target: Path, content: bytes) -> None:
    """Writes a file beside `target` and moves it into its place."""
    atomically(target, lambda path: path.write_bytes(content))


def _is_written(temporary: str) -> bool:
    """Whether the process that a temporary file's name holds may still be writing it."""
    process = temporary.split(".")[-2].partition("-")[0]
    if not process.isascii() or not process.isdigit() or os.name == "nt":  # there a signal ends the process
        return True
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # somebody else's
    return True


_TASK = re.compile(r"[A-Za-z0-9]\w*([.-]\w+)*", re.ASCII)
_DEVICE = re.compile(r"con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$", re.IGNORECASE)
_LONGEST_ID = 200
