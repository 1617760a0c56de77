"""A network and a broker that misbehave: the worker goes on, or ends with a clear last line, and never just hangs."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from alerts.notifications import notification_id
from streamer.worker.embedded import free_port
from tests.brokers.kraft import KafkaCluster, Security
from tests.brokers.proxy import FaultyProxy
from tests.integration.conftest import started
from tests.integration.delivery import archived, ready
from tests.integration.deployment import OUTPUTS, Deployment, WorkerProcess, until
from tests.integration.stream import documents
from tests.sinks.notifications import notification

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]

HOUR_MS = 3_600_000
STEP_MS = 30_000
IDLE_SECONDS = 12
"""Longer than any pause between two lots of documents: what follows an idle partition's return may be too late."""


PHASES = {
    "produce": 0, "fetch": 1, "list offsets": 2, "metadata": 3, "commit": 8, "fetch offsets": 9,
    "find coordinator": 10, "join": 11, "heartbeat": 12, "sync": 14, "connect": 18, "create topics": 19,
    "begin to produce": 22, "add to a transaction": 24, "end a transaction": 26, "describe settings": 32,
    "choose a mechanism": 17, "authenticate": 36,
}  # fmt: skip
"""Kinds of requests, by the numbers that Kafka's protocol gives them."""
MEMBERS_PHASES = (
    "connect", "metadata", "find coordinator", "join", "sync", "heartbeat", "fetch offsets", "list offsets", "fetch",
    "commit",
)  # fmt: skip
"""Those of a consumer in a group."""
BOOKS_PHASES = (
    "connect", "metadata", "find coordinator", "begin to produce", "add to a transaction", "produce",
    "end a transaction",
)  # fmt: skip
"""Those of a producer with transactions."""
READERS_PHASES = ("connect", "metadata", "list offsets", "fetch")
"""Those of a consumer that is in no group and reads from its own offsets."""
BEGINNING = [PHASES[name] for name in ("connect", "choose a mechanism", "authenticate", "metadata")]
LEAVE = 13
WORKER = "worker"
"""What the workers' clients call themselves where the readers of the tests are not meant."""


class Behind(NamedTuple):
    """A deployment whose worker reaches Kafka through the proxy, and the same seen past the proxy."""

    proxy: FaultyProxy
    cluster: KafkaCluster
    deployment: Deployment

    async def publish(self, count: int, seed: int, after: int = 0) -> int:
        """Publish `count` documents whose time goes on where that of `after` documents ended."""
        start = int(time.time() * 1000) - 50 * HOUR_MS + after * STEP_MS
        stream = documents(count, seed=seed, partitions=4, start_ms=start, step_ms=STEP_MS, surge_every=400)
        return await self.deployment.publish(stream)

    async def works(self) -> bool:
        """Whether anything has come out."""
        return (await self.deployment.accounted_for())["all"] > 0

    async def agrees(self, count: int, worker: WorkerProcess) -> None:
        """Wait until every document is accounted for and the outputs are those of a backtest."""

        async def all_out() -> bool:
            return (await self.deployment.accounted_for())["all"] == count

        async def same() -> bool:
            return all([await self.deployment.latest(topic) == expected[topic] for topic in OUTPUTS])

        await until(all_out, f"{count} documents are accounted for", worker=worker)
        expected, _ = await self.deployment.backtest()
        await until(same, "the outputs are those of a backtest", worker=worker)


@pytest.fixture
async def behind(tmp_path: Path, tiny_bundle: str) -> AsyncIterator[Behind]:
    async with _behind(tmp_path, tiny_bundle, Security()) as it:
        yield it


@asynccontextmanager
async def _behind(folder: Path, bundle: str, security: Security, **settings: Any) -> AsyncIterator[Behind]:
    port = free_port()
    cluster = KafkaCluster(folder / "kafka", advertised_port=port, security=security)
    with await asyncio.to_thread(started, cluster):
        async with FaultyProxy(port, cluster.port) as proxy:
            yield Behind(proxy, cluster, _deployment(f"127.0.0.1:{port}", folder, bundle, **settings))


def _deployment(servers: str, folder: Path, bundle: str, **settings: Any) -> Deployment:
    deployment = Deployment(
        servers,
        folder,
        model__bundle=bundle,
        topics__documents__partitions=4,
        time__pane_seconds=300,
        time__idle_timeout_seconds=IDLE_SECONDS,
        worker__stall_timeout_seconds=25,
        books=[{"name": "main", "windows": ["15m", "1h"]}],
        **settings,
    )
    deployment.idempotent = True
    return deployment


