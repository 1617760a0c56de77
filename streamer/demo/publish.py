"""Publishes the stream at many times the speed at which its news was published."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from aiokafka import AIOKafkaProducer

from streamer.demo.stream import Message
from streamer.demo.tally import Place

Acknowledged = Callable[[Place, int], None]
"""Called with a message's place and the time, milliseconds UTC, at which it was produced."""


async def publish(
    messages: Sequence[Message],
    producer: AIOKafkaProducer,
    topic: str,
    *,
    speed: float | None,
    acknowledged: Acknowledged,
    progress: Callable[[int, int], None],
) -> None:
    """Sends every message when its time has come, at `speed` times real time, or at once where that is None.

    A message that is late or no document goes when the one before it went. `progress` is told how many messages
    are out and the stream's event time in milliseconds UTC. Returns when the broker has acknowledged them all.
    """
    began = time.monotonic()
    first_ms = newest_ms = next(message.published_at_ms for message in messages if message.published_at_ms is not None)
    waiting: list[asyncio.Task[None]] = []
    for number, message in enumerate(messages, start=1):
        newest_ms = max(newest_ms, message.published_at_ms or newest_ms)
        if speed is not None:
            ahead = (newest_ms - first_ms) / 1000 / speed - (time.monotonic() - began)
            if ahead > 0:
                await asyncio.sleep(ahead)
        now_ms = time.time_ns() // 1_000_000
        sent = await producer.send(topic, value=message.value, key=message.key, timestamp_ms=now_ms)
        waiting.append(asyncio.create_task(_report(sent, now_ms, acknowledged)))
        progress(number, newest_ms)
    await producer.flush()
    await asyncio.gather(*waiting)


async def _report(sent: asyncio.Future[object], at_ms: int, acknowledged: Acknowledged) -> None:
    record: object = await sent
    acknowledged(Place(record.partition, record.offset), at_ms)  # type: ignore[attr-defined]
