"""A fetch that waits while partitions are paused: Faust's own loses records, ours gives them back."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from streamer.worker.faust_consumer import FetchingThread

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize(("kind", "lost"), [(AIOKafkaConsumerThread, True), (FetchingThread, False)])
async def test_records_of_a_partition_that_was_paused_are_fetched_again(kafka: str, kind: type, lost: bool) -> None:
    thread: Any = kind.__new__(kind)
    thread.consumer = SimpleNamespace(flow_active=True)
    topic = f"fetches-{uuid4().hex[:8]}"
    digests, changelog = TopicPartition(topic, 0), TopicPartition(topic, 1)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 2, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        await producer.send_and_wait(topic, b"digest", partition=digests.partition)
        for number in range(5):
            await producer.send_and_wait(topic, b"entry %d" % number, partition=changelog.partition)
    async with AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest") as consumer:
        consumer.assign([digests, changelog])
        active = {digests}

        async def fetch(seconds: float) -> dict[TopicPartition, list[bytes]]:
            found = await thread._fetch_records(consumer, active, timeout=seconds, max_records=500)
            return {place: [record.value for record in records] for place, records in found.items()}

        async with asyncio.timeout(60):
            while not (first := await fetch(1.0)):
                pass
            assert first == {digests: [b"digest"]}
            waiting = asyncio.create_task(fetch(5.0))
            await asyncio.sleep(0.2)
            active.clear()  # as Faust does to pause everything
            consumer.seek(changelog, 0)  # as a recovery does
            taken = await waiting
            active.add(changelog)  # as a recovery does next
            again = await fetch(5.0)
    entries = {changelog: [b"entry %d" % number for number in range(5)]}
    assert (taken, again) == ((entries, {}) if lost else ({}, entries))


async def test_a_fetch_for_no_partition_takes_nothing() -> None:
    thread: Any = FetchingThread.__new__(FetchingThread)
    assert await thread._fetch_records(None, set(), timeout=1.0, max_records=1) == {}
