"""The table of a book that is watched: what it holds in memory, and how the book is opened again from it."""

from __future__ import annotations

import asyncio
import pickle
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from streamer.config.settings import Config, KafkaSettings
from streamer.kafka.topic_reader import TopicRecord
from streamer.worker.book_state import BookState
from streamer.worker.book_watcher import BookWatcher
from streamer.worker.snapshots import Restored, SnapshotWriter, newest_state
from streamer.worker.state_table import StateTable
from streamer.worker.status import BookStatus

CHUNKS = {name: random.Random(name).randbytes(3_000_000) for name in ("head", "panes", "novelty")}


class Changelog:
    """A table's changelog on a broker; at most `in_flight` entries wait for it at a time."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes | None]] = []
        self.waiting = self.in_flight = 0
        self.cleaned: set[int] = set()
        self.when_read: Callable[[], None] | None = None

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
        end = len(self.records)
        if self.when_read is not None:
            self.when_read()
            self.when_read = None
        for offset, (key, value) in enumerate(self.records[first:end], first):
            if offset not in self.cleaned:
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


def new_table(changelog: Changelog, faust: dict[bytes, bytes] | None = None) -> StateTable:
    """`faust` is what Faust's own table holds."""
    data = {} if faust is None else faust
    return StateTable(SimpleNamespace(data=data, send_changelog=changelog.send), KafkaSettings(), "changelog")


async def write(table: StateTable, writer: SnapshotWriter, chunks: dict[str, bytes], next_offset: int) -> None:
    writes = writer.plan(chunks, next_offset, list(await table.read(0) or ()))
    await table.put(0, writes.pieces)
    await table.put(0, [writes.manifest])
    writer.done()
    await table.remove(0, writes.removals)
    writer.removed()


async def state(table: StateTable, book: str = "main") -> Restored:
    entries = await table.read(0)
    assert entries is not None
    restored, problems = newest_state(entries, book)
    assert restored is not None
    assert problems == []
    return restored


async def test_the_state_of_a_watched_book_is_not_in_memory_a_second_time(changelog: Changelog) -> None:
    faust: dict[bytes, bytes] = {}
    table = new_table(changelog, faust)
    writer = SnapshotWriter("main", epoch=1, settings="s")
    for offset in range(3):
        await write(table, writer, CHUNKS | {"head": b"%d" % offset}, offset)
    assert sum(map(len, faust.values())) < 100
    assert len(pickle.dumps(vars(writer))) < 10_000


async def test_what_faust_reads_in_a_recovery_is_not_kept_whole(changelog: Changelog) -> None:
    table = new_table(changelog)
    await write(table, SnapshotWriter("main", epoch=1, settings="s"), CHUNKS, 5)
    events = [SimpleNamespace(key=key, value=value) for key, value in [*changelog.records, (b"gone", None)]]
    for event in events:
        await table.note(event)
    assert sum(len(event.value) for event in events[:-1]) < 100
    assert events[-1].value is None


async def test_a_state_goes_out_some_pieces_at_a_time(changelog: Changelog) -> None:
    large = {"large": bytes(100 * 512 * 1024)}
    await write(new_table(changelog), SnapshotWriter("main", epoch=1, settings="s"), large, 1)
    assert len(changelog.records) == 101
    assert changelog.in_flight == 64


async def test_a_book_that_is_opened_again_finds_its_state_in_the_changelog(changelog: Changelog) -> None:
    """Also where a successor has cleared everything of this worker away meanwhile."""
    table, other = new_table(changelog), new_table(changelog)
    assert await table.read(0) is None
    await write(table, SnapshotWriter("main", epoch=1, settings="s"), CHUNKS, 5)
    restored = await state(table)
    assert (restored.chunks, restored.manifest.next_offset) == (CHUNKS, 5)

    await write(other, SnapshotWriter("main", epoch=2, settings="s"), CHUNKS | {"head": b"later"}, 9)
    restored = await state(table)
    assert (restored.chunks["head"], restored.manifest.next_offset) == (b"later", 9)
    assert not any(b"/00000001-" in key for key in await table.read(0) or ())


async def test_a_changelog_whose_every_entry_was_removed_is_not_new(changelog: Changelog) -> None:
    table = new_table(changelog)
    await write(table, SnapshotWriter("main", epoch=1, settings="s"), {"head": b"1"}, 5)
    await table.remove(0, list(await table.read(0) or ()))
    assert await table.read(0) == {}


async def test_what_is_written_and_compacted_while_a_state_is_read_leaves_no_hole(changelog: Changelog) -> None:
    """A predecessor that does not know yet that it is fenced off writes while its successor reads; the broker compacts
    at once. To the end that there was at the beginning, the first manifest is gone and the second not there yet."""
    zombie, table = new_table(changelog), new_table(changelog)
    writer = SnapshotWriter("main", epoch=1, settings="s")
    await write(zombie, writer, CHUNKS, 5)
    writes = writer.plan(CHUNKS | {"head": b"later"}, 6, [])
    later = [*writes.pieces, writes.manifest, *((key, None) for key in writes.removals)]

    def compacted() -> None:
        changelog.records += later
        newest = {key: offset for offset, (key, _) in enumerate(changelog.records)}
        changelog.cleaned = {at for at, (key, _) in enumerate(changelog.records) if newest[key] != at}

    changelog.when_read = compacted
    restored = await state(table)
    assert (restored.chunks["head"], restored.manifest.next_offset) == (b"later", 6)


async def test_a_book_is_opened_on_the_changelog_whatever_faust_has_made_of_it(changelog: Changelog) -> None:
    """Of what a predecessor wrote during the recovery Faust's table has some, and what is older than the rest."""
    predecessor = new_table(changelog)
    writer = SnapshotWriter("main", epoch=1, settings="s")
    await write(predecessor, writer, CHUNKS, 5)
    early = dict(changelog.records)
    await write(predecessor, writer, CHUNKS | {"head": b"later"}, 6)
    gone = {key for key, value in changelog.records if value is None}
    faust = {key: value for key, value in early.items() if key not in gone and value is not None}
    taken: list[dict[str, bytes]] = []
    watcher = new_watcher(new_table(changelog, faust), taken)
    await watcher.open()
    assert (watcher.next_offset, taken[0]["head"]) == (6, b"later")


def new_watcher(table: StateTable, taken: list[dict[str, bytes]]) -> BookWatcher:
    client: Any = SimpleNamespace(start=_nothing, stop=_nothing, fence=None)
    watch: Any = SimpleNamespace(snapshot=lambda: CHUNKS)

    def restore(chunks: dict[str, bytes]) -> Any:
        taken.append(chunks)
        return watch

    status = BookStatus()
    return BookWatcher(
        "main",
        0,
        topics=Config().topics,
        state=BookState(
            "main",
            0,
            table=table,
            status=status,
            settings="s",
            rebuild=False,
            new_watch=lambda: watch,
            restore_watch=restore,
        ),
        publisher=client,
        log_publisher=client,
        status=status,
        acknowledged=_nothing,
        ends_before=_as_far,
    )


async def _nothing() -> int:
    return 0


async def _as_far(offset: int) -> None:
    """The log reaches any offset."""
