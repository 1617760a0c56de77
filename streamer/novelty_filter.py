"""Which buckets surely hold no story: most lookups of new texts end here, at one memory access each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.novelty_segments import Segment

_LEAST: Final = 1 << 14
_ROOM: Final = 8
_SHIFT: Final = np.uint64(32)


class BucketFilter:
    """A Bloom filter of one hash function over the buckets of all segments, with `_ROOM` flags or more per entry.

    Derived from the segments, hence no part of a snapshot.
    """

    def __init__(self) -> None:
        self._flags: NDArray[np.bool_] = np.zeros(_LEAST, dtype=np.bool_)
        self._entries = 0

    def may_hold(self, buckets: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The places of those of `buckets` uint64[q] that may hold a story; the others hold none."""
        return np.flatnonzero(self._flags[self._slots(buckets)])

    def add(self, segment: Segment, segments: Sequence[Segment]) -> None:
        """Note a new segment, the last of `segments`."""
        self._entries += len(segment.buckets)
        if self._entries * _ROOM > len(self._flags):
            self.rebuild(segments)
        else:
            self._flags[self._slots(segment.buckets >> _SHIFT)] = True

    def rebuild(self, segments: Sequence[Segment]) -> None:
        """Note `segments` and nothing else."""
        self._entries = sum(len(segment.buckets) for segment in segments)
        size = max(_LEAST, 1 << (2 * _ROOM * self._entries).bit_length())
        self._flags = np.zeros(size, dtype=np.bool_)
        for segment in segments:
            self._flags[self._slots(segment.buckets >> _SHIFT)] = True

    def _slots(self, buckets: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return buckets & np.uint64(len(self._flags) - 1)
