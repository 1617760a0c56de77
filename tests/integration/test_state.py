"""What a worker does with a state or a digest that it cannot use: it says so, and never guesses."""

from __future__ import annotations

import asyncio
import hashlib
import time
import zlib
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError

from streamer.core.blocks import MAGIC
from streamer.kafka.client import client_arguments
from streamer.kafka.topic_reader import open_consumer, partitions_of, read_to_end
from streamer.worker.missed_digests import acknowledged
from streamer.worker.topics import changelog_name, planned_topics, watch_app_id
from tests.integration.deployment import OUTPUTS, Deployment, WorkerProcess, until
from tests.integration.stream import documents

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

HOUR_MS = 3_600_000


@pytest.fixture
def deployment(kafka: str, tiny_bundle: str, tmp_path: Path) -> Deployment:
    deployment = Deployment(
        kafka,
        tmp_path,
        model__bundle=tiny_bundle,
        topics__documents__partitions=1,  # so that a pause between two lots of documents makes none too late
        time__pane_seconds=300,
        time__idle_timeout_seconds=3,
    )
    deployment.idempotent = True
    return deployment


async def watched(deployment: Deployment, *arguments: str, count: int = 500, hours_ago: int = 20) -> WorkerProcess:
    """A worker that has taken in `count` documents, one a minute, and written its state down at the end of them."""
    worker = deployment.worker(*arguments)
    await until(deployment.has_topics, "the topics exist", worker=worker)
    start = int(time.time() * 1000) - hours_ago * HOUR_MS
    await deployment.publish(documents(count, seed=4, partitions=1, start_ms=start, step_ms=60_000))
    await agrees(deployment, worker)
    return worker


async def rebuilt(deployment: Deployment, number: int) -> None:
    """A worker that may build its state anew does, says so, and agrees with a backtest on what comes then."""
    worker = deployment.worker("--set", "worker.unusable_state=rebuild", number=number)
    start = int(time.time() * 1000) - 5 * HOUR_MS
    await deployment.publish(documents(200, seed=5, partitions=1, start_ms=start, step_ms=60_000))
    await agrees(deployment, worker)
    assert "its state is built anew" in worker.log.read_text()
    assert await asyncio.to_thread(worker.finish) == 0, worker.tail()


async def agrees(deployment: Deployment, worker: WorkerProcess) -> None:
    expected, counts = await deployment.backtest()

    async def same() -> bool:
        fates = await deployment.accounted_for()
        return fates["all"] == counts.received and all(
            [await deployment.latest(topic) == expected[topic] for topic in OUTPUTS]
        )

    await until(same, "the outputs are those of a backtest", worker=worker)


async def changelog(deployment: Deployment) -> dict[bytes, bytes]:
    """The entries of the watchers' table as its changelog restores them."""
    table: dict[bytes, bytes] = {}
    async with open_consumer(deployment.config.kafka) as consumer:
        partitions = await partitions_of(consumer, changelog_name(deployment.config))
        async for record in read_to_end(consumer, partitions, {}):
            if record.value is None:
                table.pop(record.key or b"", None)
            else:
                table[record.key or b""] = record.value
    return table


async def produce(deployment: Deployment, topic: str, records: list[tuple[bytes | None, bytes]]) -> None:
    producer = AIOKafkaProducer(**client_arguments(deployment.config.kafka), acks="all")
    await producer.start()
    try:
        for key, value in records:
            await producer.send_and_wait(topic, value, key=key, partition=0)
    finally:
        await producer.stop()


async def has_taken_all(deployment: Deployment) -> bool:
    """Whether the book has acknowledged every digest that there is; one that is deleted unread would be missing."""
    kafka, name = deployment.config.kafka, deployment.config.topics.digests.name
    async with open_consumer(kafka) as consumer:
        (end,) = (await consumer.end_offsets(await partitions_of(consumer, name))).values()
    return 0 < end == await acknowledged(kafka, watch_app_id(deployment.config), name, 0)


async def delete(deployment: Deployment, topic: str) -> None:
    admin = AIOKafkaAdminClient(**client_arguments(deployment.config.kafka))
    await admin.start()
    try:
        await admin.delete_topics([topic])
    finally:
        await admin.close()


async def create(deployment: Deployment, topic: str) -> None:
    """Create a topic as it was planned, once the broker has let go of the one before it."""
    (plan,) = [plan for plan in planned_topics(deployment.config) if plan.name == topic]
    admin = AIOKafkaAdminClient(**client_arguments(deployment.config.kafka))
    await admin.start()

    async def created() -> bool:
        made = await admin.create_topics([NewTopic(topic, plan.partitions, 1, topic_configs=plan.settings)])
        return all(error[1] in (0, TopicAlreadyExistsError.errno) for error in made.topic_errors)

    try:
        await until(created, f"{topic} is made anew")
    finally:
        await admin.close()


async def ended(worker: WorkerProcess) -> str:
    """The last line of a worker that must end by itself with status 1."""

    async def gone() -> bool:
        return not worker.alive

    await until(gone, "the worker ends")
    assert worker.process.returncode == 1, worker.tail()
    return worker.tail(1)


