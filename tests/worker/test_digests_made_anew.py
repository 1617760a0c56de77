"""What a book does whose digests topic was made anew, or cut back: it says so, and takes in all that there is, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError

from alerts.rules import RuleSet
from streamer.config.settings import Config, KafkaSettings
from streamer.core.controls import Control
from streamer.core.watch import Watch
from streamer.worker.book_state import BookState
from streamer.worker.book_watcher import BookWatcher, Delivered
from streamer.worker.missed_digests import Bounds, DigestLog
from streamer.worker.status import BookStatus
from tests.core.worlds import EagerDesk, blocks_of, new_watch, record, settings

BLOCKS = [block.encode() for block in blocks_of(0, 1, [record(offset) for offset in range(60)], [5] * 12)]


class Broker:
    """The digests of a book and the changelog of its state, which may take nothing; `acknowledged` is the group's."""

    def __init__(self, digests: Iterable[bytes]) -> None:
        self.digests = list(digests)
        self.acknowledged = 0
        self.entries: dict[bytes, bytes] = {}
        self.refuses = False

    async def ends_before(self, offset: int) -> Bounds | None:
        return Bounds(0, len(self.digests)) if len(self.digests) < offset else None

    async def read(self, partition: int) -> dict[bytes, bytes] | None:
        return dict(self.entries) or None

    async def put(self, partition: int, entries: Iterable[tuple[bytes, bytes]]) -> None:
        if self.refuses:
            raise KafkaConnectionError
        self.entries.update(entries)

    async def remove(self, partition: int, keys: Iterable[bytes]) -> None:
        for key in keys:
            self.entries.pop(key, None)


async def opened(broker: Broker) -> BookWatcher:
    """A book's watcher that was just started on what the broker has."""

    async def acknowledged() -> int:
        return broker.acknowledged

    async def nothing(*_: Any, **__: Any) -> None:
        pass

    table: Any = broker
    client: Any = SimpleNamespace(start=nothing, stop=nothing, send=nothing, settle=nothing, fence=None)
    book, status = settings(), BookStatus()
    state = BookState(
        "main",
        0,
        table=table,
        status=status,
        settings="s",
        rebuild=False,
        new_watch=lambda: new_watch(book, EagerDesk),
        restore_watch=lambda chunks: Watch.restore(book, EagerDesk(book), chunks),
    )
    watcher = BookWatcher(
        "main",
        0,
        topics=Config().topics,
        state=state,
        publisher=client,
        log_publisher=client,
        status=status,
        acknowledged=acknowledged,
        ends_before=broker.ends_before,
    )
    await watcher.open()
    return watcher


