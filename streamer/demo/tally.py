"""Counts what went in and what came out, by the place of each message in its source partition."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

Fate = Literal["scored", "late", "dead"]


class Place(NamedTuple):
    """Where a message lies in the documents topic."""

    partition: int
    offset: int


@dataclass(slots=True)
class Tally:
    """Which message became what. A record that is delivered twice counts once.

    `published` maps a message's place to when it was produced, `fates` to what it became, `scored_at_ms` to when its
    score was produced; all times are the Kafka records' own, milliseconds UTC.
    """

    published: dict[Place, int] = field(default_factory=dict)
    fates: dict[Place, Fate] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    scored_at_ms: dict[Place, int] = field(default_factory=dict)

    def note_published(self, place: Place, at_ms: int) -> None:
        """A message that the broker has acknowledged."""
        self.published[place] = at_ms

    def note_fate(self, place: Place, fate: Fate, at_ms: int, reason: str | None = None) -> None:
        """A score, a late document or a dead letter, produced at `at_ms`; only the first of a place counts."""
        if place in self.fates:
            return
        self.fates[place] = fate
        if fate == "scored":
            self.scored_at_ms[place] = at_ms
        if reason is not None:
            self.reasons[reason] += 1

    def count(self, fate: Fate) -> int:
        """How many messages became this."""
        return sum(1 for found in self.fates.values() if found == fate)

    @property
    def unaccounted(self) -> int:
        """Published messages that have become nothing yet."""
        return sum(1 for place in self.published if place not in self.fates)

    def latency_ms(self, *percentiles: float) -> list[float]:
        """Percentiles of the time from produce to score; empty where nothing was scored."""
        waits = [at_ms - self.published[place] for place, at_ms in self.scored_at_ms.items() if place in self.published]
        return [float(value) for value in np.percentile(waits, percentiles)] if waits else []
