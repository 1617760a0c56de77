"""Who watches the page, and what each open page has yet to be told.

A page that opens is sent an overview, then what changes. Pages that open within a second share one overview. What a
page has not been sent yet is bounded: one that falls behind begins anew with an overview.
"""

import asyncio
import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import orjson

from streamer.web.feed import MAX_ALERTS, MAX_SERIES, Key, PageFeed, Point

SHARE_SECONDS = 1.0
MAX_WATCHERS = 100
MOST_POINTS_BEHIND = 5 * MAX_SERIES
MOST_ALERTS_BEHIND = MAX_ALERTS
MOST_OVERVIEWS = 4

Event = tuple[bytes, ...]  # the parts of a server-sent event; a long one is not copied for each page


class Overview:
    """A serialised overview, shared by whoever asks soon after it was made, and what changed since."""

    def __init__(self, number: int, body: bytes) -> None:
        self.number = number
        self.body = body
        self.since = Backlog()


class Backlog:
    """What changed since an overview; points fold by bucket. Beyond a fixed number it is lost: an overview is due."""

    def __init__(self, *, lost: bool = False) -> None:
        self.points: dict[tuple[Key, int], Point] = {}
        self.alerts: dict[str, dict[str, Any]] = {}
        self.lost = lost

    def __bool__(self) -> bool:
        return self.lost or bool(self.points) or bool(self.alerts)

    def add_point(self, key: Key, point: Point) -> None:
        """Take in a changed bucket of a series."""
        if not self.lost:
            self.points[key, point[0]] = point
            self._bound()

    def add_alert(self, alert: dict[str, Any]) -> None:
        """Take in the latest state of an alert."""
        if not self.lost:
            self.alerts[alert["id"]] = alert
            self._bound()

    def copy(self) -> "Backlog":
        """One with the same content that grows by itself."""
        other = Backlog(lost=self.lost)
        other.points, other.alerts = self.points.copy(), self.alerts.copy()
        return other

    def _bound(self) -> None:
        if len(self.points) > MOST_POINTS_BEHIND or len(self.alerts) > MOST_ALERTS_BEHIND:
            self.points, self.alerts, self.lost = {}, {}, True


class Watcher:
    """One open page: what it has not been sent yet, and the number of the overview it was sent last."""

    def __init__(self) -> None:
        self.backlog = Backlog(lost=True)
        self.sent = 0
        self.changed = asyncio.Event()
        self.changed.set()

    def take(self) -> Backlog:
        """What it has not been sent, which is then taken as sent."""
        backlog, self.backlog = self.backlog, Backlog()
        self.changed.clear()
        return backlog

    def go_on_from(self, backlog: Backlog) -> None:
        """Take `backlog` for what it has not been sent."""
        self.backlog = backlog
        self.changed.set()


class Watchers:
    """The open pages of one PageFeed. Used from one event loop."""

    def __init__(self, feed: PageFeed) -> None:
        self._feed = feed
        self._watchers: set[Watcher] = set()
        self._overview: Overview | None = None
        self._overviews: weakref.WeakSet[Overview] = weakref.WeakSet()
        self._overviews_made = 0

    @property
    def are_full(self) -> bool:
        """Whether as many pages are open as may be."""
        return len(self._watchers) >= MAX_WATCHERS

    def take_window(self, value: bytes) -> None:
        """Take in one record of the windows topic."""
        changed = self._feed.take_window(value)
        if changed is not None:
            for backlog in self._backlogs():
                backlog.add_point(*changed)

    def take_alert(self, value: bytes) -> None:
        """Take in one record of the alerts topic."""
        alert = self._feed.take_alert(value)
        if alert is not None:
            for backlog in self._backlogs():
                backlog.add_alert(alert)

    @contextlib.contextmanager
    def watching(self) -> Iterator[Watcher]:
        """A page, while it is open."""
        watcher = Watcher()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    def overview(self) -> Overview:
        """The overview of a second ago, or a new one. Where slow readers hold on to many, it may be older."""
        if self._overview is None:
            self._overviews_made += 1
            self._overview = Overview(self._overviews_made, orjson.dumps(self._feed.overview()))
            self._overviews.add(self._overview)
            asyncio.get_running_loop().call_later(SHARE_SECONDS, self._let_go_of_overview)
        return self._overview

    def news(self, watcher: Watcher) -> Iterator[Event]:
        """What to send a page now, in order; each event is made when it is asked for."""
        news = watcher.take()
        if news.lost:
            overview = self.overview()
            if overview.number == watcher.sent:
                watcher.go_on_from(news)  # it would be told the same again: it waits for the next one
                return
            watcher.sent = overview.number
            if overview.since:
                watcher.go_on_from(overview.since.copy())
            yield b"event: overview\ndata: ", overview.body, b"\n\n"
            return
        if news.points:
            points = {
                "watermark_ms": self._feed.watermark_ms,
                "model": self._feed.model,
                "points": [(*key, point) for (key, _), point in news.points.items()],
            }
            yield _event("points", points)
        for alert in news.alerts.values():
            yield _event("alert", alert)

    def _backlogs(self) -> Iterator[Backlog]:
        """Those that a change belongs to; whose pages are told of it."""
        if self._overview is not None:
            yield self._overview.since
        for watcher in self._watchers:
            yield watcher.backlog
            watcher.changed.set()

    def _let_go_of_overview(self) -> None:
        if len(self._overviews) < MOST_OVERVIEWS:
            self._overview = None
        else:
            asyncio.get_running_loop().call_later(SHARE_SECONDS, self._let_go_of_overview)


def _event(name: str, data: Any) -> Event:
    """A server-sent event; JSON holds no raw line break, so the data is one line."""
    return b"event: " + name.encode() + b"\ndata: ", orjson.dumps(data), b"\n\n"
