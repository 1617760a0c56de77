"""Runs of consecutive stories, each searchable by bucket and by document id. Immutable but for the copy counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.novelty.fingerprints import FINGERPRINT_SIZE
from streamer.core.state_chunks import pack, unpack

BANDS: Final = 10
BAND_ROWS: Final = 3
"""Texts of similarity s share one of 10 bands of 3 minima with probability 1 - (1 - s^3)^10, 0.91 at 0.6."""

KEYS: Final = BANDS + 1
"""Buckets of a story: its bands, and one for its whole normalised text."""

_LOW: Final = np.uint64(0xFFFFFFFF)
_SHIFT: Final = np.uint64(32)
_BAND_SALT: Final = np.arange(KEYS, dtype=np.uint64) << np.uint64(48)


@dataclass(slots=True)
class Segment:
    """h stories from number `first_story` on, and the d documents counted with them.

    `minima` uint8[h, K]: the low bytes of their fingerprints; `slot` int64[h], ascending; `buckets` uint64[h * KEYS],
    sorted: bucket in the high 32 bits, the story's place in this segment in the low ones; `ids` uint64[d], sorted,
    with `id_slot` int64[d]; `copies` int64[h]: documents folded into each story so far.
    """

    first_story: int
    minima: NDArray[np.uint8]
    slot: NDArray[np.int64]
    buckets: NDArray[np.uint64]
    ids: NDArray[np.uint64]
    id_slot: NDArray[np.int64]
    copies: NDArray[np.int64]

    @property
    def last_slot(self) -> int:
        """The newest slot in the segment."""
        return int(self.id_slot.max())

    @property
    def first_slot(self) -> int:
        """The oldest slot in the segment."""
        return int(self.id_slot.min())

    def holds_id(self, ids: NDArray[np.uint64], live_from: int) -> NDArray[np.bool_]:
        """Whether each of `ids` uint64[q] (sorted) was counted in slot `live_from` or later."""
        place = np.searchsorted(self.ids, ids, side="right") - 1
        np.maximum(place, 0, out=place)
        held: NDArray[np.bool_] = (self.ids[place] == ids) & (self.id_slot[place] >= live_from)
        return held

    def candidates(self, buckets: NDArray[np.uint64], live_from: int, most: int) -> NDArray[np.int64]:
        """int64[q, most]: the first living stories of each of `buckets` uint64[q] (sorted), -1 where fewer."""
        found = np.full((len(buckets), most), -1, dtype=np.int64)
        if not len(self.slot) or not len(buckets):
            return found
        first_alive = np.uint64(np.searchsorted(self.slot, live_from))
        place = np.searchsorted(self.buckets, (buckets << _SHIFT) | first_alive)
        rows = np.arange(len(buckets))
        for column in range(most):
            inside = place < len(self.buckets)
            rows, place = rows[inside], place[inside]
            entry = self.buckets[place]
            hit = (entry >> _SHIFT) == buckets[rows]
            rows, place = rows[hit], place[hit] + 1
            if not len(rows):
                break
            found[rows, column] = (entry[hit] & _LOW).astype(np.int64) + self.first_story
        return found

    @classmethod
    def of(
        cls,
        first_story: int,
        slot: int,
        minima: NDArray[np.uint16],
        buckets: NDArray[np.uint64],
        ids: NDArray[np.uint64],
    ) -> Segment:
        """The segment of one slot's new stories (`minima` uint16[h, K], their `buckets` sorted) and documents `ids`."""
        return cls(
            first_story,
            minima.astype(np.uint8),
            np.full(len(minima), slot, dtype=np.int64),
            buckets,
            np.sort(ids),
            np.full(len(ids), slot, dtype=np.int64),
            np.zeros(len(minima), dtype=np.int64),
        )

    def followed_by(self, later: Segment) -> Segment:
        """This segment and the next one as one segment. Timsort merges the two sorted runs in one pass."""
        shifted = later.buckets + np.uint64(len(self.slot))
        ids = np.concatenate((self.ids, later.ids))
        order = np.argsort(ids, kind="stable")
        return Segment(
            self.first_story,
            np.concatenate((self.minima, later.minima)),
            np.concatenate((self.slot, later.slot)),
            np.sort(np.concatenate((self.buckets, shifted)), kind="stable"),
            ids[order],
            np.concatenate((self.id_slot, later.id_slot))[order],
            np.concatenate((self.copies, later.copies)),
        )

    @property
    def name(self) -> str:
        """A name that no other segment has at the same time: of one slot, each is less than half as long as the last.

        A segment of copies alone may later have the name of one that was merged; snapshots go by content.
        """
        return f"{self.first_story}-{len(self.slot)}-{self.first_slot}-{len(self.ids)}"

    def chunks(self) -> dict[str, bytes]:
        """Two chunks: what never changes, and the counts of copies."""
        arrays = {field: getattr(self, field) for field in ("minima", "slot", "buckets", "ids", "id_slot")}
        return {
            f"novelty/{self.name}": pack("novelty", {"first_story": self.first_story}, arrays),
            f"copies/{self.name}": pack("copies", {}, {"copies": self.copies}),
        }

    @classmethod
    def restored(cls, name: str, chunks: dict[str, bytes]) -> Segment:
        """The segment called `name`. Raises StateError, and KeyError where a chunk is missing."""
        fixed = unpack("novelty", f"novelty/{name}", chunks[f"novelty/{name}"])
        copies = unpack("copies", f"copies/{name}", chunks[f"copies/{name}"])
        return cls(first_story=fixed.values["first_story"], **fixed.arrays, **copies.arrays)


def bucket_keys(minima: NDArray[np.uint16], text_hash: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """uint64[n, KEYS], below 2^32: buckets of fingerprints uint16[n, K] and of hashed whole texts uint64[n]."""
    wide = minima[:, : BANDS * BAND_ROWS].astype(np.uint64).reshape(-1, BANDS, BAND_ROWS)
    keys = np.empty((len(minima), KEYS), dtype=np.uint64)
    keys[:, :BANDS] = wide[:, :, 0] | (wide[:, :, 1] << np.uint64(16)) | (wide[:, :, 2] << np.uint64(32))
    keys[:, BANDS] = text_hash >> np.uint64(16)
    keys ^= _BAND_SALT
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys >> _SHIFT


def agreement(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.int64]:
    """int64[n]: how many of the minima of two uint8[n, K] are equal."""
    equal: NDArray[np.int64] = (left == right).sum(axis=1)
    return equal


assert BANDS * BAND_ROWS <= FINGERPRINT_SIZE
