"""Records of the source topic and what becomes of them, as plain values without Kafka."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from streamer.core.documents import Document

Headers = tuple[tuple[str, bytes], ...]


class SourceRecord(NamedTuple):
    """One message of a source partition. `timestamp_ms` is the Kafka record's own time, None where unknown."""

    offset: int
    timestamp_ms: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class KeyedRecord(NamedTuple):
    """A Kafka record to produce."""

    key: bytes
    value: bytes


class DeadLetter(NamedTuple):
    """A message that is no document: the record untouched, where it came from, and why (a key of `REASONS`)."""

    topic: str
    partition: int
    record: SourceRecord
    reason: str
    detail: str


class Counts(NamedTuple):
    """What became of source records: `received` = `scored` + `late` + `dead` + `skipped`."""

    received: int = 0
    scored: int = 0
    late: int = 0
    dead: int = 0
    skipped: int = 0

    def plus(self, other: Counts) -> Counts:
        """The sums, field by field."""
        return Counts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


def hash64(data: bytes) -> int:
    """A 64-bit BLAKE2b of `data`, the same on every machine and in every run."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def content_hash(document: Document) -> int:
    """A 64-bit hash of everything in a document but its id and time: the last word when two of them tie."""
    parts = (document.text, document.title, document.source, document.url, document.lang, *document.symbols)
    joined = "\0".join("\1" if part is None else part for part in parts)
    return hash64(f"{joined}\0{document.weight!r}".encode("utf-8", "surrogatepass"))
