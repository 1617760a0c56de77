"""Notifications of our own making, for tests of what becomes of them."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from alerts.notifications import Notification, notification_id
from alerts.records import AlertRecord, AlertText, Reading, alert_id

READING = Reading(
    window="1h",
    window_ms=3_600_000,
    negative=7.0,
    documents=9.0,
    share=7 / 9,
    expected_negative=0.2,
    expected_share=0.19,
    tail_probability=3.1e-8,
)


def now_ms() -> int:
    """The present, as event time of a stream that is up to date."""
    return int(time.time() * 1000)


def alert(series: str = "company:TLYB", **changes: Any) -> AlertRecord:
    """A firing alert of one series; `changes` are fields of the record."""
    at_ms = changes.pop("at_ms", None) or now_ms()
    record = AlertRecord(
        id=alert_id("main", "negative-surge", series, at_ms // 86_400_000),
        sequence=1,
        state="firing",
        change="fired",
        severity="high",
        peak_severity="high",
        kind="surge",
        book="main",
        rule="negative-surge",
        series=series,
        labels={"desk": "payments"},
        since_ms=at_ms - 60_000,
        at_ms=at_ms,
        fired_at_ms=at_ms,
        resolved_at_ms=None,
        observed=READING,
        peak=READING,
        windows=(READING,),
        false_alarms_per_day=0.0011,
        budget_per_day=1 / 30,
        sources=5,
        copies=6,
        texts=(
            AlertText(
                id="wire-1",
                text="Tallybridge admits it booked sales that never happened.",
                published_at_ms=at_ms,
                negative=0.97,
                source="Harbour Newswire",
                url="https://news.example/2026/tallybridge",
            ),
        ),
        history=(),
        resolves_when="resolves once it is calm",
        line=f"[firing high] negative surge in {series}",
        paragraph="Seven of nine texts are negative.",
        model="finance-en-1",
        rules="rules-0123456789ab",
    )
    return msgspec.structs.replace(record, **changes)


def notification(
    *alerts: AlertRecord, receivers: tuple[str, ...] = ("desk",), group: str = "g1", sequence: int = 1, **changes: Any
) -> Notification:
    """A notification about these alerts (one firing alert where none is given)."""
    members = alerts or (alert(),)
    firing = any(member.state == "firing" for member in members)
    made = Notification(
        id=notification_id(group, sequence),
        group=group,
        sequence=sequence,
        book="main",
        receivers=receivers,
        at_ms=members[0].at_ms,
        status="firing" if firing else "resolved",
        severity=members[0].severity,
        labels=members[0].labels,
        title=members[0].line,
        text=members[0].paragraph,
        alerts=members,
        rules="rules-0123456789ab",
    )
    return msgspec.structs.replace(made, **changes)
