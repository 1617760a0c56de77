"""Columns of rows of different lengths: one flat array and where each row begins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Ragged:
    """Row i is `values[offsets[i]:offsets[i + 1]]`; `offsets` int64[n + 1] begins with 0 and never falls."""

    values: NDArray[Any]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64[n]: how many values each row has."""
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """The rows with these numbers, in this order."""
        lengths = self.lengths[rows]
        offsets = _offsets(lengths)
        shift = np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return Ragged(self.values[shift + np.arange(offsets[-1])], offsets)

    def text(self, row: int) -> str:
        """Row `row` of a column of UTF-8 bytes, decoded."""
        return bytes(self.values[self.offsets[row] : self.offsets[row + 1]]).decode("utf-8", "replace")

    def texts(self) -> list[str]:
        """All rows of a column of UTF-8 bytes, decoded."""
        return [self.text(row) for row in range(len(self))]

    @classmethod
    def of_texts(cls, texts: Iterable[str]) -> Ragged:
        """A column of UTF-8 bytes."""
        encoded = [text.encode("utf-8", "replace") for text in texts]
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), _offsets(lengths))

    @classmethod
    def concatenated(cls, columns: Sequence[Ragged]) -> Ragged:
        """The rows of all columns (at least one), one after the other."""
        lengths = np.concatenate([column.lengths for column in columns])
        return cls(np.concatenate([c.values[c.offsets[0] : c.offsets[-1]] for c in columns]), _offsets(lengths))


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
