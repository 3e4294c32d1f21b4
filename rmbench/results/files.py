"""Result files: `DIR/<org>__<model>/<revision or local>-<hash of the run>/<task>.{json,parquet}`, written atomically.

The JSON is written last, so where there is a result its tables are there too.
"""

from __future__ import annotations

import glob
import json
import math
import os
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rmbench.errors import ResultError, UsageError
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
    return Path(re.sub(r"[^\w.-]", "_", result.subject.id.replace("/", "__"))) / f"{revision}-{short_hash(identity)}"


def result_path(result: TaskResult) -> Path:
    """Where a result belongs, relative to the output folder; what is not its task's own is hashed into its name."""
    own = result.config.task
    name = f"{result.task.name}-{short_hash(own)}" if own else result.task.name
    return result_folder(result) / f"{name}.json"


def check_ids(result: TaskResult) -> None:
    """Raises ResultError where the model's id or the task's name could lead out of a folder, or names a device."""
    for field, name in (("subject.id", result.subject.id), ("task.name", result.task.name)):
        parts = re.split(r"[/\\]", name)
        leads_out = bool({".", ".."} & {part.strip() for part in parts}) or not parts[0].strip()
        device = any(_DEVICE.fullmatch(part.partition(".")[0].strip()) for part in parts)
        if leads_out or device or "\0" in name or re.match(r"[A-Za-z]:", name) or len(name) > _LONGEST_ID:
            raise ResultError(f"{field}: {name!r:.80} cannot name a file; expected a name, as in org/model")
    if not _TASK.fullmatch(result.task.name):
        raise ResultError(f"task.name: {result.task.name!r:.80} cannot name a file; expected letters, digits, _ or -")


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
    """Writes a result with its tables and returns the JSON's path. Raises ResultError; what was scored is kept."""
    target = out / result_path(result)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_table(result.records, target.with_suffix(".parquet"))
        if result.requests is not None:
            _write_table(result.requests, requests_path(target))
        else:
            requests_path(target).unlink(missing_ok=True)
        _atomically(target, lambda path: path.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8"))
    except OSError as error:
        raise ResultError(
            f"{target}: cannot write the result ({error.strerror or error}); the rewards are kept, so the same "
            "command with another --out finishes without scoring again"
        ) from error
    return target


def requests_path(path: Path) -> Path:
    """Where the table of requests of the result at `path` stands, if it has one."""
    return path.with_suffix(".requests.parquet")


def check_table(path: Path) -> None:
    """Raises ResultError where `write_table` could not write `path`; better before scoring than after."""
    if path.suffix not in _TABLES:
        raise UsageError(f"{path}: cannot tell what to write; {' or '.join(_TABLES)} would do")
    check_writable(path.parent)


def write_table(table: pa.Table, path: Path) -> None:
    """Writes a table as `.jsonl` or `.parquet`, whichever the path says. Raises ResultError."""
    try:
        _TABLES[path.suffix](table, path)
    except OSError as error:
        raise ResultError(f"{path}: cannot be written ({error.strerror or error})") from error


def read(path: Path, *, tables: bool = False) -> TaskResult:
    """Reads a result file, and its tables if asked. Raises ResultError naming the field that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
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
    if tables:
        result._records = _read_table(path.with_suffix(".parquet"))
        result._requests = _read_table(requests_path(path)) if requests_path(path).exists() else None
    return result


def _write_lines(table: pa.Table, target: Path) -> None:
    rows = (json.dumps(_json_row(row), allow_nan=False) for row in table.to_pylist())
    _atomically(target, lambda path: path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8"))


def _json_row(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: it is a text there, as `float` reads it."""
    heads = {"heads": {name: _json_number(value) for name, value in row["heads"]}} if "heads" in row else {}
    return {name: _json_number(value) for name, value in row.items()} | heads


def _json_number(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


def _write_table(table: pa.Table, target: Path) -> None:
    import pyarrow.parquet as pq

    _atomically(target, lambda path: pq.write_table(table, path, compression="zstd"))


def _read_table(path: Path) -> object:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise ResultError(f"{path}: missing; a result goes with the records beside it")
    try:
        return pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise ResultError(f"{path}: the records of this result cannot be read ({error})") from error


def _atomically(target: Path, write_to: Callable[[Path], object]) -> None:
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
_TABLES: Mapping[str, Callable[[pa.Table, Path], None]] = {".jsonl": _write_lines, ".parquet": _write_table}
