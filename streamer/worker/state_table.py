"""The Faust table that holds every book's state, written so that we know when each entry is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition

from streamer.config import KafkaSettings
from streamer.topic_reader import open_consumer, read_to_end
from streamer.worker.snapshots import belongs_to


class StateTable:
    """A table with bytes for keys and values, one partition per book.

    `table[key] = value` would only put the record into Faust's send buffer, and Faust's flush before a commit
    waits at most a tenth of a second per record and does not see the one in hand. So entries are sent with
    `Table.send_changelog`, whose future is the broker's acknowledgement, and that is awaited.
    """

    def __init__(self, table: Any, kafka: KafkaSettings, changelog: str) -> None:
        self._table = table
        self._kafka = kafka
        self._changelog = changelog
        self._read: dict[int, int] = {}

    async def note(self, event: Any) -> None:
        """Faust has read this record of the changelog in a recovery."""
        message = event.message
        self._read[message.partition] = max(self._read.get(message.partition, 0), message.offset + 1)

    async def catch_up(self, partition: int) -> None:
        """Take in what other workers wrote since the last recovery: Faust does not read on after it.

        Raises KafkaError or KafkaSetupError.
        """
        place = TopicPartition(self._changelog, partition)
        async with open_consumer(self._kafka) as consumer:
            async for record in read_to_end(consumer, [place], {place: self._read.get(partition, 0)}):
                if record.key is None:
                    continue
                if record.value is None:
                    self._table.data.pop(record.key, None)
                else:
                    self._table.data[record.key] = record.value
                self._read[partition] = record.offset + 1

    def has_read(self, partition: int) -> bool:
        """Whether the changelog of a partition held anything, also of a book that is not configured any more."""
        return partition in self._read

    @property
    def entries(self) -> Mapping[bytes, bytes]:
        """What the table holds here: all entries of the books assigned to this worker."""
        entries: Mapping[bytes, bytes] = self._table.data
        return entries

    async def put(self, partition: int, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Write entries and wait until all are durable. Raises KafkaError."""
        sent = []
        for key, value in entries:
            self._table.data[key] = value
            sent.append(self._table.send_changelog(partition, key, value))
        await asyncio.gather(*sent)

    async def remove(self, partition: int, keys: Iterable[bytes]) -> None:
        """Remove entries and wait until that is durable. Raises KafkaError."""
        sent = []
        for key in keys:
            self._table.data.pop(key, None)
            sent.append(self._table.send_changelog(partition, key, None, value_serializer="raw"))
        await asyncio.gather(*sent)

    def forget(self, book: str, partition: int) -> None:
        """Drop a book's entries from memory alone: another worker owns them now."""
        self._read.pop(partition, None)
        for key in [key for key in self._table.data if belongs_to(key, book)]:
            self._table.data.pop(key, None)
