"""A notification that says of itself that it is a test, with one invented alert in it."""

from __future__ import annotations

from alerts.notifications import Notification, notification_id
from alerts.records import AlertRecord, AlertText, Reading, alert_id

RULE = "sink-test"


def sample_notification(receiver: str, at_ms: int) -> Notification:
    """What `bearwire sinks test` sends to `receiver` at `at_ms`. It is resolved, so that nothing is left firing."""
    title = f"[TEST] Bearwire sink {receiver}: this is a test, no alert"
    text = "This message was sent by `bearwire sinks test`. Nothing has happened. Alerts will arrive in this form."
    reading = Reading(
        window="15m",
        window_ms=900_000,
        negative=0.0,
        documents=0.0,
        share=0.0,
        expected_negative=0.0,
        expected_share=0.0,
        tail_probability=1.0,
    )
    alert = AlertRecord(
        id=alert_id("test", RULE, receiver, at_ms),
        sequence=1,
        state="resolved",
        change="resolved",
        severity="warning",
        peak_severity="warning",
        kind="surge",
        book="test",
        rule=RULE,
        series="all",
        labels={"test": "true"},
        since_ms=at_ms,
        at_ms=at_ms,
        fired_at_ms=at_ms,
        resolved_at_ms=at_ms,
        observed=reading,
        peak=reading,
        windows=(reading,),
        false_alarms_per_day=0.0,
        budget_per_day=0.0,
        sources=0,
        copies=0,
        texts=(AlertText(id="test", text="A text would stand here.", published_at_ms=at_ms, negative=0.0),),
        history=(),
        resolves_when="",
        line=title,
        paragraph=text,
        model="none",
        rules="none",
    )
    group = f"test/{receiver}/{at_ms}"
    return Notification(
        id=notification_id(group, 1),
        group=group,
        sequence=1,
        book="test",
        receivers=(receiver,),
        at_ms=at_ms,
        status="resolved",
        severity="warning",
        labels={"test": "true"},
        title=title,
        text=text,
        alerts=(alert,),
        rules="none",
    )
