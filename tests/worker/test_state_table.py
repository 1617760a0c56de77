"""The table of a book that is watched: what it holds in memory, and how the book is opened again from it."""

from __future__ import annotations

import asyncio
import pickle
import random
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from streamer.config import Config, KafkaSettings
from streamer.topic_reader import TopicRecord
from streamer.worker.book_watcher import BookWatcher
from streamer.worker.snapshots import SnapshotWriter, newest_state
from streamer.worker.state_table import StateTable
from streamer.worker.status import BookStatus

CHUNKS = {name: random.Random(name).randbytes(3_000_000) for name in ("head", "panes", "novelty")}


class Changelog:
    """A table's changelog on a broker; at most `in_flight` entries wait for it at a time."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes | None]] = []
        self.waiting = self.in_flight = 0

    def send(self, partition: int, key: bytes, value: bytes | None, **how: Any) -> asyncio.Task[None]:
        self.records.append((key, value))
        self.waiting += 1
        self.in_flight = max(self.in_flight, self.waiting)
        return asyncio.create_task(self._acknowledged())

    async def _acknowledged(self) -> None:
        await asyncio.sleep(0)
        self.waiting -= 1

    async def read(self, consumer: Any, partitions: Any, start: dict[Any, int]) -> AsyncIterator[TopicRecord]:
        (first,) = start.values()
        for offset, (key, value) in enumerate(self.records[first:], first):
            yield TopicRecord(0, offset, 0, key, value, ())


@pytest.fixture
def changelog(monkeypatch: pytest.MonkeyPatch) -> Changelog:
    changelog = Changelog()

    @asynccontextmanager
    async def open_consumer(kafka: KafkaSettings) -> AsyncIterator[None]:
        yield None

    monkeypatch.setattr("streamer.worker.state_table.open_consumer", open_consumer)
    monkeypatch.setattr("streamer.worker.state_table.read_to_end", changelog.read)
    return changelog


def new_table(changelog: Changelog) -> StateTable:
    return StateTable(SimpleNamespace(data={}, send_changelog=changelog.send), KafkaSettings(), "changelog")


async def write(table: StateTable, writer: SnapshotWriter, chunks: dict[str, bytes], next_offset: int) -> None:
    writes = writer.plan(chunks, next_offset, list(table.entries))
    await table.put(0, writes.pieces)
    await table.put(0, [writes.manifest])
    writer.done()
    await table.remove(0, writes.removals)


def held(table: StateTable) -> int:
    return sum(map(len, table.entries.values()))


async def test_the_state_of_a_watched_book_is_not_in_memory_a_second_time(changelog: Changelog) -> None:
    table = new_table(changelog)
    writer = SnapshotWriter("main", epoch=1, settings="s")
    for offset in range(3):
        await write(table, writer, CHUNKS | {"head": b"%d" % offset}, offset)
    assert held(table) < 10_000
    assert len(pickle.dumps(vars(writer))) < 10_000


async def test_a_state_goes_out_some_pieces_at_a_time(changelog: Changelog) -> None:
    large = {"large": bytes(100 * 512 * 1024)}
    await write(new_table(changelog), SnapshotWriter("main", epoch=1, settings="s"), large, 1)
    assert len(changelog.records) == 101
    assert changelog.in_flight == 64


async def test_a_book_that_is_opened_again_finds_its_state_in_the_changelog(changelog: Changelog) -> None:
    """Also where a successor has cleared everything of this worker away meanwhile."""
    table, other = new_table(changelog), new_table(changelog)
    await write(table, SnapshotWriter("main", epoch=1, settings="s"), CHUNKS, 5)
    await table.catch_up("main", 0)
    restored, problems = newest_state(table.entries, "main")
    assert restored is not None
    assert (restored.chunks, restored.manifest.next_offset, problems) == (CHUNKS, 5, [])

    table.hollow("main", 0)
    assert held(table) < 10_000
    await other.catch_up("main", 0)
    await write(other, SnapshotWriter("main", epoch=2, settings="s"), CHUNKS | {"head": b"later"}, 9)
    await table.catch_up("main", 0)
    restored, problems = newest_state(table.entries, "main")
    assert restored is not None
    assert (restored.chunks["head"], restored.manifest.next_offset, problems) == (b"later", 9, [])
    assert not any(b"/00000001-" in key for key in table.entries)


async def test_other_books_keep_what_they_have(changelog: Changelog) -> None:
    table = new_table(changelog)
    await write(table, SnapshotWriter("main", epoch=1, settings="s"), CHUNKS, 5)
    await table.catch_up("main", 0)
    table.hollow("main2", 0)
    restored, _ = newest_state(table.entries, "main")
    assert restored is not None
    assert restored.chunks == CHUNKS


class Recovering(dict[bytes, bytes]):
    """The entries of a table in the middle of a recovery by Faust, which runs in the event loop's thread."""

    def __iter__(self) -> Iterator[bytes]:
        for key in super().__iter__():
            yield key
            if threading.current_thread() is not threading.main_thread():
                self[b"main/00000000-bb/4be1/0"] = b""


async def test_a_book_is_opened_while_faust_begins_to_recover_the_table(changelog: Changelog) -> None:
    table = StateTable(SimpleNamespace(data=Recovering(), send_changelog=changelog.send), KafkaSettings(), "changelog")
    client: Any = SimpleNamespace(start=_nothing, stop=_nothing, fence=None)
    watch: Any = SimpleNamespace(snapshot=lambda: CHUNKS)
    for _ in range(2):
        watcher = BookWatcher(
            "main",
            0,
            topics=Config().topics,
            table=table,
            publisher=client,
            log_publisher=client,
            status=BookStatus(),
            settings="s",
            rebuild=False,
            acknowledged=_nothing,
            new_watch=lambda: watch,
            restore_watch=lambda chunks: watch,
        )
        await watcher.open()


async def _nothing() -> int:
    return 0
