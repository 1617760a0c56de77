"""One book on this worker: its watch, what it produces, and when its state is written down.

    block ─► Watch ─► windows, alerts, late ─► acknowledged ─► … ─► snapshot durable ─► blocks acknowledged to Faust

Before it produces anything it fences its predecessors off, reads the state table to its end and writes its own state
down: `streamer.worker.snapshots` says why. A block is acknowledged only once a snapshot that contains it is durable.
After a crash the state to go on from is restored and the blocks after it come again; what they cause is produced again
with the same keys and bytes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec
from aiokafka.errors import KafkaError

from alerts.rules import RulesError, RuleSet
from alerts.silences import Silence, is_news
from streamer.config.settings import TopicsSettings
from streamer.core.blocks import DigestBlock, DigestError, DigestVersionError
from streamer.core.controls import Control, decode_control, is_control
from streamer.core.records import KeyedRecord
from streamer.core.state_chunks import StateError
from streamer.core.watch import Watch, WatchOutput
from streamer.escaping import escaped
from streamer.kafka.client import KafkaSetupError
from streamer.worker.book_state import BookState
from streamer.worker.missed_digests import Bounds
from streamer.worker.publishing import FencedPublisher, Publisher, settle
from streamer.worker.status import BookStatus

_SNAPSHOT_BLOCK_BYTES: Final = 64 * 1024 * 1024
_RECORDS_AT_ONCE: Final = 1024
_TRANSACTION_RECORDS: Final = 20 * _RECORDS_AT_ONCE

log = logging.getLogger(__name__)


class Delivered(NamedTuple):
    """A digest as it came: its offset, its bytes, and how to acknowledge it."""

    offset: int
    value: bytes
    acknowledge: Callable[[], Any]


class BookWatcher:
    """Takes in the digests of one book in order. `open` before use, `close` after; not for concurrent use.

    `acknowledged` asks up to which digest the watchers of this partition have acknowledged what snapshots contain,
    `ends_before` for the bounds of the partition where it does not reach an offset.
    """

    def __init__(
        self,
        book: str,
        partition: int,
        *,
        topics: TopicsSettings,
        state: BookState,
        publisher: FencedPublisher,
        log_publisher: Publisher,
        status: BookStatus,
        acknowledged: Callable[[], Awaitable[int]],
        ends_before: Callable[[int], Awaitable[Bounds | None]],
    ) -> None:
        self.book = book
        self.partition = partition
        self.next_offset: int | None = None
        """The next digest offset to take in; None while nothing was and no snapshot says."""
        self.stands_apart = False
        """Whether what Faust holds or waits for lies in a log that is no more, so that the book must read by itself."""
        self._topics = topics
        self._state = state
        self._publisher = publisher
        self._log_publisher = log_publisher
        self._proposed: set[tuple[str, int]] = set()
        self._status = status
        self._acknowledged = acknowledged
        self._ends_before = ends_before
        self._watch: Watch
        self._read_again_to = 0
        self._waiting: list[Delivered] = []
        self._waiting_bytes = 0
        self._taken_since_snapshot = 0

    async def open(self) -> None:
        """Fence off predecessors, restore the state to go on from, and lay claim to it.

        Raises KafkaError, KafkaSetupError, PublishError, StateError, and FencedError where a successor has claimed it.
        """
        started = time.monotonic()
        await self._publisher.start()
        await self._log_publisher.start()
        found = await self._state.read(self._publisher.fence)
        acknowledged = await self._acknowledged()
        self._watch, self.next_offset = await self._state.restored(found, acknowledged)
        await self._compare_with_log(acknowledged)
        self._status.restore_seconds = time.monotonic() - started
        self._status.next_offset = self.next_offset or 0
        await self._write(self.next_offset)
        log.info(
            "watching book %s from digest %s, state restored in %.2f s",
            self.book,
            "the first" if self.next_offset is None else self.next_offset,
            self._status.restore_seconds,
        )

    async def close(self) -> None:
        """Stop producing; what no snapshot contains comes again to the next owner."""
        self._waiting = []
        await self._publisher.stop()
        await self._log_publisher.stop()

    def is_mine(self) -> bool:
        """Whether nobody else has written a state of this book since it was opened."""
        return self._state.is_mine()

    def forget_deliveries(self) -> None:
        """Forget what waits for acknowledgement: after a rebalance it is delivered again."""
        self._waiting = []
        self._waiting_bytes = 0

    async def look_at_log(self) -> bool:
        """Go on from the beginning of the log where it does not reach `next_offset` any more; whether that is so.

        Raises KafkaError or KafkaSetupError, and nothing has changed then.
        """
        if self.next_offset is None or (bounds := await self._ends_before(self.next_offset)) is None:
            return False
        await self._write(bounds.first)  # so that a successor goes back too, when the log has grown meanwhile
        self._go_back(bounds)
        self.stands_apart = True
        return True

    async def take(self, delivered: Delivered, settled: Callable[[int], None]) -> None:
        """Take in the digest at `next_offset`, or one before it that was delivered again; its outputs are durable.

        `settled` is told how many transactions of outputs are through, where there are several.
        Raises FencedError where another worker has taken the book over, PublishError where outputs were refused.
        """
        if self.next_offset is None or delivered.offset >= self.next_offset:
            await self._take_in(delivered, settled)
            self.next_offset = delivered.offset + 1
            self._status.next_offset = self.next_offset
            self._taken_since_snapshot += 1
        self._waiting.append(delivered._replace(value=b""))
        self._waiting_bytes += len(delivered.value)

    def is_snapshot_due(self, snapshot_seconds: float) -> bool:
        """Whether there is something to write down, and it is time or much has come in."""
        age = time.monotonic() - self._state.written_at
        return bool(self._waiting) and (age >= snapshot_seconds or self._waiting_bytes >= _SNAPSHOT_BLOCK_BYTES)

    async def snapshot(self) -> None:
        """Write the state down, then acknowledge every digest that it contains. Raises KafkaError."""
        if not self._waiting or self.next_offset is None:
            return
        if self._taken_since_snapshot:
            await self._write(self.next_offset)
        for delivered in self._waiting:
            delivered.acknowledge()
        self.forget_deliveries()

    async def reconcile(self, rules: RuleSet, silences: Mapping[str, Silence]) -> None:
        """Write into the book's log what it should go by and does not yet: other rules, new silences.

        It obeys when it reads that there. What was written once is not written again by this owner; that a successor
        may do so is no harm. Raises PublishError.
        """
        desk = self._watch.desk
        known, clock_ms = desk.dispatch.silences, self._watch.clock_ms
        told = tuple(
            silence
            for name, silence in silences.items()
            if (name, silence.revision) not in self._proposed and is_news(silence, known.get(name), self.book, clock_ms)
        )
        version = (rules.version_id, 0)
        if rules == desk.rules:
            self._proposed.discard(version)
        others = rules != desk.rules and version not in self._proposed
        if not told and not others:
            return
        control = Control(book=self.book, silences=told, rules=msgspec.to_builtins(rules) if others else None)
        sent = await self._log_publisher.send(self._topics.digests.name, control.encode(), partition=self.partition)
        await settle([sent])
        self._proposed |= {(silence.id, silence.revision) for silence in told}
        if others:
            self._proposed = {each for each in self._proposed if each[1]} | {version}

    async def _compare_with_log(self, acknowledged: int) -> None:
        """Go back where the log does not reach `next_offset`, and see whether it reaches where Faust will begin."""
        bounds = await self._ends_before(max(acknowledged, self.next_offset or 0))
        if bounds is None:
            return
        if self.next_offset is not None and bounds.end < self.next_offset:
            self._go_back(bounds)
        self.stands_apart = bounds.end < acknowledged

    def _go_back(self, bounds: Bounds) -> None:
        """The log was made anew or cut back: take it in from its beginning, on top of the state that there is.

        What was taken in before changes nothing: blocks say which documents they cover, silences have revisions. Rules
        have none, so those that were there before are passed over, and what the book should go by is written anew.
        """
        log.error(
            "book %s: partition %d of %s ends at offset %d, and digest %s was to come: the topic was made anew, or its "
            "leader lacks its newest records; the book goes on from digest %d with the state that it has. Documents "
            "whose digests are gone are missing in its windows and alerts (bearwire_book_gaps_total): let nobody "
            "delete that topic, and have unclean.leader.election.enable off",
            self.book,
            self.partition,
            self._topics.digests.name,
            bounds.end,
            self.next_offset,
            bounds.first,
        )
        self._status.rewinds += 1
        self._status.next_offset = self.next_offset = bounds.first
        self._read_again_to = bounds.end
        self._proposed.clear()
        self.forget_deliveries()

    async def _write(self, next_offset: int | None) -> None:
        await self._state.write(self._watch, next_offset)
        self._taken_since_snapshot = 0

    async def _take_in(self, delivered: Delivered, settled: Callable[[int], None]) -> None:
        block: DigestBlock | Control
        try:
            if is_control(delivered.value):
                block = decode_control(delivered.value)
            else:
                block = DigestBlock.decode(delivered.value)
        except DigestVersionError as error:
            raise StateError(
                f"book {self.book}: digest {delivered.offset}: {error}; a scorer of another version wrote it: run the "
                "watchers with the version of the scorers"
            ) from error
        except DigestError as error:
            self._status.bad_blocks += 1
            log.error("book %s: digest %d is skipped: %s", self.book, delivered.offset, error)
            return
        if block.book != self.book:
            self._status.bad_blocks += 1
            log.error(
                "book %s: digest %d belongs to book %s and is skipped; books may be added to the configuration, "
                "but not removed or put in another order",
                self.book,
                delivered.offset,
                block.book,
            )
            return
        if isinstance(block, Control):
            output = await self._obey(block, delivered.offset)
        else:
            output = await asyncio.to_thread(self._watch.take_in, block)
            if output.anew is not None:
                log.error(
                    "book %s: partition %d of %s begins anew at offset %d where %d was expected: the topic was made "
                    "anew; its documents are watched from there",
                    self.book,
                    block.partition,
                    block.source,
                    block.from_offset,
                    output.anew,
                )
        await self._produce(output, settled)
        self._count(output)

    async def _obey(self, control: Control, offset: int) -> WatchOutput:
        if offset < self._read_again_to:
            control = msgspec.structs.replace(control, rules=None)
        try:
            output = await asyncio.to_thread(self._watch.obey, control)
        except RulesError as error:
            self._status.bad_blocks += 1
            log.error("book %s: the rules in digest %d are refused: %s", self.book, offset, error.in_one_line)
            return WatchOutput(watermark_ms=self._watch.watermark_ms)
        if control.rules is not None:
            log.info(
                "book %s goes by the rules %s from digest %d", self.book, self._watch.desk.rules.version_id, offset
            )
        for silence in output.silences:
            log.info("book %s has taken in revision %d of silence %s", self.book, silence.revision, escaped(silence.id))
        return output

    async def _produce(self, output: WatchOutput, settled: Callable[[int], None]) -> None:
        """Produce what a digest caused, in as many transactions as it takes; `settled` is told how many are through.

        The records are made in a thread: a partition that was away for hours may close a million rows at once. Nothing
        is written down or acknowledged before the last transaction is through; a successor makes all of them again.
        """
        records = self._records(output)
        sent = transactions = 0
        while part := await asyncio.to_thread(lambda: list(islice(records, _RECORDS_AT_ONCE))):
            for topic, record in part:
                await self._publisher.send(topic, record.value, key=record.key)
            sent += len(part)
            if sent >= _TRANSACTION_RECORDS:
                await self._publisher.settle()
                sent, transactions = 0, transactions + 1
                settled(transactions)
        await self._publisher.settle()

    def _records(self, output: WatchOutput) -> Iterator[tuple[str, KeyedRecord]]:
        topics = self._topics
        for window in output.windows():
            yield topics.windows.name, window
        for alert in output.alerts:
            yield topics.alerts.name, KeyedRecord(alert.key, alert.encode())
        for notification in output.notifications:
            yield topics.notifications.name, KeyedRecord(notification.key, notification.encode())
        for silence in output.silences:
            yield topics.silences.name, KeyedRecord(silence.key, silence.encode())
        for late in output.too_late:
            yield topics.late.name, late

    def _count(self, output: WatchOutput) -> None:
        status, counts = self._status, self._watch.counts
        status.blocks += 1
        status.documents = counts.rows
        status.duplicates = counts.duplicates
        status.too_late = counts.too_late
        status.gaps = counts.gaps
        if counts.unfollowed and not status.unfollowed:
            log.warning("book %s: it has as many series as it may; name its companies or raise max_series", self.book)
        status.unfollowed = counts.unfollowed
        status.alerts += len(output.alerts)
        status.notifications += len(output.notifications)
        status.windows += sum(len(rows.keys) for rows in output.rows)
        status.watermark_ms = output.watermark_ms
        status.open_rows = self._watch.open_rows


async def opened(make: Callable[[], BookWatcher], attempts_seconds: float) -> BookWatcher:
    """A book watcher that is open; tries again with growing pauses while the broker does not let it."""
    pause = 0.2
    deadline = time.monotonic() + attempts_seconds
    while True:
        watcher = make()
        try:
            await watcher.open()
        except (KafkaError, KafkaSetupError) as error:
            await watcher.close()
            if time.monotonic() + pause > deadline:
                raise
            log.warning("book %s cannot be opened yet (%s), next try in %.1f s", watcher.book, error, pause)
            await asyncio.sleep(pause)
            pause = min(5.0, pause * 2)
        except BaseException:
            await watcher.close()
            raise
        else:
            return watcher
