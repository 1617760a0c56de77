"""State as bytes: a versioned msgpack map of plain values and arrays. Nothing is pickled, nothing is executed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

VERSION = 1
_DTYPES = {"<f8": np.float64, "<i8": np.int64, "|b1": np.bool_, "<i4": np.int32}


class StateError(ValueError):
    """Bytes that are not a state this version can take over."""


class _Array(msgspec.Struct, frozen=True, array_like=True):
    dtype: str
    shape: tuple[int, ...]
    data: bytes


class _Chunk(msgspec.Struct, frozen=True):
    version: int
    values: dict[str, Any]
    arrays: dict[str, _Array]


def pack(values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Bytes of these values (what msgpack can carry) and arrays (bool, int32, int64, float64)."""
    packed = {name: _Array(a.dtype.str, a.shape, np.ascontiguousarray(a).tobytes()) for name, a in arrays.items()}
    return msgspec.msgpack.encode(_Chunk(VERSION, dict(values), packed))


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What `pack` was given. Raises StateError on anything else, or on another version."""
    try:
        chunk = msgspec.msgpack.decode(data, type=_Chunk)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StateError(f"not an alert state: {error}") from error
    if chunk.version != VERSION:
        raise StateError(
            f"alert state of version {chunk.version}, this program reads version {VERSION}; replay from the log"
        )
    arrays: dict[str, NDArray[Any]] = {}
    for name, array in chunk.arrays.items():
        dtype = _DTYPES.get(array.dtype)
        if dtype is None or len(array.data) != int(np.prod(array.shape)) * np.dtype(dtype).itemsize:
            raise StateError(f"alert state: array {name!r} has dtype {array.dtype} and {len(array.data)} bytes")
        arrays[name] = np.frombuffer(array.data, dtype).reshape(array.shape).copy()
    return chunk.values, arrays
