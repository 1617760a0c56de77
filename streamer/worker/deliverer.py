"""Delivers notifications: a consumer group over their topic, one queue per sink.

    notification ─► every sink that serves one of its receivers ─► delivered, outdated, or dead letter ─► commit

An offset is committed only once every sink is done with it; a sink that is ahead of that says so in the commit's
metadata. So a notification reaches each of its receivers at least once, and no receiver holds up another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from alerts.notifications import Notification, decode_notification
from alerts.sinks.queue import Fate, Ticket
from streamer.config.settings import Config
from streamer.core.dead_letters import BAD_NOTIFICATION, REPLAYS, SINK, SINK_FAILED
from streamer.core.records import DeadLetter, SourceRecord
from streamer.escaping import escaped
from streamer.kafka.client import LONGEST_POLL_INTERVAL_MS, client_arguments
from streamer.kafka.topic_reader import open_consumer, read_to_end
from streamer.sinks import Routed, routed_sinks
from streamer.worker.letters import DeadLetterWriter
from streamer.worker.offsets import committed_metadata
from streamer.worker.sink_progress import SinkProgress, ahead_of
from streamer.worker.status import WorkerStatus
from streamer.worker.topics import sinks_group

_POLL_MS: Final = 200
_MOST_AHEAD: Final = 500
"""Notifications that may wait in a queue that is not failing before no more are read."""
_GRACE_SECONDS: Final = 5.0

log = logging.getLogger(__name__)


class Deliverer:
    """Delivers what the group gives to this worker, until `stop`.

    One `run` is one membership in the group: it ends with an error when the broker failed for good, and may then be
    called again; what was not committed comes again.
    """

    def __init__(self, config: Config, status: WorkerStatus) -> None:
        self._config = config
        self._status = status
        self._topic = config.topics.notifications.name
        self._options = client_arguments(config.kafka, purpose="sinks")
        self._routed = routed_sinks(config.sinks, self._settled)
        self._progress: dict[int, SinkProgress] = {}
        self._committed: dict[int, tuple[int, str]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: BaseException | None = None
        self._stopping = False
        self._letters: DeadLetterWriter
        self._consumer: AIOKafkaConsumer
        for routed in self._routed:
            status.sinks[routed.queue.name] = routed.queue.status

    async def run(self) -> None:
        """Join the group and deliver until `stop` is called. Raises KafkaError or PublishError."""
        self._failure = None
        self._letters = DeadLetterWriter(self._options, self._config.topics.dead_letters.name)
        started: list[Any] = [self._letters]
        try:
            await self._letters.start()
            self._consumer = self._new_consumer()  # one that is made and never started complains when it is collected
            started.append(self._consumer)
            await self._consumer.start()
            self._status.hold("sinks", "joining the consumer group")
            self._status.add_part("sinks")
            self._consumer.subscribe([self._topic], listener=_Listener(self))
            while not self._stopping:
                self._raise_failure()
                await self._take()
                await self._commit()
                self._status.note_part("sinks")
        finally:
            await self.revoke()
            for client in reversed(started):
                with contextlib.suppress(KafkaError):
                    await client.stop()
            await self.revoke()  # of an assignment that came while the consumer was stopping
            if self._stopping:
                self._status.drop_part("sinks")  # after a failure it stays: what fails for ever must not look new

    def stop(self) -> None:
        """Take no more; `run` then ends the attempts that are on their way, commits and leaves the group."""
        self._stopping = True

    async def close(self) -> None:
        """Let go of every receiver, after the last `run`."""
        await asyncio.gather(*(routed.queue.sink.close() for routed in self._routed), return_exceptions=True)

    async def assign(self, partitions: Collection[TopicPartition]) -> None:
        """Continue where each sink stood, and repeat what fires to those that need it repeated."""
        committed = await committed_metadata(self._consumer, partitions)
        for partition in partitions:
            entry = committed.get(partition)
            at = 0 if entry is None else entry.offset
            progress = SinkProgress(at, await self._ahead(partition, entry.metadata if entry else None))
            self._progress[partition.partition] = progress
            self._committed[partition.partition] = progress.position()
            if entry is not None:
                await self._remember(partition, entry.offset)
        self._tasks = [asyncio.create_task(routed.queue.run(), name=routed.queue.name) for routed in self._routed]
        self._status.release("sinks")
        log.info("delivering partitions %s of %s", sorted(each.partition for each in partitions), self._topic)

    async def revoke(self) -> None:
        """End what is on its way, commit, and forget the rest: it is another worker's, or comes again."""
        for routed in self._routed:
            routed.queue.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_GRACE_SECONDS)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        with contextlib.suppress(KafkaError):
            await self._commit()
        for routed in self._routed:
            routed.queue.reset()
        self._progress, self._committed = {}, {}

    def fail(self, error: BaseException) -> None:
        """End `run` with this error."""
        self._failure = self._failure or error

    def _raise_failure(self) -> None:
        for task in self._tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                self.fail(task.exception() or RuntimeError(task.get_name()))
        if self._failure is not None:
            raise self._failure

    async def _take(self) -> None:
        queues = [routed.queue.status for routed in self._routed]
        try:
            assigned = self._consumer.assignment()
            if any(queue.waiting >= _MOST_AHEAD and not queue.failing for queue in queues):
                self._consumer.pause(*assigned)
            else:
                self._consumer.resume(*assigned)
            got = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_MOST_AHEAD)
        except (IllegalStateError, ConsumerStoppedError):
            return
        known = {partition: self._progress.get(partition.partition) for partition in got}
        for partition, progress in known.items():
            if progress is None:
                # A new assignment whose progress is still being looked up: these must be read again.
                self._consumer.seek(partition, got[partition][0].offset)
        for partition, progress in known.items():
            for each in got[partition]:
                if progress is None or self._progress.get(partition.partition) is not progress:
                    break
                if progress.is_behind(each.offset):
                    progress = self._begin_anew(partition.partition, progress, each.offset)
                record = SourceRecord(each.offset, each.timestamp, each.key, each.value, tuple(each.headers))
                await self._route(partition.partition, progress, record)

    async def _ahead(self, partition: TopicPartition, metadata: str | None) -> dict[str, int]:
        """The sinks that were ahead, from the commit's metadata; none where the log does not reach as far any more."""
        ahead = ahead_of(metadata)
        reached = max(ahead.values(), default=0)
        if not ahead or (end := (await self._consumer.end_offsets([partition]))[partition]) >= reached:
            return ahead
        log.error(
            "%s-%d ends at offset %d, and a sink was told of what lay before %d: it was made anew, or its leader lacks "
            "its newest records; from the committed offset on every sink is told what it holds",
            partition.topic,
            partition.partition,
            end,
            reached,
        )
        return {}

    def _begin_anew(self, partition: int, progress: SinkProgress, offset: int) -> SinkProgress:
        """The progress of a log that was made anew or cut back, from `offset` on; what is on its way keeps its own."""
        log.error(
            "%s-%d no longer reaches offset %d, where it was read to: it was made anew, or its leader lacks its newest "
            "records; from offset %d on every sink is told what it holds, also what it was told before",
            self._topic,
            partition,
            progress.read_to,
            offset,
        )
        self._progress[partition] = begun = SinkProgress(offset, {})
        return begun

    async def _route(self, partition: int, progress: SinkProgress, record: SourceRecord) -> None:
        if record.value is None:
            progress.take(record.offset, ())
            return
        try:
            notification = decode_notification(record.value)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            await self._bury(partition, record, BAD_NOTIFICATION, str(error))
            progress.take(record.offset, ())
            return
        headers = dict(record.headers)
        again = REPLAYS in headers
        sinks = [
            each
            for each in self._addressed(notification, headers.get(SINK))
            if progress.wants(each.queue.name, record.offset)
        ]
        progress.take(record.offset, [each.queue.name for each in sinks])
        for each in self._routed:
            if each in sinks:
                origin = progress, record
                each.queue.put(Ticket(notification, partition, record.offset, time.monotonic(), again, origin))
            elif SINK not in headers and each.wants(notification.receivers):
                each.queue.sink.remember(notification)

    def _addressed(self, notification: Notification, only: bytes | None) -> list[Routed]:
        if only is not None:
            return [each for each in self._routed if each.queue.name.encode() == only]
        return [each for each in self._routed if each.wants(notification.receivers)]

    async def _settled(self, sink: str, ticket: Ticket, fate: Fate, why: str) -> None:
        if ticket.partition not in self._progress:
            return
        progress, record = ticket.origin
        if fate == "failed":
            # The group's own key must keep the last word on the group, also when this is fed to the topic again.
            keyed = record._replace(key=ticket.notification.id.encode())
            await self._bury(ticket.partition, keyed, SINK_FAILED, f"{sink}: {why}", sink)
        progress.settle(ticket.offset, sink)
        self._status.note_progress()

    async def _bury(self, partition: int, record: SourceRecord, reason: str, why: str, sink: str | None = None) -> None:
        headers = tuple(pair for pair in record.headers if pair[0] != SINK)
        if sink is not None:
            headers += ((SINK, sink.encode()),)
        letter = DeadLetter(self._topic, partition, record._replace(headers=headers), reason, escaped(why))
        part = f"dead letter of {self._topic}-{partition} offset {record.offset} for {sink or 'no sink'}"
        self._status.note_part(part)  # a broker may let its producer wait
        try:
            await self._letters.send([letter])
        finally:
            self._status.drop_part(part)
        reasons = self._status.dead_letter_reasons
        reasons[reason] = reasons.get(reason, 0) + 1

    async def _commit(self) -> None:
        positions = {number: progress.position() for number, progress in self._progress.items()}
        changed = {
            number: position for number, position in positions.items() if self._committed.get(number) != position
        }
        if not changed:
            return
        offsets = {
            TopicPartition(self._topic, number): OffsetAndMetadata(offset, metadata)
            for number, (offset, metadata) in changed.items()
        }
        try:
            await self._consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError) as error:
            log.info("the notifications are another worker's by now: %s", error)
        else:
            self._committed |= changed

    async def _remember(self, partition: TopicPartition, end: int) -> None:
        """Tell the sinks that repeat what fires what was delivered before `end`."""
        needy = [each for each in self._routed if each.queue.sink.refresh_seconds is not None]
        if not needy or end <= 0:
            return
        keep = max((each.keep_seconds for each in self._config.sinks.alertmanager), default=0.0)
        since_ms = int((time.time() - keep) * 1000)
        async with open_consumer(self._config.kafka) as reader:
            found = (await reader.offsets_for_times({partition: since_ms})).get(partition)
            if found is None:
                return
            async for record in read_to_end(reader, [partition], {partition: found.offset}):
                if record.offset >= end:
                    return
                if record.value is None:
                    continue
                with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError):
                    notification = decode_notification(record.value)
                    for each in needy:
                        if each.wants(notification.receivers):
                            each.queue.sink.remember(notification)

    def _new_consumer(self) -> AIOKafkaConsumer:
        worker = self._config.worker
        session_ms = int(worker.session_timeout_seconds * 1000)
        return AIOKafkaConsumer(
            **self._options,
            group_id=sinks_group(self._config),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=max(300, session_ms // 10),
            rebalance_timeout_ms=int(worker.rebalance_timeout_seconds * 1000),
            max_poll_interval_ms=LONGEST_POLL_INTERVAL_MS,
        )


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Hands the group's decisions over; an error in one would otherwise only be logged by aiokafka."""

    def __init__(self, deliverer: Deliverer) -> None:
        self._deliverer = deliverer

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Before a rebalance, in which the group gives up all it has: end and commit."""
        await self._deliverer.revoke()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """After a rebalance: start on what this worker got."""
        try:
            await self._deliverer.assign(assigned)
        except Exception as error:
            self._deliverer.fail(error)
