"""The Faust table that holds every book's state, written so that we know when each entry is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any, Final

from aiokafka import TopicPartition

from streamer.config.settings import KafkaSettings
from streamer.kafka.topic_reader import open_consumer, read_to_end
from streamer.worker.snapshots import belongs_to

RECOVERY_BUFFER: Final = 16
"""Entries that Faust holds whole in a recovery before it applies them: each may have half a megabyte."""
_ENTRIES_AT_ONCE: Final = 64
_ON_THE_BROKER: Final = b"\0"


class StateTable:
    """A table with bytes for keys and values, one partition per book.

    `table[key] = value` would only put the record into Faust's send buffer, and Faust's flush before a commit
    waits at most a tenth of a second per record and does not see the one in hand. So entries are sent with
    `Table.send_changelog`, whose future is the broker's acknowledgement, and that is awaited.

    A book is opened on what `read` gives, from the changelog itself. What Faust's table holds may be no state that the
    changelog ever had: while another worker writes, a recovery is handed more than it takes in, and the rest is
    applied at some later time, over what is newer. So the table has the keys alone, which say who has written; nobody
    reads the pieces of a book that is watched, whose state is in memory.
    """

    def __init__(self, table: Any, kafka: KafkaSettings, changelog: str) -> None:
        self._table = table
        self._kafka = kafka
        self._changelog = changelog

    async def note(self, event: Any) -> None:
        """Faust has read this record of the changelog in a recovery and is about to keep it."""
        if event.value is not None:
            event.value = _ON_THE_BROKER

    async def read(self, partition: int) -> dict[bytes, bytes] | None:
        """Everything that the changelog of a partition holds when this returns; None where it never held anything.

        It is read until nothing more has come: what was removed or replaced meanwhile, and compacted away, must not be
        missing while what did so is not seen. Raises KafkaError or KafkaSetupError.
        """
        place = TopicPartition(self._changelog, partition)
        entries: dict[bytes, bytes] = {}
        begin, at = -1, 0
        async with open_consumer(self._kafka) as consumer:
            while at > begin:
                begin = at
                async for record in read_to_end(consumer, [place], {place: begin}):
                    at = record.offset + 1
                    if record.key is None:
                        continue
                    if record.value is None:
                        entries.pop(record.key, None)
                    else:
                        entries[record.key] = record.value
        return entries if at else None

    @property
    def keys(self) -> Collection[bytes]:
        """The keys that the table holds here, of all books assigned to this worker."""
        keys: Collection[bytes] = self._table.data.keys()
        return keys

    async def put(self, partition: int, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Write entries and wait until all are durable, some at a time. Raises KafkaError."""
        entries = iter(entries)
        while some := list(islice(entries, _ENTRIES_AT_ONCE)):
            sent = []
            for key, value in some:
                self._table.data[key] = _ON_THE_BROKER
                sent.append(self._table.send_changelog(partition, key, value))
            await asyncio.gather(*sent)

    async def remove(self, partition: int, keys: Iterable[bytes]) -> None:
        """Remove entries and wait until that is durable. Raises KafkaError."""
        sent = []
        for key in keys:
            self._table.data.pop(key, None)
            sent.append(self._table.send_changelog(partition, key, None, value_serializer="raw"))
        await asyncio.gather(*sent)

    def forget(self, book: str) -> None:
        """Drop a book's keys from memory alone: another worker owns them now."""
        for key in [key for key in self._table.data if belongs_to(key, book)]:
            self._table.data.pop(key, None)
