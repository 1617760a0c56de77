"""Scorers on Apache Kafka: who stands by takes over, and what a log that was cut costs is told."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import OffsetAndMetadata

from streamer.core.blocks import DigestBlock
from streamer.core.dead_letters import TRUNCATED_FROM
from streamer.kafka.client import client_arguments
from streamer.kafka.topic_reader import open_consumer
from streamer.worker import clocks_made_anew
from streamer.worker.topics import score_group
from tests.core.worlds import record
from tests.integration.deployment import Deployment, until
from tests.integration.scorers import RunningScorer, scorers

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

STANDBY_SECONDS = 6


async def test_a_scorer_that_stood_by_for_longer_than_a_poll_interval_takes_over(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the scorer does not say otherwise, two seconds without a poll are too long, not five minutes.
    short = functools.partial(AIOKafkaConsumer, max_poll_interval_ms=2000)
    monkeypatch.setattr("streamer.worker.scorer.AIOKafkaConsumer", short)
    deployment = Deployment(kafka, tmp_path, topics__documents__partitions=1)
    async with scorers(deployment.config, 2) as both:

        async def settled() -> bool:
            return sum(each.has_partitions for each in both) == 1 and not any(each.status.holds for each in both)

        await until(settled, "one scorer has the partition and the other stands by", seconds=60)
        owner, standby = sorted(both, key=lambda each: not each.has_partitions)
        await asyncio.sleep(STANDBY_SECONDS)
        assert not standby.status.holds
        await owner.end()

        async def taken_over() -> bool:
            return standby.has_partitions

        await until(taken_over, "the other scorer has taken the partition over", seconds=60)


async def test_documents_that_retention_took_before_they_were_scored_are_counted(kafka: str, tmp_path: Path) -> None:
    deployment = Deployment(kafka, tmp_path, topics__documents__partitions=1)
    topic = TopicPartition(deployment.config.topics.documents.name, 0)
    async with scorers(deployment.config, 1) as (before,):
        await deployment.publish((0, None, record(offset).value) for offset in range(10))
        await until(_scored(before, 10), "ten documents are scored", seconds=60)
        await before.end()
        await deployment.publish((0, None, record(offset).value) for offset in range(10, 30))
        await _delete_before(deployment, topic, 20)
    async with scorers(deployment.config, 1) as (after,):
        await until(_scored(after, 10), "what is left is scored", seconds=60)
        assert (after.status.lost, after.status.rewinds) == (10, 0)
    blocks = [DigestBlock.decode(each.value or b"") for each in await deployment.records("digests")]
    assert [(each.from_offset, each.to_offset) for each in blocks if not each.idle][-1] == (20, 30)


async def test_whoever_has_committed_nothing_begins_where_the_log_does(kafka: str, tmp_path: Path) -> None:
    deployment = Deployment(kafka, tmp_path, topics__documents__partitions=1)
    topic = TopicPartition(deployment.config.topics.documents.name, 0)
    async with scorers(deployment.config, 0):
        await deployment.publish((0, None, record(offset).value) for offset in range(20))
        await _delete_before(deployment, topic, 10)
    async with scorers(deployment.config, 1) as (scorer,):
        await until(_scored(scorer, 10), "what is there is scored", seconds=60)
        assert (scorer.status.lost, scorer.status.rewinds) == (0, 0)
    blocks = [DigestBlock.decode(each.value or b"") for each in await deployment.records("digests")]
    assert [(each.from_offset, each.to_offset) for each in blocks if not each.idle] == [(10, 20)]


async def _delete_before(deployment: Deployment, topic: TopicPartition, offset: int) -> None:
    """As retention does."""
    admin = AIOKafkaAdminClient(**client_arguments(deployment.config.kafka))
    await admin.start()
    try:
        await admin.delete_records({topic: RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()


async def test_a_partition_that_lost_its_end_is_scored_again(kafka: str, tmp_path: Path) -> None:
    deployment = Deployment(kafka, tmp_path, topics__documents__partitions=1)
    topic = TopicPartition(deployment.config.topics.documents.name, 0)
    async with scorers(deployment.config, 0):
        await deployment.publish((0, None, record(offset).value) for offset in range(10))
    async with open_consumer(deployment.config.kafka, score_group(deployment.config)) as consumer:
        consumer.assign([topic])
        await consumer.commit({topic: OffsetAndMetadata(100, "")})
    async with scorers(deployment.config, 1) as (scorer,):
        await until(_scored(scorer, 10), "everything is scored again", seconds=60)
        assert (scorer.status.lost, scorer.status.rewinds) == (0, 1)


async def test_a_clock_that_takes_longer_to_make_anew_than_a_session_lasts_holds_up_nothing_for_ever(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = Deployment(kafka, tmp_path, topics__documents__partitions=1)
    document_times = clocks_made_anew.document_times

    def slow(*arguments: Any) -> Any:
        time.sleep(deployment.config.worker.session_timeout_seconds + 2)
        return document_times(*arguments)

    monkeypatch.setattr(clocks_made_anew, "document_times", slow)
    topic = TopicPartition(deployment.config.topics.documents.name, 0)
    async with scorers(deployment.config, 0):
        await deployment.publish((0, None, record(offset).value) for offset in range(10))
    async with open_consumer(deployment.config.kafka, score_group(deployment.config)) as consumer:
        consumer.assign([topic])
        await consumer.commit({topic: OffsetAndMetadata(5, "")})  # as other tools do, which know of no clock
    async with scorers(deployment.config, 1) as (scorer,):

        async def remaking() -> bool:
            return "its clock is made anew" in str(scorer.status.holds)

        await until(remaking, "the worker says that it is not ready and why", seconds=60)
        await until(_scored(scorer, 5), "what lies behind the offset is scored", seconds=60)
        assert scorer.status.rebalances == 1, "the group did not take the scorer for dead meanwhile"
        assert not scorer.status.holds


async def test_a_dead_letter_that_its_topic_does_not_take_is_cut_and_holds_up_nothing(
    kafka: str, tmp_path: Path
) -> None:
    deployment = Deployment(kafka, tmp_path, topics__documents__partitions=1, topics__dead_letters__partitions=1)
    deployment.idempotent = True
    poison = {b"small": b"{not json", b"large": random.Random(5).randbytes(700_000), b"after": b"{nor this"}
    async with scorers(deployment.config, 0):
        await deployment.configure("dead_letters", max_message_bytes="600000")
        await deployment.publish([(0, key, value) for key, value in poison.items()])
        await deployment.publish([(0, None, record(3).value)])
    async with scorers(deployment.config, 1) as (scorer,):

        async def done() -> bool:
            if scorer.task.done():
                scorer.task.result()
            return (await deployment.accounted_for())["all"] == 4

        await until(done, "every message came out", seconds=60)
        await until(_scored(scorer, 1), "and is committed", seconds=60)
    assert (await deployment.accounted_for())["repeats"] == 0
    letters = {each.key: each for each in await deployment.records("dead_letters")}
    assert {key: letter.value for key, letter in letters.items() if key != b"large"} == {
        b"small": poison[b"small"],
        b"after": poison[b"after"],
    }
    assert letters[b"large"].value == poison[b"large"][: 512 * 1024]
    sizes = {key: dict(letter.headers).get(TRUNCATED_FROM) for key, letter in letters.items()}
    assert sizes == {b"small": None, b"large": b"700000", b"after": None}


def _scored(scorer: RunningScorer, count: int) -> Callable[[], Awaitable[bool]]:
    async def scored() -> bool:
        return scorer.status.scored == count

    return scored
