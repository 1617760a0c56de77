"""Made-up lives of alerts, as the engine tells them, to see what the dispatch makes of them."""

from __future__ import annotations

import msgspec

from alerts.dispatch import Dispatch, Told
from alerts.notifications import Notification
from alerts.records import AlertRecord, Change, Decided, Reading, State, alert_id

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
START_MS = 1_767_571_200_000  # Monday, 5 January 2026, 00:00 UTC

_READING = Reading(
    window="1h", window_ms=HOUR_MS, negative=9.0, documents=10.0, share=0.9, expected_negative=0.5,
    expected_share=0.2, tail_probability=1e-9,
)  # fmt: skip


def changed(
    series: str, minute: int, change: Change = "fired", *, severity: str = "warning", since: int | None = None,
    fired: int | None = None, rule: str = "surge", labels: dict[str, str] | None = None,
) -> AlertRecord:  # fmt: skip
    """A change of the alert on `series` that began at minute `since`, at minute `minute` after the start."""
    began = minute if since is None else since
    states: dict[str, State] = {"pending": "pending", "resolved": "resolved", "withdrawn": "resolved"}
    fired_ms = None
    if change not in ("pending", "withdrawn"):
        fired_ms = START_MS + (began if fired is None else fired) * MINUTE_MS
    at_ms = START_MS + minute * MINUTE_MS
    return AlertRecord(
        id=alert_id("main", rule, series, began), sequence=1, state=states.get(change, "firing"), change=change,
        severity=severity, peak_severity=severity, kind="surge", book="main", rule=rule, series=series,
        labels=labels or {}, since_ms=START_MS + began * MINUTE_MS, at_ms=at_ms, fired_at_ms=fired_ms,
        resolved_at_ms=at_ms if states.get(change) == "resolved" else None, observed=_READING, peak=_READING,
        windows=(_READING,), false_alarms_per_day=1e-4, budget_per_day=1 / 30, sources=3, copies=0, texts=(),
        history=(), resolves_when="", line=f"{series} {change}", paragraph=f"{series} {change}.", model="m", rules="r",
    )  # fmt: skip


def minute_of(record: AlertRecord | Notification) -> int:
    """The minute after the start at which this was decided."""
    return (record.at_ms - START_MS) // MINUTE_MS


def play(dispatch: Dispatch, changes: list[Decided], minutes: int, *, since: int = 0) -> Told:
    """Let the minutes from `since` up to `minutes` pass, each with its changes; all that came out."""
    said = Told([], [])
    for minute in range(since, minutes):
        now = [each for each in changes if minute_of(each.record) == minute]
        told = dispatch.tell(START_MS + minute * MINUTE_MS, now)
        said.alerts.extend(told.alerts)
        said.notifications.extend(told.notifications)
    return said


def copied(dispatch: Dispatch, fresh: Dispatch) -> Dispatch:
    """`fresh` with the state of `dispatch`, by way of bytes."""
    fresh.load(msgspec.msgpack.decode(msgspec.msgpack.encode(dispatch.dump())))
    return fresh
