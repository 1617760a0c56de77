"""Which documents are copies of an earlier story, within a horizon of event time.

The rule, document by document in canonical order: a document whose id was counted within the horizon is a
duplicate. Otherwise its fingerprint is compared with the first `CANDIDATES` living stories in each of its buckets
(locality-sensitive hashing: Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3). If enough minima
agree with a story's, it is a copy of the earliest such story; else it begins a story and enters its buckets.

`fold` gives the result of that rule for a whole batch at once, however documents are cut into batches. All documents
of a batch lie in one slot, a twenty-fourth of the horizon rounded up to whole panes, and a story lives for `SLOTS`
slots after its own: so all documents of a batch see the same living stories, and a story lives for the horizon or up to
one slot longer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.novelty.filter import BucketFilter
from streamer.core.novelty.fingerprints import FINGERPRINT_SIZE
from streamer.core.novelty.rounds import stories_within
from streamer.core.novelty.segments import Segment, agreement, bucket_keys
from streamer.core.runs import run_numbers, run_starts
from streamer.core.state_chunks import pack, unpack

SLOTS: Final = 24
CANDIDATES: Final = 4
"""Stories per bucket that a document is compared with; more would let one boilerplate phrase cost quadratic time."""

_MERGED_SLOTS: Final = 6
_PAIRS_AT_ONCE: Final = 1 << 18


class Folded(NamedTuple):
    """`duplicate` bool[n]; `story` int64[n]: the number of each document's story, -1 for duplicates; `copy` bool[n]."""

    duplicate: NDArray[np.bool_]
    story: NDArray[np.int64]
    copy: NDArray[np.bool_]


