"""Files of documents by their name: JSON Lines, CSV, Parquet, the first two also with .gz."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, cast

import orjson

from streamer.escaping import escaped
from streamer.offline.lines import MAX_LINE_BYTES, Chunk, Line, SourceError, open_lines
from streamer.timestamps import format_rfc3339

_ROWS_AT_ONCE: Final = 2048
_BYTES_AT_ONCE: Final = 64 << 20
_PARQUET_BUFFER_BYTES: Final = 1 << 20

__all__ = ["Source", "SourceError", "TableSource", "open_source", "row_as_json"]


class Source(Protocol):
    """Documents in order, in chunks, each as the bytes of a JSON object."""

    size: int | None

    def chunks(self, max_lines: int, max_bytes: int) -> Iterator[Chunk]:
        """Every document; rows of a table count from 1."""

    @property
    def position(self) -> int:
        """How much of `size` is done."""


class TableSource:
    """Rows of a table as JSON. `size` counts what `position` does: bytes of a CSV, rows of a Parquet file."""

    def __init__(self, rows: Iterable[tuple[int, dict[str, Any]]], size: int | None) -> None:
        self._rows = rows
        self.size = size
        self.position = 0

    def chunks(self, max_lines: int, max_bytes: int) -> Iterator[Chunk]:
        """Every row."""
        lines: list[Line] = []
        held = 0
        for number, (position, row) in enumerate(self._rows, start=1):
            value = row_as_json(row)
            lines.append(Line(number, value))
            held += len(value)
            self.position = position
            if len(lines) >= max_lines or held >= max_bytes:
                yield Chunk(lines, False)
                lines, held = [], 0
        if lines:
            yield Chunk(lines, True)


@contextmanager
def open_source(path: str) -> Iterator[Source]:
    """Opens a file by its name, `-` is JSON Lines on standard input. Raises OSError or `SourceError`."""
    kind = path.lower().removesuffix(".gz").rpartition(".")[2]
    if kind == "csv":
        with Path(path).open("rb") as raw:
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if path.lower().endswith(".gz") else raw
            yield TableSource(_csv_rows(stream, raw, path), Path(path).stat().st_size)
    elif kind == "parquet":
        with Path(path).open("rb") as raw:
            rows, count = _parquet_rows(raw, path)
            yield TableSource(rows, count)
    else:
        with open_lines(path) as lines:
            yield lines


def row_as_json(row: dict[str, Any]) -> bytes:
    """A table's row as a document: empty cells are absent, `symbols` in one cell are taken apart."""
    fields = {name: _cell(name, value) for name, value in row.items() if value is not None and value != ""}
    try:
        return orjson.dumps(fields, default=_spelt, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, orjson.JSONEncodeError):
        # What was not UTF-8 in the file became lone surrogates; spelt out, they are rejected for what they are.
        return json.dumps(fields, default=_spelt).encode("ascii")


def _spelt(value: Any) -> str:
    """What JSON has no kind for, as text; some writers of Parquet leave strings marked as mere bytes."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _cell(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        value = _spelt(value)
    if name == "symbols" and isinstance(value, str):
        return [part for part in value.replace(",", " ").replace(";", " ").replace("|", " ").split() if part]
    if name == "weight" and isinstance(value, str | Decimal):
        try:
            return float(value)
        except ValueError:
            return value
    if name == "id" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return format_rfc3339((aware - datetime(1970, 1, 1, tzinfo=UTC)) // _MILLISECOND)
    if isinstance(value, date):
        return value.isoformat()
    return value


_MILLISECOND: Final = datetime(1970, 1, 1, 0, 0, 0, 1000) - datetime(1970, 1, 1)


def _csv_rows(stream: BinaryIO, raw: BinaryIO, path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(MAX_LINE_BYTES)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    lines = _BoundedLines(text)
    reader = csv.DictReader(lines, restkey="more_cells")
    try:
        columns = reader.fieldnames or ()
        if "text" not in columns:
            raise SourceError(
                f"{path}: the first line names no column `text`, found {escaped(', '.join(columns), 200)}"
            )
        lines.next_row()
        for row in reader:
            yield raw.tell(), row
            lines.next_row()
    except csv.Error as error:
        raise SourceError(f"{path}: line {reader.line_num}: {escaped(str(error))}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"{path}: not intact gzip: {error}") from None


class _BoundedLines:
    """Lines for the csv module, which reads on until a row is whole. A row above `MAX_LINE_BYTES` is a csv.Error."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._held = 0

    def next_row(self) -> None:
        """What comes belongs to another row."""
        self._held = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(MAX_LINE_BYTES - self._held + 1)
        if not line:
            raise StopIteration
        if self._held or line.strip("\r\n"):  # blank lines between rows, which the csv module skips, are of no row
            self._held += len(line)
        if self._held > MAX_LINE_BYTES:
            raise csv.Error(f"a row is longer than {MAX_LINE_BYTES} characters")
        return line


def _parquet_rows(raw: BinaryIO, path: str) -> tuple[Iterator[tuple[int, dict[str, Any]]], int]:
    import pyarrow as pa
    from pyarrow import parquet

    damage = (pa.ArrowException, OSError, ValueError, OverflowError)

    def unreadable(error: Exception) -> SourceError:
        return SourceError(f"{path}: {escaped(str(error).partition(chr(10))[0])}")

    try:
        file = parquet.ParquetFile(raw, buffer_size=_PARQUET_BUFFER_BYTES)  # page by page, not whole columns
    except damage as error:
        raise unreadable(error) from None
    names = file.schema_arrow.names
    if "text" not in names:
        raise SourceError(f"{path}: there is no column `text`, found {escaped(', '.join(names), 200)}")

    def rows() -> Iterator[tuple[int, dict[str, Any]]]:
        done = 0
        try:
            for batch in _batches(file):
                for cells in zip(*map(_values, batch.columns), strict=True):
                    done += 1
                    yield done, dict(zip(names, cells, strict=True))
        except damage as error:
            raise unreadable(error) from None

    return rows(), file.metadata.num_rows


def _batches(file: Any) -> Iterator[Any]:
    """A Parquet file's record batches, the fewer rows in each the larger the file says they are.

    It counts a text that many rows repeat once: a file made to be large from a few bytes is no longer bounded.
    """
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        rows = _BYTES_AT_ONCE * group.num_rows // max(1, group.total_byte_size)
        yield from file.iter_batches(min(_ROWS_AT_ONCE, max(1, rows)), row_groups=[number])


def _values(column: Any) -> Iterable[Any]:
    """A column as Python values; times, which may be finer or further away than Python's, as RFC 3339 if possible."""
    import pyarrow as pa

    if pa.types.is_nested(column.type):
        return (cell.as_py() for cell in column)
    if not pa.types.is_timestamp(column.type):
        values: list[Any] = column.to_pylist()
        return values
    per_second = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[column.type.unit]
    return [
        None if ticks is None else _moment(ticks * 1000 // per_second) for ticks in column.cast("int64").to_pylist()
    ]


def _moment(ms: int) -> str:
    try:
        return format_rfc3339(ms)
    except OverflowError:
        return f"{ms} ms since 1970"
