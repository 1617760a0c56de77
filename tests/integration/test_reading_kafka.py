"""Reading alerts, on Apache Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from tests.integration.deployment import Deployment
from tests.integration.reading import check_reader, check_tail, create_topic

pytestmark = pytest.mark.kafka


async def test_a_reader_gets_each_change_once_and_in_order(kafka: str, tmp_path: Path) -> None:
    deployment = Deployment(kafka, tmp_path)
    deployment.idempotent = True
    await check_reader(deployment, exact=True)


async def test_alerts_are_printed_as_they_come(kafka: str, tmp_path: Path) -> None:
    await check_tail(Deployment(kafka, tmp_path))


async def test_what_a_transaction_left_open_or_aborted_is_no_record(kafka: str, tmp_path: Path) -> None:
    """So do the tests of crashes read outputs: whatever they compare is what those who deliver it will see."""
    deployment = Deployment(kafka, tmp_path)
    deployment.idempotent = True
    topic = await create_topic(deployment, partitions=1)
    producers = [
        AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"{deployment.name}-{number}") for number in range(2)
    ]
    for producer in producers:
        await producer.start()
    try:
        for end in (producers[0].abort_transaction, producers[0].commit_transaction):
            await producers[0].begin_transaction()
            await producers[0].send_and_wait(topic, end.__name__.encode(), key=b"key")
            await end()
        await producers[1].begin_transaction()
        await producers[1].send_and_wait(topic, b"open", key=b"key")
        assert await deployment.latest("alerts") == {b"key": b"commit_transaction"}
        await producers[1].abort_transaction()
        assert [record.value for record in await deployment.records("alerts")] == [b"commit_transaction"]
    finally:
        for producer in producers:
            await producer.stop()
