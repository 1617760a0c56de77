"""A backtest over the documents that lie in Kafka: the very partitions, offsets and times that the worker saw."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

from aiokafka import TopicPartition

from alerts.silences import Silence
from streamer.config.settings import Config
from streamer.core.records import SourceRecord
from streamer.kafka.topic_reader import TopicRecord, open_consumer, partitions_of, read_to_end
from streamer.model import TextScorer
from streamer.offline.backtest import Backtest, BacktestOutput

_RECORDS_AT_ONCE: Final = 500


async def backtest_topic(
    config: Config,
    scorer: TextScorer,
    take: Callable[[BacktestOutput], None],
    *,
    topic: str | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
    silences: Sequence[Silence] = (),
    progress: Callable[[Backtest, int], None] | None = None,
) -> Backtest:
    """Run a backtest over a topic as it is now, that of the documents by default; `take` gets what comes out, in order.

    `from_ms` and `to_ms` bound the records' own Kafka times, [from, to), in milliseconds UTC. With neither, the
    result is that of a worker that has read the topic from its first record to its last. `silences` are records of
    the silences topic. `progress` is called now
    and then, with the backtest and the number of records that there are.
    Raises KafkaSetupError where the topic or the broker is not there.
    """
    topic = topic or config.topics.documents.name
    async with open_consumer(config.kafka) as consumer:
        partitions = await partitions_of(consumer, topic)
        start = None if from_ms is None else await _offsets_since(consumer, partitions, from_ms)
        ends = await consumer.end_offsets(partitions)
        total = sum(ends.values()) - sum((start or await consumer.beginning_offsets(partitions)).values())
        backtest = Backtest(config, scorer, source=topic, partitions=len(partitions), silences=silences)
        try:
            ended: list[int] = []
            source = read_to_end(consumer, partitions, start, at_end=ended.append)
            async with aclosing(_batches(source, ended, from_ms, to_ms)) as batches:
                async for partition, records in batches:
                    if records:
                        take(await asyncio.to_thread(backtest.take, partition, records))
                    else:
                        backtest.end(partition)
                    if progress is not None:
                        progress(backtest, total)
            take(await asyncio.to_thread(backtest.finish))
        finally:
            backtest.close()
    return backtest


async def _offsets_since(consumer: Any, partitions: list[TopicPartition], from_ms: int) -> dict[TopicPartition, int]:
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, from_ms))
    ends = await consumer.end_offsets(partitions)
    return {each: ends[each] if found.get(each) is None else found[each].offset for each in partitions}


async def _batches(
    source: AsyncIterator[TopicRecord], ended: list[int], from_ms: int | None, to_ms: int | None
) -> AsyncGenerator[tuple[int, list[SourceRecord]]]:
    """Partitions and their next records; none where a partition, named in `ended` by the source, has no more."""
    waiting: dict[int, list[SourceRecord]] = {}
    async for record in source:
        while ended:
            partition = ended.pop(0)
            if partition in waiting:
                yield partition, waiting.pop(partition)
            yield partition, []
        if to_ms is not None and record.timestamp_ms >= to_ms:
            continue
        if from_ms is not None and record.timestamp_ms < from_ms:  # the start by offsets is only near the time
            continue
        records = waiting.setdefault(record.partition, [])
        stamp = record.timestamp_ms if record.timestamp_ms >= 0 else None
        records.append(SourceRecord(record.offset, stamp, record.key, record.value, tuple(record.headers)))
        if len(records) >= _RECORDS_AT_ONCE:
            yield record.partition, waiting.pop(record.partition)
    for partition, records in waiting.items():
        yield partition, records
