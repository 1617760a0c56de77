"""How far a book's event time has come: the least of its source partitions' watermarks.

It is a function of the digest blocks alone. A partition that exists but has not been heard of holds the book back;
one whose last block said that it is idle does not; when all are idle, the furthest of them counts.

A topic may be deleted and made anew: its offsets begin at 0 again. A repeat of what was taken in has no later document
than what was taken in, so a block that lies before the next offset and yet has one tells of that.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from streamer.core.blocks import DigestBlock


@dataclass(slots=True)
class SourcePartition:
    """What the book knows of one source partition: the next offset to take in, its watermark, whether it is idle, the
    time of its latest document (None where no block told what lateness was allowed).

    `outdated`: another partition has told that the topic was made anew, so the next block begins this one anew too.
    """

    taken: int
    watermark_ms: int | None = None
    idle: bool = False
    latest_ms: int | None = None
    outdated: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Its fields for a snapshot."""
        optional = ("outdated", "latest_ms")
        return {name: value for name, value in asdict(self).items() if name not in optional or value}


@dataclass(slots=True)
class BookClock:
    """All source partitions by (topic, number), and how many partitions each topic has.

    Only those of the topic `source` count, where it is given: others were read before the topic had this name, and are
    heard of no more.
    """

    source: str | None = None
    partitions: dict[tuple[str, int], SourcePartition] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    watermark_ms: int | None = None
    """The book's watermark; it never goes back."""

    def begin_anew(self, block: DigestBlock) -> bool:
        """Whether the block shows that its topic was made anew; then what it covers is what comes next."""
        partition = self.partitions.get((block.source, block.partition))
        if partition is None:
            return False
        if not partition.outdated:
            known, said = partition.watermark_ms, block.watermark_ms
            if partition.latest_ms is not None and (latest := _latest_ms(block)) is not None:
                known, said = partition.latest_ms, latest
            if block.to_offset > partition.taken or known is None or said is None or said <= known:
                return False
            self.sizes[block.source] = block.partitions
            for topic, number in list(self.partitions):
                if topic == block.source:
                    self.partitions[topic, number].outdated = True
                    if number >= block.partitions:
                        del self.partitions[topic, number]
        partition.outdated = False
        if block.from_offset >= partition.taken:
            return False
        partition.taken = block.from_offset
        return True

    def note(self, block: DigestBlock) -> None:
        """Take a block's header in."""
        partition = self.partitions.setdefault((block.source, block.partition), SourcePartition(block.from_offset))
        self.sizes[block.source] = max(self.sizes.get(block.source, 0), block.partitions)
        if block.to_offset < partition.taken:
            return
        partition.taken = block.to_offset
        partition.idle = block.idle
        if block.watermark_ms is not None:
            known = partition.watermark_ms
            partition.watermark_ms = block.watermark_ms if known is None else max(known, block.watermark_ms)
            partition.latest_ms = _latest_ms(block)
        counted = [each for (topic, _), each in self.partitions.items() if self.source in (None, topic)]
        sizes = [size for topic, size in self.sizes.items() if self.source in (None, topic)]
        if not counted or len(counted) < sum(sizes):
            return
        marks = [each.watermark_ms for each in counted if not each.idle]
        if not marks:
            known_marks = [each.watermark_ms for each in counted if each.watermark_ms is not None]
            reached = max(known_marks, default=None)
        else:
            reached = None if None in marks else min(mark for mark in marks if mark is not None)
        if reached is not None:
            self.watermark_ms = reached if self.watermark_ms is None else max(self.watermark_ms, reached)


def _latest_ms(block: DigestBlock) -> int | None:
    """The time of the latest document of a partition up to the end of a block; None where it does not say."""
    if block.watermark_ms is None or block.lateness_ms is None:
        return None
    return block.watermark_ms + block.lateness_ms
