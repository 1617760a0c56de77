"""The life of one alert: pending, firing, severity up and down, resolved. A pure state machine on event time.

    (nothing) --rare enough--> pending --held for `pending`--> firing --calm for `resolve_after`--> resolved
                                  |                              ^  |
                                  +---calm---> resolved          +--+ severity up or down, repeated

A severity falls only after it has been lower for `resolve_after`; nothing resolves before `min_firing`; the state never
goes back. After the end the series rests for `cool_down`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from alerts.durations import parse_duration_ms
from alerts.records import Change, Reading, State
from alerts.rules import Rule


class Timings(NamedTuple):
    """A rule's levels (rarity: -log10 false alarms per day) and times in milliseconds, parsed once."""

    fire: float
    calm: float
    severities: tuple[str, ...]
    levels: tuple[float, ...]
    pending_ms: int
    min_firing_ms: int
    resolve_after_ms: int
    cool_down_ms: int
    repeat_ms: int

    @classmethod
    def of(cls, rule: Rule, tightness: float = 1.0) -> Timings:
        """The timings of a rule that is given the share `tightness` of the false alarms it asks for."""
        fire = -math.log10(rule.budget_per_day * tightness)
        life = rule.life
        return cls(
            fire=fire,
            calm=fire - math.log10(life.hysteresis),
            severities=tuple(name for name, _ in rule.severity_rates),
            levels=tuple(-math.log10(rate * tightness) for _, rate in rule.severity_rates),
            pending_ms=parse_duration_ms(life.pending),
            min_firing_ms=parse_duration_ms(life.min_firing),
            resolve_after_ms=parse_duration_ms(life.resolve_after),
            cool_down_ms=parse_duration_ms(life.cool_down),
            repeat_ms=parse_duration_ms(life.repeat),
        )

    def severity(self, rarity: float) -> int:
        """Index of the severity that this rarity stands for; the mildest at least."""
        return max((i for i, level in enumerate(self.levels) if rarity >= level), default=0)

    def place(self, severity: str, rarity: float) -> int:
        """Index of the severity of this name; where there is none, of the one that this rarity stands for."""
        return self.severities.index(severity) if severity in self.severities else self.severity(rarity)


class Life(msgspec.Struct):
    """One live alert. -1 stands for "not yet" in times."""

    id: str
    rule: int
    series: int
    key: str
    channel: int
    since_ms: int
    severity: int
    peak_severity: int
    rarity: float
    peak: Reading | None = None
    peak_rarity: float = -9.0
    state: State = "pending"
    sequence: int = 0
    fired_ms: int = -1
    resolved_ms: int = -1
    calm_since_ms: int = -1
    lower_since_ms: int = -1
    told_ms: int = -1

    def step(self, now_ms: int, rarity: float, timings: Timings, *, backed: bool) -> Change | None:
        """Move to `now_ms` with the present rarity; the change that this makes, if any.

        `backed`: enough independent sources stand behind it, without which a pending alert does not fire.
        """
        self.rarity = rarity
        if self.state == "pending":
            return self._step_pending(now_ms, rarity, timings, backed)
        if self._calm_for(now_ms, rarity < timings.calm) >= timings.resolve_after_ms and (
            now_ms - self.fired_ms >= timings.min_firing_ms
        ):
            self.state, self.resolved_ms = "resolved", now_ms
            return self._tell("resolved", now_ms)
        severity = timings.severity(rarity)
        if severity > self.severity:
            self.severity = severity
            self.peak_severity = max(self.peak_severity, severity)
            self.lower_since_ms = -1
            return self._tell("severity_up", now_ms)
        if severity == self.severity:
            self.lower_since_ms = -1
        elif self.lower_since_ms < 0:
            self.lower_since_ms = now_ms
        elif now_ms - self.lower_since_ms >= max(timings.resolve_after_ms, 1) and rarity >= timings.calm:
            self.severity, self.lower_since_ms = severity, -1
            return self._tell("severity_down", now_ms)
        if now_ms - self.told_ms >= timings.repeat_ms > 0:
            return self._tell("repeated", now_ms)
        return None

    def _step_pending(self, now_ms: int, rarity: float, timings: Timings, backed: bool) -> Change | None:
        calm_ms = self._calm_for(now_ms, rarity < timings.calm)
        if calm_ms < 0 and backed and now_ms - self.since_ms >= timings.pending_ms:
            self.state, self.fired_ms = "firing", now_ms
            self.severity = self.peak_severity = timings.severity(rarity)
            return self._tell("fired", now_ms)
        if calm_ms >= timings.resolve_after_ms:
            self.state, self.resolved_ms = "resolved", now_ms
            return self._tell("withdrawn", now_ms)
        if self.sequence == 0:
            return self._tell("pending", now_ms)
        return None

    def _calm_for(self, now_ms: int, calm: bool) -> int:
        """Milliseconds of calm so far; -1 when it is not calm."""
        if not calm:
            self.calm_since_ms = -1
            return -1
        if self.calm_since_ms < 0:
            self.calm_since_ms = now_ms
        return now_ms - self.calm_since_ms

    def _tell(self, change: Change, now_ms: int) -> Change:
        self.sequence += 1
        self.told_ms = now_ms
        return change
