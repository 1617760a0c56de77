"""A backtest over the documents that lie in Kafka: the very partitions, offsets and times that the worker saw."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from aiokafka import TopicPartition

from streamer.backtest import Backtest, BacktestOutput
from streamer.config import Config
from streamer.model import TextScorer
from streamer.records import SourceRecord
from streamer.topic_reader import TopicRecord, open_consumer, partitions_of, read_to_end

_RECORDS_AT_ONCE: Final = 500


async def backtest_topic(
    config: Config,
    scorer: TextScorer,
    take: Callable[[BacktestOutput], None],
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> Backtest:
    """Run a backtest over the documents topic as it is now; `take` gets what comes out, piece by piece, in order.

    `from_ms` and `to_ms` bound the records' own Kafka times, [from, to), in milliseconds UTC. With neither, the
    result is that of a worker that has read the topic from its first record to its last.
    Raises KafkaSetupError where the topic or the broker is not there.
    """
    topic = config.topics.documents.name
    async with open_consumer(config.kafka) as consumer:
        partitions = await partitions_of(consumer, topic)
        start = None if from_ms is None else await _offsets_since(consumer, partitions, from_ms)
        backtest = Backtest(config, scorer, source=topic, partitions=len(partitions))
        try:
            async for partition, records in _batches(read_to_end(consumer, partitions, start), to_ms):
                take(await asyncio.to_thread(backtest.take, partition, records))
            take(await asyncio.to_thread(backtest.finish))
        finally:
            backtest.close()
    return backtest


async def _offsets_since(consumer: Any, partitions: list[TopicPartition], from_ms: int) -> dict[TopicPartition, int]:
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, from_ms))
    ends = await consumer.end_offsets(partitions)
    return {each: ends[each] if found.get(each) is None else found[each].offset for each in partitions}


async def _batches(
    source: AsyncIterator[TopicRecord], to_ms: int | None
) -> AsyncIterator[tuple[int, list[SourceRecord]]]:
    waiting: dict[int, list[SourceRecord]] = {}
    async for record in source:
        if to_ms is not None and record.timestamp_ms >= to_ms:
            continue
        records = waiting.setdefault(record.partition, [])
        stamp = record.timestamp_ms if record.timestamp_ms >= 0 else None
        records.append(SourceRecord(record.offset, stamp, record.key, record.value, tuple(record.headers)))
        if len(records) >= _RECORDS_AT_ONCE:
            yield record.partition, waiting.pop(record.partition)
    for partition, records in waiting.items():
        yield partition, records
