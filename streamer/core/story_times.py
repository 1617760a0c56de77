"""When each series had its first and last story in each sliding window, exact to the millisecond."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

NO_TIME: Final = int(np.iinfo(np.int64).min)
"""Stands for the time of a story that there is not."""


class StoryTimes:
    """Follows panes as they enter and leave `windows` sliding windows, each in the same order.

    An entry is one series in one pane. `_next_ms` int64[e] says of every entry that some window still holds when the
    series had its first story in the pane where it has one next: the window's new first when the entry leaves.
    `_latest` int64[S] is the number of each series' newest entry with a story, counted from the first there ever was;
    `_forgotten` entries are gone. `_first_ms` int64[W, S] and `last_ms` int64[S] are the answers.
    """

    def __init__(self, windows: int) -> None:
        self.last_ms: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._first_ms = np.empty((windows, 0), dtype=np.int64)
        self._latest = np.empty(0, dtype=np.int64)
        self._next_ms = np.empty(1024, dtype=np.int64)
        self._begin = self._end = 0
        self._forgotten = 0
        self._left = [0] * windows

    def add(
        self,
        series: NDArray[np.int64],
        told: NDArray[np.bool_],
        first_ms: NDArray[np.int64],
        last_ms: NDArray[np.int64],
    ) -> None:
        """Add the entries of a pane to all windows: of `series` int64[n], ascending, those `told` bool[n] had stories,
        from `first_ms` to `last_ms` int64[n]."""
        self._make_room(int(series[-1]) + 1, len(series))
        number = np.flatnonzero(told) + (self._forgotten + self._end - self._begin)
        series, first_ms = series[told], first_ms[told]
        before = self._latest[series]
        held = before >= self._forgotten
        self._next_ms[before[held] + (self._begin - self._forgotten)] = first_ms[held]
        self._next_ms[self._end : self._end + len(told)] = NO_TIME
        self._end += len(told)
        self._latest[series], self.last_ms[series] = number, last_ms[told]
        known = self._first_ms[:, series]
        self._first_ms[:, series] = np.where(known == NO_TIME, first_ms, known)

    def leave(self, window: int, series: NDArray[np.int32], told: NDArray[np.bool_]) -> None:
        """The oldest pane of `window`, whose entries were of `series`, leaves it."""
        begin = self._left[window] - self._forgotten + self._begin
        next_ms = self._next_ms[begin : begin + len(series)]
        self._first_ms[window, series[told]] = next_ms[told]
        self._left[window] += len(series)

    def forget(self, entries: int) -> None:
        """Forget the oldest entries, which have left every window."""
        self._begin += entries
        self._forgotten += entries

    def of(self, series: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """int64[W, n] each: the first and last story of ascending `series` in each window, `NO_TIME` for none."""
        self._make_room(int(series[-1]) + 1, 0)
        first_ms = self._first_ms[:, series]
        return first_ms, np.where(first_ms == NO_TIME, NO_TIME, self.last_ms[series])

    def restore_last(self, last_ms: NDArray[np.int64]) -> None:
        """Take over `last_ms` of a snapshot, after the panes were added again."""
        self._make_room(len(last_ms), 0)
        self.last_ms[: len(last_ms)] = last_ms

    def _make_room(self, series: int, entries: int) -> None:
        grown = series - len(self.last_ms)
        if grown > 0:
            none = np.full(grown, NO_TIME)
            self.last_ms = np.concatenate((self.last_ms, none))
            self._latest = np.concatenate((self._latest, np.full(grown, -1)))
            wide = np.full((len(self._first_ms), grown), NO_TIME)
            self._first_ms = np.concatenate((self._first_ms, wide), axis=1)
        if self._end + entries > len(self._next_ms):
            held = self._next_ms[self._begin : self._end]
            room = np.empty(1024 + (len(held) + entries) * 9 // 8, dtype=np.int64)
            room[: len(held)] = held
            self._next_ms, self._begin, self._end = room, 0, len(held)
