"""What the deliverer takes while the group is dividing the partitions."""

from __future__ import annotations

from streamer.config import Config
from streamer.records import SourceRecord
from streamer.worker.deliverer import Deliverer
from streamer.worker.status import WorkerStatus
from tests.worker.fake_kafka import PARTITION, FakeConsumer


async def test_notifications_that_come_before_the_assignment_is_known_are_read_again() -> None:
    deliverer = Deliverer(Config(), WorkerStatus("sinks"))
    consumer = deliverer._consumer = FakeConsumer([SourceRecord(offset, None, b"key", None) for offset in range(3)])
    await deliverer._take()
    assert consumer.at == 0
    await deliverer.assign([PARTITION])
    await deliverer._take()
    assert deliverer._progress[0].position() == (3, "")