async def test_a_state_that_cannot_be_used_is_refused_until_a_rebuild_is_asked_for(deployment: Deployment) -> None:
    worker = await watched(deployment)
    assert await asyncio.to_thread(worker.finish) == 0, worker.tail()
    name = changelog_name(deployment.config)
    table = await changelog(deployment)
    key, manifest = next((key, value) for key, value in table.items() if key.endswith(b"/manifest"))

    body = manifest[32:].replace(b'"format":3', b'"format":99')
    await produce(deployment, name, [(key, hashlib.sha256(body).digest() + body)])
    assert "the state has format 99, this version reads format 3" in await ended(deployment.worker(number=1))

    await produce(deployment, name, [(key, manifest[:-1] + b"!")])
    refusal = await ended(deployment.worker(number=2))
    assert "the manifest does not match its checksum" in refusal
    assert "worker.unusable_state=rebuild" in refusal

    await rebuilt(deployment, number=3)


async def test_a_changelog_that_lost_its_entries_is_no_new_book(deployment: Deployment) -> None:
    worker = await watched(deployment)
    assert await asyncio.to_thread(worker.finish) == 0, worker.tail()
    await delete(deployment, changelog_name(deployment.config))
    refusal = await ended(deployment.worker(number=1))
    assert "were watched, and the changelog has lost the state" in refusal
    assert "worker.unusable_state=rebuild" in refusal
    await rebuilt(deployment, number=2)


async def test_a_documents_topic_that_is_made_anew_is_watched_on(deployment: Deployment) -> None:
    worker = await watched(deployment, hours_ago=60)
    assert await asyncio.to_thread(worker.finish) == 0, worker.tail()
    await delete(deployment, deployment.config.topics.documents.name)

    worker = deployment.worker(number=1)
    await until(deployment.has_topics, "the topics exist", worker=worker)
    start = int(time.time() * 1000) - 5 * HOUR_MS  # further from the old documents than the longest window
    await deployment.publish(documents(200, seed=5, partitions=1, start_ms=start, step_ms=60_000))
    expected, _ = await deployment.backtest()

    async def same() -> bool:
        return expected["windows"].items() <= (await deployment.latest("windows")).items()

    await until(same, "the windows of the new documents are those of a backtest", worker=worker)
    assert "the topic was made anew" in worker.log.read_text()
    assert await asyncio.to_thread(worker.finish) == 0, worker.tail()


@pytest.mark.parametrize("live", [True, False])
async def test_a_digests_topic_that_is_made_anew_is_watched_on(deployment: Deployment, live: bool) -> None:
    # Many digests, which the new log does not have as many of by the time that somebody looks.
    worker = await watched(deployment, "--set", "worker.fetch_max_records=10", hours_ago=60)
    name = deployment.config.topics.digests.name
    await asyncio.sleep(4)  # by then the last digest, which says that the partition is idle, is there
    await until(lambda: has_taken_all(deployment), "the book has taken all digests", worker=worker)
    if not live:
        assert await asyncio.to_thread(worker.finish) == 0, worker.tail()
    await delete(deployment, name)
    if live:
        await create(deployment, name)
    else:
        worker = deployment.worker(number=1)
        await until(deployment.has_topics, "the topics exist", worker=worker)

    async def said() -> bool:
        return "was to come: the topic was made anew" in worker.log.read_text()

    await until(said, "the worker has seen it", worker=worker)
    start = int(time.time() * 1000) - 5 * HOUR_MS  # further from the old documents than the longest window
    await deployment.publish(documents(200, seed=5, partitions=1, start_ms=start, step_ms=60_000))
    await agrees(deployment, worker)
    assert worker.log.read_text().count("was to come") == 1
    assert await asyncio.to_thread(worker.finish) == 0, worker.tail()
    worker = deployment.worker(number=2)
    await deployment.publish(documents(50, seed=6, partitions=1, start_ms=start + 4 * HOUR_MS, step_ms=60_000))
    await agrees(deployment, worker)
    assert "was to come" not in worker.log.read_text()
    assert await asyncio.to_thread(worker.finish) == 0, worker.tail()


async def test_rubbish_among_the_digests_is_skipped_and_a_newer_version_is_not(deployment: Deployment) -> None:
    worker = await watched(deployment)
    digests = deployment.config.topics.digests.name
    real = next(record.value or b"" for record in await deployment.records("digests"))
    damaged = real[:-1] + bytes([real[-1] ^ 1])
    await produce(deployment, digests, [(None, b"rubbish"), (None, damaged), (None, real[:40]), (None, real)])
    start = int(time.time() * 1000) - 5 * HOUR_MS
    await deployment.publish(documents(200, seed=5, partitions=1, start_ms=start, step_ms=60_000))
    await agrees(deployment, worker)
    assert worker.log.read_text().count("is skipped") == 3
    payload = msgspec.msgpack.encode(["a later layout"])
    await produce(deployment, digests, [(None, MAGIC + b"\x09" + zlib.crc32(payload).to_bytes(4, "little") + payload)])
    assert "version 9 of the digest block is not known here" in await ended(worker)
