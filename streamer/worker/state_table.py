"""The Faust table that holds every book's state, written so that we know when each entry is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from streamer.worker.snapshots import belongs_to


class StateTable:
    """A table with bytes for keys and values, one partition per book.

    `table[key] = value` would only put the record into Faust's send buffer, and Faust's flush before a commit
    waits at most a tenth of a second per record and does not see the one in hand. So entries are sent with
    `Table.send_changelog`, whose future is the broker's acknowledgement, and that is awaited.
    """

    def __init__(self, table: Any) -> None:
        self._table = table

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

    def forget(self, book: str) -> None:
        """Drop a book's entries from memory alone: another worker owns them now."""
        for key in [key for key in self._table.data if belongs_to(key, book)]:
            self._table.data.pop(key, None)
