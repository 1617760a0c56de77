"""What we build on, or around, in Faust: a change there should be noticed here."""

from __future__ import annotations

import asyncio
from typing import Any

import faust
from faust.types.tuples import FutureMessage


async def test_fausts_flush_returns_before_a_slow_broker_has_anything() -> None:
    """Hence the state table awaits each entry's own future (`streamer/worker/state_table.py`)."""
    app = faust.App("facts", broker="kafka://127.0.0.1:1", store="memory://")
    buffer: Any = app.producer.buffer
    broker_answers = asyncio.Event()
    sent: list[FutureMessage[Any]] = []

    async def send_slowly(message: FutureMessage[Any]) -> None:
        await broker_answers.wait()
        sent.append(message)

    buffer._send_pending = send_slowly
    topic = app.topic("t", value_serializer="raw")
    await buffer.start()
    try:
        for _ in range(3):
            buffer.put(topic.as_future_message(value=b"entry"))
        await asyncio.wait_for(buffer.flush(), 5)
        assert sent == []
    finally:
        broker_answers.set()
        while buffer.size:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await buffer.stop()
