"""What the page shows: recent sentiment per series in fixed buckets of event time, and the latest state of each alert.

Pure state: window and alert records go in as they lie on their topics, plain JSON-ready values come out. Everything
is bounded: the series by last use, the buckets by age, the alerts by number.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import orjson

from streamer.timestamps import parse_rfc3339

BUCKET_MS = 15 * 60 * 1000
KEEP_MS = 7 * 24 * 3600 * 1000
SEAL_AFTER_MS = 2 * 3600 * 1000  # a bucket this much older than its series' newest no longer changes
MAX_SERIES = 2_000
MAX_ALERTS = 300

Point = tuple[int, int, int, float]  # bucket start (ms), documents, negative documents, mean sentiment in [-1, 1]


@dataclass(slots=True)
class _Series:
    """One series: panes of the open buckets (a repeated record replaces itself) and the sums of the sealed ones."""

    panes: dict[int, dict[int, tuple[int, int, float]]] = field(default_factory=dict)
    sealed: dict[int, Point] = field(default_factory=dict)

    def take(self, start_ms: int, pane_end_ms: int, numbers: tuple[int, int, float]) -> Point | None:
        if start_ms in self.sealed:
            return None
        self.panes.setdefault(start_ms, {})[pane_end_ms] = numbers
        for old in [start for start in self.panes if start < start_ms - SEAL_AFTER_MS]:
            self.sealed[old] = self._sum(old)
            del self.panes[old]
        for old in [start for start in self.sealed if start < start_ms - KEEP_MS]:
            del self.sealed[old]
        return self._sum(start_ms)

    def _sum(self, start_ms: int) -> Point:
        panes = self.panes[start_ms].values()
        documents = sum(pane[0] for pane in panes)
        total = sum(pane[0] * pane[2] for pane in panes)
        mean = round(total / documents, 4) if documents else 0.0
        return (start_ms, documents, sum(pane[1] for pane in panes), mean)

    def points(self) -> list[Point]:
        return sorted([*self.sealed.values(), *(self._sum(start) for start in self.panes)])


Key = tuple[str, str]  # book, series


class PageFeed:
    """The page's state, built from the windows and alerts topics; records may repeat and come in any order."""

    def __init__(self) -> None:
        self._series: OrderedDict[Key, _Series] = OrderedDict()
        self._alerts: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.watermark_ms: int | None = None
        self.model: str | None = None

    def take_window(self, value: bytes) -> tuple[Key, Point] | None:
        """Take in one record of the windows topic; returns its key and changed bucket, None if nothing changed."""
        try:
            record = orjson.loads(value)
            key, pane_end = (record["book"], record["series"]), parse_rfc3339(record["end"])
            numbers = (int(record["documents"]), int(record["negative"]), float(record["mean_sentiment"]))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return None
        if not all(isinstance(part, str) for part in key):
            return None
        self.watermark_ms = max(self.watermark_ms or pane_end, pane_end)
        self.model = record.get("model") or self.model
        start = (pane_end - 1) // BUCKET_MS * BUCKET_MS
        series = self._series.setdefault(key, _Series())
        self._series.move_to_end(key)
        point = series.take(start, pane_end, numbers)
        while len(self._series) > MAX_SERIES:
            self._series.popitem(last=False)
        return None if point is None else (key, point)

    def take_alert(self, value: bytes) -> dict[str, Any] | None:
        """Take in one record of the alerts topic; returns it when it is news, None for an older or foreign one."""
        try:
            record = orjson.loads(value)
            alert_id, sequence = record["id"], int(record["sequence"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return None
        if not isinstance(alert_id, str):
            return None
        known = self._alerts.get(alert_id)
        if known is not None and int(known["sequence"]) > sequence:
            return None
        self._alerts[alert_id] = record
        self._alerts.move_to_end(alert_id)
        while len(self._alerts) > MAX_ALERTS:
            self._alerts.popitem(last=False)
        news: dict[str, Any] = record
        return news

    def overview(self) -> dict[str, Any]:
        """Everything at once, for a page that has just been opened."""
        return {
            "watermark_ms": self.watermark_ms,
            "model": self.model,
            "bucket_ms": BUCKET_MS,
            "series": [(*key, series.points()) for key, series in self._series.items()],
            "alerts": list(reversed(self._alerts.values())),
        }
