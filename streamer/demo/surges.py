"""The true surges of the bundled stream: what happened, in which series, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from streamer.timestamps import parse_rfc3339

SURGES = Path(__file__).with_name("surges.json")


class Surge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One true surge. Times are RFC 3339 in UTC; `end` is when the story has faded from the news.

    `series` are those in which an alert means that the surge was caught. `related` are series that the same story
    moves as well: an alert there is neither the catch nor a false alarm.
    """

    name: str
    kind: Literal["negative", "positive"]
    shape: Literal["flash", "half-day", "slow"]
    series: tuple[str, ...]
    related: tuple[str, ...]
    start: str
    peak: str
    end: str
    documents: int

    @property
    def start_ms(self) -> int:
        return parse_rfc3339(self.start)

    @property
    def end_ms(self) -> int:
        return parse_rfc3339(self.end)


def read_surges(path: Path = SURGES) -> tuple[Surge, ...]:
    """The surges in order of their start. Raises msgspec.ValidationError where the file is not as written."""
    return msgspec.json.decode(path.read_bytes(), type=tuple[Surge, ...])
