"""What a dead letter carries beside the original bytes: its headers, and which of them go back to the origin."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from streamer.core.documents import REASONS
from streamer.core.records import DeadLetter, Headers

PREFIX: Final = "bearwire-"
REASON: Final = "bearwire-reason"
DETAIL: Final = "bearwire-detail"
ORIGIN_TOPIC: Final = "bearwire-origin-topic"
ORIGIN_PARTITION: Final = "bearwire-origin-partition"
ORIGIN_OFFSET: Final = "bearwire-origin-offset"
ORIGIN_TIMESTAMP: Final = "bearwire-origin-timestamp"
REPLAYS: Final = "bearwire-replays"
TRUNCATED_FROM: Final = "bearwire-truncated-from"
"""How many bytes the original had, on a dead letter that carries only their beginning."""
SINK: Final = "bearwire-sink"
SINK_FAILED: Final = "sink_failed"
BAD_NOTIFICATION: Final = "bad_notification"

LETTER_REASONS: Final[dict[str, str]] = REASONS | {
    SINK_FAILED: "a notification that the sink named in the header `bearwire-sink` could not deliver",
    BAD_NOTIFICATION: "a message of the notifications topic that is no notification",
}
"""Every reason that a dead letter can have, with its meaning."""


class Origin(NamedTuple):
    """Where a dead letter came from and why it is one. `timestamp_ms` is the original record's own time.

    `replays` counts how often it was fed to its origin again.
    """

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None
    replays: int


class ForeignRecord(ValueError):
    """A record of the dead letters topic that no scorer wrote; says which header is missing or wrong."""


def dead_letter_headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    """The headers to produce a dead letter with; key and value are the record's own, untouched.

    The record's headers come first, so a `bearwire-replays` that a replay set stays with it.
    """
    ours = [
        (REASON, letter.reason),
        (DETAIL, letter.detail),
        (ORIGIN_TOPIC, letter.topic),
        (ORIGIN_PARTITION, str(letter.partition)),
        (ORIGIN_OFFSET, str(letter.record.offset)),
    ]
    if letter.record.timestamp_ms is not None and letter.record.timestamp_ms >= 0:
        ours.append((ORIGIN_TIMESTAMP, str(letter.record.timestamp_ms)))
    replaced = {name for name, _ in ours} | {ORIGIN_TIMESTAMP}
    kept = [(name, value) for name, value in letter.record.headers if name not in replaced]
    return kept + [(name, text.encode()) for name, text in ours]


def read_origin(headers: Iterable[tuple[str, bytes]]) -> Origin:
    """The origin in a dead letter's headers; of repeated headers the last counts. Raises `ForeignRecord`."""
    found = dict(headers)
    return Origin(
        reason=_text(found, REASON),
        detail=_text(found, DETAIL),
        topic=_text(found, ORIGIN_TOPIC),
        partition=_number(found, ORIGIN_PARTITION),
        offset=_number(found, ORIGIN_OFFSET),
        timestamp_ms=_number(found, ORIGIN_TIMESTAMP) if ORIGIN_TIMESTAMP in found else None,
        replays=_number(found, REPLAYS) if REPLAYS in found else 0,
    )


def replay_headers(headers: Headers, replays: int) -> list[tuple[str, bytes]]:
    """The headers to feed a dead letter to its origin again with: the original's, and the new count of replays.

    The sink of a notification stays, so that only that one delivers it again.
    """
    kept = [(name, value) for name, value in headers if not name.startswith(PREFIX) or name == SINK]
    return [*kept, (REPLAYS, str(replays).encode())]


def _text(found: dict[str, bytes], name: str) -> str:
    value = found.get(name)
    if value is None:
        raise ForeignRecord(f"header {name} is missing")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ForeignRecord(f"header {name} is not UTF-8") from None


def _number(found: dict[str, bytes], name: str) -> int:
    text = _text(found, name)
    if not text.isascii() or not text.isdecimal() or len(text) > 19:
        raise ForeignRecord(f"header {name} is not a number")
    return int(text)
