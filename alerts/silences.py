"""Silences: for a while, nobody is told of the alerts that fit. Decided on event time, so that a replay agrees.

A silence asked for at a wall-clock time reaches a book at some point of the book's own time. It applies to changes
from its start on, but never to what the book has already decided: taken in when the book's clock stood at c, it
begins at c + 1 ms or at its start, whichever is later, and an earlier end takes effect likewise. That effective
interval is kept with the state and written back, and is what a replay is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import orjson

from alerts.decoding import decode_json
from alerts.labels import matches

SCHEMA = "bearwire.silence/1"
MAX_LENGTH_MS = 366 * 86_400_000


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """One silence. Times are milliseconds UTC; it applies to event times in `[starts_ms, ends_ms)`.

    `matchers` map labels to patterns. `revision` grows with each change. `book` is None in what a person asked for;
    in what a book took in it is the book, and the interval the effective one. `created_ms` is wall-clock time.
    """

    id: str
    revision: int
    matchers: dict[str, tuple[str, ...]]
    author: str
    reason: str
    created_ms: int
    starts_ms: int
    ends_ms: int
    book: str | None = None
    schema: str = SCHEMA

    @property
    def key(self) -> bytes:
        """The Kafka key: the id, and the book that took it in."""
        return (self.id if self.book is None else f"{self.id}/{self.book}").encode()

    def encode(self) -> bytes:
        """One line of JSON with sorted keys."""
        return orjson.dumps(msgspec.to_builtins(self), option=orjson.OPT_SORT_KEYS)

    @property
    def is_expired(self) -> bool:
        """Whether somebody has ended it for good."""
        return self.ends_ms <= self.starts_ms

    def holds(self, at_ms: int) -> bool:
        """Whether it applies to a change at this event time."""
        return self.starts_ms <= at_ms < self.ends_ms

    def concerns(self, book: str) -> bool:
        """Whether alerts of this book may fit it."""
        return "book" not in self.matchers or matches({"book": self.matchers["book"]}, {"book": book})


def decode_silence(data: bytes) -> Silence:
    """The silence in `data`. Raises `msgspec.DecodeError` or `msgspec.ValidationError` where it is not one."""
    silence = decode_json(data, Silence)
    if silence.schema != SCHEMA:
        raise msgspec.ValidationError(f"schema {silence.schema!r}, expected {SCHEMA!r}")
    if not silence.matchers or silence.ends_ms - max(silence.starts_ms, silence.created_ms) > MAX_LENGTH_MS:
        raise msgspec.ValidationError("a silence needs matchers, and an end within 366 days")
    return silence


def taken_in(asked: Silence, known: Silence | None, book: str, clock_ms: int | None) -> Silence | None:
    """What a book makes of a silence that reaches it when its clock stands at `clock_ms`; None where nothing new.

    `known` is what it made of an earlier revision; what is over is forgotten, and what has ended is not begun.
    """
    if not is_news(asked, known, book, clock_ms):
        return None
    next_ms = asked.starts_ms if clock_ms is None else clock_ms + 1
    if known is None:
        starts, ends = max(asked.starts_ms, next_ms), asked.ends_ms
    else:
        starts, ends = known.starts_ms, min(known.ends_ms, max(asked.ends_ms, next_ms))
        if known.starts_ms >= next_ms:
            starts, ends = max(asked.starts_ms, next_ms), asked.ends_ms
    return msgspec.structs.replace(asked, book=book, starts_ms=starts, ends_ms=max(starts, ends))


def is_news(asked: Silence, known: Silence | None, book: str, clock_ms: int | None) -> bool:
    """Whether a book whose clock stands at `clock_ms`, and which knows `known` of it, has to be told of a silence."""
    if known is not None:
        return known.revision < asked.revision
    return asked.concerns(book) and not asked.is_expired and (clock_ms is None or asked.ends_ms > clock_ms)


def for_book(silences: Iterable[Silence], book: str) -> dict[str, Silence]:
    """Of recorded silences those of one book, by id: what it took in where that is recorded, else what was asked."""
    chosen: dict[str, Silence] = {}
    for silence in silences:
        if silence.book not in (None, book) or not silence.concerns(book):
            continue
        known = chosen.get(silence.id)
        rank = (silence.book is not None, silence.revision)
        if known is None or rank >= (known.book is not None, known.revision):
            chosen[silence.id] = silence
    return chosen


def silenced_by(silences: Mapping[str, Silence], labels: Mapping[str, str], at_ms: int) -> tuple[str, ...]:
    """The ids of those that apply to an alert with these labels, in order."""
    return tuple(
        name for name in sorted(silences) if silences[name].holds(at_ms) and matches(silences[name].matchers, labels)
    )
