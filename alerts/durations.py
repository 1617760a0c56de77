"""Durations as people write them (`15m`, `1h 30m`, `30d`) and rates (`1 per 30d`)."""

from __future__ import annotations

import re

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w|y)")
_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s+(?:per|/)\s+(.+?)\s*")
_WORDS = {"minute": "1m", "hour": "1h", "day": "1d", "week": "1w", "month": "30d", "quarter": "91d", "year": "1y"}

_TOO_LONG_MS = 1 << 53
"""285,000 years; longer ones a float does not hold to the millisecond."""

DAY_MS = 86_400_000
HOUR_MS = 3_600_000


def parse_duration_ms(text: str) -> int:
    """Milliseconds of a duration such as `15m`, `1h30m`, `30d`. Raises ValueError saying what is accepted."""
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text).strip():
        raise ValueError(
            f"{text!r} is not a duration; write a number and a unit (ms, s, m, h, d, w, y), for example 15m or 1h30m"
        )
    duration_ms = sum(float(number) * _UNITS_MS[unit] for number, unit in parts)
    if duration_ms >= _TOO_LONG_MS:
        raise ValueError(f"{text[:60]!r} is too long for a duration")
    return round(duration_ms)


def parse_rate_per_day(text: str) -> float:
    """Events per day of a rate such as `1 per 30d` or `2 per week`. Raises ValueError saying what is accepted."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a rate; write how many and per what time, for example '1 per 30d' or '1 per week'"
        )
    span_ms = parse_duration_ms(_WORDS.get(match[2], match[2]))
    count = float(match[1])
    if span_ms <= 0 or count <= 0:
        raise ValueError(f"{text!r}: the number and the time must both be above zero")
    return count * DAY_MS / span_ms


def format_duration(duration_ms: int) -> str:
    """The shortest exact spelling in whole units, largest first: 5_400_000 -> `1h30m`."""
    if duration_ms == 0:
        return "0m"
    rest, text = duration_ms, ""
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _UNITS_MS[unit])
        if count:
            text += f"{count}{unit}"
    return text
