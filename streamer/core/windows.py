"""Sliding sums: for every series the sums of its panes over several windows, kept exact in whole numbers.

A window of length w that ends at `end` holds the panes that begin at `end - w` or later. Closing a pane adds it to
every window and takes out the panes that have left; a pane without documents is never touched.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alerts.panes import COPIES, DOCUMENTS, FIELDS, WEIGHT_MICRO
from streamer.core.state_chunks import Chunk, pack, unpack
from streamer.core.story_times import StoryTimes

_WIDTHS: Final = tuple((width, int(np.iinfo(width).max)) for width in (np.uint8, np.uint16, np.uint32, np.int64))
"""Whole numbers of a past pane are kept in the narrowest of these that holds them all; and the most that each holds."""


@dataclass(frozen=True, slots=True)
class PaneSums:
    """What one closed pane added: `series` int32[n] ascending; of its counts those of texts, `texts` [n, WEIGHT_MICRO],
    and the weighted sums, `micro` [n, F - WEIGHT_MICRO]; `first` [n]: how many milliseconds into the pane each series
    had its first story, 0 where it had copies alone. All in whole numbers as narrow as fits."""

    pane: int
    series: NDArray[np.int32]
    texts: NDArray[np.integer[Any]]
    micro: NDArray[np.integer[Any]]
    first: NDArray[np.integer[Any]]

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64[n, F]: the sums, columns as in `FIELDS`."""
        return np.concatenate((self.texts, self.micro), axis=1, dtype=np.int64)


class SlidingSums:
    """The sums of windows of `lengths` panes of `pane_ms` each: `sums` int64[W, S, F] for those that end at pane `end`.

    `times` knows when each series had its first and last story in each window.
    """

    def __init__(self, lengths: tuple[int, ...], pane_ms: int) -> None:
        self.lengths = lengths
        self.pane_ms = pane_ms
        self.end: int | None = None
        self.times = StoryTimes(len(lengths))
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
        end = end if self.end is None else max(end, self.end)
        self.end = end
        for window, length in enumerate(self.lengths):
            place = self._left[window] - self._forgotten
            while place < len(self._history) and self._history[place].pane < end - length:
                gone = self._history[place]
                self._sums[window, gone.series] -= gone.counts
                self.times.leave(window, gone.series, gone.texts[:, DOCUMENTS] > 0)
                place += 1
            self._left[window] = place + self._forgotten
        while self._history and min(self._left) > self._forgotten:
            self.times.forget(len(self._history.popleft().series))
            self._forgotten += 1

    def add(
        self,
        pane: int,
        series: NDArray[np.int64],
        counts: NDArray[np.int64],
        first_ms: NDArray[np.int64],
        last_ms: NDArray[np.int64],
    ) -> None:
        """Close `pane`: add `counts` int64[n, F] of `series` int64[n] (ascending) to the windows that end after it.

        `first_ms`, `last_ms` int64[n]: when each series had its first and last story in the pane; where it had copies
        alone they are not looked at.
        """
        self.advance(pane + 1)
        if not len(series):
            return
        self._grow(int(series[-1]) + 1)
        self._sums[:, series] += counts
        told = counts[:, DOCUMENTS] > 0
        self.times.add(series, told, first_ms, last_ms)
        self._history.append(
            PaneSums(
                pane,
                series.astype(np.int32),
                _narrow(counts[:, :WEIGHT_MICRO]),
                _narrow(counts[:, WEIGHT_MICRO:]),
                _narrow(np.where(told, first_ms - pane * self.pane_ms, 0)),
            )
        )

    def pass_quiet(self, pane: int) -> None:
        """Close a `pane` without documents."""
        self.advance(pane + 1)

    def copies(self, series: int, first: int, last: int) -> int:
        """How many copies a series had in the panes `first` to `last`, that one left out."""
        total = 0
        for past in self._history:
            if first <= past.pane < last:
                place = int(np.searchsorted(past.series, series))
                if place < len(past.series) and past.series[place] == series:
                    total += int(past.texts[place, COPIES])
        return total

    def chunks(self, panes_per_chunk: int) -> dict[str, bytes]:
        """The panes that some window still holds, as chunks of a snapshot; only the newest chunk changes."""
        slots: dict[int, list[PaneSums]] = {}
        for past in self._history:
            slots.setdefault(past.pane // panes_per_chunk, []).append(past)
        head = {"end": self.end, "slots": list(slots)}
        chunks = {"windows": pack("windows", head, {"last_ms": self.times.last_ms})}
        for slot, panes in slots.items():
            chunks[f"panes/{slot}-{len(panes)}-{panes[0].pane}"] = pack(
                "panes",
                {},
                {
                    "pane": np.array([past.pane for past in panes], dtype=np.int64),
                    "size": np.array([len(past.series) for past in panes], dtype=np.int64),
                    "series": np.concatenate([past.series for past in panes]),
                    "texts": np.concatenate([past.texts for past in panes]),
                    "micro": np.concatenate([past.micro for past in panes]),
                    "first": np.concatenate([past.first for past in panes]),
                },
            )
        return chunks

    def restore(self, chunks: dict[str, bytes]) -> None:
        """Take over the state of `chunks`. Raises StateError."""
        head = unpack("windows", "windows", chunks["windows"])
        parts = [unpack("panes", name, data) for name, data in chunks.items() if name.startswith("panes/")]
        for part in sorted(parts, key=_first_pane):
            series, texts, micro, first = (part.arrays[name] for name in ("series", "texts", "micro", "first"))
            ends = np.cumsum(part.arrays["size"])
            for pane, begin, end in zip(
                part.arrays["pane"].tolist(), (ends - part.arrays["size"]).tolist(), ends.tolist(), strict=True
            ):
                rows = slice(begin, end)
                counts = np.concatenate((texts[rows], micro[rows]), axis=1, dtype=np.int64)
                first_ms = first[rows] + np.int64(pane * self.pane_ms)
                self.add(pane, series[rows].astype(np.int64), counts, first_ms, first_ms)
        if head.values["end"] is not None:
            self.advance(head.values["end"])
        self.times.restore_last(head.arrays["last_ms"])

    def _grow(self, series: int) -> None:
        capacity = self._sums.shape[1]
        if series > capacity:
            grown = np.zeros((len(self.lengths), max(series, capacity * 3 // 2), len(FIELDS)), dtype=np.int64)
            grown[:, :capacity] = self._sums
            self._sums = grown


def _narrow(values: NDArray[np.int64]) -> NDArray[np.integer[Any]]:
    most = int(values.max())
    return values.astype(next(width for width, holds in _WIDTHS if most <= holds))


def _first_pane(part: Chunk) -> int:
    return int(part.arrays["pane"][0])
