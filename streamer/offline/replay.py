"""Publishing documents from a file: what to send, when, and with which event time. Pure; the Kafka side is its CLI."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import orjson

from streamer.timestamps import TimestampError, format_rfc3339, parse_rfc3339

_PUBLISHED_AT: Final = re.compile(rb'("published_at"\s*:\s*")([^"\\]*)(")')


class SpeedError(ValueError):
    """A speed that cannot be read."""


class Span(NamedTuple):
    """The first and the newest event time of an input, milliseconds UTC."""

    first_ms: int
    newest_ms: int


class Outgoing(NamedTuple):
    """One message to publish. `published_at_ms` is its event time before any shift, None for a bad line."""

    key: bytes | None
    value: bytes
    published_at_ms: int | None


def parse_speed(text: str) -> float | None:
    """How many times faster than it happened: `60x` is 60, `max` is None. Raises `SpeedError`."""
    if text == "max":
        return None
    try:
        factor = float(text.removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not 0 < factor < 1e9:
        raise SpeedError(f"{text!r} is no speed, expected for example 1x, 60x or max")
    return factor


def outgoing(value: bytes, key_field: str | None) -> Outgoing:
    """The message for one line. A line that is no document is sent as it is, without a key."""
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError:
        return Outgoing(None, value, None)
    if not isinstance(fields, dict):
        return Outgoing(None, value, None)
    key = fields.get(key_field) if key_field is not None else None
    return Outgoing(_key(key), value, _published_at(fields))


def shift_ms(span: Span, now_ms: int, factor: float | None) -> int:
    """What to add to event times so that they end when the replay ends, and none lies in the future when it is sent.

    At 1x that makes the first document now; at full speed the newest.
    """
    duration_ms = span.newest_ms - span.first_ms
    return round(now_ms + (duration_ms / factor if factor is not None else 0)) - span.newest_ms


def shifted(message: Outgoing, by_ms: int) -> Outgoing:
    """The message with its event time moved; the other bytes stay as they are wherever that can be done."""
    if message.published_at_ms is None:
        return message
    moved_ms = message.published_at_ms + by_ms
    new = format_rfc3339(moved_ms).encode()
    found = _PUBLISHED_AT.findall(message.value)
    if len(found) == 1:
        value = _PUBLISHED_AT.sub(lambda match: match[1] + new + match[3], message.value)
    else:
        value = orjson.dumps({**orjson.loads(message.value), "published_at": new.decode()})
    return Outgoing(message.key, value, moved_ms)


class Pace:
    """When each message is due, in seconds after the start; never before an earlier one."""

    def __init__(self, factor: float | None) -> None:
        self._factor = factor
        self._first_ms: int | None = None
        self._due = 0.0

    def due(self, published_at_ms: int | None) -> float:
        """Seconds after the start at which a message with this event time is to be sent."""
        if self._factor is None or published_at_ms is None:
            return self._due
        if self._first_ms is None:
            self._first_ms = published_at_ms
        self._due = max(self._due, (published_at_ms - self._first_ms) / 1000 / self._factor)
        return self._due


def _key(value: Any) -> bytes | None:
    if isinstance(value, str) and value:
        return value.encode()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value).encode()
    return None


def _published_at(fields: dict[str, Any]) -> int | None:
    published_at = fields.get("published_at")
    if not isinstance(published_at, str):
        return None
    try:
        return parse_rfc3339(published_at)
    except TimestampError:
        return None
