"""Columns of rows of different lengths: one flat array and where each row begins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
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
        begins = self.offsets[rows]
        lengths = self.offsets[rows + 1] - begins
        offsets = _offsets(lengths)
        places = (begins - offsets[:-1]).repeat(lengths)
        places += np.arange(offsets[-1])
        return Ragged(self.values[places], offsets)

    def text(self, row: int) -> str:
        """Row `row` of a column of UTF-8 bytes, decoded."""
        return self.values[self.offsets[row] : self.offsets[row + 1]].tobytes().decode("utf-8", "replace")

    def texts(self) -> list[str]:
        """All rows of a column of UTF-8 bytes, decoded."""
        if len(self.values) and int(self.values.max()) > 127:
            return [self.text(row) for row in range(len(self))]
        whole = self.values.tobytes().decode("ascii")
        offsets = self.offsets.tolist()
        return [whole[begin:end] for begin, end in pairwise(offsets)]

    @classmethod
    def of_texts(cls, texts: Iterable[str]) -> Ragged:
        """A column of UTF-8 bytes."""
        encoded = [text.encode("utf-8", "replace") for text in texts]
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), _offsets(lengths))

    @classmethod
    def concatenated(cls, columns: Sequence[Ragged]) -> Ragged:
        """The rows of all columns (at least one), one after the other."""
        if len(columns) == 1:
            return columns[0]
        lengths = np.concatenate([column.lengths for column in columns])
        return cls(np.concatenate([c.values[c.offsets[0] : c.offsets[-1]] for c in columns]), _offsets(lengths))


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
