"""Named recurring times: weekends, nightly maintenance, public holidays. Pure functions of event time.

    calendars:
      weekend: [{weekdays: [sat, sun], zone: Europe/Zurich}]
      maintenance: [{weekdays: [mon-fri], from: "22:00", to: "02:00", zone: Asia/Shanghai}]
      holidays: [{dates: ["12-25", "2026-04-03..2026-04-06"]}]

A period is wall-clock time of its zone: where clocks are put forward, an hour that does not exist is no part of it;
where they are put back, an hour that comes twice is in it twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")


class Period(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One recurring time. What is left out does not restrict it.

    `weekdays` are `mon` to `sun` or ranges (`mon-fri`); `dates` are `2026-12-24`, `2026-12-24..2026-12-26`, or `12-25`
    for every year; `from` and `to` are `HH:MM`. Where `to` is not after `from` the period ends on the next day, and
    `weekdays` and `dates` name the day on which it begins. `zone` is a name of the time zone database.
    """

    weekdays: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    from_: str = msgspec.field(default="00:00", name="from")
    to: str = "24:00"
    zone: str = "UTC"

    def holds(self, at_ms: int) -> bool:
        """Whether the event time `at_ms` (milliseconds UTC) lies in it."""
        local = datetime.fromtimestamp(at_ms / 1000, tz=_zone(self.zone))
        minute = local.hour * 60 + local.minute
        begin, end = _minute(self.from_), _minute(self.to)
        if begin < end:
            return begin <= minute < end and self._day(local.date())
        if minute >= begin and self._day(local.date()):
            return True
        return minute < end and self._day(local.date() - timedelta(days=1))

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        try:
            _zone(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            yield f"zone: {self.zone!r} is not in the time zone database; write it like Europe/Zurich"
        for name, text in (("from", self.from_), ("to", self.to)):
            if not _CLOCK.fullmatch(text):
                yield f"{name}: {text!r} is no time of day; write it like '22:00' (in quotes)"
        for text in self.weekdays:
            if not _weekdays(text):
                yield f"weekdays: {text!r} is not one of {', '.join(WEEKDAYS)} or a range such as mon-fri"
        for text in self.dates:
            try:
                _on(text, date(2024, 1, 1))
            except ValueError:
                yield f"dates: {text!r} is no date; write 2026-12-24, 2026-12-24..2026-12-26, or 12-25 for every year"

    def _day(self, day: date) -> bool:
        if self.weekdays and not any(day.weekday() in _weekdays(text) for text in self.weekdays):
            return False
        return not self.dates or any(_on(text, day) for text in self.dates)


Calendars = Mapping[str, tuple[Period, ...]]


def active_calendars(calendars: Calendars, at_ms: int) -> frozenset[str]:
    """The names of those that hold at this event time."""
    return frozenset(name for name, periods in calendars.items() if any(period.holds(at_ms) for period in periods))


@lru_cache(maxsize=256)
def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)


def _minute(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


@lru_cache(maxsize=256)
def _weekdays(text: str) -> frozenset[int]:
    first, _, last = text.partition("-")
    if first not in WEEKDAYS or (last or first) not in WEEKDAYS:
        return frozenset()
    begin, end = WEEKDAYS.index(first), WEEKDAYS.index(last or first)
    return frozenset((begin + step) % 7 for step in range((end - begin) % 7 + 1))


@lru_cache(maxsize=4096)
def _on(text: str, day: date) -> bool:
    first, _, last = text.partition("..")
    if len(first) == len("12-25") and not last:
        month, _, number = first.partition("-")
        date(2024, int(month), int(number))
        return (day.month, day.day) == (int(month), int(number))
    begin, end = date.fromisoformat(first), date.fromisoformat(last or first)
    if end < begin:
        raise ValueError(f"{text} ends before it begins")
    return begin <= day <= end
