"""Where a group stands in a source partition: the committed offset, and the partition's clock that belongs to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata
from numpy.typing import NDArray

from streamer.documents import Document, DocumentLimits, parse_document
from streamer.languages import NO_MODEL, LanguageRules
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


async def remade_position(
    partition: TopicPartition,
    offset: int,
    *,
    allowed_lateness_ms: int,
    limits: DocumentLimits,
    languages: LanguageRules,
    options: Mapping[str, Any],
    noted: Callable[[], None],
) -> Position:
    """The position at `offset`, with a clock made of the documents before it, as far as they still exist.

    So it is where the metadata is missing (offsets set by another tool, or a broker that keeps none) or foreign.
    `noted` is called whenever some of them are read, which may take minutes. Raises KafkaError.
    """
    log.info(
        "%s-%d: offset %d was committed without its clock, which is made anew from the documents before it",
        partition.topic,
        partition.partition,
        offset,
    )
    clock = PartitionClock(allowed_lateness_ms)
    consumer = AIOKafkaConsumer(**options, enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        await consumer.start()
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        at, end = await consumer.position(partition), offset
        while at < end:
            got = await consumer.getmany(partition, timeout_ms=_READ_TIMEOUT_MS)
            if (highwater := consumer.highwater(partition)) is not None:
                end = min(end, highwater)  # a log that was cut back does not reach it
            records = [record for record in got.get(partition, ()) if record.offset < end]
            clock.judge(await asyncio.to_thread(_document_times, records, limits, languages))
            before, at = at, await consumer.position(partition)
            if at > before:
                noted()
    finally:
        await consumer.stop()
    return Position(offset, clock)


def _document_times(records: Iterable[Any], limits: DocumentLimits, languages: LanguageRules) -> NDArray[np.int64]:
    """When those were published that move a clock: not what is no document, nor what no model reads."""
    parsed = (parse_document(r.value, record_timestamp_ms=r.timestamp, limits=limits) for r in records)
    documents = (each for each in parsed if isinstance(each, Document))
    read = (each for each in documents if languages.route(each.lang, each.scored_text) != NO_MODEL)
    return np.fromiter((each.published_at_ms for each in read), dtype=np.int64)
