"""What we build on, or around, in Faust: a change there should be noticed here."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import faust
from faust.types.tuples import TP, FutureMessage


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


async def test_a_recovery_throws_away_what_a_standby_has_read_and_reads_the_changelog_from_its_beginning() -> None:
    """Hence `table_standby_replicas` is 0 (`streamer/worker/app.py`): in memory, a standby helps nobody.

    Two partitions of a table, the second one a standby here. Whatever completes a recovery, this worker's own rebalance
    or the one that makes the standby the owner, drops the entries of every partition that is not active; and no offset
    is kept from which the successor could read on.
    """
    app = faust.App("facts", broker="kafka://127.0.0.1:1", store="memory://")
    table: Any = app.Table("state", key_type=bytes, value_type=bytes, partitions=2)
    active, standby = (TP(table.changelog_topic.get_topic_name(), partition) for partition in (0, 1))

    def applied(partition: int, key: bytes) -> None:
        message = SimpleNamespace(partition=partition, value=b"value")
        table.data.apply_changelog_batch([SimpleNamespace(key=key, value=b"value", message=message)], bytes, bytes)

    applied(active.partition, b"mine")
    applied(standby.partition, b"another's")
    assert set(table.data) == {b"mine", b"another's"}
    await table.data.on_recovery_completed({active}, {standby})
    assert set(table.data) == {b"mine"}

    recovery: Any = app.tables.recovery
    recovery.add_standby(table, standby)
    recovery.standby_offsets[standby] = 1000
    recovery.standby_tps.clear()
    recovery.add_active(table, standby)
    assert recovery.active_offsets[standby] is None
    assert table.persisted_offset(standby) is None
