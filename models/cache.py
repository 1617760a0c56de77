"""Remembered probabilities of texts seen before: retweets and syndicated copies are scored once.

A bounded map from a text's 128-bit BLAKE2b hash to a row of probabilities, least recently used out first.
One cache belongs to one model version; what it returns are the very numbers the model gave.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def text_key(text: str) -> bytes:
    """16 bytes that stand for the text; lone surrogates are hashed as they are."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class ScoreCache:
    """At most `entries` rows of `width` float32 numbers. Not thread-safe: the predictor holds its lock.

    >>> cache = ScoreCache(entries=2, width=1)
    >>> cache.store([b"a", b"b", b"c"], np.array([[1], [2], [3]], dtype=np.float32))
    >>> rows, found = cache.look_up([b"a", b"c"])
    >>> found.tolist(), rows[found].tolist()
    ([False, True], [[3.0]])
    """

    def __init__(self, entries: int, width: int) -> None:
        self.entries = entries
        self._rows = np.empty((entries, width), dtype=np.float32)
        self._slots: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._slots)

    def look_up(self, keys: Sequence[bytes]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Rows float32[n, width] (meaningless where not found) and found bool[n]; what is found becomes recent."""
        slots = np.full(len(keys), -1, dtype=np.int64)
        for index, key in enumerate(keys):
            slot = self._slots.get(key)
            if slot is not None:
                slots[index] = slot
                self._slots.move_to_end(key)
        found = slots >= 0
        if not found.any():
            return np.empty((len(keys), self._rows.shape[1]), dtype=np.float32), found
        return self._rows[slots], found

    def store(self, keys: Sequence[bytes], rows: NDArray[np.float32]) -> None:
        """Remember rows float32[n, width]; beyond the bound the least recently used keys are forgotten."""
        slots = np.empty(len(keys), dtype=np.int64)
        for index, key in enumerate(keys):
            slot = self._slots.pop(key, None)
            if slot is None:
                slot = len(self._slots) if len(self._slots) < self.entries else self._slots.popitem(last=False)[1]
            self._slots[key] = slot
            slots[index] = slot
        self._rows[slots] = rows
