"""Control blocks: what people tell a book between two digests, at a definite place of the book's own log.

A silence or new rules reach a watcher at some wall-clock moment. So that a restart, a standby and a replay of the log
decide the same, the watcher first writes them into its book's partition of the digests topic, and obeys when it reads
them there: they take effect at the book's clock at that place. To say the same twice changes nothing.

Bytes: `BWCB`, a version byte, CRC-32 of the rest, then JSON.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, Final

import msgspec

from alerts.silences import Silence
from streamer.core.blocks import DigestError, DigestVersionError

MAGIC: Final = b"BWCB"
VERSION: Final = 1
_HEAD: Final = struct.Struct("<4sBI")


class Control(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a book is told: silences as they were asked for, and a whole rule set (None: the rules stay)."""

    book: str
    silences: tuple[Silence, ...] = ()
    rules: dict[str, Any] | None = None

    def encode(self) -> bytes:
        """The bytes of the block."""
        payload = msgspec.json.encode(self, order="sorted")
        return _HEAD.pack(MAGIC, VERSION, zlib.crc32(payload)) + payload


def is_control(data: bytes) -> bool:
    """Whether these bytes of the digests topic are a control block."""
    return data.startswith(MAGIC)


def decode_control(data: bytes) -> Control:
    """The control block in `data`. Raises DigestError naming what is wrong, DigestVersionError for a later version."""
    if len(data) < _HEAD.size or not is_control(data):
        raise DigestError("these bytes are no control block")
    _, version, checksum = _HEAD.unpack_from(data)
    payload = data[_HEAD.size :]
    if zlib.crc32(payload) != checksum:
        raise DigestError("the checksum does not fit the bytes")
    if version != VERSION:
        raise DigestVersionError(f"version {version} of the control block is not known here, only version {VERSION}")
    try:
        return msgspec.json.decode(payload, type=Control)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DigestError(f"the control block is malformed: {error}") from None
