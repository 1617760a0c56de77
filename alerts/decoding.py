"""JSON of a record from Kafka as a struct: whatever is in the bytes, they are one or it is a `msgspec.DecodeError`."""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


def decode_json(data: bytes, kind: type[T]) -> T:
    """The `kind` in `data`. Raises `msgspec.DecodeError` or `msgspec.ValidationError` where it is not one.

    msgspec itself has other errors for text that is not UTF-8, and for what is nested too deeply.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"JSON is malformed: {error}") from None
