"""The last hours of every series, as numbers for a sparkline: a ring of clock hours, cleared when it comes round."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alerts.durations import HOUR_MS
from alerts.records import HistoryPoint

HOURS = 24
_BACK = np.arange(HOURS)


class History:
    """Documents and negative texts per clock hour, int32[series, 24, 2], of the 24 hours up to the last touched one."""

    def __init__(self) -> None:
        self.counts = np.zeros((64, HOURS, 2), np.int32)
        self.last_hour = np.full(64, -1, np.int64)

    def add(
        self, ids: NDArray[np.int64], now_ms: int, documents: NDArray[np.int64], negative: NDArray[np.int64]
    ) -> None:
        """Count one pane that starts at `now_ms`."""
        self._fit(int(ids[-1]) + 1)
        hour = now_ms // HOUR_MS
        gap = np.minimum(hour - self.last_hour[ids], HOURS)
        rows, back = (gap[:, None] > _BACK).nonzero()
        self.counts[ids[rows], (hour - back) % HOURS] = 0
        self.last_hour[ids] = hour
        self.counts[ids, hour % HOURS, 0] += documents.astype(np.int32)
        self.counts[ids, hour % HOURS, 1] += negative.astype(np.int32)

    def points(self, series: int, now_ms: int) -> tuple[HistoryPoint, ...]:
        """The 24 hours up to `now_ms`, oldest first; hours without texts are zeros."""
        hour = now_ms // HOUR_MS
        last = int(self.last_hour[series]) if series < len(self.last_hour) else -1
        points = []
        for back in range(HOURS - 1, -1, -1):
            documents, negative = (
                self.counts[series, (hour - back) % HOURS] if 0 <= last - hour + back < HOURS else (0, 0)
            )
            points.append(
                HistoryPoint(start_ms=(hour - back) * HOUR_MS, documents=float(documents), negative=float(negative))
            )
        return tuple(points)

    def drop(self, ids: NDArray[np.int64]) -> None:
        """Forget these series."""
        ids = ids[ids < len(self.last_hour)]
        self.counts[ids] = 0
        self.last_hour[ids] = -1

    def _fit(self, size: int) -> None:
        old = len(self.last_hour)
        if size <= old:
            return
        size = max(size, 2 * old)
        self.counts = np.concatenate((self.counts, np.zeros((size - old, HOURS, 2), np.int32)))
        self.last_hour = np.concatenate((self.last_hour, np.full(size - old, -1, np.int64)))
