"""Three brokers, two of which must have a record before it is acknowledged: one or two go down and come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import NotEnoughReplicasError
from aiokafka.structs import OffsetAndMetadata

from streamer.config.settings import KafkaSettings
from streamer.kafka.client import client_arguments
from streamer.kafka.offset_fetches import UNCHECKED
from streamer.worker.offsets import committed_metadata
from tests.brokers.kraft import KafkaCluster
from tests.integration.conftest import started
from tests.integration.deployment import Deployment, WorkerProcess, until
from tests.integration.stream import Record, documents

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(1200)]

HOUR_MS = 3_600_000
PROBE = "probe"
WRITTEN = ("scores", "digests", "windows", "alerts", "notifications", "dead_letters", "late")


async def test_a_broker_of_three_goes_down_and_comes_back(tmp_path: Path, tiny_bundle: str) -> None:
    cluster = KafkaCluster(tmp_path / "kafka", nodes=3, settings={"min.insync.replicas": "2"})
    with await asyncio.to_thread(started, cluster):
        deployment = _deployment(cluster, tmp_path, tiny_bundle)
        worker = deployment.worker()
        await until(deployment.has_topics, "the topics exist", worker=worker)
        records = _records(1500)
        count = await deployment.publish(records[:500])
        cluster.kill(2)
        count += await deployment.publish(records[500:1000])
        await asyncio.to_thread(cluster.start, 2)
        count += await deployment.publish(records[1000:])
        await _agrees(deployment, count, worker)


async def test_the_last_broker_of_three_acknowledges_nothing_until_another_one_is_back(
    tmp_path: Path, tiny_bundle: str
) -> None:
    """Documents may come meanwhile (one copy is enough for them); nothing that a worker makes of them may lie on the
    one broker alone."""
    settings = {
        "min.insync.replicas": "2",
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
    }
    cluster = KafkaCluster(tmp_path / "kafka", nodes=3, controllers=1, settings=settings)
    with await asyncio.to_thread(started, cluster):
        # Faust's producer, unlike ours, gives up after a request's time, and the worker ends then.
        deployment = _deployment(cluster, tmp_path, tiny_bundle, kafka__request_timeout_seconds=120)
        worker = deployment.worker()
        await until(deployment.has_topics, "the topics exist", worker=worker)
        await deployment.configure("documents", min_insync_replicas="1")
        records = _records(1000)
        count = await deployment.publish(records[:500])
        await until(_all_out(deployment, count), "the first half is accounted for", worker=worker)
        await until(lambda: deployment.latest("windows"), "windows have closed", worker=worker)
        await _create_probe(client_arguments(deployment.config.kafka), copies=3)
        cluster.kill(2)
        cluster.kill(3)
        await until(_refuses(deployment), "the last broker refuses what it would have to keep alone", worker=worker)
        before = _kept(cluster, deployment)
        assert before["scores"] and before["windows"]
        count += await deployment.publish(records[500:])
        await asyncio.sleep(10)
        assert _kept(cluster, deployment) == before, "something was produced with one copy"
        assert worker.alive, worker.tail()
        await asyncio.to_thread(cluster.start)
        await _agrees(deployment, count, worker)


async def test_a_coordinator_that_has_lost_a_group_is_not_taken_for_one_whose_group_committed_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a broker's restart or the move of a group to another one: aiokafka's own takes it so."""
    cluster = KafkaCluster(tmp_path / "kafka", nodes=3, controllers=1)
    with await asyncio.to_thread(started, cluster):
        options = client_arguments(KafkaSettings(bootstrap_servers=cluster.bootstrap_servers))
        place = TopicPartition(PROBE, 0)
        await _create_probe(options, copies=1)  # a node may not be known to the controller yet

        async def committed(consumer: AIOKafkaConsumer, *, nodes_away: int) -> dict[TopicPartition, OffsetAndMetadata]:
            """What a node says that is so many nodes away from the coordinator."""
            coordinator = consumer._coordinator
            await coordinator.ensure_coordinator_known()
            coordinator.coordinator_id = (coordinator.coordinator_id - 1 + nodes_away) % 3 + 1
            return await committed_metadata(consumer, [place])

        async with (
            asyncio.timeout(120),
            AIOKafkaConsumer(**options, group_id="desk", enable_auto_commit=False) as consumer,
        ):
            consumer.assign([place])
            await consumer.commit({place: (7, "a clock")})
            said = [await committed(consumer, nodes_away=away) for away in (0, 1)]
            monkeypatch.setattr(GroupCoordinator, "_send_req", UNCHECKED)
            unchecked = [await committed(consumer, nodes_away=away) for away in (0, 1)]
    assert said == [{place: OffsetAndMetadata(7, "a clock")}] * 2
    assert unchecked == [said[0], {}]


def _deployment(cluster: KafkaCluster, folder: Path, bundle: str, **more: Any) -> Deployment:
    deployment = Deployment(
        cluster.bootstrap_servers,
        folder,
        model__bundle=bundle,
        topics__documents__partitions=6,
        time__pane_seconds=300,
        time__idle_timeout_seconds=15,
        **more,
    )
    deployment.idempotent = True
    return deployment


def _records(count: int) -> list[Record]:
    start = int(time.time() * 1000) - 50 * HOUR_MS
    return list(documents(count, seed=5, partitions=6, start_ms=start, step_ms=60_000))


def _all_out(deployment: Deployment, count: int) -> Callable[[], Awaitable[bool]]:
    async def all_out() -> bool:
        return (await deployment.accounted_for())["all"] == count

    return all_out


async def _agrees(deployment: Deployment, count: int, worker: WorkerProcess) -> None:
    """Nothing was lost, and the windows are those of a backtest; the worker ends in order."""

    async def same() -> bool:
        return await deployment.latest("windows") == expected["windows"]

    await until(_all_out(deployment, count), f"{count} documents are accounted for", worker=worker)
    expected, counts = await deployment.backtest()
    await until(same, "the windows are those of a backtest", worker=worker)
    assert counts.received == count
    assert worker.finish() == 0, worker.tail()


async def _create_probe(options: dict[str, Any], *, copies: int) -> None:
    admin = AIOKafkaAdminClient(**options)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(PROBE, 1, copies)])
    finally:
        await admin.close()


def _refuses(deployment: Deployment) -> Callable[[], Awaitable[bool]]:
    """Whether a record that two brokers must have is refused for that reason."""

    async def refuses() -> bool:
        options = client_arguments(deployment.config.kafka) | {"request_timeout_ms": 2000}
        async with AIOKafkaProducer(**options, acks="all") as producer:
            try:
                await producer.send_and_wait(PROBE, b"probe")
            except NotEnoughReplicasError:
                return True
        return False

    return refuses


def _kept(cluster: KafkaCluster, deployment: Deployment) -> dict[str, int]:
    """The bytes that node 1 has of everything that a worker writes; what is not acknowledged yet has no offset to ask
    for, but would lie there."""
    data = cluster.folder / "node-1" / "data"
    names = {topic: getattr(deployment.config.topics, topic).name for topic in WRITTEN}
    return {topic: sum(file.stat().st_size for file in data.glob(f"{name}-*/*.log")) for topic, name in names.items()}
