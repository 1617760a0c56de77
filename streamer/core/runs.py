"""Runs of equal values in arrays that are sorted, or at least grouped."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def run_starts(values: NDArray[Any]) -> NDArray[np.int64]:
    """int64[r]: where each run of equal neighbours begins."""
    changed = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=changed[1:])
    return changed.nonzero()[0]


def run_numbers(values: NDArray[Any]) -> NDArray[np.int64]:
    """int64[n]: the number of the run that each value is in."""
    changed = np.zeros(len(values), dtype=np.int64)
    changed[1:] = values[1:] != values[:-1]
    return changed.cumsum()


def run_sizes(starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """int64[r]: how long each run of an array of `length` is."""
    sizes = np.empty(len(starts), dtype=np.int64)
    np.subtract(starts[1:], starts[:-1], out=sizes[:-1])
    if len(starts):
        sizes[-1] = length - starts[-1]
    return sizes