async def test_connections_that_are_cut_at_any_moment_cost_nothing(behind: Behind) -> None:
    worker = behind.deployment.worker("--set", "worker.stall_timeout_seconds=60")
    rng = random.Random(11)
    cutting = asyncio.create_task(_cut(behind.proxy, rng))
    try:
        await until(behind.deployment.has_topics, "the topics exist", worker=worker)
        count = await behind.publish(1500, seed=1)
        await asyncio.sleep(15)
    finally:
        cutting.cancel()
    await behind.agrees(count, worker)
    assert behind.proxy.cuts > 20
    assert await asyncio.to_thread(worker.finish) == 0, worker.tail()


async def test_a_connection_lost_in_any_phase_of_scoring_costs_nothing(behind: Behind) -> None:
    """Each kind of request loses its connection once on its way to the broker, and once on the answer's way back: those
    of the scorer's clients, and of the set-up."""
    admin = {PHASES["create topics"], PHASES["describe settings"]}

    def trapped(client: str, key: int) -> bool:
        return client.endswith("-admin" if key in admin else "-score")

    phases = [phase for phase in MEMBERS_PHASES if phase != "list offsets"]  # which the scorer need not ask for
    _set_traps(behind.proxy, [*phases, "produce", "begin to produce", "create topics"], trapped)
    behind.proxy.traps[PHASES["describe settings"], False] = 1  # asked once; what was not answered is not checked
    await _spring_all_while_watching(behind)


async def test_a_connection_of_a_book_lost_in_any_phase_costs_nothing(behind: Behind) -> None:
    """The same for the producers of a book, with its transactions."""
    _set_traps(behind.proxy, BOOKS_PHASES, lambda client, key: client.endswith("-watch"))
    await _spring_all_while_watching(behind, in_a_group=False)


async def test_a_connection_of_faust_lost_in_any_phase_costs_nothing(behind: Behind) -> None:
    """The same for the consumer and the producer with which Faust reads digests and writes states."""
    _set_traps(behind.proxy, [*MEMBERS_PHASES, "produce"], lambda client, key: client.endswith("-faust"))
    await _spring_all_while_watching(behind, most_workers=6)


@pytest.mark.parametrize("reader", ["-reader", "-silences"])
async def test_a_connection_of_a_reader_lost_in_any_phase_costs_nothing(behind: Behind, reader: str) -> None:
    """The same for the consumers that read a book's changelog, digests it missed, and the silences."""
    first = behind.deployment.worker()
    await until(behind.deployment.has_topics, "the topics exist", worker=first)
    count = await behind.publish(200, seed=1)
    await until(behind.works, "something comes out", worker=first)
    await asyncio.sleep(2)
    first.kill()  # so that there is a state to open the book on
    _set_traps(behind.proxy, READERS_PHASES, lambda client, key: client == f"{WORKER}{reader}")
    await _spring_all_while_watching(behind, in_a_group=False, count=count, most_workers=3)


async def test_a_connection_lost_while_it_logs_in_costs_nothing(tmp_path: Path, tiny_bundle: str) -> None:
    """Each client of a worker by itself: once as it asks for a mechanism, once before the answer to its password."""
    clients = {f"{WORKER}-{purpose}" for purpose in ("admin", "score", "faust", "watch", "reader", "silences")}
    password = "correct horse"
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
    properties = {
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.client.plain.sasl.jaas.config": f'{plain} required user_desk="{password}";',
    }
    cut: set[tuple[str, int]] = set()

    def trapped(client: str, key: int) -> bool:
        if client not in clients or (client, key) in cut:
            return False
        cut.add((client, key))
        return True

    security = Security("SASL_PLAINTEXT", properties)
    login = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "desk", "sasl_password": password}
    settings = {f"kafka__{key}": value for key, value in login.items()}
    async with _behind(tmp_path, tiny_bundle, security, **settings) as behind:
        behind.proxy.trapped = trapped
        steps = PHASES["choose a mechanism"], PHASES["authenticate"]
        for step, at_answer in zip(steps, (False, True), strict=True):
            behind.proxy.traps[step, at_answer] = len(clients)
        await _spring_all_while_watching(behind, in_a_group=False, most_workers=5)
    assert cut == {(client, step) for client in clients for step in steps}


