"""How far a book's event time has come: the least of its source partitions' watermarks.

It is a function of the digest blocks alone. A partition that exists but has not been heard of holds the book back;
one whose last block said that it is idle does not; when all are idle, the furthest of them counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from streamer.blocks import DigestBlock


@dataclass(slots=True)
class SourcePartition:
    """What the book knows of one source partition: the next offset to take in, its watermark, whether it is idle."""

    taken: int
    watermark_ms: int | None = None
    idle: bool = False


@dataclass(slots=True)
class BookClock:
    """All source partitions by (topic, number), and how many partitions each topic has."""

    partitions: dict[tuple[str, int], SourcePartition] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    watermark_ms: int | None = None
    """The book's watermark; it never goes back."""

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
        if len(self.partitions) < sum(self.sizes.values()):
            return
        marks = [each.watermark_ms for each in self.partitions.values() if not each.idle]
        if not marks:
            known_marks = [each.watermark_ms for each in self.partitions.values() if each.watermark_ms is not None]
            reached = max(known_marks, default=None)
        else:
            reached = None if None in marks else min(mark for mark in marks if mark is not None)
        if reached is not None:
            self.watermark_ms = reached if self.watermark_ms is None else max(self.watermark_ms, reached)
