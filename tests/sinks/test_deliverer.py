"""What the deliverer takes while the group is dividing the partitions, and what the watchdog hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError
from aiokafka.structs import OffsetAndMetadata

from streamer.config.secret import Secret
from streamer.config.settings import Config
from streamer.config.sink_settings import FileSettings, SinksSettings, WebhookSettings
from streamer.core.dead_letters import SINK, TRUNCATED_FROM
from streamer.core.records import SourceRecord
from streamer.worker.deliverer import Deliverer
from streamer.worker.letters import DeadLetterWriter
from streamer.worker.status import WorkerStatus
from streamer.worker.watchdog import stall
from tests.sinks.notifications import notification
from tests.worker.fake_kafka import PARTITION, FakeConsumer, FakePublisher


async def test_notifications_that_come_before_the_assignment_is_known_are_read_again() -> None:
    deliverer = Deliverer(Config(), WorkerStatus("sinks"))
    consumer = deliverer._consumer = FakeConsumer([SourceRecord(offset, None, b"key", None) for offset in range(3)])
    await deliverer._take()
    assert consumer.at == 0
    await deliverer.assign([PARTITION])
    await deliverer._take()
    assert deliverer._progress[0].position() == (3, "")


@asynccontextmanager
async def delivering(
    folder: Path, offsets: Iterable[int], committed: OffsetAndMetadata | None = None
) -> AsyncIterator[Deliverer]:
    """A deliverer of a log with these offsets, assigned to it; its queues only keep what they are given."""
    sinks = SinksSettings(
        webhooks=(WebhookSettings(name="desk", url=Secret("http://127.0.0.1:1/")),),
        files=(FileSettings(name="archive", receivers=("desk",), path=str(folder / "archive.jsonl")),),
    )
    deliverer = Deliverer(Config(sinks=sinks), WorkerStatus("sinks"))
    value = notification().encode()
    made = [SourceRecord(offset, None, b"group", value) for offset in offsets]
    deliverer._consumer = FakeConsumer(made, committed=committed)
    deliverer._letters = letters(FakePublisher())
    await deliverer.assign([PARTITION])
    for task in deliverer._tasks:
        task.cancel()
    yield deliverer
    await deliverer.close()


def letters(publisher: FakePublisher) -> DeadLetterWriter:
    """What writes dead letters, to a publisher without a broker."""
    writer = DeadLetterWriter({}, "bearwire.dead-letters")
    writer._publisher = publisher
    return writer


def told(deliverer: Deliverer) -> dict[str, list[int]]:
    """What each sink is told, by offset."""
    return {each.queue.name: [ticket.offset for ticket in each.queue._waiting] for each in deliverer._routed}


@pytest.mark.parametrize("size", [12, 45, 80])
async def test_a_log_that_was_made_anew_or_cut_back_is_told_to_a_sink_that_was_ahead_too(
    size: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The archive was done with the first hundred, and the desk with forty."""
    committed = OffsetAndMetadata(40, '{"ahead":{"archive":100}}')
    async with delivering(tmp_path, range(size), committed) as deliverer:
        await deliverer._take()
        first = 40 if size > 40 else 0
        assert told(deliverer) == {"desk": [*range(first, size)], "archive": [*range(first, size)]}
        assert "was made anew, or its leader lacks its newest records" in caplog.text
        assert deliverer._progress[0].position() == (first, "")


async def test_a_sink_that_is_ahead_is_told_nothing_again_while_the_log_reaches_as_far(tmp_path: Path) -> None:
    committed = OffsetAndMetadata(40, '{"ahead":{"archive":100}}')
    async with delivering(tmp_path, range(100), committed) as deliverer:
        await deliverer._take()
        assert told(deliverer) == {"desk": [*range(40, 100)], "archive": []}


async def test_a_log_that_begins_anew_while_it_is_delivered_is_settled_by_itself(tmp_path: Path) -> None:
    """What is on its way of the old log is neither forgotten nor taken for what has its offset in the new one."""
    async with delivering(tmp_path, range(20)) as deliverer:
        progress = deliverer._progress
        publisher: Any = deliverer._letters._publisher
        consumer: Any = deliverer._consumer
        await deliverer._take()
        desk, archive = (routed.queue for routed in deliverer._routed)
        old = list(desk._waiting)
        for ticket in archive._waiting:
            await deliverer._settled("archive", ticket, "delivered", "")
        for ticket in old[:10]:
            await deliverer._settled("desk", ticket, "delivered", "")
        consumer.records = {offset: consumer.records[offset] for offset in range(5)}
        await deliverer._take()
        assert told(deliverer)["desk"] == [*range(20), *range(5)]
        for ticket in list(archive._waiting)[20:]:
            await deliverer._settled("archive", ticket, "delivered", "")
        assert progress[0].position() == (0, '{"ahead":{"archive":5}}')
        for ticket in old[10:]:
            await deliverer._settled("desk", ticket, "failed", "gone")
        assert len(publisher.sent) == 10
        assert progress[0].position() == (0, '{"ahead":{"archive":5}}')
        for ticket in list(desk._waiting)[20:]:
            await deliverer._settled("desk", ticket, "delivered", "")
        assert progress[0].position() == (5, "")