async def test_a_connection_of_the_sinks_lost_in_any_phase_costs_nothing(behind: Behind, tmp_path: Path) -> None:
    """The same for the consumer that delivers notifications."""
    sinks = {"files": [{"name": "archive", "receivers": ["desk"], "path": str(tmp_path / "archive.jsonl")}]}
    deployment = Deployment(behind.deployment.config.kafka.bootstrap_servers, tmp_path, sinks=sinks)
    _set_traps(behind.proxy, MEMBERS_PHASES, lambda client, key: client.endswith("-sinks"))
    worker = await ready(deployment)
    told: list[str] = []

    async def all_sprung() -> bool:
        told.append(notification_id("a", len(told) + 1))
        await deployment.notify(notification(group="a", sequence=len(told)))
        return not +behind.proxy.traps

    async def all_archived() -> bool:
        return list(dict.fromkeys(archived(tmp_path))) == told

    await _until_sprung(behind.proxy, all_sprung)
    await until(all_archived, "every notification is delivered, in order", worker=worker)
    assert await asyncio.to_thread(worker.finish) == 0, worker.tail()


def _set_traps(proxy: FaultyProxy, phases: Sequence[str], trapped: Callable[[str, int], bool]) -> None:
    proxy.trapped = trapped
    proxy.traps.update({(PHASES[name], at_answer): 1 for name in phases for at_answer in (False, True)})


async def _spring_all_while_watching(
    behind: Behind, *, in_a_group: bool = True, most_workers: int = 1, count: int = 0
) -> None:
    """Publish until every trap has sprung; the outputs are right, and the worker leaves though that too is cut.

    Where a client of Faust cannot even begin, the worker ends in order. It is started again, as a supervisor would,
    until there were `most_workers`. `count` documents are there already.
    """
    workers: list[WorkerProcess] = []

    def watched() -> WorkerProcess:
        if not workers or not workers[-1].alive:
            if workers:
                assert len(workers) < most_workers, workers[-1].tail()
                assert behind.proxy.sprung[-1] in BEGINNING, workers[-1].tail()
                assert workers[-1].process.returncode == 1
                assert workers[-1].tail(1).startswith("bearwire: Kafka: "), workers[-1].tail()
            arguments = ("--set", "worker.stall_timeout_seconds=120", "--set", f"kafka.client_id={WORKER}")
            workers.append(behind.deployment.worker(*arguments, number=len(workers)))
        return workers[-1]

    async def has_topics() -> bool:
        watched()
        return await behind.deployment.has_topics()

    async def all_sprung() -> bool:
        nonlocal count
        watched()
        count += await behind.publish(50, seed=count + 1, after=count)
        return not +behind.proxy.traps

    await until(has_topics, "the topics exist")
    await _until_sprung(behind.proxy, all_sprung)
    worker = watched()
    await behind.agrees(count, worker)
    if in_a_group:
        behind.proxy.traps[LEAVE, False] = 1
    assert await asyncio.to_thread(worker.finish) == 0, worker.tail()
    assert not +behind.proxy.traps, "the worker left its group without a word"


async def _until_sprung(proxy: FaultyProxy, all_sprung: Callable[[], Awaitable[bool]]) -> None:
    try:
        await until(all_sprung, "every trap has sprung")
    except AssertionError as error:
        names = {key: name for name, key in PHASES.items()}
        left = [(names[key], at_answer) for key, at_answer in +proxy.traps]
        raise AssertionError(f"not sprung: {left}; {error}") from error


async def test_a_network_that_swallows_for_longer_than_a_session_and_an_idle_timeout_costs_nothing(
    behind: Behind,
) -> None:
    # Both silences together may be all that the worker sees in its first half minute: here that is no stall.
    worker = behind.deployment.worker("--set", "worker.stall_timeout_seconds=120")
    await until(behind.deployment.has_topics, "the topics exist", worker=worker)
    count = await behind.publish(600, seed=1)
    for seconds in (8, IDLE_SECONDS + 4):
        behind.proxy.freeze()
        await asyncio.sleep(seconds)
        behind.proxy.thaw()
        count += await behind.publish(300, seed=count, after=count)
    await behind.agrees(count, worker)
    assert await asyncio.to_thread(worker.finish) == 0, worker.tail()


async def test_a_slow_network_costs_only_time(behind: Behind) -> None:
    worker = behind.deployment.worker()
    await until(behind.deployment.has_topics, "the topics exist", worker=worker)
    behind.proxy.delay_seconds = 0.1
    count = await behind.publish(300, seed=1)
    await behind.agrees(count, worker)
    assert await asyncio.to_thread(worker.finish) == 0, worker.tail()


