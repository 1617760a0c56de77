"""Where a group stands in a source partition: the committed offset, and the partition's clock that belongs to it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from streamer.core.watermark import ClockError, PartitionClock

log = logging.getLogger(__name__)


class Position(NamedTuple):
    """The next offset to read, None where nothing was ever committed, and the clock of what lies before it."""

    next_offset: int | None
    clock: PartitionClock


async def committed_metadata(
    consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """Committed offsets with their metadata, of those partitions that have any.

    `AIOKafkaConsumer.committed` drops the metadata, and the admin client cannot decode the embedded broker's
    answer, so this asks the consumer's coordinator, which aiokafka keeps to itself.
    """
    found: dict[TopicPartition, OffsetAndMetadata] = await consumer._coordinator.fetch_committed_offsets(
        list(partitions)
    )
    return {partition: entry for partition, entry in found.items() if entry.offset >= 0}


def stored_position(
    partition: TopicPartition, committed: OffsetAndMetadata | None, *, allowed_lateness_ms: int
) -> Position | None:
    """The position that `committed` stands for; None where the clock that belongs to it must be made anew."""
    if committed is None:
        return Position(None, PartitionClock(allowed_lateness_ms))
    if committed.metadata:
        try:
            clock = PartitionClock.parse(committed.metadata, allowed_lateness_ms=allowed_lateness_ms)
            return Position(committed.offset, clock)
        except ClockError as error:
            log.warning("%s-%d: %s", partition.topic, partition.partition, error)
    return Position(0, PartitionClock(allowed_lateness_ms)) if committed.offset == 0 else None
