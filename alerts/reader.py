"""Reads alerts from Kafka: `async for alert in reader`. For programs of yours; needs nothing of the daemon."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from alerts.records import AlertRecord, decode_alert

_POLL_MS: Final = 500
_COMMIT_SECONDS: Final = 1.0
_QUIET_SECONDS: Final = 3.0
_MOST_KNOWN: Final = 100_000


class AlertReader:
    """Every change of every alert as an `AlertRecord`, in order per alert, repeats left out.

        async with AlertReader("localhost:9092", group="desk") as reader:
            async for alert in reader:
                print(alert.line)

    Parameters:
        bootstrap_servers: brokers, `host:port`, comma separated or as a list.
        topic: the alerts topic.
        group: a consumer group that remembers how far it has come, beginning with the oldest alert. A record counts
            as dealt with once the next one is asked for: after a crash it comes again.
        since_ms: without a group, begin with what was written since this time (milliseconds UTC); None for now.
        follow: False ends with what is there at the start.
        client: whatever else `aiokafka.AIOKafkaConsumer` takes: `security_protocol`, `ssl_context`, ...

    Entering raises `aiokafka.errors.KafkaError` where no broker answers, `LookupError` where there is no such topic.
    `foreign` counts records of the topic that were no alerts and were left out.
    """

    def __init__(
        self,
        bootstrap_servers: str | list[str],
        *,
        topic: str = "bearwire.alerts",
        group: str | None = None,
        since_ms: int | None = None,
        follow: bool = True,
        **client: Any,
    ) -> None:
        if group is not None and (since_ms is not None or not follow):
            raise ValueError("a group continues where it stood: since_ms and follow=False go without one")
        self.foreign = 0
        self._topic = topic
        self._group = group
        self._since_ms = since_ms
        self._follow = follow
        self._options = {"isolation_level": "read_committed", **client, "bootstrap_servers": bootstrap_servers}
        self._consumer: Any = None
        self._waiting: deque[tuple[TopicPartition, int, AlertRecord]] = deque()
        self._ends: dict[TopicPartition, int] = {}
        self._known: OrderedDict[str, int] = OrderedDict()
        self._done: dict[TopicPartition, int] = {}
        self._last: tuple[TopicPartition, int] | None = None
        self._committed_at = 0.0
        self._heard_at = 0.0

    async def __aenter__(self) -> AlertReader:
        self._consumer = AIOKafkaConsumer(
            **self._options, group_id=self._group, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        try:
            await self._consumer.start()
            if self._group is not None:
                self._consumer.subscribe([self._topic])
            else:
                await self._seek()
        except BaseException:
            await self._consumer.stop()
            raise
        self._heard_at = self._committed_at = time.monotonic()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._commit()
        finally:
            await self._consumer.stop()

    def __aiter__(self) -> AsyncIterator[AlertRecord]:
        return self

    async def __anext__(self) -> AlertRecord:
        if self._last is not None:
            partition, offset = self._last
            self._done[partition], self._last = offset + 1, None
        if time.monotonic() - self._committed_at >= _COMMIT_SECONDS:
            await self._commit()
        while not self._waiting:
            if not self._follow and await self._is_at_end():
                raise StopAsyncIteration
            await self._fetch()
        partition, offset, alert = self._waiting.popleft()
        self._last = (partition, offset)
        return alert

    async def _fetch(self) -> None:
        batches = await self._consumer.getmany(timeout_ms=_POLL_MS)
        for partition, records in batches.items():
            self._heard_at = time.monotonic()
            # A broker may name an end that is short of the true one; with a fetch it says the true one.
            self._ends[partition] = max(self._ends.get(partition, 0), self._consumer.highwater(partition) or 0)
            for record in records:
                if 0 <= record.timestamp < (self._since_ms or 0):
                    continue
                alert = self._decoded(record.value)
                if alert is not None and self._is_news(alert):
                    self._waiting.append((partition, record.offset, alert))
        if self._group is not None and time.monotonic() - self._committed_at >= _COMMIT_SECONDS:
            await self._commit()

    def _decoded(self, value: bytes | None) -> AlertRecord | None:
        if value is None:
            return None
        try:
            return decode_alert(value)
        except (msgspec.DecodeError, msgspec.ValidationError):
            self.foreign += 1
            return None

    def _is_news(self, alert: AlertRecord) -> bool:
        if self._known.get(alert.id, 0) >= alert.sequence:
            return False
        self._known[alert.id] = alert.sequence
        self._known.move_to_end(alert.id)
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return True

    async def _is_at_end(self) -> bool:
        if time.monotonic() - self._heard_at > _QUIET_SECONDS:
            return True
        positions = await asyncio.gather(*(self._consumer.position(partition) for partition in self._ends))
        return all(at >= end for at, end in zip(positions, self._ends.values(), strict=True))

    async def _seek(self) -> None:
        cluster = await self._consumer._client.fetch_all_metadata()
        partitions = [TopicPartition(self._topic, n) for n in sorted(cluster.partitions_for_topic(self._topic) or ())]
        if not partitions:
            raise LookupError(f"topic {self._topic} does not exist")
        self._consumer.assign(partitions)
        self._ends = await self._consumer.end_offsets(partitions)
        # An explicit seek: `seek_to_end` loses against the reset to the earliest that `assign` has begun.
        since = None if self._since_ms is None else dict.fromkeys(partitions, self._since_ms)
        found = {} if since is None else await self._consumer.offsets_for_times(since)
        for partition in partitions:
            at = found.get(partition)
            self._consumer.seek(partition, self._ends[partition] if at is None else at.offset)

    async def _commit(self) -> None:
        self._committed_at = time.monotonic()
        done, self._done = self._done, {}
        if self._group is not None and done:
            mine = self._consumer.assignment()
            await self._consumer.commit({partition: at for partition, at in done.items() if partition in mine})
