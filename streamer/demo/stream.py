"""The bundled stream: the values of its messages, in the order in which they are published."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import NamedTuple

from streamer.core.documents import Document, DocumentLimits, parse_document

STREAM = Path(__file__).with_name("stream.jsonl.gz")


class Message(NamedTuple):
    """One message to publish. `published_at_ms` is None where the value is no document.

    A null value has a key, as a tombstone does: what it retracts.
    """

    key: bytes | None
    value: bytes | None
    published_at_ms: int | None


def read_values(path: Path = STREAM) -> list[bytes | None]:
    """One value per line; an empty line is a null value (a tombstone)."""
    with gzip.open(path, "rb") as stream:
        return [line.rstrip(b"\n") or None for line in stream]


def read_messages(path: Path = STREAM) -> list[Message]:
    """The stream with the key (the document's id) and the event time that the publisher paces by."""
    limits = DocumentLimits()
    messages = []
    for number, value in enumerate(read_values(path), start=1):
        parsed = parse_document(value, record_timestamp_ms=None, limits=limits)
        if isinstance(parsed, Document):
            messages.append(Message(parsed.id.encode(), value, parsed.published_at_ms))
        else:
            messages.append(Message(b"retracted-%d" % number if value is None else None, value, None))
    return messages
