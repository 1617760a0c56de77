"""Faust's Kafka consumer, which loses records where partitions are paused while a fetch waits; ours does not."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

from aiokafka import AIOKafkaConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP


class FetchingThread(AIOKafkaConsumerThread):
    """Fetches for the partitions that were active when the fetch began, and gives back what was paused meanwhile.

    Faust's own hands the set of active partitions on as it is, and pausing empties that very set. To aiokafka an empty
    set means every partition. So a fetch that waits through a rebalance takes in records of paused ones, which Faust
    then drops; where that happens after a recovery has gone back to the beginning of a changelog, they never come.

    A partition that is resumed while a fetch waits is served by the next one, a second later at most. An app that is a
    client only, which has no such set, is not one of ours.
    """

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: AbstractSet[TP],
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is Faust's
        max_records: int | None = None,
    ) -> dict[TP, list[Any]]:
        wanted = set(active_partitions)
        if not wanted:
            return {}
        records = dict(await super()._fetch_records(consumer, wanted, timeout=timeout, max_records=max_records))
        # Nothing is awaited between the fetch and this, and every seek of Faust's runs in this thread too.
        for place in [place for place in records if place not in active_partitions]:
            consumer.seek(place, records.pop(place)[0].offset)
        return records


class FetchingConsumer(Consumer):
    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return FetchingThread(self, loop=self.loop, beacon=self.beacon)


class FetchingTransport(Transport):
    """What a Faust app is given as its `transport`."""

    Consumer = FetchingConsumer
