"""One partition on its way through a model: in order, drained or abandoned cleanly, nothing behind what failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import generate_latest

from models.model_set import Answer
from streamer.core.languages import LanguageRules
from streamer.core.records import SourceRecord
from streamer.core.scoring import ScoredBatch
from streamer.worker.inference import InferenceQueue
from streamer.worker.metrics import worker_registry
from streamer.worker.pipeline import PartitionLost, PartitionPipeline
from streamer.worker.publishing import PublishError
from streamer.worker.status import WorkerStatus
from tests.core.worlds import START_MS, answer, record, scorer


class Shell:
    """A pipeline and what it did: offsets produced and committed, what failed. `durable` holds produce back."""

    def __init__(self) -> None:
        self.produced: list[int] = []
        self.committed: list[int] = []
        self.failures: list[BaseException] = []
        self.refused: BaseException | None = None
        self.lost = False
        self.commit_refused: BaseException | None = None
        self.durable = asyncio.Event()
        self.durable.set()
        self.producing = asyncio.Event()
        self.status = WorkerStatus("score")
        self.inference = InferenceQueue(self._predict)
        self.pipeline = PartitionPipeline(
            scorer(), self.inference, self._produce, self._commit, self.failures.append, self.status, max_in_flight=9
        )

    def _predict(self, texts: Sequence[str], routes: NDArray[np.int32]) -> Answer:
        return answer(texts)

    async def _produce(self, batch: ScoredBatch) -> None:
        self.produced.append(batch.next_offset)
        self.producing.set()
        await self.durable.wait()
        if self.refused is not None:
            raise self.refused

    async def _commit(self, offset: int, clock: str) -> None:
        if self.lost:
            raise PartitionLost("of another generation")
        if self.commit_refused is not None:
            raise self.commit_refused
        self.committed.append(offset)

    def take(self, *offsets: int) -> None:
        """One batch of one record for each offset."""
        for offset in offsets:
            records: list[SourceRecord] = [record(offset)]
            self.pipeline.take(records)

    async def ended(self) -> None:
        """Wait until the pipeline's tasks have ended."""
        await asyncio.wait(self.pipeline._tasks, timeout=10)
        assert all(task.done() for task in self.pipeline._tasks)


@pytest.fixture
async def shell() -> AsyncIterator[Shell]:
    shell = Shell()
    yield shell
    await shell.pipeline.abandon(0)
    shell.inference.close()


async def test_a_batch_waits_until_the_one_before_it_is_durable(shell: Shell) -> None:
    shell.durable.clear()
    shell.take(0, 1, 2)
    await asyncio.wait_for(shell.producing.wait(), 10)
    for _ in range(100):
        await asyncio.sleep(0)
    assert (shell.produced, shell.committed) == ([1], [])
    shell.durable.set()
    await shell.pipeline.drain()
    assert shell.produced == shell.committed == [1, 2, 3]
    assert not shell.failures


async def test_what_drains_is_committed_to_the_last_record(shell: Shell) -> None:
    shell.take(*range(9))
    assert not shell.pipeline.has_room
    await shell.pipeline.drain()
    assert shell.committed[-1] == 9
    assert shell.pipeline.is_empty
    assert shell.status.scored == 9


async def test_a_language_that_the_only_model_does_not_read_is_scored_and_counted(shell: Shell) -> None:
    shell.pipeline.scorer.languages = LanguageRules((("en",),))
    shell.pipeline.take([record(0, lang="zh"), record(1, lang="en-GB"), record(2), record(3, lang="ZH-Hant")])
    await shell.pipeline.drain()
    assert (shell.status.scored, shell.status.other_language) == (4, 2)
    told = generate_latest(worker_registry(shell.status, version="0", models=lambda: None)).decode()
    assert "bearwire_documents_other_language_total 2.0" in told


async def test_a_document_without_numbers_is_counted_as_a_dead_letter_with_its_reason(shell: Shell) -> None:
    def overflowing(texts: Sequence[str], routes: NDArray[np.int32]) -> Answer:
        said = answer(texts)
        said.probabilities["topic"][["overflows" in text for text in texts]] = np.nan
        return said

    shell.inference._predict = overflowing
    records = [record(0), record(1, text="overflows"), record(2)]
    shell.pipeline.take([each._replace(timestamp_ms=START_MS) for each in records])
    await shell.pipeline.drain()
    assert shell.committed == [3]
    assert (shell.status.received, shell.status.scored, shell.status.dead_letters) == (3, 2, 1)
    assert shell.status.latency.count == 2
    told = generate_latest(worker_registry(shell.status, version="0", models=lambda: None)).decode()
    assert 'bearwire_dead_letters_total{reason="not_scored"} 1.0' in told


async def test_a_partition_taken_away_commits_what_was_on_its_way_out_and_drops_the_rest(shell: Shell) -> None:
    shell.durable.clear()
    shell.take(0, 1, 2)
    await asyncio.wait_for(shell.producing.wait(), 10)
    leaving = asyncio.create_task(shell.pipeline.abandon(10))
    await asyncio.sleep(0)
    shell.durable.set()
    await leaving
    assert shell.produced == shell.committed == [1]
    assert not shell.failures
    assert not shell.pipeline.has_room


async def test_a_partition_taken_away_waits_for_the_broker_only_so_long(shell: Shell) -> None:
    shell.durable.clear()
    shell.take(0, 1)
    await asyncio.wait_for(shell.producing.wait(), 10)
    await shell.pipeline.abandon(0.01)
    assert (shell.produced, shell.committed, shell.failures) == ([1], [], [])


async def test_nothing_follows_a_batch_that_was_refused(shell: Shell) -> None:
    shell.refused = PublishError("refused")
    shell.take(0, 1, 2)
    await shell.ended()
    assert (shell.produced, shell.committed) == ([1], [])
    assert shell.failures == [shell.refused]


async def test_nothing_follows_a_commit_of_a_partition_that_is_anothers(shell: Shell) -> None:
    shell.lost = True
    shell.take(0, 1)
    await shell.ended()
    assert (shell.produced, shell.failures) == ([1], [])


async def test_what_was_not_committed_counts_neither_as_scored_nor_as_progress(shell: Shell) -> None:
    shell.commit_refused = PublishError("not allowed")
    shell.status.progress_at = 1.0
    shell.take(0)
    await shell.ended()
    assert shell.produced == [1]
    assert shell.failures == [shell.commit_refused]
    assert (shell.status.received, shell.status.scored, shell.status.latency.count) == (0, 0, 0)
    assert shell.status.progress_at == 1.0
    assert not shell.status.parts
