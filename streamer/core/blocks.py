"""Digest blocks: what the watcher of a book needs of a run of documents of one source partition, in columns.

A block says which offsets of the source partition it covers and what became of each record, also of those that
this book does not select. Bytes: `BWDB`, a version byte, CRC-32 of the rest, then a msgpack array with the header
and every column as little-endian numpy bytes. Decoding checks every length, index and number, so that bytes from
anywhere give a sound block or a `DigestError`, never a crash or an allocation larger than themselves.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.core.ragged import Ragged
from streamer.core.records import Counts

MAGIC: Final = b"BWDB"
VERSION: Final = 4
_WITHOUT_LATENESS: Final = 3
"""A version that is still read: it does not say what lateness was allowed."""
_WITHOUT_LATE: Final = 2
"""Another: neither that, nor which series late documents are of."""

SELECTED, SCORED, LATE, DEAD, MISSED = range(5)
"""What became of a record: a row of this block; scored but not of this book; too late and not of this book; a dead
letter; of this book, but too late."""

_HEAD: Final = struct.Struct("<4sBI")
_MAX_TIME: Final = 1 << 53


class DigestError(ValueError):
    """Bytes that are no digest block; the message says what is wrong with them."""


class DigestVersionError(DigestError):
    """A sound digest block of another version of Bearwire: skipping it would lose its documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestBlock:
    """m source records of one partition, of which n are rows of this book. Times are int64 milliseconds UTC.

    Header: `source` is the source topic, `partition` one of its `partitions`; the block covers the offsets
    `[from_offset, to_offset)`; `watermark_ms` is the partition's after them; `idle` says that the partition is at
    its end and should not be waited for; `model` is the id of the model that scored the rows; `lateness_ms` is how far
    the watermark keeps behind the latest document, None in a block that does not say.

    Records: `record_offsets` int64[m] ascending, `fates` uint8[m].

    Late documents of this book, l records that are `MISSED`, in offset order: `late_at_ms` int64[l], the watermark that
    each missed; `late_topic` int32[l] into `topics`, -1 for none; `late_symbols` int32 rows into `symbol_table`.

    Rows, in offset order: `time_ms` int64[n]; `id`, `excerpt`, `url` text; `words` text, the words of the excerpt that
    made it negative, heaviest first, one to a line; `sentiment` float32[n, 3] (negative,
    neutral, positive); `topic` int32[n] into `topics`, -1 for none; `topic_p` float32[n]; `symbols` int32 rows into
    `symbol_table`; `source_index`, `lang_index` int32[n] into `sources`, `langs`, -1 for none; `weight` float64[n];
    `fingerprint` uint16[n, K]; `id_hash`, `text_hash`, `content_hash` uint64[n].
    """

    book: str
    source: str
    partition: int
    partitions: int
    from_offset: int
    to_offset: int
    watermark_ms: int | None
    idle: bool
    model: str
    topics: tuple[str, ...]
    symbol_table: tuple[str, ...]
    sources: tuple[str, ...]
    langs: tuple[str, ...]
    lateness_ms: int | None
    record_offsets: NDArray[np.int64]
    fates: NDArray[np.uint8]
    late_at_ms: NDArray[np.int64]
    late_topic: NDArray[np.int32]
    late_symbols: Ragged
    time_ms: NDArray[np.int64]
    sentiment: NDArray[np.float32]
    topic: NDArray[np.int32]
    topic_p: NDArray[np.float32]
    source_index: NDArray[np.int32]
    lang_index: NDArray[np.int32]
    weight: NDArray[np.float64]
    fingerprint: NDArray[np.uint16]
    id_hash: NDArray[np.uint64]
    text_hash: NDArray[np.uint64]
    content_hash: NDArray[np.uint64]
    id: Ragged
    excerpt: Ragged
    url: Ragged
    words: Ragged
    symbols: Ragged

    def __len__(self) -> int:
        return len(self.time_ms)

    @property
    def offsets(self) -> NDArray[np.int64]:
        """int64[n]: the source offset of each row."""
        offsets: NDArray[np.int64] = self.record_offsets[self.fates == SELECTED]
        return offsets

    @property
    def counts(self) -> Counts:
        """What became of the m source records."""
        fates = np.bincount(self.fates, minlength=5).tolist()
        return Counts(len(self.fates), fates[SELECTED] + fates[SCORED], fates[LATE] + fates[MISSED], fates[DEAD])

    def since(self, offset: int) -> DigestBlock:
        """The part of the block from `offset` on: what a reader that is already there has not seen."""
        if offset <= self.from_offset:
            return self
        records = self.record_offsets >= offset
        return replace(
            self,
            from_offset=min(offset, self.to_offset),
            record_offsets=self.record_offsets[records],
            fates=self.fates[records],
            **self._taken(_LATE_COLUMNS, np.flatnonzero(records[self.fates == MISSED])),
            **self._taken(_ROW_COLUMNS, np.flatnonzero(records[self.fates == SELECTED])),
        )

    def closed_before(self, time_ms: int) -> DigestBlock:
        """The block for a book whose panes before `time_ms` are closed: rows older than that came too late, and what is
        late missed at least that."""
        old = self.time_ms < time_ms
        late_at_ms = np.maximum(self.late_at_ms, time_ms)
        if not old.any():
            return replace(self, late_at_ms=late_at_ms)
        rows = np.flatnonzero(old)
        fates = self.fates.copy()
        fates[np.flatnonzero(fates == SELECTED)[rows]] = MISSED
        order = np.argsort(np.concatenate((self.record_offsets[self.fates == MISSED], self.offsets[rows])))
        return replace(
            self,
            fates=fates,
            late_at_ms=np.concatenate((late_at_ms, np.full(len(rows), time_ms)))[order],
            late_topic=np.concatenate((self.late_topic, self.topic[rows]))[order],
            late_symbols=Ragged.concatenated([self.late_symbols, self.symbols.take(rows)]).take(order),
            **self._taken(_ROW_COLUMNS, np.flatnonzero(~old)),
        )

    def _taken(self, columns: Mapping[str, str], rows: NDArray[np.int64]) -> dict[str, Any]:
        taken: dict[str, Any] = {}
        for name in columns:
            column: Any = getattr(self, name)
            taken[name] = column.take(rows) if name in _RAGGED_DTYPES else column[rows]
        return taken

    def encode(self) -> bytes:
        """The bytes of the block; equal blocks give equal bytes."""
        columns = {name: _bytes(getattr(self, name), dtype) for name, dtype in _COLUMN_DTYPES.items()}
        for name, dtype in _RAGGED_DTYPES.items():
            column: Ragged = getattr(self, name)
            columns[name] = _bytes(column.values, dtype)
            columns[f"{name}_lengths"] = _bytes(column.lengths, "<u4")
        payload = _encoder.encode(
            _Envelope(
                self.book, self.source, self.partition, self.partitions, self.from_offset, self.to_offset,
                self.watermark_ms, self.idle, self.model, self.topics, self.symbol_table, self.sources, self.langs,
                int(self.fingerprint.shape[1]), columns, self.lateness_ms,
            )
        )  # fmt: skip
        return _HEAD.pack(MAGIC, VERSION, zlib.crc32(payload)) + payload

    @classmethod
    def decode(cls, data: bytes) -> DigestBlock:
        """The block in `data`. Raises DigestError naming what is wrong, DigestVersionError where it is the version."""
        if len(data) < _HEAD.size:
            raise DigestError(f"a digest block has at least {_HEAD.size} bytes, these are {len(data)}")
        magic, version, checksum = _HEAD.unpack_from(data)
        if magic != MAGIC:
            raise DigestError(f"begins with {magic!r}, a digest block begins with {MAGIC!r}")
        payload = memoryview(data)[_HEAD.size :]
        if zlib.crc32(payload) != checksum:
            raise DigestError("the checksum does not fit the bytes")
        if version not in (VERSION, _WITHOUT_LATENESS, _WITHOUT_LATE):
            raise DigestVersionError(f"version {version} of the digest block is not known here, only version {VERSION}")
        try:
            envelope = _decoder.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise DigestError(f"the envelope is malformed: {error}") from None
        if version == _WITHOUT_LATE:
            envelope.columns.update(
                dict.fromkeys(("late_at_ms", "late_topic", "late_symbols", "late_symbols_lengths"), b"")
            )
        return _checked(envelope)


