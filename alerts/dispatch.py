"""Who is told of the changes of alerts: groups, silences, inhibition, calendars, notifications. A pure state machine.

changes ─► groups ─► what mutes whom ─► records with group, muted_by, notify ─► notifications that are due
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from alerts.calendars import active_calendars
from alerts.grouping import Alert, Group, Groups
from alerts.labels import labels_of
from alerts.muting import Muting
from alerts.notifications import Notification
from alerts.packing import StateError
from alerts.records import AlertRecord, Decided
from alerts.routes import compiled, routed
from alerts.rules import RuleSet
from alerts.series_keys import kind_of
from alerts.silences import Silence, taken_in
from alerts.wording import line, paragraph

_BROAD = ("all", "topic", "sector")


class Told(NamedTuple):
    """What a pane caused: changes of alerts in order, then what is told about them."""

    alerts: list[AlertRecord]
    notifications: list[Notification]


class Dispatch:
    """Everything between the changes of a book's alerts and what is told about them."""

    def __init__(self, rules: RuleSet, silences: Iterable[Silence] = ()) -> None:
        self.alerts: dict[str, Alert] = {}
        self.silences = {silence.id: silence for silence in silences}
        self.groups = Groups()
        self._seen: tuple[frozenset[str], list[str]] | None = None
        self.take_rules(rules)

    def take_rules(self, rules: RuleSet) -> None:
        """Go by these rules from now on; groups that exist keep the settings of their route."""
        self.calendars = rules.calendars
        self.groups.severities, self.groups.language = rules.severities, rules.language
        self._routes = compiled(rules.route)
        self._muting = Muting(rules)
        self._seen = None

    def tell(self, now_ms: int, changes: list[Decided]) -> Told:
        """What comes of these changes and of time passing to `now_ms`, which never goes back."""
        if not changes and not self.alerts:
            return Told([], [])
        calendars = active_calendars(self.calendars, now_ms)
        self.silences = {name: silence for name, silence in self.silences.items() if silence.ends_ms > now_ms}
        self.groups.forget_index()
        for change in changes:
            self._note(change)
        seen = (calendars, sorted(name for name, silence in self.silences.items() if silence.holds(now_ms)))
        said = []
        if changes or seen != self._seen:
            reasons = self._muting.reasons(self.alerts, self.silences, now_ms, calendars)
            for name, alert in self.alerts.items():
                alert.muted = bool(reasons.get(name))
            said = [self._finished(change.record, reasons, calendars) for change in changes]
            said += self._updated(now_ms, {change.record.id for change in changes}, reasons, calendars)
        self._seen = seen
        notifications = list(self.groups.tell(now_ms, self.alerts, calendars))
        self._forget()
        return Told(said, notifications)

    def end(self, now_ms: int, ids: Iterable[str], reason: str) -> Told:
        """What comes of the end at `now_ms` of these alerts, which nobody watches any more."""
        changes = []
        for name in ids:
            record = self.alerts[name].record
            ended = msgspec.structs.replace(
                record,
                state="resolved",
                change="resolved" if record.fired_at_ms is not None else "withdrawn",
                at_ms=now_ms,
                resolved_at_ms=now_ms,
                reason=reason,
            )
            worded = {"line": line(ended, self.groups.language), "paragraph": paragraph(ended, self.groups.language)}
            changes.append(Decided(msgspec.structs.replace(ended, **worded), ()))
        return self.tell(now_ms, changes)

    def _note(self, change: Decided) -> None:
        """Take the newest record of an alert in; where it fires, it joins a group of each of its routes."""
        record, stories = change
        alert = self.alerts.setdefault(record.id, Alert(record, stories, []))
        fixed = bool(alert.groups) and kind_of(record.series) in _BROAD
        if stories and not fixed:
            alert.stories = stories
            self.groups.index(alert)
        alert.record = record
        if record.state == "firing":
            labels = labels_of(record)
            self.groups.join(alert, labels, routed(self._routes, labels), self.alerts)
        if alert.groups:
            alert.record = msgspec.structs.replace(record, group=alert.groups[0])

    def _finished(
        self, record: AlertRecord, reasons: Mapping[str, tuple[str, ...]], calendars: frozenset[str]
    ) -> AlertRecord:
        """The record as it goes out: numbered, with its group, and what mutes it."""
        alert = self.alerts[record.id]
        alert.sequence += 1
        muted_by: tuple[str, ...] = ()
        if record.fired_at_ms is not None:
            muted_by = (*reasons.get(record.id, ()), *self._unsent(alert, calendars))
        alert.record = msgspec.structs.replace(
            record,
            sequence=alert.sequence,
            group=alert.groups[0] if alert.groups else None,
            notify=record.fired_at_ms is not None and bool(alert.groups) and not muted_by,
            muted_by=muted_by,
        )
        return alert.record

    def _updated(
        self, now_ms: int, changed: set[str], reasons: Mapping[str, tuple[str, ...]], calendars: frozenset[str]
    ) -> list[AlertRecord]:
        """Records of alerts, firing or still to be told of, for which what mutes them has changed."""
        return [
            self._finished(
                msgspec.structs.replace(alert.record, change="updated", at_ms=now_ms), reasons, calendars
            )
            for name, alert in self.alerts.items()
            if alert.record.fired_at_ms is not None
            and name not in changed
            and alert.record.muted_by != (*reasons.get(name, ()), *self._unsent(alert, calendars))
        ]  # fmt: skip

    def _unsent(self, alert: Alert, calendars: frozenset[str]) -> tuple[str, ...]:
        """The calendars that keep every route of an alert from sending."""
        groups = [self.groups.groups[name] for name in alert.groups if name in self.groups.groups]
        muting = [group.settings.muted_by(calendars) for group in groups]
        return tuple(dict.fromkeys(reason for one in muting for reason in one)) if muting and all(muting) else ()

    def _forget(self) -> None:
        """Forget alerts that are over and of which nobody is still to be told."""
        waiting = {member for group in self.groups.groups.values() for member in group.told}
        self.alerts = {
            name: alert for name, alert in self.alerts.items() if alert.record.state != "resolved" or name in waiting
        }

    def take_silences(self, asked: Iterable[Silence], book: str, clock_ms: int | None) -> list[Silence]:
        """Take in silences when the book's clock stands at `clock_ms`; those that are news, as they take effect."""
        news = []
        for silence in asked:
            effective = taken_in(silence, self.silences.get(silence.id), book, clock_ms)
            if effective is not None:
                self.silences[silence.id] = effective
                news.append(effective)
                self._seen = None
        return news

    def dump(self) -> dict[str, Any]:
        """The state as plain values."""
        return {
            "alerts": [msgspec.to_builtins(alert) for alert in self.alerts.values()],
            "groups": [msgspec.to_builtins(group) for group in self.groups.groups.values()],
            "silences": [msgspec.to_builtins(silence) for silence in self.silences.values()],
            "seen": None if self._seen is None else [sorted(self._seen[0]), self._seen[1]],
        }

    def load(self, values: Mapping[str, Any]) -> None:
        """Take over the state of a `dump`. Raises StateError where it does not fit."""
        try:
            alerts = msgspec.convert(values["alerts"], list[Alert])
            groups = msgspec.convert(values["groups"], list[Group])
            silences = msgspec.convert(values["silences"], list[Silence])
            seen = values["seen"]
        except (KeyError, msgspec.ValidationError) as error:
            raise StateError(f"alert state: the groups and silences do not fit: {error}") from error
        self.alerts = {alert.record.id: alert for alert in alerts}
        self.groups.groups = {group.id: group for group in groups}
        self.silences = {silence.id: silence for silence in silences}
        self._seen = None if seen is None else (frozenset(seen[0]), seen[1])
