"""How many late documents every series had in each sliding window, kept exact.

A late document counts in the pane that was the oldest open one of its partition when it came. They are few, so panes
are kept as short lists of series, apart from the sums of what was on time.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.state_chunks import StateError, pack, unpack


class _Pane(NamedTuple):
    pane: int
    series: NDArray[np.int32]
    counts: NDArray[np.int32]


class LateCounts:
    """The counts of windows of `lengths` panes. Memory: four bytes per window and series, and eight per series and pane
    of the longest window that had late documents."""

    def __init__(self, lengths: tuple[int, ...]) -> None:
        self.lengths = lengths
        self._counts = np.zeros((len(lengths), 0), dtype=np.int32)
        self._history: deque[_Pane] = deque()
        self._left = [0] * len(lengths)

    def add(self, pane: int, series: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
        """Close `pane`, in which `series` int64[n] (ascending) had `count` int64[n] late documents; int64[1 + W, n]: as
        many, and those of each window that ends with the pane."""
        self._advance(pane + 1)
        some = count > 0
        if some.any():
            self._enter(_Pane(pane, series[some].astype(np.int32), count[some].astype(np.int32)))
        known = np.zeros((len(self.lengths), len(series)), dtype=np.int64)
        there = series < self._counts.shape[1]
        known[:, there] = self._counts[:, series[there]]
        return np.concatenate((count[None], known))

    def chunk(self) -> bytes:
        """The state as one chunk of a snapshot."""
        panes = np.array([past.pane for past in self._history], dtype=np.int64)
        none = np.empty(0, dtype=np.int32)
        arrays = {
            "pane": panes,
            "size": np.array([len(past.series) for past in self._history], dtype=np.int64),
            "series": np.concatenate([past.series for past in self._history] or [none]),
            "count": np.concatenate([past.counts for past in self._history] or [none]),
        }
        return pack("late", {}, arrays)

    def restore(self, chunk: bytes) -> None:
        """Take over the state of `chunk`. Raises StateError."""
        arrays = unpack("late", "late", chunk).arrays
        ends = np.cumsum(arrays["size"]).tolist()
        if len(arrays["series"]) != len(arrays["count"]) or (ends[-1] if ends else 0) != len(arrays["series"]):
            raise StateError("state chunk 'late' holds series and counts of different lengths")
        begin = 0
        for pane, end in zip(arrays["pane"].tolist(), ends, strict=True):
            self._advance(pane + 1)
            self._enter(_Pane(pane, arrays["series"][begin:end], arrays["count"][begin:end]))
            begin = end

    def _enter(self, past: _Pane) -> None:
        wanted = int(past.series[-1]) + 1
        if wanted > self._counts.shape[1]:
            grown = np.zeros((len(self.lengths), wanted * 3 // 2), dtype=np.int32)
            grown[:, : self._counts.shape[1]] = self._counts
            self._counts = grown
        self._counts[:, past.series] += past.counts
        self._history.append(past)

    def _advance(self, end: int) -> None:
        """Let the windows end at the beginning of pane `end`: take out what has left them."""
        for window, length in enumerate(self.lengths):
            while self._left[window] < len(self._history) and self._history[self._left[window]].pane < end - length:
                past = self._history[self._left[window]]
                self._counts[window, past.series] -= past.counts
                self._left[window] += 1
        for _ in range(min(self._left)):
            self._history.popleft()
        gone = min(self._left)
        self._left = [left - gone for left in self._left]
