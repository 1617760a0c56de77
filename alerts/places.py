"""Where some series stand among the ids of a pane."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def present(ids: NDArray[np.int64], series: Iterable[int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which of `series` are among the ascending int64[n] `ids`: their places there, and bool[m] that tells who is."""
    wanted = np.array(list(series), np.int64)
    if not len(ids):
        return np.zeros(0, np.int64), np.zeros(len(wanted), np.bool_)
    places = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    found = ids[places] == wanted
    return places[found], found
