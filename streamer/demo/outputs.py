"""Where a score or a late document came from."""

from __future__ import annotations

import msgspec

from streamer.demo.tally import Place


class _Origin(msgspec.Struct):
    partition: int
    offset: int


class _ScoreRecord(msgspec.Struct):
    origin: _Origin


_DECODER = msgspec.json.Decoder(_ScoreRecord)


def origin_of(value: bytes) -> Place:
    """The place of the message that a score record or a late document belongs to. Raises msgspec.MsgspecError."""
    origin = _DECODER.decode(value).origin
    return Place(origin.partition, origin.offset)
