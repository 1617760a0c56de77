"""Producers: what aiokafka does with a record that the broker does not take, and what of it we build on."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError, NotLeaderForPartitionError, ProducerFenced, RequestTimedOutError
from aiokafka.producer.message_accumulator import BatchBuilder, MessageBatch
from aiokafka.producer.sender import SendProduceReqHandler

from streamer.worker.publishing import FencedError, FencedPublisher, Publisher, PublishError, settle
from streamer.worker.snapshots import Fence

PLACE = TopicPartition("windows", 0)


@pytest.mark.parametrize("idempotent", [True, False])
async def test_an_idempotent_producer_never_gives_a_record_up_that_a_broker_does_not_acknowledge(
    idempotent: bool,
) -> None:
    """Hence the watchdog ends the wait, and stopping is bounded."""
    producer: Any = AIOKafkaProducer(enable_idempotence=idempotent)
    batch = MessageBatch(PLACE, BatchBuilder(1000, 0), ttl=0, linger_time=0)
    handler = SendProduceReqHandler(producer._sender, {PLACE: batch})
    await asyncio.sleep(0.001)
    assert batch.expired()
    assert handler._can_retry(RequestTimedOutError(), batch) == idempotent


async def test_an_idempotent_producer_gives_a_record_up_whose_partition_has_no_leader_for_too_long() -> None:
    """Which is an error like any other: the scorer starts again, a book is opened again."""
    producer: Any = AIOKafkaProducer(enable_idempotence=True, request_timeout_ms=0)
    producer._txn_manager.set_pid_and_epoch(7, 3)
    accumulator = producer._message_accumulator
    sent = await accumulator.add_message(PLACE, None, b"window", 1)
    await asyncio.sleep(0.001)
    accumulator.drain_by_nodes(ignore_nodes=[])
    with pytest.raises(NotLeaderForPartitionError):
        await sent


@pytest.mark.parametrize("publisher", [Publisher({}), FencedPublisher({}, "book")], ids=["plain", "fenced"])
async def test_a_producer_that_waits_for_a_broker_that_is_gone_is_stopped_all_the_same(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.worker.publishing._STOP_SECONDS", 0.05)
    producer: Any = AIOKafkaProducer(enable_idempotence=True)
    await producer._message_accumulator.add_message(PLACE, None, b"window", 1)
    producer._sender._sender_task = asyncio.create_task(asyncio.sleep(60))  # else there is nothing to wait for
    publisher._producer = producer
    began = time.monotonic()
    async with asyncio.timeout(10):
        await publisher.stop()
    assert 0.05 <= time.monotonic() - began < 5
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing of it goes on sending"


async def test_a_record_that_is_too_large_for_its_topic_is_an_error_that_says_what_to_do() -> None:
    refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    refused.set_exception(MessageSizeTooLargeError())
    with pytest.raises(PublishError, match=r"bearwire doctor.*raise its max\.message\.bytes"):
        await settle([refused])


async def test_a_transaction_that_fails_between_two_records_is_a_fence_and_no_defect() -> None:
    """As a worker found that woke after its session, while it wrote what a digest had caused."""
    producer: Any = AIOKafkaProducer(transactional_id="book")
    producer.client._wait_on_metadata = lambda topic: asyncio.sleep(0)
    producer._metadata = producer.client.cluster
    publisher = FencedPublisher({}, "book")
    publisher._producer, publisher._transactional, publisher._open = producer, True, True
    manager = producer._txn_manager
    manager.set_pid_and_epoch(7, 3)
    manager.begin_transaction()
    for fenced in (True, False):
        first: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        publisher._unsettled = [first]
        if fenced:
            manager.fatal_error(ProducerFenced())
            first.set_exception(ProducerFenced())
        else:
            first.set_result(None)
        with pytest.raises(FencedError if fenced else PublishError):
            await publisher.send("windows", b"window")
    await asyncio.gather(manager._transaction_waiter, return_exceptions=True)


async def test_the_fence_of_a_book_is_what_the_broker_gave_to_its_producer() -> None:
    producer: Any = AIOKafkaProducer(transactional_id="book")
    producer._txn_manager.set_pid_and_epoch(7, 3)
    publisher = FencedPublisher({}, "book")
    assert publisher.fence is None
    publisher._producer, publisher._transactional = producer, True
    assert publisher.fence == Fence(7, 3)
