"""Clocks of source partitions whose offset was committed without one, made of the documents before it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from numpy.typing import NDArray

from streamer.config.settings import Config
from streamer.core.documents import Document, DocumentLimits, parse_document
from streamer.core.languages import NO_MODEL, LanguageRules
from streamer.core.watermark import PartitionClock
from streamer.worker.offsets import Position
from streamer.worker.status import WorkerStatus

_READ_TIMEOUT_MS: Final = 1000

log = logging.getLogger(__name__)


class ClocksMadeAnew:
    """Makes the positions of partitions beside those that have theirs, and calls `begin` with each, or `fail`.

    aiokafka sends no heartbeat before a listener of an assignment returns, and the whole group waits for it, so this
    cannot be done there. Until a partition begins the worker is not ready, and says why.
    """

    def __init__(
        self,
        config: Config,
        languages: LanguageRules,
        options: Mapping[str, Any],
        status: WorkerStatus,
        begin: Callable[[TopicPartition, Position], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._config = config
        self._languages = languages
        self._options = options
        self._status = status
        self._begin = begin
        self._fail = fail
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}

    @property
    def partitions(self) -> list[TopicPartition]:
        """Those that were started and not ended."""
        return list(self._tasks)

    def start(self, partition: TopicPartition, offset: int) -> None:
        """Make the position of a partition at the committed `offset`."""
        self._tasks[partition] = asyncio.create_task(self._make(partition, offset))

    def end(self, partitions: Iterable[TopicPartition]) -> list[asyncio.Task[None]]:
        """Begin none of these partitions from now on; returns what is still to come to its end."""
        ending = [self._tasks.pop(each) for each in partitions if each in self._tasks]
        for task in ending:
            task.cancel()
        return ending

    async def _make(self, partition: TopicPartition, offset: int) -> None:
        part = part_of(partition)
        self._status.hold(part, f"its clock is made anew from the documents before offset {offset}")
        try:
            position = await self._position(partition, offset)
            if self._is_wanted(partition):  # aiokafka's consumer may swallow a cancellation while it stops
                self._begin(partition, position)
        except Exception as error:
            if self._is_wanted(partition):
                self._fail(error)
        finally:
            if partition not in self._tasks or self._is_wanted(partition):  # else the hold is a successor's
                self._status.release(part)

    def _is_wanted(self, partition: TopicPartition) -> bool:
        """Whether the task at hand is that of the partition still."""
        return self._tasks.get(partition) is asyncio.current_task()

    async def _position(self, partition: TopicPartition, offset: int) -> Position:
        """The position at `offset`, with a clock of the documents before it, as far as they still exist.

        Raises KafkaError.
        """
        log.info(
            "%s-%d: offset %d was committed without its clock, which is made anew from the documents before it",
            partition.topic,
            partition.partition,
            offset,
        )
        clock = PartitionClock(self._config.time.allowed_lateness_ms)
        consumer = AIOKafkaConsumer(**self._options, enable_auto_commit=False, auto_offset_reset="earliest")
        try:
            await consumer.start()
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            at, end = await consumer.position(partition), offset
            while at < end:
                got = await consumer.getmany(partition, timeout_ms=_READ_TIMEOUT_MS)
                if (highwater := consumer.highwater(partition)) is not None:
                    end = min(end, highwater)  # a log that was cut back does not reach it
                records = [record for record in got.get(partition, ()) if record.offset < end]
                limits = self._config.document_limits
                clock.judge(await asyncio.to_thread(document_times, records, limits, self._languages))
                before, at = at, await consumer.position(partition)
                if at > before:
                    self._status.note_part(part_of(partition))
                    self._status.note_progress()
        finally:
            await consumer.stop()
        return Position(offset, clock)


def document_times(records: Iterable[Any], limits: DocumentLimits, languages: LanguageRules) -> NDArray[np.int64]:
    """When those documents were published that move a clock: not what is none, nor what no model reads."""
    parsed = (parse_document(r.value, record_timestamp_ms=r.timestamp, limits=limits) for r in records)
    documents = (each for each in parsed if isinstance(each, Document))
    read = (each for each in documents if languages.way(each.lang, each.scored_text).route != NO_MODEL)
    return np.fromiter((each.published_at_ms for each in read), dtype=np.int64)


def part_of(partition: TopicPartition) -> str:
    """What the worker calls a partition where it tells of itself."""
    return f"{partition.topic}-{partition.partition}"
