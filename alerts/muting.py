"""Why nobody is told of an alert right now: silences, inhibition, its rule's calendars."""

from __future__ import annotations

from collections.abc import Mapping

from alerts.grouping import Alert
from alerts.inhibition import Inhibitor, inhibited
from alerts.labels import labels_of
from alerts.rules import RuleSet
from alerts.silences import Silence, silenced_by


class Muting:
    """What mutes alerts under one rule set. A reason is `silence:ID`, `alert:ID` or `calendar:NAME`."""

    def __init__(self, rules: RuleSet) -> None:
        self._inhibitors = [Inhibitor.of(rule) for rule in rules.inhibit]
        self._calendars = {rule.name: rule.mute for rule in rules.rules}

    def reasons(
        self, alerts: Mapping[str, Alert], silences: Mapping[str, Silence], now_ms: int, calendars: frozenset[str]
    ) -> dict[str, tuple[str, ...]]:
        """By id of every alert that has fired, what mutes it at `now_ms`, while these calendars hold."""
        labels = {
            name: labels_of(alert.record) for name, alert in alerts.items() if alert.record.fired_at_ms is not None
        }
        firing = [name for name in labels if alerts[name].record.state == "firing"]
        by_alert = inhibited(self._inhibitors, labels, firing) if self._inhibitors else {}
        return {
            name: (
                *(f"silence:{silence}" for silence in silenced_by(silences, its, now_ms)),
                *(f"alert:{source}" for source in by_alert.get(name, ())),
                *(f"calendar:{one}" for one in self._calendars.get(its["rule"], ()) if one in calendars),
            )
            for name, its in labels.items()
        }
