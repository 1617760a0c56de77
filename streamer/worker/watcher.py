"""The watchers of the books that Faust assigns to this worker: an agent over the digests, a table for their state.

Where a book continues is decided by its newest snapshot, never by Faust's committed offset: the two may differ
after a crash, a zombie's write, or events that Faust skipped and yet acknowledged in a rebalance. What lies between
the expected digest and one that is ahead of it is read from the log (`missed_digests.py`); one behind it is only
acknowledged. Where the log ends before the expected digest, it was made anew or cut back: the book goes on from its
beginning, and reads by itself until Faust has let go of what it holds and gone to a place that there is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final

import faust
from aiokafka.errors import KafkaError
from faust.types import TP

from streamer.config.settings import Config
from streamer.kafka.client import KafkaSetupError
from streamer.worker.book_watcher import BookWatcher, Delivered, opened
from streamer.worker.missed_digests import PATIENCE_SECONDS, DigestLog
from streamer.worker.publishing import FencedError, PublishError
from streamer.worker.rule_sets import RuleSets
from streamer.worker.silence_feed import SilenceFeed
from streamer.worker.state_table import RECOVERY_BUFFER, StateTable
from streamer.worker.status import WorkerStatus
from streamer.worker.topics import changelog_name

_TICK_SECONDS: Final = 0.5
_STALL_SECONDS: Final = 10.0

log = logging.getLogger(__name__)

MakeBook = Callable[[int, StateTable], BookWatcher]


class Watcher:
    """Runs the books of a Faust app. `make_book` makes the watcher of a book by its index; `fail` ends the worker."""

    def __init__(
        self,
        app: faust.App,
        config: Config,
        status: WorkerStatus,
        make_book: MakeBook,
        fail: Callable[[BaseException], None],
        *,
        rules: RuleSets,
        silences: SilenceFeed,
    ) -> None:
        self._app = app
        self._config = config
        self._status = status
        self._make_book = make_book
        self._fail = fail
        self._rules = rules
        self._silences = silences
        self._assigned: set[int] = set()
        self._books: dict[int, BookWatcher] = {}
        self._reached: dict[int, tuple[int, int]] = {}
        self._taken_at: dict[int, float] = {}
        self._reopen_at: dict[int, float] = {}
        self._lock = asyncio.Lock()
        self._taking: asyncio.Task[None] | None = None
        self._stopping = False
        self._settled = False
        partitions = config.digest_partitions
        digests = app.topic(
            config.topics.digests.name,
            key_type=bytes,
            value_type=bytes,
            value_serializer="raw",
            key_serializer="raw",
            partitions=partitions,
            allow_empty=True,
        )
        self._topic = config.topics.digests.name
        self._log = DigestLog(config.kafka, self._topic)
        table = app.Table(
            "state",
            key_type=bytes,
            value_type=bytes,
            partitions=partitions,
            on_recover=self._recovered,
            on_changelog_event=self._noted,
            recovery_buffer_size=RECOVERY_BUFFER,
            help="The state of every book: content-addressed chunks and manifests (streamer.worker.snapshots).",
        )
        self._table = StateTable(table, config.kafka, changelog_name(config))
        app.agent(digests, name="bearwire-watch")(self._watch)
        self._status.hold("watcher", "joining the consumer group")

    async def _watch(self, stream: Any) -> None:
        async for event in stream.noack().events():
            # Faust waits for no event in a rebalance, and cancels agents that it stops. A digest that the watch has
            # taken in must also be produced, so what was begun is finished, and whatever comes waits at the lock.
            self._taking = asyncio.create_task(self._take_guarded(event))
            await asyncio.shield(self._taking)

    async def _take_guarded(self, event: Any) -> None:
        try:
            async with self._lock:
                await self._take(event)
        except Exception as error:
            self._fail(error)

    async def keep_house(self) -> None:
        """Write snapshots, measure lag, read what a book waits for in vain; runs until the worker stops."""
        self._status.note_part("watcher")
        while not self._stopping:
            await asyncio.sleep(_TICK_SECONDS)
            try:
                async with self._lock:
                    if self._app.rebalancing:
                        self._status.hold("watcher", "the consumer group is being rebalanced")
                    elif self._settled and not self._stopping:
                        self._status.release("watcher")
                        await self._keep_books()
                        self._status.note_part("watcher")
            except Exception as error:
                self._fail(error)
                return

    async def finish(self) -> None:
        """Write every book's state down, acknowledge, commit, and stop producing."""
        self._stopping = True
        async with self._lock:
            self._status.drop_part("watcher")
            for book in self._books.values():
                await self._snapshot(book)
            if self._books:
                await self._app.consumer.commit()
            for book in self._books.values():
                await book.close()
            self._books = {}

    async def _noted(self, event: Any) -> None:
        await self._table.note(event)

    async def _recovered(self) -> None:
        """Faust has restored the table after a rebalance: open what is new here, close what has left."""
        try:
            async with self._lock:
                await self._settle_assignment()
        except Exception as error:
            self._fail(error)

    async def _settle_assignment(self) -> None:
        if self._stopping:
            return
        assigned = {each.partition for each in self._app.consumer.assignment() if each.topic == self._topic}
        assigned &= set(range(len(self._config.books)))
        for index in sorted(self._assigned - assigned):
            await self._leave(index)
        self._assigned = assigned
        for index, book in list(self._books.items()):
            book.forget_deliveries()
            if not book.is_mine() or book.stands_apart:
                await self._close(index)  # opened again below where it still is this worker's
            else:
                self._status.note_part(f"book {book.book}")
        self._reopen_at = {}
        for index in sorted(assigned - self._books.keys()):
            await self._open(index)
        self._settled = True
        self._status.release("watcher")
        if not assigned:
            log.info("no book is assigned to this worker; it stands by")

    async def _open(self, index: int) -> None:
        name = self._config.books[index].name
        self._status.hold(f"book {name}", "restoring its state")
        try:
            self._books[index] = await opened(
                lambda: self._make_book(index, self._table), self._config.kafka.request_timeout_seconds
            )
        except FencedError:
            self._try_again_later(index)
            return
        self._taken_at[index] = time.monotonic()
        if self._status.book(name).rewinds:
            self._reached.pop(index, None)
        if f"book {name}" not in self._status.parts:  # else it was lost, and to open it again is no progress
            self._status.note_part(f"book {name}")
            self._status.note_part("watcher")  # which opens one book after the other
            self._status.note_progress()
        self._status.release(f"book {name}")

    async def _close(self, index: int) -> None:
        book = self._books.pop(index)
        await book.close()
        self._status.books.pop(book.book, None)

    async def _leave(self, index: int) -> None:
        """The book is another worker's now, whether it was open here or lost."""
        name = self._config.books[index].name
        if index in self._books:
            await self._close(index)
        self._reached.pop(index, None)
        self._table.forget(name)
        self._status.drop_part(f"book {name}")
        self._status.release(f"book {name}")

    async def _take(self, event: Any) -> None:
        message = event.message
        index, offset = message.partition, message.offset
        book = self._books.get(index)
        if book is None or self._stopping or book.stands_apart:
            return
        if book.next_offset is None or offset > book.next_offset:
            await self._read_missed(index, book, offset)
            if self._books.get(index) is not book or (book.next_offset or 0) < offset:
                return  # lost, or not come so far yet; the next digest goes on from there
        await self._take_one(index, book, Delivered(offset, message.value, event.ack))

    async def _take_one(self, index: int, book: BookWatcher, delivered: Delivered) -> bool:
        """Whether the book has taken it and is still this worker's."""
        try:
            await book.take(delivered, lambda transactions: self._note(index, delivered.offset, transactions))
        except (FencedError, PublishError) as error:
            await self._lose(index, error)
            return False
        self._note(index, delivered.offset + 1)
        return True

    def _note(self, index: int, offset: int, transactions: int = 0) -> None:
        """The book is at this digest, of whose outputs so many transactions are through."""
        self._taken_at[index] = time.monotonic()
        if (offset, transactions) > self._reached.get(index, (0, 0)):  # else a lost book comes to where it was
            self._reached[index] = offset, transactions
            self._status.note_part(f"book {self._config.books[index].name}")
            self._status.note_part("watcher")  # which waits for a large block to be through
            self._status.note_progress()

    async def _read_missed(self, index: int, book: BookWatcher, until: int | None) -> None:
        """Let the book take in what lies before `until` in the log, or what there is, for as long as it may."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            first = await self._first_kept(index, book.next_offset)
            book.next_offset = first
            if until is not None and first >= until:
                return
            async with aclosing(self._log.between(index, first, until)) as records:
                async for record in records:
                    if not await self._take_one(index, book, Delivered(record.offset, record.value or b"", _taken)):
                        return
                    if time.monotonic() > deadline:
                        break
        except (KafkaError, KafkaSetupError) as error:
            log.warning("book %s: its digests from %s on cannot be read yet: %s", book.book, book.next_offset, error)
            return
        if not book.stands_apart:
            log.info("book %s has read digests %d to %d by itself", book.book, first, (book.next_offset or 0) - 1)

    async def _first_kept(self, index: int, expected: int | None) -> int:
        """The offset to continue at: the expected one, or where the log begins if that is later."""
        partition = TP(self._topic, index)
        first = int((await self._app.consumer.earliest_offsets(partition)).get(partition) or 0)
        if expected is None:
            return first
        if first > expected:
            book = self._books[index]
            log.error(
                "book %s: digests %d to %d were deleted before they were watched; raise topics.digests.retention_hours",
                book.book,
                expected,
                first - 1,
            )
            self._status.book(book.book).gaps += 1
            book.next_offset = first
            return first
        return expected

    async def _keep_books(self) -> None:
        now = time.monotonic()
        for index, at in list(self._reopen_at.items()):
            if now >= at and not self._app.in_recovery:  # whose end says which books stay here
                del self._reopen_at[index]
                await self._open(index)
                if index in self._books:
                    await self._read_missed(index, self._books[index], None)
        for index, book in list(self._books.items()):
            if book.is_snapshot_due(self._config.worker.snapshot_seconds):
                await self._snapshot(book)
            await self._reconcile(book)
            await self._measure(index, book, now)

    async def _reconcile(self, book: BookWatcher) -> None:
        try:
            await book.reconcile(self._rules.of(book.book), self._silences.asked)
        except PublishError as error:
            log.warning("book %s: silences or rules could not be written to its log yet: %s", book.book, error)

    async def _snapshot(self, book: BookWatcher) -> None:
        try:
            await book.snapshot()
        except KafkaError as error:
            log.warning("book %s: its state could not be written (%r), will be tried again", book.book, error)
        else:
            self._status.note_progress()

    async def _measure(self, index: int, book: BookWatcher, now: float) -> None:
        partition = TP(self._topic, index)
        try:
            end = self._app.consumer.highwater(partition)
        except AssertionError:  # aiokafka's word for a partition that was taken away just now
            return
        if end is None:
            return
        if end < (book.next_offset or 0):
            await self._look_at_log(index, book)
        status = self._status.book(book.book)
        status.lag = max(0, end - (book.next_offset or 0))
        if not status.lag:
            self._status.note_part(f"book {book.book}")
        if status.lag and (book.stands_apart or now - self._taken_at[index] > _STALL_SECONDS):
            await self._read_missed(index, book, None)

    async def _look_at_log(self, index: int, book: BookWatcher) -> None:
        """See whether the log really ends there: Faust may have asked before the book read on, or a new leader."""
        try:
            if await book.look_at_log():
                self._reached.pop(index, None)
        except (KafkaError, KafkaSetupError) as error:
            log.warning("book %s: where its digests end cannot be found out yet: %s", book.book, error)

    async def _lose(self, index: int, error: Exception) -> None:
        name = self._books[index].book
        log.warning("book %s: this worker may no longer produce for it: %s", name, error)
        await self._close(index)
        self._try_again_later(index)

    def _try_again_later(self, index: int) -> None:
        """If the group still counts on this worker when a zombie would have noticed, the book is opened again."""
        name = self._config.books[index].name
        self._status.hold(f"book {name}", "another worker took it over, or the broker refused its records")
        self._reopen_at[index] = time.monotonic() + self._config.worker.session_timeout_seconds


def _taken() -> None:
    """Nothing is acknowledged to Faust of what it did not deliver: its committed offset decides nothing."""
