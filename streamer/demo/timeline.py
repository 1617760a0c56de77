"""When the demo's texts are published: a news day's rhythm, and the course of each surge."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Final, Literal

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

FIRST_DAY: Final = "2026-03-02"
START_MS: Final = 1_772_409_600_000
"""Monday 2026-03-02, 00:00 UTC."""
DAYS: Final = 6

_WEEKDAY = (3, 3, 2, 3, 3, 4, 8, 14, 15, 13, 12, 12, 13, 16, 18, 17, 14, 11, 9, 8, 8, 8, 5, 4)
_SATURDAY = (0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 4, 4, 3, 3, 2, 2, 2, 1, 1, 1, 0, 0, 0, 0)
HOURLY_WEIGHTS: Final = _WEEKDAY * 5 + _SATURDAY
"""How much is published in each of the stream's hours, relative to each other: int[144]."""


def moment(day: int, hour: int = 0, minute: int = 0) -> int:
    """Milliseconds UTC of a day of the stream (1 is Monday), hour and minute."""
    return START_MS + (day - 1) * DAY + hour * HOUR + minute * MINUTE


def draw(
    weight: Callable[[int], float], start_ms: int, end_ms: int, rng: Random, count: int, *, step_ms: int = MINUTE
) -> list[int]:
    """Times in [start, end), drawn with the density `weight(ms)`, which is taken as constant over each step."""
    steps = range(start_ms, end_ms, step_ms)
    sums = list(accumulate(weight(step) for step in steps))
    times = []
    for _ in range(count):
        chosen = steps[min(bisect(sums, rng.random() * sums[-1]), len(steps) - 1)]
        times.append(min(chosen + int(rng.random() * step_ms), end_ms - 1))
    return times


def news_time(start_ms: int, end_ms: int, rng: Random) -> int:
    """One time in [start, end), drawn by the rhythm of the news day."""
    return draw(rhythm, start_ms, end_ms, rng, 1, step_ms=30 * MINUTE)[0]


def rhythm(ms: int) -> float:
    """The news day's relative density at a time of the stream."""
    return HOURLY_WEIGHTS[(ms - START_MS) // HOUR]


@dataclass(frozen=True, slots=True)
class Story:
    """A surge as it is to be composed: a section of the texts, and how its density rises and falls.

    The density climbs from `start` to `peak` with the power `rise` and falls to `end` with the power `fall`;
    `night` (0 to 1) is how far the rhythm of the day shows through.
    """

    section: str
    name: str
    kind: Literal["negative", "positive", "neutral"]
    shape: Literal["flash", "half-day", "slow", "notices"]
    start_ms: int
    peak_ms: int
    end_ms: int
    rise: float
    fall: float
    night: float
    copies: float
    """Copies per text, on average."""
    series: tuple[str, ...] = ()
    related: tuple[str, ...] = ()

    def density(self, ms: int) -> float:
        height: float
        if ms < self.peak_ms:
            height = ((ms - self.start_ms + MINUTE) / (self.peak_ms - self.start_ms + MINUTE)) ** self.rise
        else:
            height = ((self.end_ms - ms) / (self.end_ms - self.peak_ms)) ** self.fall
        daily = rhythm(ms) / max(HOURLY_WEIGHTS)
        return height * (1 - self.night + self.night * daily)

    def times(self, count: int, rng: Random) -> Sequence[int]:
        """`count` times in order, the first at the story's start."""
        rest = sorted(draw(self.density, self.start_ms, self.end_ms, rng, count - 1))
        return [self.start_ms + int(rng.random() * 20 * SECOND), *rest]


STORIES: Final = (
    Story(
        section="flash", name="Tallybridge accounting fraud", kind="negative", shape="flash",
        start_ms=moment(3, 14, 7), peak_ms=moment(3, 14, 16), end_ms=moment(3, 14, 50),
        rise=1.0, fall=1.3, night=0.0, copies=0.7,
        series=("company:TLYB",),
        related=("all", "topic:Legal | Regulation", "topic:Stock Movement", "topic:Financials",
                 "topic:Company | Product News", "topic:Treasuries | Corporate Debt", "topic:General News | Opinion",
                 "topic:Stock Commentary", "topic:Markets", "topic:Personnel Change", "topic:Analyst Update"),
    ),
    Story(
        section="slow", name="Oil price war", kind="negative", shape="slow",
        start_ms=moment(3, 20), peak_ms=moment(5, 6), end_ms=moment(5, 13),
        rise=1.0, fall=0.8, night=0.5, copies=0.6,
        series=("topic:Energy | Oil", "company:PQEN"),
        related=("all", "topic:Markets", "topic:Stock Movement", "topic:Gold | Metals | Materials"),
    ),
    Story(
        section="positive", name="Kestrane takeover bid", kind="positive", shape="flash",
        start_ms=moment(4, 13, 5), peak_ms=moment(4, 13, 25), end_ms=moment(4, 14, 55),
        rise=1.0, fall=1.2, night=0.0, copies=0.6,
        series=("company:KSTN",), related=("topic:M&A | Investments",),
    ),
    Story(
        section="recall", name="Veldmark Corso recall", kind="negative", shape="half-day",
        start_ms=moment(5, 7, 20), peak_ms=moment(5, 12, 30), end_ms=moment(5, 19),
        rise=0.8, fall=1.1, night=0.0, copies=0.6,
        series=("company:VLDM", "topic:Legal | Regulation"),
        related=("all", "topic:Company | Product News", "topic:Stock Movement", "topic:General News | Opinion",
                 "topic:Markets"),
    ),
    Story(
        section="rebalance", name="Northgate index review", kind="neutral", shape="notices",
        start_ms=moment(5, 21, 2), peak_ms=moment(5, 21, 6), end_ms=moment(5, 22),
        rise=1.0, fall=1.5, night=0.0, copies=0.2,
    ),
)  # fmt: skip

UNTOLD_UNTIL: Final = {"TLYB": moment(3, 14), "KSTN": moment(4, 13), "VLDM": moment(5, 7), "PQEN": moment(3, 20)}
"""Texts about these companies that name no day come before their story breaks."""
