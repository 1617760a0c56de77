"""A deployment for tests: topics of its own on some broker, worker processes, and what lies in the topics."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import yaml
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from alerts.notifications import Notification
from alerts.silences import Silence
from streamer.config.load import load_config
from streamer.config.settings import Config
from streamer.core.dead_letters import read_origin
from streamer.kafka.client import KafkaSetupError, client_arguments
from streamer.kafka.topic_reader import TopicRecord, open_consumer, partitions_of, read_to_end
from streamer.model import load_models
from streamer.offline.backtest import BacktestOutput
from streamer.offline.kafka_source import backtest_topic
from streamer.worker.topics import planned_topics

TOPICS = ("documents", "scores", "digests", "windows", "alerts", "notifications", "silences", "dead_letters", "late")
OUTPUTS = ("windows", "alerts", "notifications")
Latest = dict[bytes, bytes | None]


class Deployment:
    """One configuration of Bearwire on a broker. `settings` are `section.key` to value, on top of quick timings."""

    def __init__(self, servers: str, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.idempotent = False
        """Whether the broker knows idempotent producers and transactions; Apache Kafka does."""
        self.name = uuid4().hex[:8]
        self._seen: dict[str, list[TopicRecord]] = {}
        self._read_to: dict[str, dict[TopicPartition, int]] = {}
        tree: dict[str, Any] = {
            "kafka": {"bootstrap_servers": servers, "group_prefix": self.name, "request_timeout_seconds": 15},
            "topics": {topic: {"name": f"{self.name}.{topic.replace('_', '-')}"} for topic in TOPICS},
            "worker": {
                "session_timeout_seconds": 3,
                "rebalance_timeout_seconds": 3,
                "snapshot_seconds": 1,
                "data_dir": str(folder / "data"),
            },
            "web": {"enabled": False},
            "model": {"threads": 1},
            "novelty": {"similarity": 0.95},  # the made-up texts differ in a few words only and are no copies
        }
        for key, value in settings.items():
            section, _, name = key.partition("__")
            place = tree.setdefault(section, {})
            *path, last = name.split("__") if name else [""]
            for part in path:
                place = place.setdefault(part, {})
            if last:
                place[last] = value
            else:
                tree[section] = value
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / f"{self.name}.yaml"
        self.file.write_text(yaml.safe_dump(tree))
        self.config: Config = load_config(self.file, {})

    def worker(self, *arguments: str, number: int = 0) -> WorkerProcess:
        """A worker process of this deployment, started."""
        return WorkerProcess(self.file, self.folder / f"worker-{number}.log", *arguments)

    async def notify(self, *notifications: Notification) -> None:
        """Produce to the notifications topic, as a book's watcher does."""
        producer = await self.producer(self.config.topics.notifications.name)
        try:
            for each in notifications:
                await producer.send_and_wait(self.config.topics.notifications.name, each.encode(), key=each.key)
        finally:
            await producer.stop()

    async def publish(self, records: Iterable[tuple[int | None, bytes | None, bytes | None]]) -> int:
        """Produce (partition, key, value) to the documents topic; returns how many."""
        producer = await self.producer(self.config.topics.documents.name)
        try:
            topic = self.config.topics.documents.name
            sent = [
                await producer.send(topic, value, key=key, partition=partition) for partition, key, value in records
            ]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()
        return len(sent)

    async def publish_in_transaction(self, records: Iterable[tuple[int | None, bytes | None, bytes | None]]) -> int:
        """The same in one transaction."""
        producer = AIOKafkaProducer(**client_arguments(self.config.kafka), transactional_id=f"{self.name}-feed")
        await producer.start()
        try:
            async with producer.transaction():
                topic = self.config.topics.documents.name
                sent = [
                    await producer.send(topic, value, key=key, partition=partition) for partition, key, value in records
                ]
                await asyncio.gather(*sent)
        finally:
            await producer.stop()
        return len(sent)

    async def producer(self, topic: str) -> AIOKafkaProducer:
        """A started producer that knows `topic`; waits for a broker that is being killed or started just
        now, and at first knows of no topics."""
        deadline = time.monotonic() + 120
        while True:
            producer = AIOKafkaProducer(
                **client_arguments(self.config.kafka),
                acks="all",
                enable_idempotence=self.idempotent,
                linger_ms=5,
                max_request_size=12 * 1024 * 1024,
            )
            try:
                await producer.start()
                await producer.partitions_for(topic)
            except KafkaError:
                await producer.stop()
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.5)
            else:
                return producer

    async def has_topics(self) -> bool:
        """Whether a worker has created the topics."""
        async with open_consumer(self.config.kafka) as consumer:
            return {getattr(self.config.topics, topic).name for topic in TOPICS} <= await consumer.topics()

    async def grow(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions."""
        admin = AIOKafkaAdminClient(**client_arguments(self.config.kafka))
        await admin.start()
        try:
            await admin.create_partitions({getattr(self.config.topics, topic).name: NewPartitions(partitions)})
        finally:
            await admin.close()

        async def grown() -> bool:
            async with open_consumer(self.config.kafka) as consumer:
                return len(await partitions_of(consumer, getattr(self.config.topics, topic).name)) == partitions

        await until(grown, f"every client sees {partitions} partitions")

    async def configure(self, topic: str, **settings: str) -> None:
        """Give a topic the settings it was planned with, and these (dots as underscores)."""
        name = getattr(self.config.topics, topic).name
        planned = next(plan.settings for plan in planned_topics(self.config) if plan.name == name)
        wanted = planned | {key.replace("_", "."): value for key, value in settings.items()}
        admin = AIOKafkaAdminClient(**client_arguments(self.config.kafka))
        await admin.start()
        try:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, wanted)])
        finally:
            await admin.close()

    async def records(self, topic: str) -> list[TopicRecord]:
        """Everything that lies in one of the topics (by its name in the configuration), without what an aborted or open
        transaction wrote; reads what is new."""
        seen = self._seen.setdefault(topic, [])
        start = self._read_to.setdefault(topic, {})
        async with open_consumer(self.config.kafka, committed=self.idempotent) as consumer:
            partitions = await partitions_of(consumer, getattr(self.config.topics, topic).name)
            async for record in read_to_end(consumer, partitions, start, committed=self.idempotent):
                seen.append(record)
                start[TopicPartition(partitions[0].topic, record.partition)] = record.offset + 1
        return seen

    async def latest(self, topic: str) -> Latest:
        """The last record of each key."""
        return {record.key or b"": record.value for record in await self.records(topic)}

    async def backtest(self, silences: Sequence[Silence] = ()) -> tuple[dict[str, Latest], Any]:
        """What one calm process makes of the documents topic: windows, alerts, notifications by key; its counts."""
        latest: dict[str, Latest] = {"windows": {}, "alerts": {}, "notifications": {}}

        def take(output: BacktestOutput) -> None:
            for rows in output.windows:
                latest["windows"].update({record.key: record.value for record in rows.records()})
            latest["alerts"].update({alert.key: alert.encode() for alert in output.alerts})
            latest["notifications"].update({told.key: told.encode() for told in output.notifications})

        backtest = await backtest_topic(self.config, load_models(self.config.model), take, silences=silences)
        return latest, backtest.counts

    async def accounted_for(self) -> Counter[str]:
        """How often each source position came out, as `scores`, `late` or `dead_letters`; then of how many.

        Raises AssertionError where a document was scored twice and came out different.
        """
        seen: Counter[tuple[int, int]] = Counter()
        scored: dict[tuple[int, int], bytes | None] = {}
        fates: Counter[str] = Counter()
        for topic in ("scores", "late"):
            for record in await self.records(topic):
                origin = msgspec.json.decode(record.value or b"{}")["origin"]
                position = (origin["partition"], origin["offset"])
                fates[topic] += position not in seen
                seen[position] += 1
                assert topic != "scores" or scored.setdefault(position, record.value) == record.value, position
        for record in await self.records("dead_letters"):
            letter = read_origin(record.headers)
            fates["dead_letters"] += (letter.partition, letter.offset) not in seen
            seen[letter.partition, letter.offset] += 1
        fates["repeats"] = seen.total() - len(seen)
        fates["all"] = len(seen)
        return fates


class WorkerProcess:
    """`bearwire worker` as a process of its own, its log in a file."""

    def __init__(self, config: Path, log: Path, *arguments: str) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamer.cli", "worker", "-c", str(config), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={key: value for key, value in os.environ.items() if not key.startswith(("BEARWIRE_", "RAYON_"))},
            )

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def finish(self, timeout: float = 40.0) -> int:
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the worker did not stop within {timeout} s:\n{self.tail()}") from None

    def tail(self, lines: int = 40) -> str:
        """The end of the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


async def until(holds: Any, what: str, *, seconds: float = 180.0, worker: WorkerProcess | None = None) -> Any:
    """Ask `await holds()` every so often until it is true; AssertionError with its log after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            result = await holds()
        except (KafkaError, KafkaSetupError):
            result = False  # the broker is being killed, started or starved just now
        if result:
            return result
        if worker is not None and not worker.alive:
            raise AssertionError(f"the worker ended with {worker.process.returncode}:\n{worker.tail()}")
        if time.monotonic() > deadline:
            log = f":\n{worker.tail()}" if worker is not None else ""
            raise AssertionError(f"waited {seconds:.0f} s in vain until {what}{log}")
        await asyncio.sleep(0.25)
