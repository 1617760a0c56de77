"""Which buckets surely hold no story: most lookups of new texts end here, at one memory access each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.novelty.segments import Segment
from streamer.core.runs import run_starts

_LEAST: Final = 14
_ROOM: Final = 8
_BUCKET_BITS: Final = 32
_SHIFT: Final = np.uint64(32)


class BucketFilter:
    """A Bloom filter of one hash function over the buckets of all segments, with `_ROOM` bits or more per entry.

    A bucket's bit is given by its own highest bits: buckets are asked and noted in ascending order, so memory is walked
    through in order too. Derived from the segments, hence no part of a snapshot.
    """

    def __init__(self) -> None:
        self._entries = 0
        self._size(_LEAST)

    def may_hold(self, buckets: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The places of those of `buckets` uint64[q] that may hold a story; the others hold none."""
        places = buckets >> self._drop
        return np.flatnonzero(self._bits[places >> np.uint64(3)] & _bit(places))

    def add(self, segment: Segment, segments: Sequence[Segment]) -> None:
        """Note a new segment, the last of `segments`."""
        self._entries += len(segment.buckets)
        if self._entries * _ROOM > 8 * len(self._bits):
            self.rebuild(segments)
        else:
            self._note(segment)

    def rebuild(self, segments: Sequence[Segment]) -> None:
        """Note `segments` and nothing else."""
        self._entries = sum(len(segment.buckets) for segment in segments)
        self._size(max(_LEAST, min(_BUCKET_BITS, (2 * _ROOM * self._entries).bit_length())))
        for segment in segments:
            self._note(segment)

    def _size(self, bits: int) -> None:
        self._bits: NDArray[np.uint8] = np.zeros(1 << bits >> 3, dtype=np.uint8)
        self._drop = np.uint64(_BUCKET_BITS - bits)

    def _note(self, segment: Segment) -> None:
        places = segment.buckets >> _SHIFT >> self._drop
        byte = places >> np.uint64(3)
        begins = run_starts(byte)
        if len(begins):
            self._bits[byte[begins]] |= np.bitwise_or.reduceat(_bit(places), begins)


def _bit(places: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """uint8[n]: the bit of each place in its byte."""
    return np.left_shift(np.uint8(1), (places & np.uint64(7)).astype(np.uint8))
