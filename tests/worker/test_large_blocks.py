"""A block that closes very many panes, as when a partition comes back after hours: its outputs go out in several
transactions, and the event loop turns all the while."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alerts.panes import FIELDS
from streamer.config.settings import Config
from streamer.core.watch import WatchOutput
from streamer.core.window_records import WindowRows
from streamer.worker.book_watcher import BookWatcher, Delivered
from streamer.worker.publishing import FencedError
from streamer.worker.status import BookStatus
from tests.core import worlds
from tests.core.worlds import START_MS, blocks_of, new_watch, record

ROWS = 60_000
TRANSACTION = 20_480
BLOCK = blocks_of(0, 1, [record(0)], [1])[0].encode()


def closed(rows: int) -> WindowRows:
    """The rows of panes with a hundred series each."""
    shape = (3, rows)
    return WindowRows(
        book="main",
        pane_ms=60_000,
        windows_ms=(120_000, 600_000),
        keys=[f"company:{row % 100:03}" for row in range(rows)],
        start_ms=START_MS + np.arange(rows) // 100 * 60_000,
        counts=np.ones((rows, len(FIELDS)), dtype=np.int64),
        windows=np.ones((2, rows, len(FIELDS)), dtype=np.int64),
        sources=np.ones(shape, dtype=np.int64),
        first_ms=np.full(shape, START_MS),
        last_ms=np.full(shape, START_MS),
        strongest=np.zeros((*shape, 1), dtype=np.int64),
        ids=["d0"],
        late=np.zeros(shape, dtype=np.int64),
        models=["stand-in-1"] * rows,
    )


class Broker:
    """Takes records; fences the producer off in the transaction of number `fenced_in`."""

    def __init__(self, fenced_in: int | None = None) -> None:
        self.fenced_in = fenced_in
        self.transactions: list[list[tuple[str, bytes, bytes]]] = [[]]

    async def send(self, topic: str, value: bytes, *, key: bytes) -> None:
        self.transactions[-1].append((topic, key, value))

    async def settle(self) -> None:
        if len(self.transactions) - 1 == self.fenced_in:
            raise FencedError("another worker")
        self.transactions.append([])

    async def stop(self) -> None:
        pass

    @property
    def settled(self) -> list[tuple[str, bytes, bytes]]:
        return [record for transaction in self.transactions[:-1] for record in transaction]


def book(broker: Broker, output: WatchOutput) -> BookWatcher:
    """A book whose watch says `output` of every block."""
    others: Any = dict.fromkeys(("log_publisher", "acknowledged", "ends_before"))
    publisher: Any = broker
    state: Any = SimpleNamespace(written_at=0.0)
    watcher = BookWatcher(
        "main",
        0,
        topics=Config().topics,
        publisher=publisher,
        state=state,
        status=BookStatus(),
        **others,
    )
    watch: Any = new_watch(worlds.settings())
    watch.take_in = lambda block: output
    watcher._watch = watch
    return watcher


async def longest_silence(until: asyncio.Task[Any]) -> float:
    """For how long the event loop did not turn until the task was done, seconds."""
    longest, last = 0.0, time.monotonic()
    while not until.done():
        await asyncio.sleep(0.005)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    return longest


async def test_a_block_that_closes_very_many_panes_does_not_silence_the_event_loop() -> None:
    rows, broker = closed(ROWS), Broker()
    watcher = book(broker, WatchOutput(rows=[rows]))
    told: list[int] = []
    started = time.monotonic()
    taking = asyncio.create_task(watcher.take(Delivered(7, BLOCK, lambda: None), told.append))
    silence = await longest_silence(taking)
    await taking
    assert silence < (time.monotonic() - started) / 5
    assert [len(transaction) for transaction in broker.transactions[:-1]] == [TRANSACTION, TRANSACTION, 19_040]
    assert told == [1, 2]
    topic = Config().topics.windows.name
    assert broker.settled == [(topic, each.key, each.value) for each in rows.records()]
    assert watcher.next_offset == 8


async def test_what_a_worker_left_half_done_its_successor_makes_again_whole() -> None:
    rows, dying, broker = closed(ROWS), Broker(fenced_in=1), Broker()
    first = book(dying, WatchOutput(rows=[rows]))
    with pytest.raises(FencedError):
        await first.take(Delivered(7, BLOCK, lambda: None), lambda transactions: None)
    assert len(dying.settled) == TRANSACTION
    assert first.next_offset is None
    assert not first.is_snapshot_due(0)
    await book(broker, WatchOutput(rows=[rows])).take(Delivered(7, BLOCK, lambda: None), lambda transactions: None)
    assert broker.settled[:TRANSACTION] == dying.settled
    assert len({key for _, key, _ in broker.settled}) == ROWS
