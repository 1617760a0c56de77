"""The state of one book: restored by whoever opens the book, and written down from then on.

`streamer.worker.snapshots` says in what order that must be done, and why.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from streamer.core.state_chunks import StateError
from streamer.core.watch import Watch
from streamer.worker.memory import give_back
from streamer.worker.publishing import FencedError
from streamer.worker.snapshots import EMPTY, Fence, SnapshotWriter, highest_epoch, newest_state, next_epoch
from streamer.worker.state_table import StateTable
from streamer.worker.status import BookStatus

log = logging.getLogger(__name__)


class BookState:
    """Where the state of a book lies. First `read`, then `restored`, then `write` as often as there is news.

    `new_watch` makes an empty watch, `restore_watch` one from a snapshot's chunks (raising StateError); `settings`
    is a fingerprint of what shapes the state; `rebuild` says whether to start afresh where no state is usable.
    """

    def __init__(
        self,
        book: str,
        partition: int,
        *,
        table: StateTable,
        status: BookStatus,
        settings: str,
        rebuild: bool,
        new_watch: Callable[[], Watch],
        restore_watch: Callable[[dict[str, bytes]], Watch],
    ) -> None:
        self.book = book
        self.partition = partition
        self.written_at = time.monotonic()
        """When it was written down last, or first looked at (monotonic)."""
        self._table = table
        self._status = status
        self._settings = settings
        self._rebuild = rebuild
        self._new_watch = new_watch
        self._restore_watch = restore_watch
        self._writer: SnapshotWriter
        self._inherited: list[bytes] = []

    async def read(self, fence: Fence | None) -> dict[bytes, bytes] | None:
        """What the table holds, once `fence` has fenced predecessors off; None where it never held anything.

        Raises KafkaError, KafkaSetupError, and FencedError where a successor has claimed the book.
        """
        found = await self._table.read(self.partition)
        epoch = next_epoch(found or {}, self.book, fence)
        if epoch is None:
            raise FencedError(f"another worker has taken book {self.book} over")
        self._writer = SnapshotWriter(self.book, epoch=epoch, settings=self._settings, fence=fence)
        self._inherited = list(found or {})
        return found

    async def restored(self, found: dict[bytes, bytes] | None, acknowledged: int) -> tuple[Watch, int | None]:
        """The watch of the newest usable state in what was `read`, and the digest after it, None for the first.

        `acknowledged` is up to which digest the watchers of this partition have acknowledged what snapshots contain:
        a changelog that never held anything is that of a new deployment, unless there were such. `found` is empty
        afterwards. Raises StateError where no state is usable.
        """
        entries = {} if found is None else found
        result = await asyncio.to_thread(self._restored, entries, acknowledged if found is None else 0)
        entries.clear()
        return result

    async def write(self, watch: Watch, next_offset: int | None) -> None:
        """Write the state of `watch` down as that before digest `next_offset`; durable on return. Raises KafkaError."""
        chunks = await asyncio.to_thread(watch.snapshot)
        offset = EMPTY if next_offset is None else next_offset
        writes = await asyncio.to_thread(self._writer.plan, chunks, offset, self._inherited)
        await self._table.put(self.partition, writes.pieces)
        await self._table.put(self.partition, [writes.manifest])
        self._writer.done()
        await self._table.remove(self.partition, writes.removals)
        self._writer.removed()
        self._inherited = []
        status = self._status
        status.snapshot_bytes = sum(map(len, chunks.values()))
        status.snapshot_written_bytes += writes.piece_bytes
        del chunks, writes
        await asyncio.to_thread(give_back)
        self.written_at = status.snapshot_at = time.monotonic()

    def is_mine(self) -> bool:
        """Whether nobody else has written a state of this book since it was read."""
        return highest_epoch(self._table.keys, self.book) <= self._writer.epoch

    def _restored(self, entries: dict[bytes, bytes], lost: int) -> tuple[Watch, int | None]:
        """The watch of the newest usable state in the table's `entries` and the digest after it. Raises StateError
        where none is usable.

        `lost` is up to which digest there was a state of which nothing is left; 0 for none.
        """
        restored, problems = newest_state(entries, self.book)
        for problem in problems:
            log.error("book %s: a stored state cannot be used: %s", self.book, problem)
        if restored is None and not problems and not lost:
            return self._new_watch(), None
        if restored is not None and restored.manifest.next_offset == EMPTY:
            return self._new_watch(), None
        try:
            if restored is None and lost:
                raise StateError(f"digests up to {lost} were watched, and the changelog has lost the state")
            if restored is None:
                raise StateError(f"no stored state can be used: {problems[0]}")
            if restored.manifest.settings != self._settings:
                raise StateError(
                    "it was watched with other panes, windows, companies, sectors, source weights or novelty settings"
                )
            return self._restore_watch(restored.chunks), restored.manifest.next_offset
        except StateError as error:
            if not self._rebuild:
                way_out = "" if lost else ", give the book another name"
                raise StateError(
                    f"book {self.book}: {error}; put that right{way_out}, or set "
                    "worker.unusable_state=rebuild to build its state from the digests that are kept"
                ) from error
            log.error("book %s: %s; its state is built anew from the digests that are kept", self.book, error)
            return self._new_watch(), None
