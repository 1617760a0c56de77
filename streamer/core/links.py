"""How far a story was copied lately, and by how many sources: linked counts, as commercial news analytics give them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alerts.panes import Linked
from streamer.core.novelty.index import SLOTS
from streamer.core.state_chunks import pack, unpack

HOUR_MS: Final = 3_600_000
SPANS: Final = (("12h", 12 * HOUR_MS), ("24h", 24 * HOUR_MS), ("3d", 72 * HOUR_MS), ("7d", 168 * HOUR_MS))


@dataclass(frozen=True, slots=True)
class _Page:
    """The copies of one slot: `story`, `time_ms` int64[c], `source` uint64[c] hashes."""

    slot: int
    story: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    source: NDArray[np.uint64]

    def followed_by(self, later: _Page) -> _Page:
        return _Page(self.slot, *(np.concatenate(pair) for pair in zip(self.arrays(), later.arrays(), strict=True)))

    def arrays(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        return self.story, self.time_ms, self.source


class StoryLinks:
    """The copies of the living stories, by slot: 24 bytes a copy.

    Spans longer than the horizon are not counted: what comes later begins a story of its own, so that such a span would
    repeat the count of the horizon and pass for more.
    """

    def __init__(self, horizon_ms: int) -> None:
        self._spans = [(name, span_ms) for name, span_ms in SPANS if span_ms <= horizon_ms]
        self._pages: list[_Page] = []

    def add(self, slot: int, story: NDArray[np.int64], time_ms: NDArray[np.int64], source: NDArray[np.uint64]) -> None:
        """Note copies of `story` int64[c] in the newest `slot`, and forget those that no living story has."""
        self._pages = [page for page in self._pages if page.slot >= slot - SLOTS]
        if not len(story):
            return
        page = _Page(slot, story, time_ms, source)
        if self._pages and self._pages[-1].slot == slot:
            page = self._pages.pop().followed_by(page)
        self._pages.append(page)

    def linked(self, story: int, end_ms: int) -> tuple[Linked, ...]:
        """The copies of a story in each span that ends with `end_ms`, and how many sources brought them."""
        if not self._spans:
            return ()
        times, sources = (np.concatenate(parts) for parts in zip(*self._of(story), strict=True))
        counts = []
        for name, span_ms in self._spans:
            within = (times >= end_ms - span_ms) & (times < end_ms)
            counts.append(Linked(name, int(within.sum()), len(np.unique(sources[within]))))
        return tuple(counts)

    def _of(self, story: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint64]]]:
        yield np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint64)
        for page in self._pages:
            here = np.flatnonzero(page.story == story)
            yield page.time_ms[here], page.source[here]

    def chunks(self) -> dict[str, bytes]:
        """The state as chunks of a snapshot; a page of a past slot keeps its name and bytes."""
        return {
            f"links/{page.slot:020d}-{len(page.story)}": pack(
                "links", {"slot": page.slot}, {"story": page.story, "time_ms": page.time_ms, "source": page.source}
            )
            for page in self._pages
        }

    def restore(self, chunks: dict[str, bytes]) -> None:
        """Take over the pages among `chunks`. Raises StateError."""
        found = [unpack("links", name, data) for name, data in chunks.items() if name.startswith("links/")]
        self._pages = [_Page(content.values["slot"], **content.arrays) for content in found]
        self._pages.sort(key=lambda page: page.slot)
