"""How a worker's books come by their digests, whatever Faust passes over, repeats or never delivers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka.errors import KafkaConnectionError

from streamer.config import Config
from streamer.topic_reader import TopicRecord
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

    def highwater(self, partition: Any) -> int:
        assert self.assigned, "Partition is not assigned"
        return self.size


class Book:
    """Takes what it is given in order; is fenced off at digest `fenced_at`."""

    book = "main"
    closed = False

    def __init__(self, next_offset: int | None, fenced_at: int | None = None) -> None:
        self.next_offset = next_offset
        self.fenced_at = fenced_at
        self.taken: list[int] = []
        self.acknowledged: list[int] = []

    async def take(self, delivered: Delivered) -> None:
        if delivered.offset == self.fenced_at:
            raise FencedError("another worker")
        if self.next_offset is None or delivered.offset >= self.next_offset:
            assert delivered.value == b"%d" % delivered.offset
            self.taken.append(delivered.offset)
            self.next_offset = delivered.offset + 1
        delivered.acknowledge()

    async def close(self) -> None:
        self.closed = True


def watching(log: Log, book: Book) -> Watcher:
    """A watcher with one open book, whose Faust never joined any group."""
    app: Any = faust.App("books", broker="kafka://127.0.0.1:1", store="memory://")

    def fail(error: BaseException) -> None:
        raise error

    nothing: Any = None
    watcher = Watcher(app, Config(), WorkerStatus("all"), nothing, fail, rules=nothing, silences=nothing)
    app.consumer = log
    parts: Any = watcher
    parts._log, parts._books, parts._taken_at = log, {BOOK: book}, {BOOK: 0.0}
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
