"""What a score or a late document says of the message that it belongs to."""

from __future__ import annotations

import msgspec

from streamer.demo.tally import Place
from streamer.timestamps import parse_rfc3339


class _Origin(msgspec.Struct):
    partition: int
    offset: int


class _ScoreRecord(msgspec.Struct):
    origin: _Origin
    published_at: str


_DECODER = msgspec.json.Decoder(_ScoreRecord)


def origin_of(value: bytes) -> tuple[Place, int]:
    """Place and event time (ms) of the message of a score record or late document. Raises msgspec.MsgspecError."""
    record = _DECODER.decode(value)
    return Place(record.origin.partition, record.origin.offset), parse_rfc3339(record.published_at)
