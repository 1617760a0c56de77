"""The series of a book: which there are, under which numbers, and when one is forgotten.

Keys are `all`, `topic:Earnings`, `sector:Energy`, `company:XOM`, `company:XOM|topic:Earnings`. A series gets the
smallest free number when it first has a document, in order of pane and then of key, so that numbers too depend on the
documents alone.

There are never more than `most` at once: symbols come from outside, and memory must not. The last `RESERVED` of
them are kept free of companies, so that however many symbols there are, `all`, topics and sectors have theirs. What
finds no number is not followed until others are forgotten. That happens sooner where few numbers are left: first to
companies that were hardly ever heard of, so that a flood of invented symbols does not shut out real ones for long.
Never to a series with a live alert, or one that rests from one: its number must not become another's.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.records import hash64
from streamer.core.state_chunks import StateError, pack, unpack

MAX_SERIES: Final = 1 << 20
RESERVED: Final = 1 << 12
"""Numbers that only `all`, topics and sectors may take; half of all where there are few."""

CROWDED: Final = 16
"""Companies are forgotten sooner while fewer than one number in so many is left for them."""

FEW_PANES: Final = 2
"""A company with documents in no more panes was hardly ever heard of."""

NEVER: Final = np.iinfo(np.int64).min

_PAIR_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)


@lru_cache(maxsize=1 << 18)
def series_hash(key: str) -> int:
    """The 64-bit hash of a plain key: `all`, `topic:...`, `sector:...` or `company:...`."""
    return hash64(key.encode("utf-8", "replace"))


ALL: Final = np.uint64(series_hash("all"))


def pair_hash(company: NDArray[np.uint64], topic: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """uint64[n]: hashes of the series of a company and a topic, from those of their own series."""
    mixed = (company ^ (topic >> np.uint64(1))) * _PAIR_FACTOR
    hashed: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(29)) ^ topic
    return hashed


class SeriesIndex:
    """`keys[number]` is a series' key, "" for a free number; `last_pane` int64[S] the pane of its last document, and
    `panes` int64[S] how many panes had any.

    `most` is the greatest number of series at once, at most `MAX_SERIES`.
    """

    def __init__(self, most: int = MAX_SERIES) -> None:
        self.most = most
        self.keys: list[str] = []
        self.last_pane: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.panes: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._free: list[int] = []
        self._hashes: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
        self._numbers: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """Series that there are now."""
        return len(self._hashes)

    def find(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """int64[n]: the numbers of the series with these hashes, -1 for unknown ones."""
        if not len(self._hashes):
            return np.full(len(hashes), -1, dtype=np.int64)
        place = np.searchsorted(self._hashes, hashes)
        np.minimum(place, len(self._hashes) - 1, out=place)
        return np.where(self._hashes[place] == hashes, self._numbers[place], -1)

    @property
    def room_for_companies(self) -> int:
        """How many more series of companies may be added."""
        return max(0, self.most - min(RESERVED, self.most // 2) - len(self))

    def add(self, new: Mapping[int, tuple[int, str]]) -> None:
        """Number new series, hash to (pane of the first document, key), as far as there are numbers for them."""
        hashes, numbers = [], []
        companies, others = self.room_for_companies, self.most - len(self)
        for hashed, (_, key) in sorted(new.items(), key=lambda item: item[1]):
            if others <= 0 or (companies <= 0 and key.startswith("company:")):
                continue
            companies -= 1
            others -= 1
            if self._free:
                number = heapq.heappop(self._free)
                self.keys[number] = key
            else:
                number = len(self.keys)
                self.keys.append(key)
            hashes.append(hashed)
            numbers.append(number)
        more = len(self.keys) - len(self.last_pane)
        self.last_pane = np.concatenate((self.last_pane, np.full(more, NEVER)))
        self.panes = np.concatenate((self.panes, np.zeros(more, dtype=np.int64)))
        self._insert(np.array(hashes, dtype=np.uint64), np.array(numbers, dtype=np.int64))

    def touch(self, numbers: NDArray[np.int64], pane: int) -> None:
        """Note that these series have documents in `pane`."""
        self.last_pane[numbers] = pane
        self.panes[numbers] += 1

    def forget_before(self, pane: int, *, crowded: int, rare: int, held: Iterable[int] = ()) -> list[int]:
        """Forget the series whose last document is older than `pane`; their numbers, which become free.

        Where few numbers are left for companies, also those of no more than `FEW_PANES` panes whose last document is
        older than `rare`; and where that was not enough, all that are older than `crowded`. Those `held` stay.
        """
        there = self.last_pane != NEVER
        there[np.fromiter(held, np.int64)] = False
        going = there & (self.last_pane < pane)
        for few, before in ((FEW_PANES, rare), (np.iinfo(np.int64).max, crowded)):
            left = self.room_for_companies + int(np.count_nonzero(going))
            if left * CROWDED < self.most:
                companies = np.fromiter((key.startswith("company:") for key in self.keys), np.bool_, len(self.keys))
                going |= there & companies & (self.last_pane < before) & (self.panes <= few)
        old = np.flatnonzero(going)
        forgotten: list[int] = old.tolist()
        for number in forgotten:
            self.keys[number] = ""
            heapq.heappush(self._free, number)
        if forgotten:
            self.last_pane[old] = NEVER
            self.panes[old] = 0
            kept = ~np.isin(self._numbers, old)
            self._hashes, self._numbers = self._hashes[kept], self._numbers[kept]
        return forgotten

    def chunk(self) -> bytes:
        """The state as one chunk of a snapshot."""
        return pack("series", {"keys": self.keys}, {"last_pane": self.last_pane, "panes": self.panes})

    def restore(self, chunk: bytes) -> None:
        """Take over the state of `chunk`. Raises StateError."""
        content = unpack("series", "series", chunk)
        self.keys = list(content.values["keys"])
        self.last_pane = content.arrays["last_pane"]
        # A state from before they were counted takes every series for one that was heard of often.
        self.panes = content.arrays.get("panes", np.full(len(self.keys), FEW_PANES + 1, dtype=np.int64))
        if not len(self.last_pane) == len(self.panes) == len(self.keys):
            raise StateError("state chunk 'series' holds keys and panes of different lengths")
        self._free = [number for number, key in enumerate(self.keys) if not key]
        numbers = [number for number, key in enumerate(self.keys) if key]
        self._hashes, self._numbers = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
        hashes = np.array([key_hash(self.keys[number]) for number in numbers], dtype=np.uint64)
        self._insert(hashes, np.array(numbers, dtype=np.int64))

    def _insert(self, hashes: NDArray[np.uint64], numbers: NDArray[np.int64]) -> None:
        order = np.argsort(hashes)
        place = np.searchsorted(self._hashes, hashes[order])
        self._hashes = np.insert(self._hashes, place, hashes[order])
        self._numbers = np.insert(self._numbers, place, numbers[order])


@lru_cache(maxsize=1 << 18)
def key_hash(key: str) -> int:
    """The hash of any series key, as `find` takes it."""
    company, bar, topic = key.partition("|")
    if not bar or not company.startswith("company:"):
        return series_hash(key)
    one = np.array([series_hash(company)], dtype=np.uint64)
    other = np.array([series_hash(topic)], dtype=np.uint64)
    return int(pair_hash(one, other)[0])
