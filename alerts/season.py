"""The rhythm of a book: how its volume runs over the hours of the day and the days of the week, learned online.

One profile per book (hour of day x day of week, each shrunk to flat while little is known), because single series are
too thin to have their own. Time is measured against it in *season days*: a night hour of a quiet Sunday is a small part
of a day, the hour of the opening bell a large one. Expected counts are a rate per season day times season days.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alerts.durations import DAY_MS, HOUR_MS

WEEK_HOURS = 168
THURSDAY = 3
"""1970-01-01 was a Thursday; weekdays count from Monday = 0."""

_PRIOR_DAYS = 2.0
_PRIOR_DOCUMENTS = 10.0
_MAX_CATCH_UP_HOURS = 24 * 7 * 8
_LEAST_SILENT_HOURS = 1
_WINSOR = 3.0


class Season:
    """Hour and weekday profile with exponential forgetting, and the forgetting season time since the book began.

    Hours without documents count as empty ones, but no more of them in a row than the book was watched before: a
    document of last year, first in a stream of today, does not make a year of silence. The rest is `unwatched_hours`.

    Counts of an hour above three times the expected teach as much as three times the expected (winsorised), so a surge
    does not become a habit.
    """

    def __init__(self, memory_ms: int) -> None:
        self.keep_hour = 0.5 ** (HOUR_MS / memory_ms)
        self.hour = -1
        self.pending = 0.0
        self.watched_hours = 0
        self.unwatched_hours = 0
        self.seen_hours = 0.0
        self.total = 0.0
        self.hour_counts = np.zeros(24)
        self.hour_time = np.zeros(24)
        self.day_counts = np.zeros(7)
        self.day_time = np.zeros(7)
        self.exposure_days = 0.0
        self.profile = np.ones(WEEK_HOURS)
        self._integrate()

    def add(self, documents: float) -> None:
        """Count `documents` in the current hour."""
        self.pending += documents

    def advance(self, now_ms: int) -> None:
        """Close every hour that ended at or before `now_ms`."""
        hour = now_ms // HOUR_MS
        if self.hour < 0:
            self.hour = hour
        gap = hour - self.hour
        if gap <= 0:
            return
        self._close_hour()
        silent = hour - self.hour
        unwatched = max(silent - max(_LEAST_SILENT_HOURS, self.watched_hours), 0)
        self._skip(unwatched)
        self.unwatched_hours += unwatched
        at_once = max(hour - self.hour - _MAX_CATCH_UP_HOURS, 0)
        self._skip(at_once)
        self.exposure_days += (1.0 - self.keep_hour**at_once) / (1.0 - self.keep_hour) / 24.0
        self.watched_hours += at_once
        while self.hour < hour:
            self._close_hour()
        self._shape()

    def days_between(self, start_ms: int | NDArray[np.int64], end_ms: int | NDArray[np.int64]) -> NDArray[np.float64]:
        """Season days in `[start_ms, end_ms)` by the present profile."""
        return np.asarray(self._position(end_ms) - self._position(start_ms))

    def _position(self, time_ms: int | NDArray[np.int64]) -> NDArray[np.float64]:
        hours = np.asarray(time_ms, dtype=np.int64) + THURSDAY * DAY_MS
        week, rest = np.divmod(hours, WEEK_HOURS * HOUR_MS)
        slot, part = np.divmod(rest, HOUR_MS)
        position = week * 7.0 + self._cumulative[slot] + self.profile[slot] * (part / HOUR_MS) / 24.0
        return np.asarray(position)

    def _slot(self) -> tuple[int, int]:
        hours = self.hour + THURSDAY * 24
        return hours % 24, (hours // 24) % 7

    def _close_hour(self) -> None:
        hour, day = self._slot()
        expected = self.level * float(self.profile[day * 24 + hour])
        count = min(self.pending, _WINSOR * expected + _PRIOR_DOCUMENTS) if self.seen_hours > 24 else self.pending
        self._forget(self.keep_hour)
        self.hour_counts[hour] += count
        self.hour_time[hour] += 1.0
        self.day_counts[day] += count
        self.day_time[day] += 1.0
        self.total += count
        self.seen_hours += 1.0
        self.exposure_days += float(self.profile[day * 24 + hour]) / 24.0
        self.pending = 0.0
        self.watched_hours += 1
        self.hour += 1

    def _skip(self, hours: int) -> None:
        self._forget(self.keep_hour**hours)
        self.hour += hours

    def _forget(self, keep: float) -> None:
        self.hour_counts *= keep
        self.hour_time *= keep
        self.day_counts *= keep
        self.day_time *= keep
        self.total *= keep
        self.seen_hours *= keep
        self.exposure_days *= keep

    @property
    def level(self) -> float:
        """Documents an average hour."""
        return self.total / self.seen_hours if self.seen_hours else 0.0

    def _shape(self) -> None:
        """The profile anew: first the hours (all are seen within a day), then the days."""
        level = self.level
        if level <= 0.0:
            return
        prior = _PRIOR_DAYS * level + _PRIOR_DOCUMENTS
        hours = (self.hour_counts + prior) / (level * self.hour_time + prior)
        hours /= hours.mean()
        prior = 24.0 * prior
        expected = level * self.day_time
        days = (self.day_counts + prior) / (expected + prior)
        profile = np.outer(days, hours).ravel()
        self.profile = profile / profile.mean()
        self._integrate()

    def _integrate(self) -> None:
        self._cumulative = np.concatenate(([0.0], np.cumsum(self.profile)[:-1])) / 24.0

    def dump(self) -> dict[str, object]:
        """The state as plain values."""
        return {
            "numbers": [self.hour, self.pending, self.seen_hours, self.total, self.exposure_days],
            "hours": [self.watched_hours, self.unwatched_hours],
            "hour_counts": self.hour_counts.tolist(),
            "hour_time": self.hour_time.tolist(),
            "day_counts": self.day_counts.tolist(),
            "day_time": self.day_time.tolist(),
            "profile": self.profile.tolist(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over a state from `dump`."""
        hour, self.pending, self.seen_hours, self.total, self.exposure_days = state["numbers"]
        self.hour = int(hour)
        # A state written before these were counted was watched at least as long as it remembers.
        self.watched_hours, self.unwatched_hours = state.get("hours", (int(self.seen_hours), 0))
        self.hour_counts = np.array(state["hour_counts"])
        self.hour_time = np.array(state["hour_time"])
        self.day_counts = np.array(state["day_counts"])
        self.day_time = np.array(state["day_time"])
        self.profile = np.array(state["profile"])
        self._integrate()


def keep_over(memory_ms: float, time_ms: float) -> float:
    """The share of a memory with this half-life that is left after `time_ms`."""
    return math.pow(0.5, time_ms / memory_ms)
