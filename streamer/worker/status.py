"""What a worker knows about itself: plain counters and reasons, read by the page, the metrics and the watchdog.

The event loop's thread writes it, but for a few words of the watchdog's and of whoever reads the rules; readers in
other threads take what they see, and copy what they go through.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alerts.sinks.queue import SinkStatus

_RATE_SECONDS: Final = 30.0


class LatencyHistogram:
    """Seconds from a record's own Kafka time to its score on the broker, in buckets that grow by a tenth.

    `bounds` float64[n] are the upper bounds in seconds; `counts` int64[n + 1], the last one being what lies
    above. A quantile is therefore right within 10 %.
    """

    def __init__(self) -> None:
        self.bounds: NDArray[np.float64] = np.geomspace(0.001, 0.001 * 1.1**182, 183)
        self.counts: NDArray[np.int64] = np.zeros(len(self.bounds) + 1, dtype=np.int64)
        self.total_seconds = 0.0

    def observe(self, seconds: NDArray[np.float64]) -> None:
        """Take in float64[n] latencies; negative ones (clocks apart) count as zero."""
        seconds = np.maximum(seconds, 0.0)
        places = np.searchsorted(self.bounds, seconds)
        self.counts += np.bincount(places, minlength=len(self.counts))
        self.total_seconds += float(seconds.sum())

    @property
    def count(self) -> int:
        """Number of latencies taken in."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> float | None:
        """Upper bound in seconds of the bucket that holds the given share; None while empty."""
        total = self.count
        if total == 0:
            return None
        place = int(np.searchsorted(np.cumsum(self.counts), math.ceil(share * total)))
        return float(self.bounds[min(place, len(self.bounds) - 1)])


@dataclass(slots=True)
class BookStatus:
    """One book that this worker watches."""

    watermark_ms: int | None = None
    open_rows: int = 0
    blocks: int = 0
    documents: int = 0
    duplicates: int = 0
    too_late: int = 0
    gaps: int = 0
    rewinds: int = 0
    """Times that its digests ended before the one that was to come."""
    unfollowed: int = 0
    bad_blocks: int = 0
    alerts: int = 0
    notifications: int = 0
    windows: int = 0
    next_offset: int = 0
    lag: int = 0
    snapshot_at: float | None = None
    snapshot_bytes: int = 0
    snapshot_written_bytes: int = 0
    restore_seconds: float | None = None

    def snapshot_age_seconds(self) -> float | None:
        """Seconds since the state was last written down; None before the first time."""
        return None if self.snapshot_at is None else time.monotonic() - self.snapshot_at


