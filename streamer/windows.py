"""Sliding sums: for every series the sums of its panes over several windows, kept exact in whole numbers.

A window of length w that ends at `end` holds the panes that begin at `end - w` or later. Closing a pane adds it to
every window and takes out the panes that have left; a pane without documents is never touched.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from alerts.panes import COPIES, FIELDS
from streamer.state_chunks import Chunk, pack, unpack

_INT32_MAX: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class PaneSums:
    """What one closed pane added: `series` int32[n] ascending, `counts` int32 or int64[n, F]."""

    pane: int
    series: NDArray[np.int32]
    counts: NDArray[np.int64] | NDArray[np.int32]


class SlidingSums:
    """The sums of windows of `lengths` panes each: `sums` int64[W, S, F] for the windows that end at pane `end`."""

    def __init__(self, lengths: tuple[int, ...]) -> None:
        self.lengths = lengths
        self.end: int | None = None
        self._sums = np.zeros((len(lengths), 64, len(FIELDS)), dtype=np.int64)
        self._history: deque[PaneSums] = deque()
        self._left: list[int] = [0] * len(lengths)
        self._forgotten = 0

    def sums(self, series: int) -> NDArray[np.int64]:
        """int64[W, S, F], read-only: the sums of the first `series` series."""
        self._grow(series)
        view = self._sums[:, :series]
        view.flags.writeable = False
        return view

    def advance(self, end: int) -> None:
        """Let the windows end at the beginning of pane `end`: take out what has left them. Never goes back."""
        self.end = end
        for window, length in enumerate(self.lengths):
            place = self._left[window] - self._forgotten
            while place < len(self._history) and self._history[place].pane < end - length:
                gone = self._history[place]
                self._sums[window, gone.series] -= gone.counts
                place += 1
            self._left[window] = place + self._forgotten
        while self._history and min(self._left) > self._forgotten:
            self._history.popleft()
            self._forgotten += 1

    def add(self, pane: int, series: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        """Close `pane`: add `counts` int64[n, F] of `series` int64[n] (ascending) to the windows that end after it."""
        self.advance(pane + 1)
        if not len(series):
            return
        self._grow(int(series[-1]) + 1)
        self._sums[:, series] += counts
        small = int(counts.max()) <= _INT32_MAX
        self._history.append(
            PaneSums(pane, series.astype(np.int32), counts.astype(np.int32) if small else counts.copy())
        )

    def copies(self, series: int, first: int, last: int) -> int:
        """How many copies a series had in the panes `first` to `last`, that one left out."""
        total = 0
        for past in self._history:
            if first <= past.pane < last:
                place = int(np.searchsorted(past.series, series))
                if place < len(past.series) and past.series[place] == series:
                    total += int(past.counts[place, COPIES])
        return total

    def chunks(self, panes_per_chunk: int) -> dict[str, bytes]:
        """The panes that some window still holds, as chunks of a snapshot; only the newest chunk changes."""
        slots: dict[int, list[PaneSums]] = {}
        for past in self._history:
            slots.setdefault(past.pane // panes_per_chunk, []).append(past)
        chunks = {"windows": pack("windows", {"end": self.end, "slots": list(slots)}, {})}
        for slot, panes in slots.items():
            chunks[f"panes/{slot}-{len(panes)}-{panes[0].pane}"] = pack(
                "panes",
                {},
                {
                    "pane": np.array([past.pane for past in panes], dtype=np.int64),
                    "size": np.array([len(past.series) for past in panes], dtype=np.int64),
                    "series": np.concatenate([past.series for past in panes]),
                    "counts": np.concatenate([past.counts for past in panes]),
                },
            )
        return chunks

    def restore(self, chunks: dict[str, bytes]) -> None:
        """Take over the state of `chunks`. Raises StateError."""
        head = unpack("windows", "windows", chunks["windows"])
        parts = [unpack("panes", name, data) for name, data in chunks.items() if name.startswith("panes/")]
        for part in sorted(parts, key=_first_pane):
            begin = 0
            for pane, size in zip(part.arrays["pane"].tolist(), part.arrays["size"].tolist(), strict=True):
                series = part.arrays["series"][begin : begin + size].astype(np.int64)
                self.add(pane, series, part.arrays["counts"][begin : begin + size].astype(np.int64))
                begin += size
        if head.values["end"] is not None:
            self.advance(head.values["end"])

    def _grow(self, series: int) -> None:
        capacity = self._sums.shape[1]
        if series > capacity:
            grown = np.zeros((len(self.lengths), max(series, capacity * 3 // 2), len(FIELDS)), dtype=np.int64)
            grown[:, :capacity] = self._sums
            self._sums = grown


def _first_pane(part: Chunk) -> int:
    return int(part.arrays["pane"][0])