@pytest.mark.parametrize("odd", [b"{", b'{"id":"\xff"}', b'{"other":' + b"[" * 100_000])
async def test_a_message_that_is_no_notification_is_a_dead_letter_and_holds_up_nothing(
    odd: bytes, tmp_path: Path
) -> None:
    async with delivering(tmp_path, range(3)) as deliverer:
        consumer: Any = deliverer._consumer
        publisher: Any = deliverer._letters._publisher
        consumer.records[1] = SourceRecord(1, None, b"group", odd)
        await deliverer._take()
        assert told(deliverer) == {"desk": [0, 2], "archive": [0, 2]}
        assert publisher.sent == [("bearwire.dead-letters", odd)]


class Narrow(FakePublisher):
    """Its topic takes what is shorter than 100 KiB; `headers` are those of what was sent last."""

    headers: Any = ()

    async def send(self, topic: str, value: bytes | None, **how: Any) -> asyncio.Future[Any]:
        """Hand over one record."""
        self.headers = how["headers"]
        if len(value or b"") < 100 * 1024:
            return await super().send(topic, value, **how)
        refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        refused.set_exception(MessageSizeTooLargeError())
        return refused


async def test_a_notification_too_large_for_the_dead_letters_is_cut_and_holds_up_nothing(tmp_path: Path) -> None:
    async with delivering(tmp_path, range(1)) as deliverer:
        publisher = Narrow()
        deliverer._letters = letters(publisher)
        await deliverer._take()
        desk, archive = (routed.queue for routed in deliverer._routed)
        (ticket,) = desk._waiting
        progress, record = ticket.origin
        large = record._replace(value=b"x" * 200 * 1024, headers=((SINK, b"archive"), ("theirs", b"1")))
        await deliverer._settled("desk", ticket._replace(origin=(progress, large)), "failed", "no")
        await deliverer._settled("archive", archive._waiting[0], "delivered", "")
        assert publisher.sent == [("bearwire.dead-letters", b"x" * 64 * 1024)]
        headers = dict(publisher.headers)
        assert (headers[SINK], headers[TRUNCATED_FROM], headers["theirs"]) == (b"desk", b"204800", b"1")
        assert [name for name, _ in publisher.headers].count(SINK) == 1
        assert deliverer._progress[0].position() == (1, "")


async def test_an_assignment_that_comes_while_the_consumer_stops_leaves_nothing_to_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each sink had two that deliver to it from then on."""

    class Stopping(FakeConsumer):
        def subscribe(self, topics: Any, listener: Any) -> None:
            raise KafkaConnectionError

        async def stop(self) -> None:
            await deliverer.assign([PARTITION])
            tasks.extend(deliverer._tasks)

    tasks: list[asyncio.Task[None]] = []
    async with delivering(tmp_path, range(3)) as deliverer:
        monkeypatch.setattr("streamer.worker.deliverer.DeadLetterWriter", lambda *_: letters(FakePublisher()))
        monkeypatch.setattr(deliverer, "_new_consumer", Stopping)
        with pytest.raises(KafkaConnectionError):
            await deliverer.run()
        assert len(tasks) == 2 and all(task.done() for task in tasks)
        assert not deliverer._tasks and not deliverer._progress


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
    monkeypatch.setattr("streamer.worker.deliverer.DeadLetterWriter", lambda *_: letters(FakePublisher()))
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
    publisher = FakePublisher()
    deliverer._letters = letters(publisher)
    publisher.durable.clear()
    burying = asyncio.create_task(deliverer._bury(0, SourceRecord(3, None, b"key", b"x"), "sink_failed", "no", "desk"))
    await asyncio.sleep(0)
    status.parts = {part: at - 100 for part, at in status.parts.items()}
    assert "offset 3 for desk: nothing was done" in (stall(status, 60) or "")
    publisher.durable.set()
    await burying
    assert not status.parts