@dataclass(slots=True)
class NoveltyIndex:
    """The living stories of one book, numbered in canonical order. `similarity` of fingerprints makes a copy."""

    similarity: float
    segments: list[Segment] = field(default_factory=list)
    next_story: int = 0
    live_from: int = 0
    """The oldest slot whose stories live."""

    _filter: BucketFilter = field(default_factory=BucketFilter)

    def fold(
        self,
        slot: int,
        id_hash: NDArray[np.uint64],
        text_hash: NDArray[np.uint64],
        minima: NDArray[np.uint16],
    ) -> Folded:
        """Fold n documents (maybe none) of one `slot`, in canonical order, which follow all documents folded before.

        `id_hash`, `text_hash` uint64[n]; `minima` uint16[n, K].
        """
        live_from = self.live_from = slot - SLOTS
        if self.segments and self.segments[0].last_slot < live_from:
            self.segments = [segment for segment in self.segments if segment.last_slot >= live_from]
            self._filter.rebuild(self.segments)
        if not len(id_hash):
            none = np.zeros(0, dtype=np.bool_)
            return Folded(none, np.zeros(0, dtype=np.int64), none)
        duplicate = self._duplicates(id_hash, live_from)
        rows = np.flatnonzero(~duplicate)
        first_of, hash_of = _first_of_equals(text_hash[rows])
        canonical = np.argsort(first_of)
        member_of = np.argsort(canonical)[hash_of]
        texts = rows[first_of[canonical]]
        low = minima[texts].astype(np.uint8)
        keys = bucket_keys(minima[texts], text_hash[texts])
        buckets, members = _sorted_entries(keys)
        begins, group = run_starts(buckets), run_numbers(buckets)
        known = self._known_candidates(buckets[begins], live_from)
        old_story = self._earliest_alike(low, members, known[group])
        room = CANDIDATES - (known >= 0).sum(axis=1)
        head = stories_within(low, old_story, members, group, room, self.needed)

        begins_story = (old_story < 0) & (head == np.arange(len(texts)))
        number = np.full(len(texts), -1, dtype=np.int64)
        number[begins_story] = self.next_story + np.arange(int(begins_story.sum()))
        of_text = np.where(old_story >= 0, old_story, number[head])
        story = np.full(len(id_hash), -1, dtype=np.int64)
        story[rows] = of_text[member_of]
        copy = ~duplicate
        copy[texts[begins_story]] = False
        new = texts[begins_story]
        if len(rows):
            entries = np.flatnonzero(begins_story[members])
            places = (number[members[entries]] - self.next_story).astype(np.uint64)
            sorted_buckets = (buckets[entries] << np.uint64(32)) | places
            self._append(Segment.of(self.next_story, slot, minima[new], sorted_buckets, id_hash[rows]))
        self.next_story += len(new)
        return Folded(duplicate, story, copy)

    @property
    def needed(self) -> int:
        """How many of a fingerprint's minima must agree."""
        return max(1, int(np.ceil(self.similarity * FINGERPRINT_SIZE - 1e-9)))

    def add_copies(self, stories: NDArray[np.int64]) -> None:
        """Count one more copy for each of `stories` int64[n], which may repeat."""
        place = self._segment_of(stories)
        for number in np.unique(place).tolist():
            segment = self.segments[number]
            np.add.at(segment.copies, stories[place == number] - segment.first_story, 1)

    def copies_of(self, story: int) -> int:
        """How many copies a story has so far; 0 once it is dead, though its segment may still be there."""
        for segment in self.segments:
            place = story - segment.first_story
            if 0 <= place < len(segment.copies):
                return int(segment.copies[place]) if int(segment.slot[place]) >= self.live_from else 0
        return 0

    def chunks(self) -> dict[str, bytes]:
        """The state as chunks of a snapshot; segments that did not change keep their names and bytes."""
        names = [segment.name for segment in self.segments]
        head = {"segments": names, "next_story": self.next_story, "live_from": self.live_from}
        chunks = {"novelty": pack("novelty-index", head, {})}
        for segment in self.segments:
            chunks |= segment.chunks()
        return chunks

    def restore(self, chunks: dict[str, bytes]) -> None:
        """Take over the state of `chunks`. Raises StateError, and KeyError where a chunk is missing."""
        values = unpack("novelty-index", "novelty", chunks["novelty"]).values
        self.next_story, self.live_from = values["next_story"], values["live_from"]
        self.segments = [Segment.restored(name, chunks) for name in values["segments"]]
        self._filter.rebuild(self.segments)

    def _duplicates(self, id_hash: NDArray[np.uint64], live_from: int) -> NDArray[np.bool_]:
        first, member = _first_of_equals(id_hash)
        ids = id_hash[first]
        seen = np.zeros(len(ids), dtype=np.bool_)
        for segment in self.segments:
            seen |= segment.holds_id(ids, live_from)
        duplicate = seen[member]
        repeated = np.ones(len(id_hash), dtype=np.bool_)
        repeated[first] = False
        return duplicate | repeated

    def _known_candidates(self, buckets: NDArray[np.uint64], live_from: int) -> NDArray[np.int64]:
        """int64[q, CANDIDATES]: the first living stories of each bucket over all segments, -1 where fewer."""
        found = np.full((len(buckets), CANDIDATES), -1, dtype=np.int64)
        filled = np.zeros(len(buckets), dtype=np.int64)
        asked = self._filter.may_hold(buckets)
        for segment in self.segments:
            more = segment.candidates(buckets[asked], live_from, CANDIDATES)
            for column in range(CANDIDATES):
                hits = more[:, column] >= 0
                rows, stories = asked[hits], more[hits, column]
                room = filled[rows] < CANDIDATES
                rows, stories = rows[room], stories[room]
                found[rows, filled[rows]] = stories
                filled[rows] += 1
        return found

    def _earliest_alike(
        self, low: NDArray[np.uint8], members: NDArray[np.int64], known: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """int64[t]: for each text the earliest of its entries' known stories that is alike, -1 for none."""
        earliest = np.full(len(low), np.iinfo(np.int64).max, dtype=np.int64)
        entry, column = np.nonzero(known >= 0)
        texts, stories = members[entry], known[entry, column]
        for start in range(0, len(texts), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            alike = agreement(low[texts[part]], self._minima_of(stories[part])) >= self.needed
            np.minimum.at(earliest, texts[part][alike], stories[part][alike])
        earliest[earliest == np.iinfo(np.int64).max] = -1
        return earliest

    def _minima_of(self, stories: NDArray[np.int64]) -> NDArray[np.uint8]:
        minima = np.empty((len(stories), FINGERPRINT_SIZE), dtype=np.uint8)
        place = self._segment_of(stories)
        for number in np.unique(place).tolist():
            segment, rows = self.segments[number], place == number
            minima[rows] = segment.minima[stories[rows] - segment.first_story]
        return minima

    def _segment_of(self, stories: NDArray[np.int64]) -> NDArray[np.int64]:
        firsts = np.array([segment.first_story for segment in self.segments], dtype=np.int64)
        return np.searchsorted(firsts, stories, side="right") - 1

    def _append(self, segment: Segment) -> None:
        """Add the newest segment; merge neighbours of like size, so that there are few and each is merged seldom."""
        self.segments.append(segment)
        self._filter.add(segment, self.segments)
        while len(self.segments) > 1:
            older, newer = self.segments[-2:]
            if len(older.ids) > 2 * len(newer.ids) or newer.last_slot - older.first_slot >= _MERGED_SLOTS:
                return
            self.segments[-2:] = [older.followed_by(newer)]


def _first_of_equals(values: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first place of each distinct value, by value; and for each place the number of its value."""
    order = np.argsort(values)
    ranked = values[order]
    number = np.empty(len(values), dtype=np.int64)
    number[order] = run_numbers(ranked)
    first = np.minimum.reduceat(order, run_starts(ranked)) if len(values) else order
    return first, number


def _sorted_entries(keys: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Every (bucket, text) of `keys` uint64[t, KEYS], sorted by bucket, then text."""
    entries = (keys << np.uint64(32)) | np.arange(len(keys), dtype=np.uint64)[:, None]
    flat = np.sort(entries.ravel())
    return flat >> np.uint64(32), (flat & np.uint64(0xFFFFFFFF)).astype(np.int64)
