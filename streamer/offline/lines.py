"""Lines of JSON from a file or a pipe, in chunks, in constant memory."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import select
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, cast

READ_BYTES: Final = 1 << 18
MAX_LINE_BYTES: Final = 64 << 20


class SourceError(Exception):
    """A file that is not what its name says; names it and what is wrong."""


class Line(NamedTuple):
    """One line without its end. `number` counts from 1; `truncated` says that the line went on."""

    number: int
    value: bytes
    truncated: bool = False


class Chunk(NamedTuple):
    """Some lines in order. `source_waits` says that the source has nothing more to read for now."""

    lines: list[Line]
    source_waits: bool


class LineSource:
    """Lines of a binary stream. `raw` is the file underneath a compressed stream, for progress."""

    def __init__(self, stream: BinaryIO, raw: BinaryIO | None = None, *, size: int | None = None) -> None:
        self._stream = cast("io.BufferedReader", stream)
        self._raw = raw or stream
        self.size = size
        self.read_bytes = 0
        self._may_wait = raw is None and size is None

    def chunks(self, max_lines: int, max_bytes: int) -> Iterator[Chunk]:
        """Every line that is not blank. A chunk ends when it is full, or when the source makes us wait.

        A line beyond `MAX_LINE_BYTES` keeps that many bytes and is marked truncated.
        """
        number = 0
        lines: list[Line] = []
        size = 0
        rest = bytearray()
        dropping = False
        while data := self._read():
            begins = not self.read_bytes
            self.read_bytes += len(data)
            parts = (data.removeprefix(codecs.BOM_UTF8) if begins else data).split(b"\n")
            for position, part in enumerate(parts):
                if not dropping:
                    rest += part
                    if len(rest) > MAX_LINE_BYTES:
                        del rest[MAX_LINE_BYTES:]
                        dropping = True
                if position == len(parts) - 1:
                    break
                number += 1
                line = _line(number, rest, dropping)
                rest, dropping = bytearray(), False
                if line is None:
                    continue
                lines.append(line)
                size += len(line.value)
                if len(lines) >= max_lines or size >= max_bytes:
                    yield Chunk(lines, False)
                    lines, size = [], 0
            if lines and self._waits():
                yield Chunk(lines, True)
                lines, size = [], 0
        last = _line(number + 1, rest, dropping)
        if last is not None:
            lines.append(last)
        if lines:
            yield Chunk(lines, True)

    def _read(self) -> bytes:
        try:
            return self._stream.read1(READ_BYTES)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise SourceError(f"{getattr(self._raw, 'name', 'the input')}: not intact gzip: {error}") from None

    @property
    def position(self) -> int:
        """Bytes of the file that were read; of a compressed file, its compressed bytes."""
        return self._raw.tell() if self.size is not None else self.read_bytes

    def _waits(self) -> bool:
        if not self._may_wait:
            return False
        try:
            return not select.select([self._stream.fileno()], [], [], 0)[0]
        except (OSError, ValueError):
            return False


@contextmanager
def open_lines(path: str) -> Iterator[LineSource]:
    """Opens a file, `-` for standard input; a name that ends in .gz is decompressed. Raises OSError."""
    if path == "-":
        pipe = cast(BinaryIO, sys.stdin.buffer)
        yield LineSource(pipe, size=_regular_size(pipe))
        return
    with Path(path).open("rb") as raw:
        size = _regular_size(raw)
        if path.lower().endswith(".gz"):
            with gzip.open(raw, "rb") as stream:
                yield LineSource(cast(BinaryIO, stream), raw, size=size)
        else:
            yield LineSource(raw, size=size)


def _regular_size(stream: BinaryIO) -> int | None:
    try:
        status = os.fstat(stream.fileno())
    except io.UnsupportedOperation:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _line(number: int, content: bytearray, truncated: bool) -> Line | None:
    if not truncated and not content.strip():
        return None
    return Line(number, bytes(content.removesuffix(b"\r")), truncated)