class _Envelope(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    book: str
    source: str
    partition: int
    partitions: int
    from_offset: int
    to_offset: int
    watermark_ms: int | None
    idle: bool
    model: str
    topics: tuple[str, ...]
    symbol_table: tuple[str, ...]
    sources: tuple[str, ...]
    langs: tuple[str, ...]
    fingerprint_size: int
    columns: dict[str, bytes]
    lateness_ms: int | None = None


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Envelope)

_NO_HEADER: Final = ("fingerprint_size", "columns")
_HEADER_FIELDS: Final = tuple(name for name in _Envelope.__struct_fields__ if name not in _NO_HEADER)
_RECORD_DTYPES: Final = {"record_offsets": "<i8", "fates": "<u1"}
_LATE_DTYPES: Final = {"late_at_ms": "<i8", "late_topic": "<i4"}
_ROW_DTYPES: Final = {
    "time_ms": "<i8",
    "sentiment": "<f4",
    "topic": "<i4",
    "topic_p": "<f4",
    "source_index": "<i4",
    "lang_index": "<i4",
    "weight": "<f8",
    "fingerprint": "<u2",
    "id_hash": "<u8",
    "text_hash": "<u8",
    "content_hash": "<u8",
}
_COLUMN_DTYPES: Final = _RECORD_DTYPES | _LATE_DTYPES | _ROW_DTYPES
_ROW_RAGGED: Final = {"id": "<u1", "excerpt": "<u1", "url": "<u1", "words": "<u1", "symbols": "<i4"}
_RAGGED_DTYPES: Final = _ROW_RAGGED | {"late_symbols": "<i4"}
_ROW_COLUMNS: Final = _ROW_DTYPES | _ROW_RAGGED
_LATE_COLUMNS: Final = _LATE_DTYPES | {"late_symbols": "<i4"}


