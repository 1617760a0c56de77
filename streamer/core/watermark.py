"""Event time of one source partition: how far it has come, and which documents came too late.

A document is late if it is older than `max(published_at of the documents before it in this partition) -
allowed_lateness`. That depends on the partition's log alone, so it comes out the same in every run. The state
is one number; it travels with the committed offset, so that a document read again is judged as the first time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

UNSET: Final = np.iinfo(np.int64).min
"""Stands for "no watermark yet" in int64 arrays."""

_PREFIX: Final = "bw1:"


class ClockError(ValueError):
    """Commit metadata that is no dump of a clock."""


class Judgement(NamedTuple):
    """`late` bool[n]; `watermark_ms` int64[n]: the watermark after each document, `UNSET` while there is none."""

    late: NDArray[np.bool_]
    watermark_ms: NDArray[np.int64]


@dataclass(slots=True)
class PartitionClock:
    """The event time of one source partition. Times are milliseconds UTC."""

    allowed_lateness_ms: int
    max_published_ms: int | None = None

    @property
    def watermark_ms(self) -> int | None:
        """No document older than this is on time any more; None before the first document."""
        return None if self.max_published_ms is None else self.max_published_ms - self.allowed_lateness_ms

    def judge(self, times_ms: NDArray[np.int64]) -> Judgement:
        """Judge the documents of `times_ms` int64[n], in log order, and move the clock past them."""
        seen = np.empty(len(times_ms) + 1, dtype=np.int64)
        seen[0] = UNSET if self.max_published_ms is None else self.max_published_ms
        seen[1:] = times_ms
        np.maximum.accumulate(seen, out=seen)
        started = seen != UNSET
        watermarks = np.where(started, seen - np.int64(self.allowed_lateness_ms) * started, UNSET)
        if started[-1]:
            self.max_published_ms = int(seen[-1])
        return Judgement(times_ms < watermarks[:-1], watermarks[1:])

    def dump(self) -> str:
        """The state as a short string, for the metadata of an offset commit."""
        return _PREFIX + ("" if self.max_published_ms is None else str(self.max_published_ms))

    @classmethod
    def parse(cls, metadata: str, *, allowed_lateness_ms: int) -> PartitionClock:
        """The clock of a `dump`; empty metadata (a fresh group) is a fresh clock. Raises ClockError."""
        if not metadata:
            return cls(allowed_lateness_ms)
        if not metadata.startswith(_PREFIX):
            raise ClockError(f"offset metadata {metadata[:60]!r} was not written by bearwire, expected {_PREFIX}<time>")
        number = metadata.removeprefix(_PREFIX)
        try:
            return cls(allowed_lateness_ms, int(number) if number else None)
        except ValueError:
            raise ClockError(f"offset metadata {metadata[:60]!r} holds no time in milliseconds") from None
