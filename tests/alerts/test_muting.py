"""Silences, inhibition and calendars: whom they mute, when, and that a replay mutes the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.calendars import Period
from alerts.dispatch import Dispatch, Told
from alerts.labels import matches
from alerts.records import Decided
from alerts.rules import RulesError, RuleSet
from alerts.silences import MAX_LENGTH_MS, Silence, decode_silence, for_book, is_news, taken_in
from tests.alerts.lives import HOUR_MS, MINUTE_MS, START_MS, changed, minute_of, play


def dispatch(**mapping: Any) -> Dispatch:
    return Dispatch(RuleSet.from_mapping({"rules": [{"name": "surge"}]} | mapping))


def muted(told: Told) -> list[tuple[int, str, tuple[str, ...]]]:
    """Minute, series and what mutes it, of every record that says that something does."""
    return [(minute_of(record), record.series, record.muted_by) for record in told.alerts if record.muted_by]


def at(text: str) -> int:
    """Milliseconds of a time written with its offset."""
    return int(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)


def silence(**fields: Any) -> Silence:
    usual: dict[str, Any] = {
        "id": "s", "revision": 1, "matchers": {"series": ("company:*",)}, "author": "ana", "reason": "known",
        "created_ms": START_MS, "starts_ms": START_MS + 10 * MINUTE_MS, "ends_ms": START_MS + 20 * MINUTE_MS,
    }  # fmt: skip
    return Silence(**(usual | fields))


# Inhibition


def test_a_firing_whole_mutes_its_mild_parts_for_as_long_as_it_fires() -> None:
    rules = [{"name": "whole", "source": {"series": "all"}, "target": {"series": "company:*", "severity": "warning"}}]
    whole, mild, grave = changed("all", 5), changed("company:A", 6), changed("company:B", 6, severity="high")
    changes = [
        Decided(whole, (1,)),
        Decided(mild, (2,)),
        Decided(grave, (3,)),
        Decided(changed("all", 30, "resolved", since=5)),
    ]
    said = play(dispatch(inhibit=rules), changes, 60)
    assert muted(said) == [(6, "company:A", (f"alert:{whole.id}",))]
    told = {record.series: minute_of(n) for n in reversed(said.notifications) for record in n.alerts}
    assert told == {"all": 7, "company:B": 8, "company:A": 32}


def test_only_alerts_with_the_same_labels_are_inhibited() -> None:
    rules = [{"name": "topic", "source": {"series": "topic:*"}, "target": {"series": "company:*"}, "equal": ["topic"]}]
    changes = [changed("topic:Oil", 5), changed("company:A|topic:Oil", 6), changed("company:A|topic:Law", 6)]
    said = play(dispatch(inhibit=rules), [Decided(change) for change in changes], 9)
    assert [series for _, series, _ in muted(said)] == ["company:A|topic:Oil"]


def test_alerts_that_fit_both_sides_do_not_mute_each_other_or_themselves() -> None:
    rules = [{"name": "one", "source": {"series": "*"}, "target": {"series": "company:*"}}]
    changes = [Decided(changed("company:A", 5)), Decided(changed("company:B", 5))]
    assert not muted(play(dispatch(inhibit=rules), changes, 9))
    assert muted(play(dispatch(inhibit=rules), [*changes, Decided(changed("all", 6))], 9))


# Calendars


@pytest.mark.parametrize(
    ("period", "inside", "outside"),
    [
        ({"weekdays": ("sat", "sun")}, ["2026-01-10T00:00Z", "2026-01-11T23:59Z"],
         ["2026-01-09T23:59Z", "2026-01-12T00:00Z"]),
        ({"weekdays": ("fri-mon",)}, ["2026-01-12T12:00Z"], ["2026-01-13T12:00Z"]),
        ({"from_": "09:00", "to": "17:30"}, ["2026-01-06T09:00Z", "2026-01-06T17:29Z"],
         ["2026-01-06T08:59Z", "2026-01-06T17:30Z"]),
        ({"from_": "22:00", "to": "02:00", "weekdays": ("fri",)}, ["2026-01-09T22:00Z", "2026-01-10T01:59Z"],
         ["2026-01-09T01:00Z", "2026-01-10T02:00Z", "2026-01-10T22:00Z"]),
        ({"dates": ("2026-04-03..2026-04-06", "12-25")},
         ["2026-04-03T00:00Z", "2026-04-06T23:00Z", "2031-12-25T05:00Z"],
         ["2026-04-07T00:00Z", "2026-12-26T00:00Z"]),
        ({"weekdays": ("mon",), "zone": "Asia/Shanghai"}, ["2026-01-05T00:00+08:00"], ["2026-01-05T16:00Z"]),
    ],
)  # fmt: skip
def test_a_period_holds_when_it_says(period: dict[str, Any], inside: list[str], outside: list[str]) -> None:
    assert all(Period(**period).holds(at(text)) for text in inside)
    assert not any(Period(**period).holds(at(text)) for text in outside)


def test_an_hour_that_does_not_exist_is_in_no_period_and_one_that_comes_twice_is_in_it_twice() -> None:
    night = Period(from_="02:00", to="03:00", zone="Europe/Zurich")
    minutes = range(0, 24 * 60, 10)
    spring = [minute for minute in minutes if night.holds(at("2026-03-29T00:00+01:00") + minute * MINUTE_MS)]
    autumn = [minute for minute in minutes if night.holds(at("2026-10-25T00:00+02:00") + minute * MINUTE_MS)]
    assert spring == []
    assert autumn == list(range(120, 240, 10))
    working = Period(from_="09:00", to="17:00", zone="America/New_York")
    for day, offset in (("2026-03-06", "-05:00"), ("2026-03-09", "-04:00")):
        assert working.holds(at(f"{day}T09:00{offset}"))
        assert not working.holds(at(f"{day}T08:59{offset}"))


@pytest.mark.parametrize(
    ("period", "said"),
    [
        ({"zone": "Mars/Base"}, "time zone database"),
        ({"zone": "../../etc/passwd"}, "time zone database"),
        ({"from": "9:00"}, "no time of day"),
        ({"to": "25:00"}, "no time of day"),
        ({"weekdays": ["monday"]}, "is not one of"),
        ({"dates": ["2026-02-30"]}, "no date"),
        ({"dates": ["2026-04-06..2026-04-03"]}, "no date"),
        ({"weekday": ["mon"]}, "did you mean 'weekdays'"),
    ],
)
def test_a_wrong_calendar_says_what_is_wrong(period: dict[str, Any], said: str) -> None:
    with pytest.raises(RulesError, match=said):
        RuleSet.from_mapping({"calendars": {"c": [period]}})


def test_a_rule_is_muted_while_its_calendar_holds_and_told_after_it() -> None:
    calendars = {"early": [{"to": "00:30"}]}
    rules = [{"name": "surge", "mute": ["early"]}, {"name": "other"}]
    changes = [Decided(changed("all", 10)), Decided(changed("all", 10, rule="other"))]
    said = play(dispatch(rules=rules, calendars=calendars), changes, 50)
    assert muted(said) == [(10, "all", ("calendar:early",))]
    assert [(minute_of(n), n.alerts[0].rule) for n in said.notifications] == [(12, "other"), (32, "surge")]
    assert [(record.change, record.notify) for record in said.alerts if record.rule == "surge"][-1] == ("updated", True)


def test_a_route_that_is_not_active_waits() -> None:
    route = {"active": ["office"]}
    said = play(
        dispatch(route=route, calendars={"office": [{"from": "01:00", "to": "02:00"}]}),
        [Decided(changed("all", 10))],
        90,
    )
    assert muted(said) == [(10, "all", ("calendar:!office",))]
    assert [minute_of(n) for n in said.notifications] == [62]


# Silences


def test_a_silence_mutes_from_its_start_until_its_end() -> None:
    state = dispatch()
    state.silences = {"s": silence()}
    changes = [
        Decided(changed("company:A", 8), (1,)),
        Decided(changed("company:B", 12), (2,)),
        Decided(changed("all", 12), (3,)),
    ]
    said = play(state, changes, 40)
    assert muted(said) == [(10, "company:A", ("silence:s",)), (12, "company:B", ("silence:s",))]
    firsts = {n.alerts[0].series: minute_of(n) for n in reversed(said.notifications)}
    assert firsts == {"company:A": 22, "company:B": 22, "all": 14}
    assert not state.silences


def test_a_silence_whose_matchers_are_changed_while_it_holds_mutes_by_the_new_ones_from_then_on() -> None:
    state = dispatch()
    asked = silence(starts_ms=START_MS, ends_ms=START_MS + HOUR_MS)
    state.take_silences([asked], "main", START_MS)
    said = play(state, [Decided(changed("company:A", 5), (1,)), Decided(changed("all", 5), (2,))], 10)
    assert muted(said) == [(5, "company:A", ("silence:s",))]
    other = msgspec.structs.replace(asked, revision=2, matchers={"series": ("all",)})
    state.take_silences([other], "main", START_MS + 9 * MINUTE_MS)
    said = play(state, [], 20, since=10)
    assert muted(said) == [(10, "all", ("silence:s",))]
    assert [(minute_of(n), n.alerts[0].series) for n in said.notifications] == [(12, "company:A")]


@given(st.integers(0, 60), st.one_of(st.none(), st.integers(0, 60)), st.one_of(st.none(), st.integers(0, 60)))
def test_what_a_book_took_in_replays_to_the_same_decisions(start: int, intake: int | None, expiry: int | None) -> None:
    """Live it arrives after minute `intake` and is expired after `expiry`; the replay has the effective one."""
    asked = silence(starts_ms=START_MS + start * MINUTE_MS, ends_ms=START_MS + (start + 25) * MINUTE_MS)
    changes = [Decided(changed(f"company:{n}", 3 + 7 * n), (n,)) for n in range(8)]
    live, said, effective = dispatch(), Told([], []), None
    for minute in range(90):
        part = play(live, changes, minute + 1, since=minute)
        said.alerts.extend(part.alerts)
        said.notifications.extend(part.notifications)
        clock_ms = START_MS + minute * MINUTE_MS
        news = [asked] if minute == intake else []
        if expiry is not None and minute == expiry and intake is not None and expiry >= intake:
            news.append(msgspec.structs.replace(asked, revision=2, ends_ms=asked.starts_ms))
        effective = (live.take_silences(news, "main", clock_ms) or [effective])[-1]
    replayed = dispatch()
    replayed.silences = {} if effective is None else {"s": effective}
    again = play(replayed, changes, 90)
    assert [record.encode() for record in again.alerts] == [record.encode() for record in said.alerts]
    assert [each.encode() for each in again.notifications] == [each.encode() for each in said.notifications]


def test_a_silence_never_begins_before_the_clock_of_the_book_and_says_so_once() -> None:
    clock_ms = START_MS + 15 * MINUTE_MS
    effective = taken_in(silence(), None, "main", clock_ms)
    assert effective is not None
    assert (effective.starts_ms, effective.ends_ms, effective.book) == (clock_ms + 1, silence().ends_ms, "main")
    assert taken_in(silence(), effective, "main", clock_ms + HOUR_MS) is None
    expired = msgspec.structs.replace(silence(), revision=2, ends_ms=silence().starts_ms)
    ended = taken_in(expired, effective, "main", clock_ms + MINUTE_MS)
    assert ended is not None
    assert (ended.starts_ms, ended.ends_ms) == (clock_ms + 1, clock_ms + MINUTE_MS + 1)


def test_a_book_is_told_of_what_concerns_it_and_is_not_over() -> None:
    clock_ms = START_MS + 15 * MINUTE_MS
    assert is_news(silence(), None, "main", clock_ms)
    assert is_news(silence(), None, "main", None)
    assert not is_news(silence(), silence(), "main", clock_ms)
    assert is_news(silence(revision=2), silence(), "main", clock_ms)
    assert not is_news(silence(matchers={"book": ("other",)}), None, "main", clock_ms)
    assert not is_news(silence(), None, "main", START_MS + HOUR_MS)


def test_of_recorded_silences_a_book_goes_by_what_it_took_in() -> None:
    asked, own, other = silence(), silence(book="main", starts_ms=START_MS + 1), silence(book="other")
    untaken = silence(id="t", matchers={"book": ("main",)})
    assert for_book([own, asked, other, untaken], "main") == {"s": own, "t": untaken}
    assert for_book([own, asked], "third") == {"s": asked}


@pytest.mark.parametrize(
    "fields", [{"matchers": {}}, {"ends_ms": START_MS + 10 * MAX_LENGTH_MS}, {"schema": "bearwire.silence/9"}]
)
def test_what_is_no_silence_is_refused(fields: dict[str, Any]) -> None:
    assert decode_silence(silence().encode()) == silence()
    with pytest.raises(msgspec.ValidationError):
        decode_silence(silence(**fields).encode())


def test_matchers_take_any_of_their_patterns_and_none_of_those_that_are_refused() -> None:
    labels = {"series": "company:A", "severity": "high"}
    assert matches({"series": ("all", "company:*")}, labels)
    assert not matches({"series": ("company:*", "!company:A")}, labels)
    assert matches({"severity": ("!warning",)}, labels)
    assert matches({"desk": ("",)}, labels)
    assert not matches({"desk": ("energy",)}, labels)
    assert matches({}, labels)
