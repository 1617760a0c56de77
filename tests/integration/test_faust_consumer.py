"""A fetch that waits while partitions are paused: Faust's own takes what it then drops, ours takes it when it may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from streamer.worker.faust_consumer import FetchingThread

pytestmark = pytest.mark.kafka

Values = dict[TopicPartition, list[bytes]]
KINDS = pytest.mark.parametrize(("kind", "lost"), [(AIOKafkaConsumerThread, True), (FetchingThread, False)])


class Fetches:
    """A topic of two partitions, and what a thread of a kind fetches of those that are `active`."""

    def __init__(self, kind: type, topic: str, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer) -> None:
        self.thread = thread_of(kind)
        self.digests, self.changelog = TopicPartition(topic, 0), TopicPartition(topic, 1)
        self.active = {self.digests}
        self.producer = producer
        self.consumer = consumer

    async def produce(self, place: TopicPartition, *values: bytes) -> None:
        """Produce records in one batch."""
        sent = [await self.producer.send(place.topic, value, partition=place.partition) for value in values]
        await asyncio.gather(*sent)

    async def fetch(self, *, most: int = 500) -> Values:
        """What comes within 2 s."""
        found = await self.thread._fetch_records(self.consumer, self.active, timeout=2.0, max_records=most)
        return {place: [record.value for record in records] for place, records in found.items()}


def thread_of(kind: type) -> Any:
    thread: Any = kind.__new__(kind)
    thread.consumer = SimpleNamespace(flow_active=True)
    return thread


@asynccontextmanager
async def fetches(kafka: str, kind: type) -> AsyncIterator[Fetches]:
    topic = f"fetches-{uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 2, 1)])
    await admin.close()
    async with (
        asyncio.timeout(120),
        AIOKafkaProducer(bootstrap_servers=kafka, linger_ms=200) as producer,
        AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest") as consumer,
    ):
        it = Fetches(kind, topic, producer, consumer)
        consumer.assign([it.digests, it.changelog])
        await it.produce(it.digests, b"digest")
        while not (first := await it.fetch()):
            pass
        assert first == {it.digests: [b"digest"]}
        yield it


@KINDS
async def test_a_fetch_that_waits_takes_nothing_of_other_partitions_when_its_own_are_paused(
    kafka: str, kind: type, lost: bool
) -> None:
    """As in a rebalance: everything is paused, and a recovery goes back to the beginning of the changelog."""
    async with fetches(kafka, kind) as it:
        entries = {it.changelog: [b"a", b"b", b"c"]}
        await it.produce(it.changelog, *entries[it.changelog])
        waiting = asyncio.create_task(it.fetch())
        await asyncio.sleep(0.2)
        it.active.clear()
        it.consumer.seek(it.changelog, 0)
        taken = await waiting
        it.active.add(it.changelog)
        again = await it.fetch()
    assert (taken, again) == ((entries, {}) if lost else ({}, entries))


@KINDS
@pytest.mark.parametrize("most", [500, 1])
async def test_records_of_a_partition_that_was_paused_meanwhile_are_fetched_again(
    kafka: str, kind: type, lost: bool, most: int
) -> None:
    values = [b"1", b"2", b"3"]
    async with fetches(kafka, kind) as it:
        waiting = asyncio.create_task(it.fetch(most=most))
        await asyncio.sleep(0.2)
        it.active.clear()
        await it.produce(it.digests, *values)
        taken = (await waiting).get(it.digests, [])
        it.active.add(it.digests)
        again: list[bytes] = []
        while some := (await it.fetch(most=most)).get(it.digests):
            again += some
    assert taken + again == values
    assert taken == (values[:most] if lost else [])


async def test_a_fetch_for_no_partition_takes_nothing() -> None:
    assert await thread_of(FetchingThread)._fetch_records(None, set(), timeout=1.0, max_records=1) == {}
