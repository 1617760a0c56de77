"""Follows the silences topic from its beginning, so that every worker knows what people have asked for."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from alerts.silences import Silence, decode_silence
from streamer.config.settings import Config
from streamer.kafka.client import KafkaSetupError, client_arguments, plain_error

_RETRY_SECONDS: Final = 2.0

log = logging.getLogger(__name__)


class SilenceFeed:
    """`asked` holds the newest revision of every silence, by id. `follow` runs until it is cancelled."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.asked: dict[str, Silence] = {}

    async def follow(self) -> None:
        """Read the topic for ever; a broker that is gone is waited for, and so is the file of a secret."""
        while True:
            try:
                await self._read()
            except (KafkaError, KafkaSetupError, OSError) as error:
                log.warning("silences wait for Kafka: %s", plain_error(error, self._config.kafka))
                await asyncio.sleep(_RETRY_SECONDS)

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """Take in one message of the topic; one that is no silence is logged and skipped."""
        if value is None:
            self.asked.pop((key or b"").decode(errors="replace"), None)
            return
        try:
            silence = decode_silence(value)
        except msgspec.DecodeError as error:
            log.error("a message of %s is no silence: %s", self._config.topics.silences.name, error)
            return
        known = self.asked.get(silence.id)
        if silence.book is None and (known is None or known.revision <= silence.revision):
            self.asked[silence.id] = silence

    def shown(self) -> list[dict[str, Any]]:
        """Those that have not ended by the wall clock, as plain values for the page, the one that ends first first."""
        now_ms = time.time() * 1000
        lasting = [each for each in self.asked.values() if not each.is_expired and each.ends_ms > now_ms]
        return [msgspec.to_builtins(each) for each in sorted(lasting, key=lambda each: (each.ends_ms, each.id))]

    async def _read(self) -> None:
        topic = self._config.topics.silences.name
        consumer = AIOKafkaConsumer(
            **client_arguments(self._config.kafka, purpose="silences"),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # of a topic that was made anew, nothing is passed over
        )
        try:
            await consumer.start()
            partitions = await _partitions(consumer, topic)
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            while True:
                batches = await consumer.getmany(timeout_ms=1000)
                for records in batches.values():
                    for record in records:
                        self.take(record.key, record.value)
        finally:
            await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """The topic's partitions, waiting for one that is being created."""
    while True:
        cluster = await consumer._client.fetch_all_metadata()
        numbers = cluster.partitions_for_topic(topic)
        if numbers:
            return [TopicPartition(topic, number) for number in sorted(numbers)]
        await asyncio.sleep(0.5)
