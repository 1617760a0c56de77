"""Prometheus' Alertmanager: every member of a notification as an alert of its v2 API, repeated while it fires.

Alertmanager forgets an alert that nobody repeats, so `endsAt` of a firing alert lies a few repeats ahead, as
Prometheus does it; a resolved one carries the time at which it resolved.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

from alerts.notifications import Notification
from alerts.records import AlertRecord
from alerts.sinks.http import Endpoint, Poster
from alerts.sinks.plain import one_line, web_link

API: Final = "/api/v2/alerts"
_REPEATS_AHEAD: Final = 4
_AT_ONCE: Final = 200
_NOT_IN_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_]")
_MOST_TEXT: Final = 4000


class Posted(NamedTuple):
    """An alert as Alertmanager knows it; it fires while `ends_ms` is None. `said_ms`: event time of the last word."""

    labels: dict[str, str]
    annotations: dict[str, str]
    starts_ms: int
    ends_ms: int | None
    said_ms: int
    sequence: int


def alertmanager_alert(member: AlertRecord, at_ms: int) -> Posted:
    """The alert of one member. Its labels are its identity there: a change of severity makes another alert."""
    labels = {_label_name(name): one_line(value, 500) for name, value in sorted(member.labels.items())}
    labels |= {
        "alertname": one_line(member.rule, 200),
        "book": one_line(member.book, 200),
        "series": one_line(member.series, 500),
        "severity": one_line(member.severity, 60),
        "alert_id": member.id,
    }
    link = next((url for text in member.texts if (url := web_link(text.url)) is not None), None)
    annotations = {"summary": one_line(member.line, 500), "description": one_line(member.paragraph, _MOST_TEXT)}
    starts_ms = member.fired_at_ms if member.fired_at_ms is not None else member.since_ms
    ends_ms = None if member.state != "resolved" else max(starts_ms, member.resolved_at_ms or at_ms)
    return Posted(
        {name: value for name, value in labels.items() if value},
        annotations | ({"link": link} if link else {}),
        starts_ms,
        ends_ms,
        at_ms,
        member.sequence,
    )


def posted_alert(alert: Posted, now_ms: int, hold_ms: int) -> dict[str, Any]:
    """One item of the request's list; a firing alert ends `hold_ms` from now unless it is repeated."""
    return {
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": _time(alert.starts_ms),
        "endsAt": _time(now_ms + hold_ms if alert.ends_ms is None else alert.ends_ms),
    }


class Firing:
    """The last word on every alert, by id, to know what has to be repeated. Words older than `keep_ms` are let go."""

    def __init__(self, keep_ms: int) -> None:
        self._keep_ms = keep_ms
        self._alerts: dict[str, Posted] = {}
        self._home: dict[str, str] = {}
        self._groups: dict[str, int] = {}

    def changes(self, notification: Notification) -> list[Posted]:
        """What to post for the members: older words left out, an alert whose labels change ended under the old ones."""
        if notification.sequence < self._groups.get(notification.group, 0):
            return []
        changed: list[Posted] = []
        for member in notification.alerts:
            alert = alertmanager_alert(member, notification.at_ms)
            known = self._alerts.get(member.id)
            if known is not None and known.sequence > alert.sequence:
                continue
            if known is not None and known.ends_ms is None and known.labels != alert.labels:
                changed.append(known._replace(ends_ms=max(known.starts_ms, notification.at_ms)))
            changed.append(alert)
        return changed

    def take(self, notification: Notification, changed: list[Posted]) -> None:
        """Note what was posted. A member that its group names no more (silenced, say) is not repeated."""
        if not changed:
            return
        group = notification.group
        self._groups[group] = notification.sequence
        named = {alert.labels["alert_id"]: alert for alert in changed}
        gone = [name for name, home in self._home.items() if home == group and name not in named]
        for name in gone:
            del self._alerts[name], self._home[name]
        self._alerts |= named
        self._home |= dict.fromkeys(named, group)

    def all(self, now_ms: int) -> list[Posted]:
        """Everything that fires."""
        for name in [name for name, alert in self._alerts.items() if alert.said_ms < now_ms - self._keep_ms]:
            del self._alerts[name]
            self._groups.pop(self._home.pop(name), None)
        return [alert for alert in self._alerts.values() if alert.ends_ms is None]

    def clear(self) -> None:
        """Nothing fires."""
        self._alerts.clear()
        self._groups.clear()
        self._home.clear()


class AlertmanagerSink:
    """Posts to one Alertmanager; give each of a cluster its own sink, as Prometheus does."""

    kind = "alertmanager"

    def __init__(self, endpoint: Endpoint, *, resend_seconds: float = 60.0, keep_seconds: float = 7 * 86_400.0) -> None:
        self._poster = Poster(endpoint)
        self._resend_seconds = resend_seconds
        self._hold_ms = round(resend_seconds * 1000 * _REPEATS_AHEAD)
        self._firing = Firing(round(keep_seconds * 1000))

    @property
    def refresh_seconds(self) -> float | None:
        """How often firing alerts are repeated."""
        return self._resend_seconds

    async def deliver(self, notification: Notification) -> None:
        """Post the members. Raises TryLater or Refused."""
        changed = self._firing.changes(notification)
        await self._post(changed)
        self._firing.take(notification, changed)

    async def refresh(self) -> None:
        """Post everything that fires again. Raises TryLater or Refused."""
        await self._post(self._firing.all(_now_ms()))

    def remember(self, notification: Notification) -> None:
        """Take note of what fires."""
        self._firing.take(notification, self._firing.changes(notification))

    def forget(self) -> None:
        """Repeat nothing any more."""
        self._firing.clear()

    async def close(self) -> None:
        """Let go of the connections; what fires expires by itself unless a successor repeats it."""
        await self._poster.close()

    async def _post(self, alerts: list[Posted]) -> None:
        now_ms = _now_ms()
        for chunk in _chunks(alerts):
            body = orjson.dumps([posted_alert(alert, now_ms, self._hold_ms) for alert in chunk])
            await self._poster.post(body, {"Content-Type": "application/json"}, path=API)


def _chunks(alerts: list[Posted]) -> Iterator[list[Posted]]:
    for start in range(0, len(alerts), _AT_ONCE):
        yield alerts[start : start + _AT_ONCE]


def _label_name(name: str) -> str:
    plain = _NOT_IN_A_NAME.sub("_", name)
    return plain if plain[:1].isalpha() or plain.startswith("_") else f"_{plain}"


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, tz=UTC).isoformat(timespec="milliseconds")


def _now_ms() -> int:
    return int(time.time() * 1000)
