"""The Faust table that holds every book's state, written so that we know when each entry is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from aiokafka import TopicPartition

from streamer.config import KafkaSettings
from streamer.topic_reader import open_consumer, read_to_end
from streamer.worker.snapshots import belongs_to, is_manifest

_ENTRIES_AT_ONCE: Final = 64
_ON_THE_BROKER: Final = b"\0"


class StateTable:
    """A table with bytes for keys and values, one partition per book.

    `table[key] = value` would only put the record into Faust's send buffer, and Faust's flush before a commit
    waits at most a tenth of a second per record and does not see the one in hand. So entries are sent with
    `Table.send_changelog`, whose future is the broker's acknowledgement, and that is awaited.

    Of the pieces of a state that is watched here the table holds the keys alone: nobody reads them again before the
    book is opened again, and then they are read from the changelog.
    """

    def __init__(self, table: Any, kafka: KafkaSettings, changelog: str) -> None:
        self._table = table
        self._kafka = kafka
        self._changelog = changelog
        self._read: dict[int, int] = {}
        self._hollow: set[int] = set()

    async def note(self, event: Any) -> None:
        """Faust has read this record of the changelog in a recovery."""
        message = event.message
        self._read[message.partition] = max(self._read.get(message.partition, 0), message.offset + 1)

    async def catch_up(self, book: str, partition: int) -> None:
        """Take in what other workers wrote since the last recovery: Faust does not read on after it.

        Raises KafkaError or KafkaSetupError.
        """
        if partition in self._hollow:
            self.forget(book, partition)
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
        """Write entries and wait until all are durable, some at a time. Raises KafkaError."""
        self._hollow.add(partition)
        entries = iter(entries)
        while some := list(islice(entries, _ENTRIES_AT_ONCE)):
            sent = []
            for key, value in some:
                self._table.data[key] = _held(key, value)
                sent.append(self._table.send_changelog(partition, key, value))
            await asyncio.gather(*sent)

    def hollow(self, book: str, partition: int) -> None:
        """Keep only the keys of a book's pieces: its state is in memory, and that is enough."""
        self._hollow.add(partition)
        data = self._table.data
        for key in [key for key in data if belongs_to(key, book)]:
            data[key] = _held(key, data[key])

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
        self._hollow.discard(partition)
        for key in [key for key in self._table.data if belongs_to(key, book)]:
            self._table.data.pop(key, None)


def _held(key: bytes, value: bytes) -> bytes:
    """What the table holds of an entry."""
    return value if is_manifest(key) else _ON_THE_BROKER
