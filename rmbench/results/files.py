"""Result files: `DIR/<org>__<model>/<revision or local>-<config hash>/<task>.{json,parquet}`, written atomically.

The JSON is written last, so where there is a result its tables are there too.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rmbench.errors import ResultError, UsageError
from rmbench.results.provenance import short_hash
from rmbench.results.schema import SCHEMA_VERSION, TaskResult

if TYPE_CHECKING:
    import pyarrow as pa


def result_folder(result: TaskResult) -> Path:
    """Where a result belongs, relative to the output folder."""
    revision = re.sub(r"[^\w.-]", "_", result.subject.revision or "local")[:12]
    identity = {"fingerprint": result.subject.fingerprint, **result.config}
    return Path(re.sub(r"[^\w.-]", "_", result.subject.id.replace("/", "__"))) / f"{revision}-{short_hash(identity)}"


def check_writable(out: Path) -> None:
    """Raises ResultError where results could not be written; better before scoring than after."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=out, prefix=".probe-") as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise ResultError(f"{out}: cannot write results here ({error.strerror}); --out names another folder") from error


def write(result: TaskResult, out: Path) -> Path:
    """Writes a result with its tables and returns the JSON's path. Raises ResultError; what was scored is kept."""
    folder = out / result_folder(result)
    target = folder / f"{result.task.name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        comparisons = target.with_suffix(".comparisons.parquet")
        _write_table(result.records, target.with_suffix(".parquet"))
        if result.comparisons is not None:
            _write_table(result.comparisons, comparisons)
        else:
            comparisons.unlink(missing_ok=True)
        _atomically(target, lambda path: path.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8"))
    except OSError as error:
        raise ResultError(
            f"{target}: cannot write the result ({error.strerror or error}); the rewards are kept, so the same "
            "command with another --out finishes without scoring again"
        ) from error
    return target


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
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        if field == "schema_version":
            raise ResultError(
                f"{path}: schema version {first['input']!r}; this rmbench reads {SCHEMA_VERSION}"
            ) from error
        raise ResultError(f"{path}: no result file: {field}: {first['msg']}") from error
    if tables:
        result._records = _read_table(path.with_suffix(".parquet"))
        comparisons = path.with_suffix(".comparisons.parquet")
        result._comparisons = _read_table(comparisons) if comparisons.exists() else None
    return result


def of_reward_models(folder: Path) -> list[Path]:
    """The results under `folder`, with their records beside them, that are not a policy's. Raises ResultError."""
    paths = [path for path in sorted(folder.rglob("*.json")) if path.with_suffix(".parquet").exists()]
    return [path for path in paths if read(path).subject.kind == "reward_model"]


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
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        write_to(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


_TABLES: Mapping[str, Callable[[pa.Table, Path], None]] = {".jsonl": _write_lines, ".parquet": _write_table}