def _bytes(column: NDArray[Any], dtype: str) -> bytes:
    return np.ascontiguousarray(column, dtype=dtype).tobytes()


def _checked(envelope: _Envelope) -> DigestBlock:
    header = envelope
    _require(0 <= header.partition < header.partitions <= 1 << 20, "partition is not one of partitions")
    _require(0 <= header.from_offset <= header.to_offset < 1 << 63, "from_offset and to_offset are not a range")
    _require(header.watermark_ms is None or abs(header.watermark_ms) < _MAX_TIME, "watermark_ms is no time")
    _require(header.lateness_ms is None or 0 <= header.lateness_ms < _MAX_TIME, "lateness_ms is no duration")
    _require(0 < header.fingerprint_size <= 1024, "fingerprint_size is not in 1..1024")

    columns: dict[str, Any] = {name: _column(header, name, dtype) for name, dtype in _COLUMN_DTYPES.items()}
    fates, record_offsets = columns["fates"], columns["record_offsets"]
    _require(len(fates) == len(record_offsets), "fates and record_offsets differ in length")
    _require(not len(fates) or int(fates.max()) <= MISSED, "a fate is unknown")
    _require(bool((np.diff(record_offsets) > 0).all()), "record_offsets do not rise")
    if len(record_offsets):
        first, last = int(record_offsets[0]), int(record_offsets[-1])
        _require(header.from_offset <= first and last < header.to_offset, "a record lies outside the block's offsets")
    late = int((fates == MISSED).sum())
    for name in _LATE_DTYPES:
        _require(len(columns[name]) == late, f"{name} and fates differ")

    n = int((fates == SELECTED).sum())
    shapes = {"sentiment": (n, 3), "fingerprint": (n, header.fingerprint_size)}
    for name in _ROW_DTYPES:
        shape = shapes.get(name, (n,))
        _require(columns[name].size == int(np.prod(shape)), f"column {name} has not {n} rows")
        columns[name] = columns[name].reshape(shape)
    for name in ("time_ms", "late_at_ms"):
        within = (columns[name] > -_MAX_TIME) & (columns[name] < _MAX_TIME)
        _require(bool(within.all()), f"column {name} holds what is no time")
    for name in ("sentiment", "topic_p"):
        within = (columns[name] >= 0) & (columns[name] <= 1.0001)
        _require(bool(within.all()), f"column {name} holds what is no probability")
    weight = columns["weight"]
    _require(bool(((weight > 0) & (weight <= 1000)).all()), "a weight is not above 0 and at most 1000")
    _require(not header.idle or n == 0, "an idle block has rows")

    ragged: dict[str, Any] = {name: _ragged(header, name, dtype, n) for name, dtype in _ROW_RAGGED.items()}
    ragged["late_symbols"] = _ragged(header, "late_symbols", _RAGGED_DTYPES["late_symbols"], late)
    _within(columns["late_topic"], len(header.topics), -1, "late_topic")
    _within(ragged["late_symbols"].values, len(header.symbol_table), 0, "late_symbols")
    _within(columns["topic"], len(header.topics), -1, "topic")
    _within(columns["source_index"], len(header.sources), -1, "source_index")
    _within(columns["lang_index"], len(header.langs), -1, "lang_index")
    _within(ragged["symbols"].values, len(header.symbol_table), 0, "symbols")
    fields: dict[str, Any] = {name: getattr(header, name) for name in _HEADER_FIELDS}
    return DigestBlock(**fields, **columns, **ragged)


def _column(header: _Envelope, name: str, dtype: str) -> NDArray[Any]:
    data = header.columns.get(name)
    if data is None:
        raise DigestError(f"column {name} is missing")
    if len(data) % np.dtype(dtype).itemsize:
        raise DigestError(f"column {name} has {len(data)} bytes, not a multiple of {np.dtype(dtype).itemsize}")
    return np.frombuffer(data, dtype=dtype)


def _ragged(header: _Envelope, name: str, dtype: str, n: int) -> Ragged:
    values = _column(header, name, dtype)
    lengths = _column(header, f"{name}_lengths", "<u4")
    _require(len(lengths) == n, f"column {name} has not {n} rows")
    offsets = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    _require(int(offsets[-1]) == len(values), f"the lengths of column {name} do not add up to its values")
    return Ragged(values, offsets)


def _within(indices: NDArray[np.int32], size: int, least: int, name: str) -> None:
    ok = not len(indices) or (int(indices.min()) >= least and int(indices.max()) < size)
    _require(ok, f"column {name} points outside its table")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DigestError(otherwise)
