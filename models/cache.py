"""Remembered scores of texts seen before: retweets and syndicated copies are scored once.

A bounded map from a text's 128-bit BLAKE2b hash to its probabilities and words, least recently used out first.
One cache belongs to one model version; what it returns are the very numbers the model gave.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.word_scores import Words


def text_key(text: str) -> bytes:
    """16 bytes that stand for the text; lone surrogates are hashed as they are."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class CachedScores(NamedTuple):
    """`rows` float32[n, width] and `words` of n texts, meaningless where `found` bool[n] is false."""

    rows: NDArray[np.float32]
    words: list[Words]
    found: NDArray[np.bool_]


class ScoreCache:
    """At most `entries` texts with `width` float32 numbers each. Not thread-safe: the predictor holds its lock.

    >>> cache = ScoreCache(entries=2, width=1)
    >>> cache.store([b"a", b"b", b"c"], np.array([[1], [2], [3]], dtype=np.float32), [(), (), ("loss",)])
    >>> rows, words, found = cache.look_up([b"a", b"c"])
    >>> found.tolist(), rows[found].tolist(), words[1]
    ([False, True], [[3.0]], ('loss',))
    """

    def __init__(self, entries: int, width: int) -> None:
        self.entries = entries
        self._rows = np.empty((entries, width), dtype=np.float32)
        self._words: dict[int, Words] = {}
        self._slots: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._slots)

    def look_up(self, keys: Sequence[bytes]) -> CachedScores:
        """What is remembered of n keys; what is found becomes recent."""
        slots = np.full(len(keys), -1, dtype=np.int64)
        for index, key in enumerate(keys):
            slot = self._slots.get(key)
            if slot is not None:
                slots[index] = slot
                self._slots.move_to_end(key)
        found = slots >= 0
        words = [self._words.get(slot, ()) for slot in slots.tolist()]
        if not found.any():
            return CachedScores(np.empty((len(keys), self._rows.shape[1]), dtype=np.float32), words, found)
        return CachedScores(self._rows[slots], words, found)

    def store(self, keys: Sequence[bytes], rows: NDArray[np.float32], words: Sequence[Words]) -> None:
        """Remember rows float32[n, width] and words [n]; beyond the bound the least recently used are forgotten."""
        slots = np.empty(len(keys), dtype=np.int64)
        for index, (key, of_text) in enumerate(zip(keys, words, strict=True)):
            slot = self._slots.pop(key, None)
            if slot is None:
                slot = len(self._slots) if len(self._slots) < self.entries else self._slots.popitem(last=False)[1]
            self._slots[key] = slot
            slots[index] = slot
            if of_text:
                self._words[slot] = of_text
            else:
                self._words.pop(slot, None)
        self._rows[slots] = rows
