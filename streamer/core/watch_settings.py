"""What a watch needs to know of its book."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamer.config.settings import BookSettings, Config
from streamer.core.novelty.index import SLOTS
from streamer.core.series import MAX_SERIES

DAY_MS = 86_400_000
CROWDED_RETENTION_MS = 7 * DAY_MS
"""How long a company without a document is kept where there are nearly as many series as there may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """One book. Durations are milliseconds; `windows_ms` are whole panes, ascending.

    `companies` are the symbols that have a series, every one seen where empty; `company_topics` gives each of them a
    series per topic as well. `sectors` maps symbols to their sectors, each a series too. `source_weights` multiply a
    document's weight. A series that has had no document for `series_retention_ms` is forgotten, a company sooner where
    there are nearly `max_series` at once; there are never more.
    """

    book: str = "main"
    pane_ms: int = 60_000
    windows_ms: tuple[int, ...] = (900_000, 3_600_000, DAY_MS)
    company_topics: bool = False
    companies: frozenset[str] = frozenset()
    sectors: Mapping[str, str] = field(default_factory=dict)
    horizon_ms: int = DAY_MS
    similarity: float = 0.5
    source_weights: Mapping[str, float] = field(default_factory=dict)
    series_retention_ms: int = 56 * DAY_MS
    max_series: int = MAX_SERIES

    def __post_init__(self) -> None:
        if self.pane_ms <= 0 or any(window <= 0 or window % self.pane_ms for window in self.windows_ms):
            raise ValueError(f"windows {self.windows_ms} are not whole panes of {self.pane_ms} ms")

    @property
    def slot_panes(self) -> int:
        """Panes in a slot, the unit in which stories and series are forgotten."""
        return max(1, -(-self.horizon_ms // (SLOTS * self.pane_ms)))

    @classmethod
    def of(cls, config: Config, book: BookSettings) -> WatchSettings:
        """The settings of one book of a configuration."""
        return cls(
            book=book.name,
            pane_ms=config.time.pane_ms,
            windows_ms=book.windows_ms,
            company_topics=book.company_topics,
            companies=frozenset(symbol.removeprefix("$").upper() for symbol in book.companies),
            sectors=book.sector_of,
            horizon_ms=config.novelty.horizon_ms,
            similarity=config.novelty.similarity,
            source_weights=book.source_weights,
            max_series=book.max_series,
        )
