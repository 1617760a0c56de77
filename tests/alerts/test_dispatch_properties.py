"""What is told keeps its promises whatever the alerts, silences and calendars: order, pace, muting, restarts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.dispatch import Dispatch, Told
from alerts.records import Decided
from alerts.rules import RuleSet
from alerts.silences import Silence
from tests.alerts.lives import MINUTE_MS, START_MS, changed, copied, minute_of, play

MINUTES = 400
SERIES = ("all", "topic:Oil", "company:A", "company:B", "company:C", "company:A|topic:Oil")
RULES: dict[str, Any] = {
    "rules": [{"name": "surge", "mute": ["lunch"]}, {"name": "slow"}],
    "calendars": {"lunch": [{"from": "01:10", "to": "01:40"}], "night": [{"from": "03:00", "to": "04:00"}]},
    "inhibit": [{"name": "whole", "source": {"series": "all"}, "target": {"severity": ["warning"]}}],
    "route": {
        "group_wait": "3m", "group_interval": "15m", "repeat_interval": "1h", "mute": ["night"],
        "routes": [{"match": {"severity": "critical"}, "receivers": ["pager"], "continue": True},
                   {"match": {"series": "company:*"}, "group_by": ["company"], "group_interval": "7m"}],
    },
}  # fmt: skip
INTERVALS = {"": 15, "/0": 15, "/1": 7}


@st.composite
def lives(draw: st.DrawFn) -> list[Decided]:
    """Lives of alerts as the engine tells them: pending, fired, severities, repeats, resolved; in order of time."""
    changes = []
    for _ in range(draw(st.integers(1, 8))):
        series, rule = draw(st.sampled_from(SERIES)), draw(st.sampled_from(["surge", "slow"]))
        stories = tuple(sorted(draw(st.sets(st.integers(1, 12), max_size=6))))
        since = draw(st.integers(1, MINUTES - 50))
        if any(each.record.series == series and each.record.rule == rule for each in changes):
            continue
        minute = fired = since + draw(st.integers(0, 3))
        if fired > since:
            changes.append(Decided(changed(series, since, "pending", rule=rule), stories))
        how: dict[str, Any] = {"since": since, "fired": fired, "rule": rule}
        severity = draw(st.sampled_from(["warning", "high"]))
        changes.append(Decided(changed(series, minute, severity=severity, **how), stories))
        for change in draw(st.lists(st.sampled_from(["severity_up", "severity_down", "repeated"]), max_size=4)):
            minute += draw(st.integers(1, 60))
            severity = {"severity_up": "critical", "severity_down": "warning"}.get(change, severity)
            changes.append(Decided(changed(series, minute, change, severity=severity, **how), stories))
        if draw(st.booleans()):
            minute += draw(st.integers(1, 60))
            changes.append(Decided(changed(series, minute, "resolved", severity=severity, **how), stories))
    return sorted(changes, key=lambda each: each.record.at_ms)


@st.composite
def silences(draw: st.DrawFn) -> list[Silence]:
    made = []
    for number in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, MINUTES))
        made.append(
            Silence(
                id=f"s{number}", revision=1, author="a", reason="r", created_ms=0,
                matchers={"series": (draw(st.sampled_from([*SERIES, "company:*"])),)},
                starts_ms=START_MS + start * MINUTE_MS,
                ends_ms=START_MS + (start + draw(st.integers(0, 200))) * MINUTE_MS,
            )
        )  # fmt: skip
    return made


def dispatch(given_silences: list[Silence] | None = None) -> Dispatch:
    return Dispatch(RuleSet.from_mapping(RULES), given_silences or [])


def said_bytes(told: Told) -> list[bytes]:
    return [record.encode() for record in told.alerts] + [each.encode() for each in told.notifications]


@given(lives(), silences())
@settings(max_examples=50, deadline=None)
def test_records_are_numbered_without_gaps_and_the_last_one_is_the_state(
    changes: list[Decided], muting: list[Silence]
) -> None:
    said = play(dispatch(muting), changes, MINUTES + 400)
    for name in {each.record.id for each in changes}:
        records = [record for record in said.alerts if record.id == name]
        assert [record.sequence for record in records] == list(range(1, len(records) + 1))
        assert [record.at_ms for record in records] == sorted(record.at_ms for record in records)
        last = next(each.record for each in reversed(changes) if each.record.id == name)
        assert (records[-1].state, records[-1].severity) == (last.state, last.severity)
        assert len({record.group for record in records if record.fired_at_ms is not None}) == 1
        for before, after in pairwise(records):
            assert after.change != "updated" or after.muted_by != before.muted_by


@given(lives(), silences())
@settings(max_examples=50, deadline=None)
def test_a_group_is_told_about_at_most_once_per_interval_in_order_and_ends_at_most_once(
    changes: list[Decided], muting: list[Silence]
) -> None:
    state = dispatch(muting)
    paths: dict[str, str] = {}
    told: dict[str, list[tuple[int, int, str]]] = {}
    for minute in range(MINUTES + 400):
        said = play(state, changes, minute + 1, since=minute)
        paths |= {name: group.settings.path for name, group in state.groups.groups.items()}
        for each in said.notifications:
            told.setdefault(each.group, []).append((minute, each.sequence, each.status))
    for group, times in told.items():
        assert [sequence for _, sequence, _ in times] == list(range(1, len(times) + 1))
        gaps = [after[0] - before[0] for before, after in pairwise(times)]
        assert all(gap >= INTERVALS[paths[group]] for gap in gaps)


@given(lives(), silences())
@settings(max_examples=50, deadline=None)
def test_what_is_muted_is_never_told_and_what_is_told_is_the_newest_state(
    changes: list[Decided], muting: list[Silence]
) -> None:
    state = dispatch(muting)
    latest: dict[str, bytes] = {}
    night = range(180, 240)
    for minute in range(MINUTES):
        said = play(state, changes, minute + 1, since=minute)
        for record in said.alerts:
            latest[record.id] = record.encode()
            assert record.notify == (record.fired_at_ms is not None and not record.muted_by)
        for told in said.notifications:
            assert minute not in night
            for alert in told.alerts:
                assert alert.muted_by == ()
                assert alert.fired_at_ms is not None
                assert alert.encode() == latest[alert.id]
                assert not (alert.rule == "surge" and 70 <= minute < 100)


@given(lives(), silences(), st.lists(st.integers(1, MINUTES), max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_replay_split_at_any_point_gives_identical_bytes(
    changes: list[Decided], muting: list[Silence], cuts: list[int]
) -> None:
    whole = play(dispatch(muting), changes, MINUTES)
    state, parts, begin = dispatch(muting), Told([], []), 0
    for cut in [*sorted(cuts), MINUTES]:
        part = play(state, changes, cut, since=begin)
        parts.alerts.extend(part.alerts)
        parts.notifications.extend(part.notifications)
        state, begin = copied(state, dispatch()), max(begin, cut)
    assert said_bytes(parts) == said_bytes(whole)


@given(lives())
@settings(max_examples=50, deadline=None)
def test_minutes_in_which_nothing_is_live_change_nothing(changes: list[Decided]) -> None:
    state, said = dispatch(), Told([], [])
    for minute in range(MINUTES):
        if state.alerts or any(minute_of(each.record) == minute for each in changes):
            part = play(state, changes, minute + 1, since=minute)
            said.alerts.extend(part.alerts)
            said.notifications.extend(part.notifications)
    assert said_bytes(said) == said_bytes(play(dispatch(), changes, MINUTES))
