"""Reads what is in a topic now, from given offsets to the end it has at the start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from streamer.config.settings import KafkaSettings
from streamer.core.records import Headers
from streamer.kafka.client import KafkaSetupError, client_arguments, plain_error

POLL_MS: Final = 1000
_PATIENCE: Final = 30
"""Polls without any progress before the broker is taken to have lost what it promised."""


class TopicRecord(NamedTuple):
    """A record as it lies in a topic. `timestamp_ms` is -1 where the broker knows none."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@asynccontextmanager
async def open_consumer(
    kafka: KafkaSettings, group: str | None = None, *, committed: bool = False
) -> AsyncIterator[Any]:
    """A started `AIOKafkaConsumer` that subscribes to nothing and commits only what it is told to.

    `committed`: it is given nothing of a transaction that is open or was aborted.
    """
    consumer = AIOKafkaConsumer(
        **client_arguments(kafka, purpose="reader"),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 << 20,
        isolation_level="read_committed" if committed else "read_uncommitted",
    )
    try:
        await consumer.start()
    except Exception as error:
        await consumer.stop()
        raise KafkaSetupError(plain_error(error, kafka)) from error
    try:
        yield consumer
    finally:
        await consumer.stop()


async def partitions_of(consumer: Any, topic: str) -> list[TopicPartition]:
    """The topic's partitions in order. Raises `KafkaSetupError` where there is no such topic."""
    # `partitions_for_topic` knows subscribed topics only, and asking for `topics()` does not teach it the others.
    cluster = await consumer._client.fetch_all_metadata()
    partitions = cluster.partitions_for_topic(topic)
    if not partitions:
        raise KafkaSetupError(
            f"topic {topic} does not exist; `bearwire worker` creates it, `bearwire doctor` lists them"
        )
    return [TopicPartition(topic, partition) for partition in sorted(partitions)]


def fetched_end(consumer: Any, partition: TopicPartition, listed: int) -> int:
    """The end of a partition of which something was fetched: the embedded broker's list of them stops a batch early."""
    return max(listed, consumer.highwater(partition) or 0)


async def read_to_end(
    consumer: Any,
    partitions: list[TopicPartition],
    start: Mapping[TopicPartition, int] | None = None,
    *,
    committed: bool = False,
    at_end: Callable[[int], None] | None = None,
) -> AsyncIterator[TopicRecord]:
    """Every record from `start` (else the beginning) to the end that each partition has when this is called.

    `committed` as the consumer was opened: the end is then where the first open transaction begins. `at_end` is told
    each partition once it gives no more.

    Raises `KafkaSetupError` where the broker stops giving before that.
    """
    if not partitions:
        return
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    beginnings = await consumer.beginning_offsets(partitions)
    waiting = set()
    for partition in partitions:
        first = max((start or {}).get(partition, 0), beginnings[partition])
        if first < ends[partition]:
            consumer.seek(partition, first)
            waiting.add(partition)
        else:
            consumer.pause(partition)
            if at_end is not None:
                at_end(partition.partition)
    unsure = set(waiting)
    idle = 0
    while waiting:
        batches = await consumer.getmany(timeout_ms=POLL_MS)
        idle = 0 if batches else idle + 1
        for partition, records in batches.items():
            if partition in unsure and not committed:
                unsure.discard(partition)
                ends[partition] = fetched_end(consumer, partition, ends[partition])
            for record in records:
                if record.offset < ends[partition]:
                    yield TopicRecord(
                        partition.partition, record.offset, record.timestamp, record.key, record.value, record.headers
                    )
        for partition in list(waiting):
            if await consumer.position(partition) >= ends[partition]:
                waiting.discard(partition)
                consumer.pause(partition)
                if at_end is not None:
                    at_end(partition.partition)
        if idle >= _PATIENCE:
            raise KafkaSetupError(
                f"the broker gives no more records of {sorted(waiting)[0].topic}, yet its end is not reached"
            )