async def take_all(watcher: BookWatcher, broker: Broker) -> None:
    """Take in what is in the log from the next digest on, and write the state down."""
    for offset in range(watcher.next_offset or 0, len(broker.digests)):
        await watcher.take(Delivered(offset, broker.digests[offset], lambda: None), lambda transactions: None)
    await watcher.snapshot()


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("size", [0, 3])
async def test_a_log_that_was_made_anew_is_taken_in_from_its_first_digest(
    live: bool, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Broker(BLOCKS[:8])
    watcher = await opened(broker)
    await take_all(watcher, broker)
    broker.digests = BLOCKS[8 : 8 + size]
    if live:
        assert await watcher.look_at_log()
    else:
        watcher = await opened(broker)
    assert (watcher.next_offset, watcher._status.rewinds) == (0, 1)
    assert f"ends at offset {size}, and digest 8 was to come: the topic was made anew" in caplog.text

    broker.digests = BLOCKS[8:]
    watcher = await opened(broker)  # which a crash has come before, and the log has grown past where the old one was
    assert (watcher.next_offset, watcher._status.rewinds) == (0, 0)
    await take_all(watcher, broker)
    assert watcher._watch.counts.rows == 60
    assert watcher._watch.counts.gaps == 0


async def test_a_log_that_was_cut_back_doubles_nothing_and_brings_no_old_rules_back() -> None:
    other = RuleSet.from_mapping({"rules": [{"name": "other"}]})
    old, new = (Control(book="main", rules=msgspec.to_builtins(each)).encode() for each in (other, EagerDesk.RULES))
    broker = Broker([BLOCKS[0], old, BLOCKS[1], new, *BLOCKS[2:6]])
    watcher = await opened(broker)
    await take_all(watcher, broker)
    broker.digests = broker.digests[:3]
    assert await watcher.look_at_log()
    assert not await watcher.look_at_log()
    await take_all(watcher, broker)
    assert watcher._watch.counts.rows == 30
    assert watcher._watch.counts.skipped == 10
    assert watcher._watch.desk.rules == EagerDesk.RULES
    broker.digests += [old, *BLOCKS[6:]]
    await take_all(watcher, broker)
    assert watcher._watch.counts.rows == 60
    assert watcher._watch.desk.rules == other, "what was written since then counts"


async def test_a_book_goes_back_only_once_that_is_written_down() -> None:
    broker = Broker(BLOCKS[:8])
    watcher = await opened(broker)
    await take_all(watcher, broker)
    broker.digests, broker.refuses = BLOCKS[8:10], True
    with pytest.raises(KafkaConnectionError):
        await watcher.look_at_log()
    assert (watcher.next_offset, watcher._status.rewinds) == (8, 0)
    broker.refuses = False
    assert await watcher.look_at_log()
    assert watcher.next_offset == 0


async def test_digests_of_the_old_log_are_not_acknowledged_in_the_new_one() -> None:
    acknowledged: list[int] = []
    broker = Broker(BLOCKS[:8])
    watcher = await opened(broker)
    for offset in range(8):
        await watcher.take(
            Delivered(offset, BLOCKS[offset], lambda offset=offset: acknowledged.append(offset)), lambda _: None
        )
    broker.digests = BLOCKS[8:10]
    assert await watcher.look_at_log()
    await take_all(watcher, broker)
    assert acknowledged == []


@pytest.mark.parametrize(("acknowledged", "apart"), [(0, False), (3, False), (8, True)])
async def test_a_book_reads_by_itself_where_faust_waits_for_what_the_log_does_not_have(
    acknowledged: int, apart: bool
) -> None:
    broker = Broker(BLOCKS[:8])
    await take_all(await opened(broker), broker)
    broker.digests, broker.acknowledged = BLOCKS[8:11], acknowledged
    assert (await opened(broker)).stands_apart == apart
    assert (await opened(broker)).stands_apart == apart, "and so does its successor"


async def test_a_log_that_reaches_as_far_sends_no_book_back() -> None:
    broker = Broker(BLOCKS[:8])
    watcher = await opened(broker)
    await take_all(watcher, broker)
    assert not await watcher.look_at_log()
    watcher = await opened(broker)
    assert (watcher.next_offset, watcher.stands_apart) == (8, False)


@pytest.mark.parametrize(
    ("listed", "fetched", "bounds"),
    [(9, 9, None), (5, 9, None), (5, 6, Bounds(2, 6)), (5, None, Bounds(2, 5))],
    ids=["as far", "the embedded broker lists one batch less", "ends before", "no answer to the fetch"],
)
async def test_where_a_log_ends_is_what_the_broker_lists_or_gives(
    listed: int, fetched: int | None, bounds: Bounds | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Consumer:
        def assign(self, places: Any) -> None:
            pass

        def seek(self, place: Any, offset: int) -> None:
            assert offset == 4

        async def beginning_offsets(self, places: Any) -> dict[Any, int]:
            return dict.fromkeys(places, 2)

        async def end_offsets(self, places: Any) -> dict[Any, int]:
            return dict.fromkeys(places, listed)

        async def getmany(self, *places: Any, timeout_ms: int) -> None:
            await asyncio.sleep(0)

        def highwater(self, place: Any) -> int | None:
            return fetched

    @asynccontextmanager
    async def open_consumer(kafka: KafkaSettings) -> AsyncIterator[Consumer]:
        yield Consumer()

    monkeypatch.setattr("streamer.worker.missed_digests.open_consumer", open_consumer)
    assert await DigestLog(KafkaSettings(), "digests").ends_before(0, 9) == bounds
