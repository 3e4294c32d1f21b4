"""Files of others, read within bounds: of what is no file, nothing; of what is packed, not more than a size bears out.

What is over a bound is an OSError whose `strerror` is the reason, so whoever reads tells it as any other file that
cannot be read.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MOST_TEXT = 64 << 20  # bytes of a file that is held as a whole and then taken apart: results, settings, small tables
MOST_ROW = 64 << 20  # bytes of one line of data; its objects take up to thirty times as much
MOST_NAME = 10_000  # characters of an id, or of what else is a name: it is written with each response
MOST_COUNT = (1 << 31) - 1  # of tokens and the like: what a number in records can be
MOST_RESPONSES = 1 << 14  # to one prompt
MOST_JUDGED = 1 << 11  # of those, where they are judged: measures look at pairs of them
_TEXT = 1 << 20, 200  # bytes that any packed text may have, and how many times its own size; prompts repeat
_TABLE = 64 << 20, 500  # the same of a Parquet file: a dictionary holds what repeats only once
_ROWS = 100_000, 64  # and of its rows
_CELL = 16  # bytes that a number and its place take, once read


def opened(path: Path) -> io.BufferedReader:
    """The bytes of a file. Raises OSError for what is no file (a pipe would wait, and a device never end), and for one
    that has far more bytes than it has on the disk."""
    # Without O_NONBLOCK opening a pipe waits for whoever writes to it
    stream = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    state = os.fstat(stream.fileno())
    if not stat.S_ISREG(state.st_mode):
        stream.close()
        kind = "a folder" if stat.S_ISDIR(state.st_mode) else "a pipe or device"
        raise OSError(errno.EINVAL, f"it is {kind}; expected a file")
    blocks = getattr(state, "st_blocks", None)  # of 512 bytes
    if blocks is not None and state.st_size > _most(blocks * 512, _TEXT):
        stream.close()
        raise _too_large(f"it has {state.st_size:,} bytes, of which only {blocks * 512:,} are on the disk")
    return stream


def unpacked(path: Path) -> io.BufferedReader:
    """What is in a gzip file. Reading raises OSError where that is out of all proportion to the file."""
    return io.BufferedReader(_Unpacked(opened(path)))


def read_bytes(path: Path, most: int = MOST_TEXT) -> bytes:
    """All bytes of a file. Raises OSError as `opened` does, and for more than `most`."""
    with opened(path) as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise _too_large(f"it has more than {most >> 20:,} MiB")
    return content


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """All text of a file, at most `MOST_TEXT` bytes. Raises OSError or UnicodeDecodeError."""
    return read_bytes(path).decode(encoding)


def toml(text: str) -> dict[str, Any]:
    """What a TOML text says. Raises ValueError for one that says nothing, and for numbers and depths beyond reading."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def table(stream: BinaryIO, size: int) -> pq.ParquetFile:
    """A Parquet file of `size` bytes. Raises OSError where its cells, read, would be out of all proportion to that."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(stream)
    rows, most_rows = file.metadata.num_rows, _most(size, _ROWS)
    if rows > most_rows:
        raise _too_large(f"it has {rows:,} rows in {size:,} bytes; expected at most {most_rows:,}")
    most, taken = _most(size, _TABLE), 0
    for part in _parts(stream, file, most):
        taken += part
        if taken > most:
            raise _too_large(f"its cells take more than {most:,} bytes of memory, and it has {size:,}")
    return file


def _parts(stream: BinaryIO, file: pq.ParquetFile, most: int) -> Iterator[int]:
    """Bytes that each column of each group of rows takes once read, or more."""
    import pyarrow.parquet as pq

    texts = None
    for group in range(file.num_row_groups):
        for place in range(file.metadata.num_columns):
            chunk, column = file.metadata.row_group(group).column(place), file.schema.column(place)
            width = column.length if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else 0
            yield chunk.num_values * (_CELL + width)
            if column.physical_type != "BYTE_ARRAY":
                continue
            yield chunk.total_uncompressed_size
            if chunk.num_values * chunk.total_uncompressed_size > most:
                # What repeats stands once in the file; read so, it also stands once in memory, and is counted there
                texts = texts or pq.ParquetFile(stream, read_dictionary=_text_columns(file))
                yield sum(map(_text_bytes, texts.read_row_group(group, columns=[column.path]).columns[0].chunks))


def _text_columns(file: pq.ParquetFile) -> list[str]:
    columns = (file.schema.column(place) for place in range(file.metadata.num_columns))
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]


def _text_bytes(array: pa.Array) -> int:
    """Bytes of all texts in an array that may be nested, each as often as it stands there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _text_bytes(array.storage)
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(array.dictionary).cast(pa.int64())
        return int(pc.sum(lengths.take(array.indices)).as_py() or 0)
    if pa.types.is_struct(kind):
        return sum(_text_bytes(array.field(place)) for place in range(kind.num_fields))
    if pa.types.is_map(kind):
        return _text_bytes(array.keys) + _text_bytes(array.items)
    if pa.types.is_nested(kind):
        return _text_bytes(array.flatten())
    return int(array.nbytes)


class _Unpacked(io.RawIOBase):
    """Unpacks a file until that has given more than what was read of it bears out."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed, self._inner, self._given = packed, gzip.GzipFile(fileobj=packed), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._inner.read(len(buffer))
        buffer[: len(content)] = content
        self._given += len(content)
        taken = self._packed.tell()
        if self._given > _most(taken, _TEXT):
            raise _too_large(f"{taken:,} bytes of it unpack to more than {_most(taken, _TEXT):,}")
        return len(content)

    def close(self) -> None:
        self._inner.close()
        self._packed.close()
        super().close()


def _most(size: int, bounds: tuple[int, int]) -> int:
    floor, times = bounds
    return max(floor, times * size)


def _too_large(reason: str) -> OSError:
    return OSError(errno.EFBIG, reason)
