"""Files of documents by their name: JSON Lines, CSV, Parquet, the first two also with .gz."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final, NamedTuple, Protocol, cast

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
        """Every document; a line's number is its own in a text file, and counts rows from 1 in Parquet."""

    @property
    def position(self) -> int:
        """How much of `size` is done."""


class _Row(NamedTuple):
    """`number` is that of its last line, or of the row; `position` how much of the file was read for it."""

    number: int
    position: int
    cells: dict[str, Any]


class TableSource:
    """Rows of a table as JSON. `size` counts what `position` does: bytes of a CSV, rows of a Parquet file.

    `columns` renames: the field of a document to the column that holds it, which may hold several.
    """

    def __init__(self, rows: Iterable[_Row], size: int | None, columns: Mapping[str, str]) -> None:
        self._rows = rows
        self._columns = columns
        self.size = size
        self.position = 0

    def chunks(self, max_lines: int, max_bytes: int) -> Iterator[Chunk]:
        """Every row."""
        lines: list[Line] = []
        held = 0
        taken = set(self._columns.values())
        for row in self._rows:
            cells = {name: cell for name, cell in row.cells.items() if name not in taken}
            cells |= {field: row.cells[column] for field, column in self._columns.items()}
            value = row_as_json(cells)
            lines.append(Line(row.number, value))
            held += len(value)
            self.position = row.position
            if len(lines) >= max_lines or held >= max_bytes:
                yield Chunk(lines, False)
                lines, held = [], 0
        if lines:
            yield Chunk(lines, True)


@contextmanager
def open_source(path: str, columns: Mapping[str, str] = MappingProxyType({})) -> Iterator[Source]:
    """Opens a file by its name, `-` is JSON Lines on standard input. Raises OSError or `SourceError`.

    `columns` says which column of a table holds a field of the documents where it is not that of the same name.
    """
    kind = path.lower().removesuffix(".gz").rpartition(".")[2]
    if kind == "csv":
        with Path(path).open("rb") as raw:
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if path.lower().endswith(".gz") else raw
            rows = _csv_rows(stream, raw, path, columns)
            yield TableSource(rows, Path(path).stat().st_size, columns)
    elif kind == "parquet":
        with Path(path).open("rb") as raw:
            rows, count = _parquet_rows(raw, path, columns)
            yield TableSource(rows, count, columns)
    elif columns:
        raise SourceError(f"{path}: has no columns; the fields of JSON Lines have their names")
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


def _csv_rows(stream: BinaryIO, raw: BinaryIO, path: str, columns: Mapping[str, str]) -> Iterator[_Row]:
    """The rows of a CSV file whose first line, which is read at once, names the columns."""
    csv.field_size_limit(MAX_LINE_BYTES)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    lines = _BoundedLines(text)
    try:
        first = next(lines, "")
        separator = _separator(first)
        reader = csv.DictReader(chain([first] if first else [], lines), restkey="more_cells", delimiter=separator)
        with _csv_errors(path, reader):
            names = reader.fieldnames or ()
    except csv.Error as error:
        raise SourceError(f"{path}: line 1: {escaped(str(error))}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"{path}: not intact gzip: {error}") from None
    if not names:
        raise SourceError(f"{path}: is empty; its first line must name the columns, `text` among them")
    _check_columns(path, "the first line names", names, columns)

    def rows() -> Iterator[_Row]:
        with _csv_errors(path, reader):
            lines.next_row()
            for row in reader:
                yield _Row(reader.line_num, raw.tell(), row)
                lines.next_row()

    return rows()


def _separator(header: str) -> str:
    """What separates the columns of a table with this first line: a comma, unless it has another and no comma."""
    return next((each for each in (";", "\t") if each in header and "," not in header), ",")


@contextmanager
def _csv_errors(path: str, reader: csv.DictReader[str]) -> Iterator[None]:
    try:
        yield
    except csv.Error as error:
        raise SourceError(f"{path}: line {reader.line_num}: {escaped(str(error))}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"{path}: not intact gzip: {error}") from None


def _check_columns(path: str, names_them: str, names: Sequence[str], columns: Mapping[str, str]) -> None:
    """Raises SourceError where a column is missing that holds the text, or that was named for a field."""
    for column in {"text": "text", **columns}.values():
        if column not in names:
            raise SourceError(f"{path}: {names_them} no column `{column}`, found {escaped(', '.join(names), 200)}")


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


def _parquet_rows(raw: BinaryIO, path: str, columns: Mapping[str, str]) -> tuple[Iterator[_Row], int]:
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
    _check_columns(path, "there is", names, columns)

    def rows() -> Iterator[_Row]:
        done = 0
        try:
            for batch in _batches(file):
                for cells in zip(*map(_values, batch.columns), strict=True):
                    done += 1
                    yield _Row(done, done, dict(zip(names, cells, strict=True)))
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
