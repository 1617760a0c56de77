"""A consumer and a publisher without a broker, for tests of the scorer and the deliverer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError
from aiokafka.structs import OffsetAndMetadata

from streamer.core.records import SourceRecord
from streamer.worker.publishing import Publisher
from tests.core.worlds import record

PARTITION = TopicPartition("bearwire.documents", 0)
OTHER = TopicPartition("bearwire.documents", 1)


class FakeConsumer:
    """Stands in for aiokafka's consumer of `PARTITION`. `records` is its log, `begin` where that begins by now.

    `OTHER` may be assigned too and has no records. `numbers` are the topic's partitions by the client's metadata.

    Like aiokafka's it goes to the beginning, without a word, where the log has no such offset. `on_position` is called
    whenever somebody asks for the position: tests let a rebalance happen there.
    """

    def __init__(self, records: Iterable[SourceRecord] = (), *, committed: OffsetAndMetadata | None = None) -> None:
        self.records = {each.offset: each for each in records}
        self.begin = min(self.records, default=0)
        self.assigned = {PARTITION, OTHER}
        self.numbers: set[int] | None = {0, 1}
        self.at: int | None = None
        self.committed = committed
        self.commits: list[int] = []
        self.refused: Exception | None = None
        self.on_position: Callable[[], Any] | None = None
        self._coordinator = SimpleNamespace(fetch_committed_offsets=self._fetch_committed)

    @property
    def end(self) -> int:
        return max(self.records, default=self.begin - 1) + 1

    async def _fetch_committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Any]:
        await asyncio.sleep(0)
        return {} if self.committed is None else dict.fromkeys(partitions, self.committed)

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return self.numbers

    def highwater(self, partition: TopicPartition) -> int:
        assert partition in self.assigned, "Partition is not assigned"
        return self.end

    async def position(self, partition: TopicPartition) -> int:
        if partition not in self.assigned:
            raise IllegalStateError(partition)
        position = self._position()
        if self.on_position is not None:
            await self.on_position()
        return position

    async def beginning_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.begin)

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.end)

    def resume(self, *partitions: TopicPartition) -> None:
        pass

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.at = offset

    async def getmany(self, *partitions: TopicPartition, max_records: int, **_: Any) -> dict[TopicPartition, list[Any]]:
        await asyncio.sleep(0)
        if partitions and PARTITION not in partitions:
            return {}
        offsets = [offset for offset in sorted(self.records) if offset >= self._position()][:max_records]
        if not offsets:
            return {}
        self.at = offsets[-1] + 1
        return {PARTITION: [_message(self.records[offset]) for offset in offsets]}

    async def commit(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        if self.refused is not None:
            raise self.refused
        self.committed = offsets[PARTITION]
        self.commits.append(self.committed.offset)

    def _position(self) -> int:
        if self.at is None:
            self.at = self.begin if self.committed is None else self.committed.offset
        if not self.begin <= self.at <= self.end:
            self.at = self.begin
        return self.at


class FakePublisher(Publisher):
    """Keeps what it is given; `durable` holds the acknowledgements back."""

    def __init__(self) -> None:
        super().__init__({})
        self.sent: list[tuple[str, bytes | None]] = []
        self.durable = asyncio.Event()
        self.durable.set()

    async def start(self) -> None:
        """Connect to nothing."""

    async def send(self, topic: str, value: bytes | None, **how: Any) -> asyncio.Future[Any]:
        """Hand over one record."""
        self.sent.append((topic, value))
        return asyncio.ensure_future(self.durable.wait())


def records(*offsets: int, **fields: object) -> list[SourceRecord]:
    """One record with a document for each offset."""
    return [record(offset, **fields) for offset in offsets]


def _message(source: SourceRecord) -> Any:
    return SimpleNamespace(
        offset=source.offset, timestamp=source.timestamp_ms, key=source.key, value=source.value, headers=source.headers
    )
