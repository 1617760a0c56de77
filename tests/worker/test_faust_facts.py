"""What we build on, or around, in Faust: a change there should be noticed here."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from faust.types.tuples import TP, FutureMessage

from streamer.config.settings import Config, WorkerSettings
from streamer.worker.app import faust_app
from streamer.worker.faust_consumer import FetchingThread


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


def recovering(table_partitions: int) -> tuple[Any, Any, list[TP], list[Any]]:
    """An app with a table, its recovery, the table's changelog partitions, and what it is handed in a recovery."""
    app = faust.App("facts", broker="kafka://127.0.0.1:1", store="memory://")
    handed: list[Any] = []

    async def note(event: Any) -> None:
        handed.append(event)

    table: Any = app.Table(
        "state", key_type=bytes, value_type=bytes, partitions=table_partitions, on_changelog_event=note
    )
    topic = table.changelog_topic.get_topic_name()
    app.tables._changelogs[topic] = table
    return app, table, [TP(topic, partition) for partition in range(table_partitions)], handed


def event(place: TP, offset: int, key: bytes) -> Any:
    message = SimpleNamespace(tp=place, partition=place.partition, offset=offset, value=b"value")
    return SimpleNamespace(key=key, value=b"value", message=message)


async def test_a_recovery_is_handed_more_than_it_takes_in() -> None:
    """Hence a book is opened on its changelog, read apart (`streamer/worker/state_table.py`).

    What was written after the recovery had asked for the end is handed out, and not applied: it stays in a buffer.
    """
    app, table, (place,), handed = recovering(1)
    recovery: Any = app.tables.recovery
    recovery.add_active(table, place)
    recovery.active_offsets[place], recovery.active_highwaters[place] = -1, 1
    recovery._set_recovery_started()
    app.flow_control.resume()
    for offset, key in enumerate((b"a", b"b", b"beyond")):
        await app.tables.changelog_queue.put(event(place, offset, key))
    reading = asyncio.create_task(recovery._slurp_changelogs.fun(recovery))
    try:
        async with asyncio.timeout(10):
            while len(handed) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert not recovery.in_recovery
        assert set(table.data) == {b"a", b"b"}
    finally:
        reading.cancel()
    recovery.flush_buffers()
    assert set(table.data) == {b"a", b"b", b"beyond"}


async def test_a_recovery_throws_away_what_a_standby_has_read_and_reads_the_changelog_from_its_beginning() -> None:
    """Hence `table_standby_replicas` is 0 (`streamer/worker/app.py`): in memory, a standby helps nobody.

    Two partitions of a table, the second one a standby here. Whatever completes a recovery, this worker's own rebalance
    or the one that makes the standby the owner, drops the entries of every partition that is not active; and no offset
    is kept from which the successor could read on.
    """
    app, table, (active, standby), _ = recovering(2)
    recovery: Any = app.tables.recovery
    assigned: dict[str, set[TP]] = {"active": {active}, "standby": {standby}}
    app.assignor = SimpleNamespace(  # type: ignore[assignment]
        assigned_actives=lambda: assigned["active"], assigned_standbys=lambda: assigned["standby"]
    )
    generation = app.consumer_generation_id
    await recovery.on_rebalance({active, standby}, set(), {active, standby}, generation)
    table.data.apply_changelog_batch([event(active, 1000, b"mine"), event(standby, 1000, b"another's")], bytes, bytes)
    recovery.active_offsets[active] = recovery.standby_offsets[standby] = 1000
    assert set(table.data) == {b"mine", b"another's"}
    await table.data.on_recovery_completed({active}, {standby})
    assert set(table.data) == {b"mine"}

    assigned = {"active": {active, standby}, "standby": set()}
    await recovery.on_rebalance({active, standby}, set(), set(), generation)
    assert recovery.active_offsets[active] == 1000
    assert recovery.active_offsets[standby] is None
    assert table.persisted_offset(standby) is None


async def test_an_error_in_a_callback_of_a_recovery_is_not_looked_at() -> None:
    """Hence ours raises none and ends the worker itself (`streamer/worker/watcher.py`)."""
    app, table, _, _ = recovering(1)
    called: list[int] = []

    async def broken() -> None:
        called.append(1)
        raise RuntimeError("a book cannot be opened")

    table.on_recover(broken)
    app.consumer = SimpleNamespace(assignment=set, resume_partitions=lambda partitions: None, resume_flow=lambda: None)
    app._fetcher = SimpleNamespace(maybe_start=lambda: asyncio.sleep(0))
    app.assignor = SimpleNamespace(assigned_standbys=set)
    recovery: Any = app.tables.recovery
    await recovery.on_recovery_completed(app.consumer_generation_id)
    assert called
    assert recovery.completed.is_set()
    assert not app.crashed


async def test_faust_declares_topics_unless_it_is_told_not_to(tmp_path: Path) -> None:
    """A broker that dies just then would end it (`streamer/worker/app.py`)."""
    usual = faust.App("facts", broker="kafka://127.0.0.1:1", store="memory://")
    ours = faust_app(Config(worker=WorkerSettings(data_dir=str(tmp_path))))
    declared: list[str] = []

    async def create_topic(topic: str, **how: Any) -> None:
        declared.append(topic)

    async def producer() -> Any:
        return SimpleNamespace(create_topic=create_topic)

    for app in (usual, ours):
        topic: Any = app.topic(app.conf.id)
        topic._get_producer = producer
        await topic.maybe_declare()
    assert declared == ["facts"]


@pytest.mark.parametrize(("guarantee", "idempotent"), [("at_least_once", False), ("exactly_once", True)])
async def test_fausts_producer_is_idempotent_only_with_exactly_once(guarantee: Any, idempotent: bool) -> None:
    """Hence outputs have producers of their own (`streamer/worker/publishing.py`)."""
    app = faust.App("facts", broker="kafka://127.0.0.1:1", store="memory://", processing_guarantee=guarantee)
    app.in_worker = True
    producer: Any = app.transport.create_producer()
    settings = {**producer._settings_default(), **producer._settings_extra()}
    assert settings.get("enable_idempotence", False) == idempotent


async def test_our_app_fetches_with_our_consumer(tmp_path: Path) -> None:
    """What Faust's own loses is shown in `tests/integration/test_faust_consumer.py`."""
    app = faust_app(Config(worker=WorkerSettings(data_dir=str(tmp_path))))
    assert isinstance(app.consumer._thread, FetchingThread)  # type: ignore[attr-defined]
