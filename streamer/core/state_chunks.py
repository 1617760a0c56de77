"""Chunks of a snapshot: plain values and numpy arrays as checked bytes, without pickle.

Bytes: `BWSC`, a version byte, CRC-32 of the rest, then msgpack `[kind, values, {name: [dtype, shape, bytes]}]`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

MAGIC: Final = b"BWSC"
VERSION: Final = 2

_HEAD: Final = struct.Struct("<4sBI")
_DTYPES: Final = frozenset(("|b1", "|u1", "|i1", "<u2", "<i2", "<i4", "<u4", "<i8", "<u8", "<f4", "<f8"))


class StateError(ValueError):
    """A snapshot that cannot be taken over: damaged, incomplete, or of a version not known here."""


class Chunk(NamedTuple):
    """The content of one chunk."""

    values: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


def pack(kind: str, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of a chunk; equal contents give equal bytes."""
    columns = {
        name: (array.dtype.str, array.shape, np.ascontiguousarray(array).tobytes()) for name, array in arrays.items()
    }
    payload = msgspec.msgpack.encode((kind, dict(values), columns))
    return _HEAD.pack(MAGIC, VERSION, zlib.crc32(payload)) + payload


def unpack(kind: str, name: str, data: bytes) -> Chunk:
    """The content of the chunk called `name`, which must be of `kind`. Raises StateError."""
    if len(data) < _HEAD.size or data[:4] != MAGIC:
        raise StateError(f"state chunk {name!r} was not written by bearwire")
    _, version, checksum = _HEAD.unpack_from(data)
    if version != VERSION:
        raise StateError(
            f"state chunk {name!r} has version {version}, this bearwire reads version {VERSION}: "
            "go back to the version that wrote it, or reset the state and read the digests again"
        )
    payload = memoryview(data)[_HEAD.size :]
    if zlib.crc32(payload) != checksum:
        raise StateError(f"state chunk {name!r} is damaged: its checksum does not fit")
    try:
        found, values, columns = msgspec.msgpack.decode(
            payload, type=tuple[str, dict[str, Any], dict[str, tuple[str, tuple[int, ...], bytes]]]
        )
        arrays = {column: _array(*parts) for column, parts in columns.items()}
    except (msgspec.MsgspecError, ValueError) as error:
        raise StateError(f"state chunk {name!r} is malformed: {error}") from None
    if found != kind:
        raise StateError(f"state chunk {name!r} holds {found!r}, expected {kind!r}")
    return Chunk(values, arrays)


def _array(dtype: str, shape: tuple[int, ...], data: bytes) -> NDArray[Any]:
    if dtype not in _DTYPES:
        raise ValueError(f"arrays of {dtype!r} are not part of any state")
    return np.frombuffer(data, dtype=dtype).reshape(shape).copy()
