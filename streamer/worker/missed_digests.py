"""Digests that Faust has passed over, read from the log by a consumer of our own.

In a rebalance Faust drops what it has fetched and goes back to its committed offset; but its fetcher, still in the
middle of an older batch, notes a later offset as read, and then everything before that is dropped
(`transport/consumer.py`). To seek back meets the same race for as long as there is a backlog.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final, NamedTuple

from aiokafka import TopicPartition

from streamer.config.settings import KafkaSettings
from streamer.kafka.topic_reader import POLL_MS, TopicRecord, fetched_end, open_consumer, read_to_end

PATIENCE_SECONDS: Final = 2.0
"""How long a book may read by itself in one go: a rebalance waits for it."""


class Bounds(NamedTuple):
    """The first offset that a log has, and the one behind its last."""

    first: int
    end: int


class DigestLog:
    """The topic of the digests, read without Faust."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic

    async def between(self, partition: int, first: int, until: int | None) -> AsyncGenerator[TopicRecord]:
        """The records from offset `first` up to, not including, `until`; None: to what is the end now.

        Raises KafkaError or KafkaSetupError.
        """
        place = TopicPartition(self._topic, partition)
        async with open_consumer(self._kafka) as consumer:
            async for record in read_to_end(consumer, [place], {place: first}):
                if until is not None and record.offset >= until:
                    return
                yield record

    async def ends_before(self, partition: int, offset: int) -> Bounds | None:
        """The bounds of a log that does not reach `offset`, None where it does. Raises KafkaError, KafkaSetupError."""
        place = TopicPartition(self._topic, partition)
        async with open_consumer(self._kafka) as consumer:
            consumer.assign([place])
            end = (await consumer.end_offsets([place]))[place]
            if end >= offset:
                return None
            first = (await consumer.beginning_offsets([place]))[place]
            consumer.seek(place, max(first, end - 1))
            await consumer.getmany(place, timeout_ms=POLL_MS)
            end = fetched_end(consumer, place, end)
        return Bounds(first, end) if end < offset else None


async def acknowledged(kafka: KafkaSettings, group: str, topic: str, partition: int) -> int:
    """Up to which digest a group has acknowledged what is in its snapshots. Raises KafkaError or KafkaSetupError."""
    async with open_consumer(kafka, group) as consumer:
        return await consumer.committed(TopicPartition(topic, partition)) or 0