@dataclass(slots=True)
class WorkerStatus:
    """Counters since the start, what is going on now, and why the worker is not ready or dead."""

    role: str
    provider: str = ""
    model: str = ""
    started_at: float = field(default_factory=time.monotonic)
    received: int = 0
    scored: int = 0
    late: int = 0
    dead_letters: int = 0
    dead_letter_reasons: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    """Documents in a language that no model reads, where those are only counted."""
    other_language: int = 0
    """Documents in a language that no model reads, which the default one read all the same."""
    lost: int = 0
    """Offsets that were deleted from the documents topic before they were scored."""
    rewinds: int = 0
    """Times that a documents partition no longer reached the offset where it had been read to."""
    model_swaps: dict[str, int] = field(default_factory=lambda: {"done": 0, "refused": 0})
    commits: int = 0
    rebalances: int = 0
    produce_failures: int = 0
    rule_reloads: dict[str, int] = field(default_factory=lambda: {"accepted": 0, "refused": 0})
    partitions: dict[int, int] = field(default_factory=dict)
    """Source partitions assigned to this worker and how many records each is behind."""
    books: dict[str, BookStatus] = field(default_factory=dict)
    sinks: dict[str, SinkStatus] = field(default_factory=dict)
    """Every sink that this worker delivers to."""
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    progress_at: float = field(default_factory=time.monotonic)
    beat_at: float = field(default_factory=time.monotonic)
    parts: dict[str, float] = field(default_factory=dict)
    """By part that can hang by itself: when it last got something done, or had nothing to do (monotonic)."""
    resumed_at: float = 0.0
    """When the process last woke up from a pause (monotonic)."""
    _holds: dict[str, str] = field(default_factory=dict)
    _fatal: list[str] = field(default_factory=list)
    _scored_at: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def duplicates(self) -> int:
        """Documents whose id had been seen within the novelty horizon, over all books."""
        return sum(book.duplicates for book in self.books.values())

    @property
    def alerts(self) -> int:
        """Alert records produced, over all books."""
        return sum(book.alerts for book in self.books.values())

    @property
    def lag(self) -> int:
        """Records of the documents topic and blocks of the digests topic that wait for this worker."""
        return sum(self.partitions.values()) + sum(book.lag for book in list(self.books.values()))

    def texts_per_second(self) -> float:
        """Scored texts per second over the last 30 seconds."""
        now = time.monotonic()
        self._forget(now)
        if not self._scored_at:
            return 0.0
        span = min(_RATE_SECONDS, max(1.0, now - self.started_at))
        return sum(count for _, count in self._scored_at) / span

    def note_scored(self, count: int) -> None:
        """Count texts that were scored just now."""
        now = time.monotonic()
        self.scored += count
        self._scored_at.append((now, count))
        self._forget(now)

    def note_progress(self) -> None:
        """Say that something was durably done; the watchdog looks at when that was."""
        self.progress_at = time.monotonic()

    def note_beat(self) -> None:
        """Say that the event loop turns."""
        self.beat_at = time.monotonic()

    def note_part(self, part: str) -> None:
        """Say that a part (a loop, a source partition, a book) got something done, or has nothing to do."""
        self.parts[part] = time.monotonic()

    def add_part(self, part: str) -> None:
        """Say that a part is here; one that is known already, as after a failure, has got nothing done by that."""
        self.parts.setdefault(part, time.monotonic())

    def drop_part(self, part: str) -> None:
        """Say that a part is not here any more."""
        self.parts.pop(part, None)

    def note_resumed(self) -> None:
        """Say that the process was paused and wakes up: no silence before this moment means anything."""
        self.beat_at = self.progress_at = self.resumed_at = time.monotonic()

    @property
    def holds(self) -> dict[str, str]:
        """The parts that keep the worker from being ready, and why."""
        return dict(self._holds)

    def book(self, name: str) -> BookStatus:
        """The status of a book, made on first use."""
        return self.books.setdefault(name, BookStatus())

    def sinks_now(self) -> list[dict[str, Any]]:
        """Every sink as the page shows it."""
        return [
            {
                "name": sink.name,
                "kind": sink.kind,
                "delivered": sink.delivered,
                "failed": sink.failed,
                "outdated": sink.outdated,
                "retries": sink.retries,
                "waiting": sink.waiting,
                "age_seconds": round(sink.age_seconds()),
                "failing": sink.failing,
                "last_error": sink.last_error,
            }
            for sink in self.sinks.values()
        ]

    def hold(self, part: str, reason: str) -> None:
        """Say why a part keeps the worker from being ready."""
        self._holds[part] = reason

    def release(self, part: str) -> None:
        """Say that a part no longer keeps the worker from being ready."""
        self._holds.pop(part, None)

    def fail(self, reason: str) -> None:
        """Say that the process cannot recover by itself."""
        self._fatal.append(reason)

    def dead(self) -> list[str]:
        """Why the process should be restarted; empty when it need not be."""
        return list(self._fatal)

    def not_ready(self) -> list[str]:
        """Why the worker is not doing its job right now; empty when it is."""
        return [*self._fatal, *(f"{part}: {reason}" for part, reason in sorted(self._holds.items()))]

    def _forget(self, now: float) -> None:
        while self._scored_at and self._scored_at[0][0] < now - _RATE_SECONDS:
            self._scored_at.popleft()
