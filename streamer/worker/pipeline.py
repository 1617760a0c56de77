"""One source partition on its way through the model, in order.

    take ─► prepare ─► predict (merged with other partitions) ─► finish ─► produce ─► all acknowledged ─► commit

The next batch is prepared and predicted while the last one is produced, but nothing of it is produced before
the last one is acknowledged: a digest block that failed must not be overtaken, because the watcher takes what lies
behind a block that it has for taken in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.model_set import Answer
from streamer.core.records import SourceRecord
from streamer.core.scoring import PartitionScorer, Prepared, ScoredBatch
from streamer.worker.inference import InferenceQueue
from streamer.worker.status import WorkerStatus

log = logging.getLogger(__name__)

Produce = Callable[[ScoredBatch], Awaitable[None]]
Commit = Callable[[int, str], Awaitable[None]]
_Taken = tuple[Sequence[SourceRecord], int | None]
_Predicted = tuple[Sequence[SourceRecord], Prepared, "asyncio.Future[Answer]"]


class PartitionLost(Exception):
    """The partition belongs to another worker by now; raised by `commit`."""


@dataclass(slots=True)
class PartitionPipeline:
    """Runs batches of one partition until it is drained or abandoned.

    `produce` returns when a batch is durable; `commit` takes the next offset and the clock. `failed` is called
    with whatever stopped the pipeline before its time.
    """

    scorer: PartitionScorer
    inference: InferenceQueue
    produce: Produce
    commit: Commit
    failed: Callable[[BaseException], None]
    status: WorkerStatus
    max_in_flight: int
    next_offset: int | None = None
    active_at: float = field(default_factory=time.monotonic)
    idle_said: bool = False
    expected: int | None = field(init=False)
    """The offset behind what was taken last, None where nothing is known of that."""
    _batches: asyncio.Queue[_Taken | None] = field(init=False)
    _predicting: asyncio.Queue[_Predicted | None] = field(init=False)
    _tasks: list[asyncio.Task[None]] = field(init=False)
    is_predicting: bool = False
    """Whether the oldest batch waits for the model, which serves the other partitions too."""
    _in_flight: int = 0
    _closing: bool = False

    def __post_init__(self) -> None:
        self.expected = self.next_offset
        self._batches = asyncio.Queue()
        self._predicting = asyncio.Queue()
        self._tasks = [asyncio.create_task(self._guarded(run)) for run in (self._prepare, self._finish)]

    @property
    def has_room(self) -> bool:
        """Whether another batch may be taken."""
        return self._in_flight < self.max_in_flight and not self._closing

    @property
    def is_empty(self) -> bool:
        """Whether nothing is on its way."""
        return self._in_flight == 0

    def take(self, records: Sequence[SourceRecord], log_start: int | None = None) -> None:
        """Take the next records of the partition, at least one; `log_start` as in `PartitionScorer.prepare`."""
        self._in_flight += 1
        self.expected = records[-1].offset + 1
        self.active_at = time.monotonic()
        self.idle_said = False
        self._batches.put_nowait((records, log_start))

    async def drain(self) -> None:
        """Finish and commit everything taken, then end."""
        self._closing = True
        self._batches.put_nowait(None)
        await asyncio.wait(self._tasks)

    async def abandon(self, grace_seconds: float) -> None:
        """Drop what has no scores yet, let what is being produced end within the grace time, then end."""
        self._closing = True
        preparing, finishing = self._tasks
        preparing.cancel()
        for waiting in _emptied(self._predicting):
            if waiting is not None:
                waiting[2].cancel()
        self._predicting.put_nowait(None)
        await asyncio.wait([finishing], timeout=grace_seconds)
        finishing.cancel()
        await asyncio.wait(self._tasks)

    async def _guarded(self, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except asyncio.CancelledError:
            if not self._closing:
                raise
        except PartitionLost as error:
            log.info("a partition is another worker's by now: %s", error)
            self._end()
        except BaseException as error:
            self._end()
            self.failed(error)

    def _end(self) -> None:
        self._closing = True
        self._batches.put_nowait(None)
        self._predicting.put_nowait(None)

    async def _prepare(self) -> None:
        while (taken := await self._batches.get()) is not None:
            records, log_start = taken
            prepared = await asyncio.to_thread(self.scorer.prepare, records, log_start)
            predicting = asyncio.ensure_future(self.inference.predict(prepared.texts, prepared.routes))
            self._predicting.put_nowait((records, prepared, predicting))
        self._predicting.put_nowait(None)

    async def _finish(self) -> None:
        while (item := await self._predicting.get()) is not None:
            records, prepared, predicting = item
            self.is_predicting = True
            answer = await predicting
            self.is_predicting = False
            batch = await asyncio.to_thread(self.scorer.finish, prepared, answer)
            await self.produce(batch)
            durable_at_ms = time.time() * 1000
            await self.commit(batch.next_offset, batch.clock)
            self._count(records, prepared, batch, durable_at_ms)
            self.next_offset = batch.next_offset
            self.active_at = time.monotonic()
            self.status.note_part(self.scorer.part)
            self._in_flight -= 1

    def _count(
        self, records: Sequence[SourceRecord], prepared: Prepared, batch: ScoredBatch, durable_at_ms: float
    ) -> None:
        self._tell_of_the_log(prepared)
        dead = {letter.record.offset for letter in batch.dead}
        documents = [records[row] for row in prepared.document_rows.tolist()]
        stamps = [each.timestamp_ms for each in documents if each.offset not in dead]
        known = np.array([stamp for stamp in stamps if stamp is not None and stamp >= 0], dtype=np.float64)
        status = self.status
        status.latency.observe((durable_at_ms - known) / 1000)
        status.received += batch.counts.received
        status.late += batch.counts.late
        status.dead_letters += batch.counts.dead
        status.skipped += batch.counts.skipped
        status.other_language += prepared.read_anyway
        for letter in batch.dead:
            status.dead_letter_reasons[letter.reason] = status.dead_letter_reasons.get(letter.reason, 0) + 1
        status.note_scored(batch.counts.scored)
        status.note_progress()

    def _tell_of_the_log(self, prepared: Prepared) -> None:
        if prepared.lost:
            self.status.lost += prepared.lost
            log.error(
                "%s: %d offsets before %d were deleted before they were scored; keep documents for longer "
                "(topics.documents.retention_hours, the topic's retention.ms and retention.bytes) or score faster",
                self.scorer.part,
                prepared.lost,
                prepared.from_offset,
            )
        if prepared.rewound_from is not None:
            self.status.rewinds += 1
            log.error(
                "%s no longer reaches offset %d, where it was read to: it was made anew, or its leader lacks its "
                "newest records; it is read again from offset %d",
                self.scorer.part,
                prepared.rewound_from,
                prepared.from_offset,
            )


def _emptied(queue: asyncio.Queue[_Predicted | None]) -> list[_Predicted | None]:
    items = []
    while not queue.empty():
        items.append(queue.get_nowait())
    return items
