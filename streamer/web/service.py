"""Keeps the page fed: follows the windows and alerts topics with a consumer of its own, outside any group.

So every worker shows everything, also the books that others watch, and what it shows is what consumers get.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry

from streamer.config.settings import Config
from streamer.kafka.client import client_arguments, plain_error
from streamer.kafka.silence_topic import SilenceTopic
from streamer.sinks import secret_source
from streamer.web.admission import Admission
from streamer.web.feed import KEEP_MS, PageFeed
from streamer.web.server import Health, PageServer
from streamer.web.silencing import Silencing

MOST_RECORDS_BACK = 300_000
RETRY_SECONDS = 5.0

logger = logging.getLogger(__name__)


class PageService:
    """The page of one worker. Its failures never reach the worker: it logs, waits and tries again."""

    def __init__(
        self,
        config: Config,
        health: Health,
        registry: CollectorRegistry,
        sinks: Callable[[], list[dict[str, Any]]] = list,
        silences: Callable[[], list[dict[str, Any]]] = list,
    ) -> None:
        self._config = config
        has_token = config.web.token is not None or config.web.token_file is not None
        self._admission = admission = Admission(
            host=config.web.host, names=config.web.names, allowed=config.web.silences, has_token=has_token
        )
        topic = SilenceTopic(config, lambda what: logger.warning("%s", what))
        self._server = PageServer(
            PageFeed(),
            health,
            registry,
            host=config.web.host,
            port=config.web.port,
            sinks=sinks,
            silences=silences,
            admission=admission,
            silencing=Silencing(topic, admission, secret_source(config.web.token, config.web.token_file)),
        )
        self._following: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """Where the page is, once started."""
        return self._server.address

    async def start(self) -> None:
        """Listen at once (health and metrics), then follow the topics in the background. Raises OSError."""
        await self._server.start()
        logger.info("the page is at %s", self.address)
        if self._admission.access("localhost") == "open":
            logger.info(
                "silences can be changed on the page by everyone on this machine and by whoever a proxy lets through; "
                "docs/deploy.md tells how to close it"
            )
        self._following = asyncio.create_task(self._follow_for_ever())

    async def stop(self) -> None:
        """Stop following and listening."""
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
        await self._server.stop()

    async def _follow_for_ever(self) -> None:
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError) as error:
                logger.warning("the page waits for Kafka: %s", plain_error(error, self._config.kafka))
            except Exception as error:
                logger.warning("the page lost its topics and begins again: %s", error, exc_info=error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        topics = self._config.topics
        takers = {topics.windows.name: self._server.take_window, topics.alerts.name: self._server.take_alert}
        consumer = AIOKafkaConsumer(
            **client_arguments(self._config.kafka, purpose="page"), group_id=None, enable_auto_commit=False
        )
        try:
            await consumer.start()
            partitions = await _partitions(consumer, list(takers))
            consumer.assign(partitions)
            await _seek_back(consumer, partitions)
            while True:
                batch = await consumer.getmany(timeout_ms=1000, max_records=2000)
                for partition, records in batch.items():
                    take = takers[partition.topic]
                    for record in records:
                        if record.value is not None:
                            take(record.value)
                await asyncio.sleep(0)
        finally:
            await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topics: list[str]) -> list[TopicPartition]:
    """All partitions of the topics, waiting for topics that are being created."""
    while True:
        # `partitions_for_topic` knows subscribed topics only, and asking for `topics()` does not teach it the others.
        cluster = await consumer._client.fetch_all_metadata()
        found = {topic: cluster.partitions_for_topic(topic) for topic in topics}
        if all(found.values()):
            return [TopicPartition(topic, number) for topic, numbers in found.items() for number in sorted(numbers)]
        await asyncio.sleep(0.5)


async def _seek_back(consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
    """Begin where the page's span begins, but at most some hundred thousand records back."""
    since_ms = int(time.time() * 1000) - KEEP_MS
    by_time = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
    ends = await consumer.end_offsets(partitions)
    beginnings = await consumer.beginning_offsets(partitions)
    for partition in partitions:
        found = by_time.get(partition)
        start = found.offset if found is not None else ends[partition]
        consumer.seek(partition, max(start, beginnings[partition], ends[partition] - MOST_RECORDS_BACK))