@pytest.mark.parametrize(
    "refusal", [{"min_insync_replicas": "2"}, {"max_message_bytes": "100"}], ids=lambda each: next(iter(each))
)
async def test_a_broker_that_refuses_records_for_a_while_costs_only_time(
    behind: Behind, refusal: dict[str, str]
) -> None:
    """Too few replicas is an error that clients try again by themselves, a record too large one that they give up."""
    worker = behind.deployment.worker()
    await until(behind.deployment.has_topics, "the topics exist", worker=worker)
    count = await behind.publish(600, seed=1)
    for topic in ("digests", "windows"):
        await behind.deployment.configure(topic, **refusal)
    count += await behind.publish(600, seed=2, after=count)
    await asyncio.sleep(6)
    for topic in ("digests", "windows"):
        await behind.deployment.configure(topic)
    await behind.agrees(count, worker)
    assert await asyncio.to_thread(worker.finish) == 0, worker.tail()


async def test_a_broker_whose_disk_is_full_costs_only_time(behind: Behind) -> None:
    """Kafka ends where it can write to no disk; it is started again once there is room."""
    worker = behind.deployment.worker("--set", "worker.stall_timeout_seconds=120")
    await until(behind.deployment.has_topics, "the topics exist", worker=worker)
    count = await behind.publish(1200, seed=1)
    await until(behind.works, "the worker works", worker=worker)
    behind.cluster.fill_disk()

    async def ended() -> bool:
        return behind.cluster.has_ended()

    await until(ended, "the broker gives up", worker=worker)
    behind.cluster.kill()
    await asyncio.to_thread(behind.cluster.start)
    count += await behind.publish(600, seed=2, after=count)
    await behind.agrees(count, worker)
    assert await asyncio.to_thread(worker.finish) == 0, worker.tail()


async def test_a_broker_that_hangs_for_good_ends_the_worker_with_a_clear_last_line(behind: Behind) -> None:
    port = free_port()
    worker = behind.deployment.worker(
        *("--set", "web.enabled=true", "--set", f"web.port={port}"),
        *("--set", "kafka.request_timeout_seconds=120"),  # else Faust's producer may be the first to give up
    )
    await until(behind.deployment.has_topics, "the topics exist", worker=worker)
    await behind.publish(600, seed=1)
    await until(behind.works, "the worker works", worker=worker)
    behind.cluster.pause()

    async def says_so() -> bool:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 503 and "nothing was done for" in await answer.text()

    await until(says_so, "the worker is not ready, and says why", worker=worker)

    async def ended() -> bool:
        return not worker.alive

    await until(ended, "the worker gives up")
    assert worker.process.returncode not in (0, None)
    assert "nothing was done for" in worker.tail(1)


async def test_a_transactional_id_that_expired_costs_nothing(tmp_path: Path, tiny_bundle: str) -> None:
    soon = {
        "transactional.id.expiration.ms": "3000",
        "transaction.remove.expired.transaction.cleanup.interval.ms": "500",
        "producer.id.expiration.ms": "3000",
        "producer.id.expiration.check.interval.ms": "500",
    }
    cluster = KafkaCluster(tmp_path / "kafka", settings=soon)
    with await asyncio.to_thread(started, cluster):
        deployment = _deployment(cluster.bootstrap_servers, tmp_path, tiny_bundle)
        behind = Behind(FaultyProxy(0, 0), cluster, deployment)
        worker = deployment.worker()
        await until(deployment.has_topics, "the topics exist", worker=worker)
        count = await behind.publish(400, seed=1)
        await until(behind.works, "the worker works", worker=worker)
        await asyncio.sleep(6)
        count += await behind.publish(400, seed=2, after=count)
        await behind.agrees(count, worker)
        assert await asyncio.to_thread(worker.finish) == 0, worker.tail()


async def test_a_worker_waits_for_a_broker_that_is_not_up_yet(tmp_path: Path, tiny_bundle: str) -> None:
    cluster = KafkaCluster(tmp_path / "kafka")
    deployment = Deployment(cluster.bootstrap_servers, tmp_path, model__bundle=tiny_bundle)
    worker = deployment.worker()

    async def said() -> bool:
        return "waiting for Kafka, next try in" in worker.log.read_text()

    await until(said, "the worker says that it waits", worker=worker)
    with await asyncio.to_thread(started, cluster):
        await until(deployment.has_topics, "the topics exist", worker=worker)
        assert await asyncio.to_thread(worker.finish) == 0, worker.tail()


async def _cut(proxy: FaultyProxy, rng: random.Random) -> None:
    while True:
        await asyncio.sleep(rng.uniform(0.2, 3.0))
        proxy.cut()
