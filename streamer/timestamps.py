"""RFC 3339 times and plain durations, to and from milliseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,18})?([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)
_DURATION: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d{1,3})?)s)?(?:(\d+)ms)?")
DURATION_SCHEMA_PATTERN: Final = r"^(\d+(\.\d+)?|(\d+d)?(\d+h)?(\d+m)?(\d+(\.\d{1,3})?s)?(\d+ms)?)$"
"""How `parse_duration` reads, for the JSON Schema of the configuration."""
_EARLIEST_MS: Final = -2_208_988_800_000  # 1900-01-01
_EARLIEST_EVENT_MS: Final = 31_536_000_000  # 1971-01-01; zero times of programs lie before it, 1970 among them
_LATEST_EVENT_MS: Final = 9_214_646_400_000  # 2262-01-01; 64 bits of nanoseconds, as in Parquet, end that year


class TimestampError(ValueError):
    """A time or duration that cannot be read; the message says what is wrong and what was expected."""


def parse_rfc3339(text: str) -> int:
    """Milliseconds since 1970 UTC (rounded down) of an RFC 3339 `date-time`; raises `TimestampError`.

    The offset is required. A leap second counts as the first moment of the next minute, as POSIX has it.
    """
    if not (len(text) == 20 and text[4] == text[7] == "-" and text[10:17:3] == "T::" and text[19] == "Z"):
        # Whole seconds in UTC, the common form, leave fromisoformat nothing to be lenient about.
        match = _RFC3339.fullmatch(text)
        if match is None:
            raise TimestampError(
                "not RFC 3339, expected for example 2026-11-23T09:30:00Z or 2026-11-23T09:30:00.250+01:00"
            )
        if match[1] is None:
            raise TimestampError("has no offset from UTC, expected Z or for example +01:00 at the end")
    try:
        when = datetime.fromisoformat(text) - _EPOCH
    except ValueError:
        when = _unusual(text)
    ms = when.days * 86_400_000 + when.seconds * 1000 + when.microseconds // 1000
    if ms < _EARLIEST_MS:
        raise TimestampError("is before 1900, the zero value of some program?")
    return ms


def parse_event_time(text: str) -> int:
    """`parse_rfc3339` of a time at which something was published: from 1971 to 2261, else it is some program's zero or
    greatest time. Raises `TimestampError`."""
    ms = parse_rfc3339(text)
    if ms < _EARLIEST_EVENT_MS:
        raise TimestampError("is before 1971, the zero value of some program?")
    if ms >= _LATEST_EVENT_MS:
        raise TimestampError("is after 2261, the greatest value of some program?")
    return ms


def _unusual(text: str) -> timedelta:
    text = text.upper()
    leap_second = text[17:19] == "60"
    try:
        if leap_second:
            when = datetime.fromisoformat(text[:17] + "59" + text[19:]).astimezone(UTC)
            if (when.hour, when.minute) != (23, 59):
                raise ValueError("second must be in 0..59")
            return when.replace(microsecond=0) - _EPOCH + timedelta(seconds=1)
        return datetime.fromisoformat(text) - _EPOCH
    except (ValueError, OverflowError) as error:
        raise TimestampError(f"is no time: {error}") from None


def format_rfc3339(ms: int) -> str:
    """`2026-11-23T09:30:00.250Z` of milliseconds since 1970 UTC, always with milliseconds."""
    return (_EPOCH + timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `15m`, `24h`, `1h30m`, `250ms` or `90`; raises `TimestampError`."""
    stripped = text.strip().lower()
    try:
        if re.fullmatch(r"\d+(\.\d+)?", stripped):
            return float(stripped)
        match = _DURATION.fullmatch(stripped) if stripped else None
    except ValueError:
        match = None
    if match is None:
        raise TimestampError("not a duration, expected seconds or for example 30s, 15m, 1h30m, 7d")
    days, hours, minutes, seconds, millis = (float(part or 0) for part in match.groups())
    return days * 86_400 + hours * 3600 + minutes * 60 + seconds + millis / 1000


def format_duration(seconds: float) -> str:
    """The shortest spelling that `parse_duration` reads back: 900 is `15m`."""
    millis = round(seconds * 1000)
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, millis = divmod(millis, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
