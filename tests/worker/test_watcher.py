"""How a worker's books come by their digests, whatever Faust passes over, repeats or never delivers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka.errors import KafkaConnectionError
from faust.events import Event
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streamer.config.settings import Config
from streamer.core.state_chunks import StateError
from streamer.kafka.topic_reader import TopicRecord
from streamer.worker.book_watcher import Delivered
from streamer.worker.publishing import FencedError
from streamer.worker.status import WorkerStatus
from streamer.worker.watcher import Watcher

BOOK = 0


class Log:
    """The digests of one book: `size` of them, of which the first `deleted` are gone."""

    def __init__(self, size: int, *, deleted: int = 0) -> None:
        self.size = size
        self.deleted = deleted
        self.fails = False
        self.assigned = True

    async def between(self, partition: int, first: int, until: int | None) -> AsyncGenerator[TopicRecord]:
        if self.fails:
            raise KafkaConnectionError
        for offset in range(max(first, self.deleted), self.size if until is None else until):
            yield TopicRecord(partition, offset, 0, None, b"%d" % offset, ())

    async def earliest_offsets(self, *partitions: Any) -> dict[Any, int]:
        return dict.fromkeys(partitions, self.deleted)

    def assignment(self) -> set[TP]:
        return {TP(Config().topics.digests.name, BOOK)} if self.assigned else set()

    def ack(self, message: Any) -> bool:
        return True

    def highwater(self, partition: Any) -> int:
        assert self.assigned, "Partition is not assigned"
        return self.size


class Book:
    """Takes what it is given in order; is fenced off at digest `fenced_at`."""

    book = "main"
    closed = False
    stands_apart = False
    log: Log | None = None

    def __init__(self, next_offset: int | None, fenced_at: int | None = None) -> None:
        self.next_offset = next_offset
        self.fenced_at = fenced_at
        self.taken: list[int] = []
        self.acknowledged: list[int] = []

    async def take(self, delivered: Delivered, settled: Callable[[int], None]) -> None:
        if delivered.offset == self.fenced_at:
            raise FencedError("another worker")
        if self.next_offset is None or delivered.offset >= self.next_offset:
            assert delivered.value == b"%d" % delivered.offset
            self.taken.append(delivered.offset)
            self.next_offset = delivered.offset + 1
        delivered.acknowledge()

    async def look_at_log(self) -> bool:
        if self.log is None or self.next_offset is None or self.log.size >= self.next_offset:
            return False
        self.next_offset, self.stands_apart = self.log.deleted, True
        return True

    def forget_deliveries(self) -> None:
        pass

    def is_mine(self) -> bool:
        return True

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        self.closed = True


def watching(log: Log, book: Book, *again: Book) -> Watcher:
    """A watcher with one open book, which it opens as those of `again`; its Faust never joined any group."""
    app: Any = faust.App("books", broker="kafka://127.0.0.1:1", store="memory://")

    def fail(error: BaseException) -> None:
        raise error

    nothing: Any = None
    successors: Any = iter(again)
    watcher = Watcher(
        app,
        Config(),
        WorkerStatus("all"),
        lambda index, table: next(successors),
        fail,
        rules=nothing,
        silences=nothing,
    )
    app.consumer = log
    parts: Any = watcher
    parts._log, parts._books, parts._taken_at, parts._assigned = log, {BOOK: book}, {BOOK: 0.0}, {BOOK}
    watcher._status.note_part("book main")
    return watcher


async def deliver(watcher: Watcher, book: Book, *offsets: int) -> None:
    """Faust delivers these digests."""
    for offset in offsets:
        message = SimpleNamespace(partition=BOOK, offset=offset, value=b"%d" % offset)

        def ack(offset: int = offset) -> None:
            book.acknowledged.append(offset)

        await watcher._take(SimpleNamespace(message=message, ack=ack))


async def test_what_faust_passed_over_is_read_from_the_log_and_nothing_is_taken_twice() -> None:
    """As met in a crash run: digests 0 to 12 came, then 60 and on, and however often Faust was told to seek back."""
    book = Book(0)
    watcher = watching(Log(100), book)
    await deliver(watcher, book, *range(13), *range(60, 70), *range(5, 20), *range(90, 100))
    assert book.taken == list(range(100))
    assert set(book.acknowledged) == {*range(20), *range(60, 70), *range(90, 100)}


async def test_a_book_without_a_state_begins_where_the_log_does() -> None:
    book = Book(None)
    watcher = watching(Log(10, deleted=4), book)
    await deliver(watcher, book, 6, 7)
    assert book.taken == [4, 5, 6, 7]


async def test_digests_that_were_deleted_are_counted_and_watching_goes_on_behind_them() -> None:
    book = Book(2)
    watcher = watching(Log(10, deleted=6), book)
    await deliver(watcher, book, 8)
    assert book.taken == [6, 7, 8]
    assert watcher._status.book("main").gaps == 1


async def test_a_digest_that_faust_never_delivers_is_read_once_nothing_came_for_a_while() -> None:
    book = Book(3)
    watcher = watching(Log(50), book)
    await watcher._measure(BOOK, book, now=1e9)  # type: ignore[arg-type]
    assert book.taken == list(range(3, 50))


async def test_a_log_that_is_made_anew_is_read_from_its_beginning_whatever_faust_still_holds() -> None:
    """Faust has digests of the old log in its buffers, and then drops those of the new one up to where it was."""
    book, log = Book(0), Log(100)
    again = Book(20)
    watcher = watching(log, book, again)
    book.log = log
    await deliver(watcher, book, *range(50))
    reached = watcher._status.parts["book main"]
    book.taken.clear()
    log.size = 8
    await asyncio.sleep(0.01)
    await watcher._measure(BOOK, book, now=0.0)  # type: ignore[arg-type]
    assert book.taken == list(range(8))
    assert watcher._status.parts["book main"] > reached, "it is progress, though it was further in the old log"
    log.size = 60
    await deliver(watcher, book, *range(50, 60))
    assert book.taken == list(range(8))
    await watcher._measure(BOOK, book, now=0.0)  # type: ignore[arg-type]
    assert book.taken == list(range(60))

    await watcher._settle_assignment()  # Faust has forgotten what it held, and goes back
    assert book.closed
    await deliver(watcher, again, *range(20, 24))
    assert again.taken == list(range(20, 24))


async def test_an_end_that_faust_has_not_heard_of_yet_sends_no_book_back() -> None:
    book, log = Book(30), Log(20)
    watcher = watching(log, book)
    book.log = Log(30)
    await watcher._measure(BOOK, book, now=1e9)  # type: ignore[arg-type]
    assert (book.next_offset, book.taken, book.stands_apart) == (30, [], False)


async def test_a_book_whose_partition_was_taken_away_just_now_waits_for_nothing() -> None:
    book, log = Book(3), Log(50)
    watcher = watching(log, book)
    log.assigned = False
    await watcher._measure(BOOK, book, now=1e9)  # type: ignore[arg-type]
    assert book.taken == []


async def test_a_broker_that_does_not_answer_skips_nothing() -> None:
    book, log = Book(0), Log(10)
    watcher = watching(log, book)
    log.fails = True
    await deliver(watcher, book, 4, 5)
    assert book.taken == []
    log.fails = False
    await deliver(watcher, book, 6)
    assert book.taken == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("fenced_at", [3, 6])
async def test_a_book_that_is_taken_over_meanwhile_takes_nothing_more(fenced_at: int) -> None:
    book = Book(0, fenced_at)
    watcher = watching(Log(10), book)
    await deliver(watcher, book, 6, 7)
    assert book.taken == list(range(fenced_at))
    assert book.closed


async def test_a_long_stretch_is_read_in_goes_so_that_a_rebalance_gets_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamer.worker.watcher.PATIENCE_SECONDS", 0.0)
    book = Book(0)
    watcher = watching(Log(10), book)
    await deliver(watcher, book, 3)
    assert book.taken == [0]
    await asyncio.sleep(0)
    await deliver(watcher, book, 4, 5, 6, 7)
    assert book.taken == [0, 1, 2, 3, 4]


async def test_a_lost_book_that_moves_to_another_worker_keeps_nobody_from_being_ready() -> None:
    book, log = Book(0, fenced_at=3), Log(10)
    watcher = watching(log, book)
    watcher._status.release("watcher")
    await deliver(watcher, book, *range(4))
    assert "book main" in watcher._status.holds
    watcher._table._table.data[b"main/00000001-aa/manifest"] = b""
    log.assigned = False
    await watcher._settle_assignment()
    assert watcher._status.not_ready() == []
    assert "book main" not in watcher._status.parts
    assert not watcher._table.keys


async def test_each_book_that_a_worker_opens_is_progress_however_many_it_takes_over() -> None:
    watcher = watching(Log(0), Book(0), Book(0))
    status = watcher._status
    await watcher._leave(BOOK)
    status.parts["watcher"] = status.progress_at = 1.0
    await watcher._settle_assignment()
    assert status.parts["watcher"] > 1.0
    assert status.progress_at > 1.0


async def test_to_lose_a_book_again_and_again_is_no_progress() -> None:
    """The broker refuses what digest 3 causes, whoever opens the book; what comes before it is taken in each time."""
    books = [Book(0, fenced_at=3) for _ in range(4)]
    watcher = watching(Log(10), *books)
    status = watcher._status
    await deliver(watcher, books[0], *range(4))
    first, progress = status.parts["book main"], status.progress_at
    for book in books[1:]:
        await asyncio.sleep(0.01)
        watcher._reopen_at[BOOK] = 0.0
        await watcher._keep_books()
        assert book.taken == [0, 1, 2]
        assert book.closed
    assert (status.parts["book main"], status.progress_at) == (first, progress)
    healed = Book(0)
    watcher._make_book = lambda index, table: healed  # type: ignore[assignment, return-value]
    watcher._reopen_at[BOOK] = 0.0
    await watcher._open(BOOK)
    await deliver(watcher, healed, *range(4))
    assert status.parts["book main"] > first
    assert status.progress_at > progress


async def test_a_digest_in_many_transactions_is_progress_with_each_of_them_but_once() -> None:
    class Large(Book):
        async def take(self, delivered: Delivered, settled: Callable[[int], None]) -> None:
            for transactions in range(1, 4):
                before = [*status.parts.values(), status.progress_at]
                await asyncio.sleep(0.005)
                settled(transactions)
                after = [*status.parts.values(), status.progress_at]
                noted.append(all(now > then for then, now in zip(before, after, strict=True)))
            raise FencedError("another worker")

    noted: list[bool] = []
    books = [Large(0), Large(0)]
    watcher = watching(Log(1), *books)
    status = watcher._status
    status.note_part("watcher")
    await deliver(watcher, books[0], 0)
    watcher._reopen_at[BOOK] = 0.0
    await watcher._keep_books()
    assert noted == [True] * 3 + [False] * 3


async def test_a_digest_that_was_begun_is_finished_though_faust_goes_on_without_it() -> None:
    """A rebalance does not wait for what an agent has in hand, and who stops an agent cancels it: here Faust's own."""
    begun, may_end = asyncio.Event(), asyncio.Event()

    class Slow(Book):
        async def take(self, delivered: Delivered, settled: Callable[[int], None]) -> None:
            begun.set()
            await may_end.wait()
            await super().take(delivered, settled)

        def forget_deliveries(self) -> None:
            settled_with.append(list(self.taken))

    settled_with: list[list[int]] = []
    book, log = Slow(0), Log(3)
    watcher = watching(log, book)
    app: Any = watcher._app
    app._consumer = None  # so that it makes Faust's own
    place = TP(watcher._topic, BOOK)
    (agent,) = app.agents.values()
    await agent.start()
    (actor,) = agent._actors
    app.flow_control.resume()
    for offset in range(3):
        value = b"%d" % offset
        message = ConsumerMessage(
            *(place.topic, BOOK, offset, 0.0, 0, None, b"", value, None),
            tp=place,
            generation_id=app.consumer_generation_id,
        )
        await actor.stream.channel.queue.put(Event(app, None, value, None, message))
    async with asyncio.timeout(10):
        await begun.wait()
        await app.agents.on_rebalance({place}, set())
        assert not actor.actor_task.done(), "a rebalance leaves the agent as it is"
        app.consumer = log  # what Faust's own would need a broker for
        settling = asyncio.create_task(watcher._recovered())
        await agent.stop()
        assert actor.actor_task.done()
        assert not settling.done(), "nobody opens or closes a book meanwhile"
        assert book.taken == []
        may_end.set()
        await settling
    assert book.taken == [0]
    assert settled_with == [[0]]


async def test_an_error_while_books_are_opened_ends_the_worker_though_faust_does_not_look_at_it() -> None:
    class Unusable(Book):
        async def open(self) -> None:
            raise StateError("no stored state can be used")

    watcher = watching(Log(0), Book(0), Unusable(None))
    failures: list[BaseException] = []
    watcher._fail = failures.append
    await watcher._leave(BOOK)
    table: Any = watcher._table._table
    await table.on_recovery_completed(set(), set())
    assert [str(error) for error in failures] == ["no stored state can be used"]


async def test_a_lost_book_is_not_opened_again_before_a_recovery_is_over() -> None:
    """While the table goes back to old entries nobody has said yet whether the book stays here."""
    lost, again = Book(0, fenced_at=3), Book(0, fenced_at=5)
    watcher = watching(Log(10), lost, again)
    app: Any = watcher._app
    await deliver(watcher, lost, *range(4))
    watcher._reopen_at[BOOK] = 0.0
    app.in_recovery = True
    await watcher._keep_books()
    assert again.taken == []
    app.in_recovery = False
    await watcher._keep_books()
    assert again.taken == list(range(5))
