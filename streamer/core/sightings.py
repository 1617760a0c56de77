"""How many independent sources spoke of a series, over any recent stretch of panes."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.state_chunks import pack, unpack

_SHIFT: Final = np.uint64(44)
_HASH_BITS: Final = np.uint64(20)


class SourceSightings:
    """The pane in which each source last spoke of each series: `_last` int64[p], by `_pairs` uint64[p], sorted.

    A pair is the series number in the high 20 bits and 44 bits of the source's hash.
    """

    def __init__(self) -> None:
        self._pairs: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
        self._last: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def see(self, pane: int, series: NDArray[np.int64], source: NDArray[np.uint64]) -> None:
        """Note the sources (uint64[n], hashes) that spoke of each of `series` int64[n] in `pane`."""
        pairs = np.sort((series.astype(np.uint64) << _SHIFT) | (source >> _HASH_BITS))
        place = np.searchsorted(self._pairs, pairs)
        known = np.zeros(len(pairs), dtype=np.bool_)
        inside = place < len(self._pairs)
        known[inside] = self._pairs[place[inside]] == pairs[inside]
        self._last[place[known]] = pane
        if not known.all():
            self._insert(place[~known], pairs[~known], pane)

    def _insert(self, place: NDArray[np.int64], pairs: NDArray[np.uint64], pane: int) -> None:
        place = place + np.arange(len(place))
        old = np.ones(len(self._pairs) + len(pairs), dtype=np.bool_)
        old[place] = False
        grown, last = np.empty(len(old), dtype=np.uint64), np.full(len(old), pane, dtype=np.int64)
        grown[place] = pairs
        grown[old], last[old] = self._pairs, self._last
        self._pairs, self._last = grown, last

    def count(self, series: NDArray[np.int64], since: tuple[int, ...]) -> NDArray[np.int64]:
        """int64[len(since), n]: how many sources spoke of each of `series` int64[n] in that pane or later."""
        low = np.searchsorted(self._pairs, series.astype(np.uint64) << _SHIFT)
        high = np.searchsorted(self._pairs, (series + 1).astype(np.uint64) << _SHIFT)
        edges = np.zeros(len(series) + 1, dtype=np.int64)
        np.cumsum(high - low, out=edges[1:])
        last = self._last[(low - edges[:-1]).repeat(high - low) + np.arange(edges[-1])]
        seen = np.zeros((len(since), len(last) + 1), dtype=np.int64)
        np.cumsum(last >= np.array(since)[:, None], axis=1, out=seen[:, 1:])
        counts: NDArray[np.int64] = seen[:, edges[1:]] - seen[:, edges[:-1]]
        return counts

    def forget_before(self, pane: int) -> None:
        """Forget what was last seen before `pane`."""
        kept = self._last >= pane
        if not kept.all():
            self._pairs, self._last = self._pairs[kept], self._last[kept]

    def chunk(self) -> bytes:
        """The state as one chunk of a snapshot."""
        return pack("sightings", {}, {"pairs": self._pairs, "last": self._last})

    def restore(self, chunk: bytes) -> None:
        """Take over the state of `chunk`. Raises StateError."""
        arrays = unpack("sightings", "sightings", chunk).arrays
        self._pairs, self._last = arrays["pairs"], arrays["last"]
