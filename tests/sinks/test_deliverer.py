"""What the deliverer takes while the group is dividing the partitions, and what the watchdog hears of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamer.config.settings import Config
from streamer.core.records import SourceRecord
from streamer.worker.deliverer import Deliverer
from streamer.worker.status import WorkerStatus
from streamer.worker.watchdog import stall
from tests.worker.fake_kafka import PARTITION, FakeConsumer, FakePublisher


async def test_notifications_that_come_before_the_assignment_is_known_are_read_again() -> None:
    deliverer = Deliverer(Config(), WorkerStatus("sinks"))
    consumer = deliverer._consumer = FakeConsumer([SourceRecord(offset, None, b"key", None) for offset in range(3)])
    await deliverer._take()
    assert consumer.at == 0
    await deliverer.assign([PARTITION])
    await deliverer._take()
    assert deliverer._progress[0].position() == (3, "")


class Hanging(FakeConsumer):
    """A consumer of which a fetch hangs once `hangs` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = False
        self.hung = asyncio.Event()

    def subscribe(self, topics: Any, listener: Any) -> None:
        """Be given nothing."""

    async def getmany(self, *partitions: Any, **_: Any) -> dict[Any, Any]:
        """Nothing, or for ever nothing."""
        await asyncio.sleep(0)
        if self.hangs:
            self.hung.set()
            await asyncio.Event().wait()
        return {}


async def test_a_deliverer_that_hangs_is_a_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    status = WorkerStatus("sinks")
    deliverer, consumer = Deliverer(Config(), status), Hanging()
    monkeypatch.setattr("streamer.worker.deliverer.Publisher", lambda _: FakePublisher())
    monkeypatch.setattr(deliverer, "_new_consumer", lambda: consumer)
    running = asyncio.create_task(deliverer.run())
    await asyncio.sleep(0.01)
    await deliverer.assign([PARTITION])
    assert stall(status, 60) is None
    consumer.hangs = True
    await consumer.hung.wait()
    status.parts = {part: at - 100 for part, at in status.parts.items()}
    assert (stall(status, 60) or "").startswith("sinks: nothing was done")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_dead_letter_that_no_broker_takes_is_a_stall() -> None:
    status = WorkerStatus("sinks")
    deliverer = Deliverer(Config(), status)
    publisher = deliverer._publisher = FakePublisher()
    publisher.durable.clear()
    burying = asyncio.create_task(deliverer._bury(0, SourceRecord(3, None, b"key", b"x"), "sink_failed", "no", "desk"))
    await asyncio.sleep(0)
    status.parts = {part: at - 100 for part, at in status.parts.items()}
    assert "offset 3 for desk: nothing was done" in (stall(status, 60) or "")
    publisher.durable.set()
    await burying
    assert not status.parts
