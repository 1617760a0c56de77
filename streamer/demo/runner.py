"""Runs the demo: a broker in memory, one real worker, the stream into it, and everything that comes out."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from msgspec.structs import replace

from alerts.records import AlertRecord, decode_alert
from streamer.config.settings import (
    Config,
    KafkaSettings,
    ModelSettings,
    TimeSettings,
    TopicSettings,
    WebSettings,
    WorkerSettings,
)
from streamer.core.dead_letters import read_origin
from streamer.demo.judging import Judgement, judge
from streamer.demo.outputs import origin_of
from streamer.demo.publish import publish
from streamer.demo.screen import Screen
from streamer.demo.stream import Message
from streamer.demo.surges import Surge
from streamer.demo.tally import Fate, Place, Tally
from streamer.demo.worker_process import WorkerProcess
from streamer.kafka.client import client_arguments, quiet_clients
from streamer.worker.embedded import EmbeddedBroker, free_port
from streamer.worker.topics import ensure_topics

_IDLE_SECONDS: Final = 4.0
_QUIET_SECONDS: Final = 1.0
_READY_SECONDS: Final = 120.0
_STUCK_SECONDS: Final = 60.0
_CHECK_SECONDS: Final = 0.1
_MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024


class DemoFailed(Exception):
    """The demo could not be shown to its end; says what broke."""


@dataclass(slots=True)
class Outcome:
    """What the demo measured. `seconds` is from the first message published to the last one accounted for."""

    tally: Tally = field(default_factory=Tally)
    alerts: dict[tuple[str, int], AlertRecord] = field(default_factory=dict)
    seconds: float = 0.0
    judgement: Judgement = field(default_factory=lambda: Judgement((), ()))

    @property
    def fired(self) -> int:
        """How many alerts fired."""
        return sum(1 for record in self.alerts.values() if record.change == "fired")


class Demo:
    """One run of the demo over `messages`, judged by `surges`; `speed` is None for as fast as it goes."""

    def __init__(
        self,
        messages: list[Message],
        surges: tuple[Surge, ...],
        screen: Screen,
        *,
        speed: float | None,
        bundle: str = "default",
        keep: bool = False,
    ) -> None:
        self._messages = messages
        self._surges = surges
        self._screen = screen
        self._speed = speed
        self._bundle = bundle
        self._keep = keep
        self._outcome = Outcome()
        self._last_output = 0.0
        self._newest_ms = 0

    async def run(self) -> Outcome:
        """Plays the whole stream and says what came of it.

        Raises DemoFailed, WorkerDied or EmbeddedBrokerError; asyncio.CancelledError at SIGINT or SIGTERM. In every
        case nothing is left running.
        """
        quiet_clients()
        with TemporaryDirectory(prefix="bearwire-demo-") as folder, _signals_cancel():
            async with _broker(Path(folder)) as servers:
                config = demo_config(servers, Path(folder), web_port=free_port(), bundle=self._bundle)
                await _create_topics(config)
                worker = WorkerProcess(config, Path(folder))
                try:
                    await worker.start()
                    await worker.ready(_READY_SECONDS)
                    self._opening(worker)
                    await self._play(config, worker)
                    if self._keep:
                        await self._stay(worker)
                finally:
                    self._screen.ended()
                    await asyncio.shield(worker.stop())
        return self._outcome

    def _opening(self, worker: WorkerProcess) -> None:
        times = [message.published_at_ms for message in self._messages if message.published_at_ms is not None]
        self._screen.opening(worker.page, len(self._messages), (max(times) - min(times)) // 86_400_000 + 1)

    async def _play(self, config: Config, worker: WorkerProcess) -> None:
        topics = config.topics
        consumer = AIOKafkaConsumer(
            **client_arguments(config.kafka, purpose="demo"), auto_offset_reset="earliest", group_id=None,
            fetch_max_wait_ms=100, max_partition_fetch_bytes=_MAX_MESSAGE_BYTES,
        )  # fmt: skip
        producer = AIOKafkaProducer(
            **client_arguments(config.kafka, purpose="demo"), acks="all", linger_ms=5,
            max_request_size=_MAX_MESSAGE_BYTES,
        )  # fmt: skip
        consumer.assign(
            [
                TopicPartition(topic.name, partition)
                for topic in (topics.scores, topics.late, topics.dead_letters, topics.alerts, topics.windows)
                for partition in range(topic.partitions)
            ]
        )
        async with producer, consumer:
            await _first_to_end(
                self._feed_and_wait(config, producer, worker), self._collect(config, consumer), _guard(worker)
            )

    async def _feed_and_wait(self, config: Config, producer: AIOKafkaProducer, worker: WorkerProcess) -> None:
        outcome = self._outcome
        self._screen.started()
        began = self._last_output = time.monotonic()
        await publish(
            self._messages, producer, config.topics.documents.name,
            speed=self._speed, acknowledged=outcome.tally.note_published, progress=self._screen.published,
        )  # fmt: skip
        self._last_output = time.monotonic()
        while outcome.tally.unaccounted:
            if time.monotonic() > self._last_output + _STUCK_SECONDS:
                raise DemoFailed(
                    f"{outcome.tally.unaccounted} of {len(outcome.tally.published)} messages became neither a score, "
                    f"a late document nor a dead letter, and nothing has moved for {_STUCK_SECONDS:.0f} s"
                )
            await asyncio.sleep(_CHECK_SECONDS)
        outcome.seconds = time.monotonic() - began
        await self._watched(config, worker)
        while (quiet_for := time.monotonic() - self._last_output) < _QUIET_SECONDS:  # noqa: ASYNC110
            await asyncio.sleep(_QUIET_SECONDS - quiet_for)
        self._screen.ended()
        outcome.judgement = judge(self._surges, outcome.alerts.values())
        self._screen.summary(outcome.tally, len(outcome.alerts), outcome.fired, outcome.seconds, outcome.judgement)

    async def _watched(self, config: Config, worker: WorkerProcess) -> None:
        """Wait until the worker has closed every pane that can close: all partitions are idle then."""
        due = self._newest_ms - config.time.allowed_lateness_ms
        while (reached := await worker.watermark_ms()) is None or reached < due:
            if time.monotonic() > self._last_output + _STUCK_SECONDS:
                raise DemoFailed(
                    f"the worker's watermark stays at {reached} ms although it should reach {due} ms, and nothing has "
                    f"moved for {_STUCK_SECONDS:.0f} s"
                )
            await asyncio.sleep(_CHECK_SECONDS)

    async def _collect(self, config: Config, consumer: AIOKafkaConsumer) -> None:
        """Takes in everything that the worker produces, for ever."""
        topics = config.topics
        fates: dict[str, Fate] = {topics.scores.name: "scored", topics.late.name: "late"}
        tally = self._outcome.tally
        async for record in consumer:
            self._last_output = time.monotonic()
            if record.topic in fates:
                place, published_ms = origin_of(record.value)
                self._newest_ms = max(self._newest_ms, published_ms)
                tally.note_fate(place, fates[record.topic], record.timestamp)
            elif record.topic == topics.dead_letters.name:
                origin = read_origin(record.headers)
                tally.note_fate(Place(origin.partition, origin.offset), "dead", record.timestamp, origin.reason)
            elif record.topic == topics.alerts.name and record.value is not None:
                self._take_alert(decode_alert(record.value))

    def _take_alert(self, record: AlertRecord) -> None:
        if (record.id, record.sequence) not in self._outcome.alerts:
            self._outcome.alerts[record.id, record.sequence] = record
            self._screen.alert(record)

    async def _stay(self, worker: WorkerProcess) -> None:
        self._screen.say(f"The worker keeps running for its page, {worker.page} - end it with Ctrl-C.")
        with contextlib.suppress(asyncio.CancelledError):
            await _guard(worker)


def demo_config(servers: str, folder: Path, *, web_port: int, bundle: str = "default") -> Config:
    """The worker's configuration: the defaults, but few partitions and timeouts that fit a run of half a minute."""
    topics = Config().topics
    return Config(
        kafka=KafkaSettings(bootstrap_servers=servers),
        topics=replace(
            topics,
            documents=TopicSettings(name=topics.documents.name, partitions=2),
            scores=replace(topics.scores, partitions=2),
            replication_factor=1,
        ),
        time=TimeSettings(idle_timeout_seconds=_IDLE_SECONDS),
        worker=WorkerSettings(
            session_timeout_seconds=6.0, rebalance_timeout_seconds=6.0, data_dir=str(folder / "faust")
        ),
        model=ModelSettings(bundle=bundle),
        web=WebSettings(host="127.0.0.1", port=web_port),
    )


@contextlib.asynccontextmanager
async def _broker(folder: Path) -> AsyncIterator[str]:
    broker = EmbeddedBroker(log=folder / "broker.log")
    await asyncio.to_thread(broker.start)
    try:
        yield broker.bootstrap_servers
    finally:
        await asyncio.shield(asyncio.to_thread(broker.stop))


async def _create_topics(config: Config) -> None:
    admin = AIOKafkaAdminClient(**client_arguments(config.kafka, purpose="demo"))
    await admin.start()
    try:
        await ensure_topics(admin, config)
    finally:
        await admin.close()


async def _guard(worker: WorkerProcess) -> None:
    """Ends, with WorkerDied, when the worker does."""
    while True:
        worker.check()
        await asyncio.sleep(_CHECK_SECONDS)


async def _first_to_end(*work: Coroutine[Any, Any, None]) -> None:
    """Runs all until one ends, cancels the others, and raises what it raised."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


@contextlib.contextmanager
def _signals_cancel() -> Any:
    """SIGINT and SIGTERM cancel the current task, so that everything is cleaned up on the way out."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        if task is not None:
            loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
