"""The most negative stories of every series in every sliding window, kept as the windows slide.

A story counts in no window any more once `STRONGEST` newer ones of its series are more negative, for they stay as long
as it does. What is left of the longest window is few stories per series, some `STRONGEST` times the logarithm of how
many there were (the k-skyband of Papadias et al. 2005, over a sliding window as in Mouratidis et al. 2006), and the
answer of every shorter window is among them.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

import numpy as np
from numpy.typing import NDArray

STRONGEST: Final = 5
"""Texts kept as evidence per series and pane, and named per series and window: those most likely negative."""

_SHIFT: Final = np.uint64(32)
_LOW: Final = np.uint32(0xFFFFFFFF)


class StrongestTexts:
    """Stories by text number: numbers rise with pane and canonical order, so that age is a comparison.

    The stories of series s are `_text` int64[c], `_mildness` uint32[c] (the lower, the more negative) and `_beaten`
    uint8[c] (how many newer ones are more negative), from place `_begin[s]` on, `_size[s]` of them, the most negative
    first. A pane writes the stories of its series anew behind the others; when the arrays are full, those are kept
    that still count. `_panes` are the panes of the longest window that have texts, `_firsts` the first text of each.
    """

    def __init__(self, lengths: tuple[int, ...]) -> None:
        self.lengths = lengths
        self._begin = np.empty(0, dtype=np.int64)
        self._size = np.empty(0, dtype=np.int64)
        self._text = np.empty(1 << 12, dtype=np.int64)
        self._mildness = np.empty(1 << 12, dtype=np.uint32)
        self._beaten = np.empty(1 << 12, dtype=np.uint8)
        self._end = 0
        self._panes: list[int] = []
        self._firsts: list[int] = []

    def add(
        self,
        pane: int,
        series: NDArray[np.int64],
        row: NDArray[np.int64],
        text: NDArray[np.int64],
        negative: NDArray[np.float32],
    ) -> NDArray[np.int64]:
        """Close `pane` and say, int64[W, n, STRONGEST], which texts are the strongest of each of `series` int64[n] in
        the windows that end with it, -1 for none.

        The pane adds e stories: number `text` int64[e] of `series[row]`, `row` int64[e] ascending, with p(negative)
        float32[e]; of each series the most negative first, ties by number.
        """
        if len(text):
            self._panes.append(pane)
            self._firsts.append(int(text.min()))
        rows = np.arange(len(series))
        self._make_room(int(series[-1]) + 1)
        size = self._size[series]
        place = _places(self._begin[series], size)
        key = np.concatenate((_keys(rows.repeat(size), self._mildness[place]), _keys(row, _mildness(negative))))
        order = np.argsort(key, kind="stable")
        key, is_new = key[order], order >= len(place)
        row = (key >> _SHIFT).astype(np.int64)
        text = np.concatenate((self._text[place], text))[order]
        newer: NDArray[np.int64] = np.cumsum(is_new) - is_new
        beaten = np.concatenate((self._beaten[place], np.zeros(len(key) - len(place), dtype=np.uint8)))[order]
        size = np.bincount(row, minlength=len(series))
        more: NDArray[np.int64] = beaten + newer - newer[(np.cumsum(size) - size)[row]]
        kept = np.flatnonzero((more < STRONGEST) & (text >= self._first_text(pane + 1 - max(self.lengths))))
        row, text = row[kept], text[kept]
        self._write(series, np.bincount(row, minlength=len(series)), text, key[kept].astype(np.uint32), more[kept])
        return self._best(pane, row, text, len(series))

    def _best(self, pane: int, row: NDArray[np.int64], text: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
        best = np.full((len(self.lengths), rows, STRONGEST), -1, dtype=np.int64)
        longest_first = sorted(range(len(self.lengths)), key=lambda window: -self.lengths[window])
        for window in longest_first:
            inside = text >= self._first_text(pane + 1 - self.lengths[window])
            row, text = row[inside], text[inside]
            size = np.bincount(row, minlength=rows)
            within = np.arange(len(row)) - (np.cumsum(size) - size)[row]
            chosen = within < STRONGEST
            best[window, row[chosen], within[chosen]] = text[chosen]
        return best

    def _first_text(self, pane: int) -> int:
        """The first text of `pane` or a later one; one that no text has yet where there is none."""
        place = bisect_left(self._panes, pane)
        return self._firsts[place] if place < len(self._panes) else np.iinfo(np.int64).max

    def _write(
        self,
        series: NDArray[np.int64],
        size: NDArray[np.int64],
        text: NDArray[np.int64],
        mildness: NDArray[np.uint32],
        beaten: NDArray[np.int64],
    ) -> None:
        self._size[series] = 0
        if self._end + len(text) > len(self._text):
            self._compact(len(text))
        begin, self._end = self._end, self._end + len(text)
        self._begin[series] = np.cumsum(size) - size + begin
        self._size[series] = size
        self._text[begin : self._end], self._mildness[begin : self._end] = text, mildness
        self._beaten[begin : self._end] = beaten

    def _compact(self, room: int) -> None:
        """Keep the stories of the longest window that ends with the newest pane, and make `room` for more."""
        place = _places(self._begin, self._size)
        series = np.arange(len(self._size)).repeat(self._size)
        newest = self._panes[-1] if self._panes else 0
        there = bisect_left(self._panes, newest + 1 - max(self.lengths))
        del self._panes[:there], self._firsts[:there]
        live = self._text[place] >= self._first_text(newest + 1 - max(self.lengths))
        place, series = place[live], series[live]
        self._size = np.bincount(series, minlength=len(self._size))
        self._begin = np.cumsum(self._size) - self._size
        self._end = len(place)
        capacity = (1 << 16) + 2 * (len(place) + room)
        for name in ("_text", "_mildness", "_beaten"):
            old = getattr(self, name)
            new = np.empty(capacity, dtype=old.dtype)
            new[: len(place)] = old[place]
            setattr(self, name, new)

    def _make_room(self, series: int) -> None:
        if series > len(self._size):
            none = np.zeros(max(series, len(self._size) * 3 // 2) - len(self._size), dtype=np.int64)
            self._begin, self._size = np.concatenate((self._begin, none)), np.concatenate((self._size, none))


def _mildness(negative: NDArray[np.float32]) -> NDArray[np.uint32]:
    """uint32[n]: falls as p(negative), which is never below zero, rises: its bits, the other way round."""
    return _LOW - np.ascontiguousarray(negative).view(np.uint32)


def _keys(row: NDArray[np.int64], mildness: NDArray[np.uint32]) -> NDArray[np.uint64]:
    return (row.astype(np.uint64) << _SHIFT) | mildness


def _places(begin: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places `begin` to `begin + size` of each row, one row after the other."""
    ends = np.cumsum(size)
    places: NDArray[np.int64] = (begin - (ends - size)).repeat(size)
    places += np.arange(len(places))
    return places
