"""Where a group stands in a source partition: the committed offset, and the partition's clock that belongs to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from streamer.documents import Document, DocumentLimits, parse_document
from streamer.watermark import ClockError, PartitionClock

_READ_TIMEOUT_MS: Final = 1000

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
    answer, so this asks the consumer's coordinator: the one place where we reach into aiokafka.
    """
    found: dict[TopicPartition, OffsetAndMetadata] = await consumer._coordinator.fetch_committed_offsets(
        list(partitions)
    )
    return {partition: entry for partition, entry in found.items() if entry.offset >= 0}


async def restored_position(
    partition: TopicPartition,
    committed: OffsetAndMetadata | None,
    *,
    allowed_lateness_ms: int,
    limits: DocumentLimits,
    options: Mapping[str, Any],
) -> Position:
    """The position that `committed` stands for.

    Where the metadata is missing (offsets set by another tool, or a broker that keeps none) or foreign, the clock
    is made anew from the partition's documents before the offset, as far as they still exist.
    """
    if committed is None:
        return Position(None, PartitionClock(allowed_lateness_ms))
    if committed.metadata:
        try:
            clock = PartitionClock.parse(committed.metadata, allowed_lateness_ms=allowed_lateness_ms)
            return Position(committed.offset, clock)
        except ClockError as error:
            log.warning("%s-%d: %s", partition.topic, partition.partition, error)
    clock = PartitionClock(allowed_lateness_ms)
    if committed.offset > 0:
        log.info(
            "%s-%d: offset %d was committed without its clock, which is made anew from the documents before it",
            partition.topic,
            partition.partition,
            committed.offset,
        )
        await _replay_times(partition, committed.offset, clock, limits, options)
    return Position(committed.offset, clock)


async def _replay_times(
    partition: TopicPartition, end: int, clock: PartitionClock, limits: DocumentLimits, options: Mapping[str, Any]
) -> None:
    consumer = AIOKafkaConsumer(**options, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        at = await consumer.position(partition)
        while at < end:
            got = await consumer.getmany(partition, timeout_ms=_READ_TIMEOUT_MS)
            if (highwater := consumer.highwater(partition)) is not None:
                end = min(end, highwater)  # a log that was cut back does not reach it
            records = [record for record in got.get(partition, ()) if record.offset < end]
            times = await asyncio.to_thread(_document_times, records, limits)
            clock.judge(np.array(times, dtype=np.int64))
            at = await consumer.position(partition)
    finally:
        await consumer.stop()


def _document_times(records: Iterable[Any], limits: DocumentLimits) -> list[int]:
    parsed = (parse_document(r.value, record_timestamp_ms=r.timestamp, limits=limits) for r in records)
    return [document.published_at_ms for document in parsed if isinstance(document, Document)]
