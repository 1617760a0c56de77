"""The model is never idle for want of a batch, and never has more waiting than was allowed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.model_set import Answer
from models.predictor import Predictor
from streamer.core.records import SourceRecord
from streamer.core.scoring import ScoredBatch
from streamer.worker.inference import InferenceQueue
from streamer.worker.pipeline import PartitionPipeline
from streamer.worker.status import WorkerStatus
from streamer.worker.watchdog import stall
from tests.core.worlds import answer, record, scorer
from tests.models.tiny_bundle import write_tiny_bundle

PATIENCE_SECONDS = 20


class Held:
    """A model and a broker that each go on only when they are let; counts what the model was asked."""

    def __init__(self, max_in_flight: int) -> None:
        self.asked: list[int] = []
        self.answering = threading.Event()
        self.durable = asyncio.Event()
        self.changed = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.inference = InferenceQueue(self._predict)
        self.pipeline = PartitionPipeline(
            scorer(), self.inference, self._produce, self._commit, _raise, WorkerStatus("score"), max_in_flight
        )

    def _predict(self, texts: Sequence[str], routes: NDArray[np.int32]) -> Answer:
        self.asked.append(len(texts))
        self.loop.call_soon_threadsafe(self.changed.set)
        assert self.answering.wait(PATIENCE_SECONDS)
        return answer(texts)

    async def _produce(self, batch: ScoredBatch) -> None:
        self.changed.set()
        await self.durable.wait()

    async def _commit(self, offset: int, clock: str) -> None:
        self.changed.set()

    def take(self, offset: int) -> None:
        records: list[SourceRecord] = [record(offset)]
        self.pipeline.take(records)

    async def until(self, what: Any) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not what():
                self.changed.clear()
                if not what():
                    await self.changed.wait()


def _raise(error: BaseException) -> None:
    raise error


@pytest.fixture
async def held() -> AsyncIterator[Held]:
    held = Held(max_in_flight=3)
    yield held
    held.answering.set()
    held.durable.set()
    await held.pipeline.abandon(0)
    held.inference.close()


async def test_the_next_batch_is_with_the_model_while_the_last_one_is_on_its_way_to_the_broker(held: Held) -> None:
    held.answering.set()
    held.take(0)
    held.take(1)
    await held.until(lambda: len(held.asked) == 2)
    assert held.pipeline.next_offset is None, "nothing is committed, since the broker holds the first batch back"
    held.durable.set()
    await held.pipeline.drain()
    assert held.pipeline.next_offset == 2


async def test_no_more_is_taken_than_may_be_on_its_way_until_a_batch_is_committed(held: Held) -> None:
    for offset in range(3):
        assert held.pipeline.has_room
        held.take(offset)
    assert not held.pipeline.has_room
    held.answering.set()
    await held.until(lambda: len(held.asked) >= 2)
    assert not held.pipeline.has_room, "scored is not yet durable"
    held.durable.set()
    await held.until(lambda: held.pipeline.next_offset is not None)
    assert held.pipeline.has_room


async def test_what_waits_from_several_partitions_is_scored_together_two_calls_at_once() -> None:
    running, most, sizes = 0, 0, []
    lock, gate = threading.Lock(), threading.Event()

    def predict(texts: Sequence[str], routes: NDArray[np.int32]) -> Answer:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            sizes.append(len(texts))
        assert gate.wait(PATIENCE_SECONDS)
        with lock:
            running -= 1
        return answer(texts)

    queue = InferenceQueue(predict, max_texts=10, calls=2)
    asked = [asyncio.ensure_future(queue.predict([f"text {at}"] * 4, np.zeros(4, np.int32))) for at in range(6)]
    await asyncio.sleep(0)
    gate.set()
    answers = await asyncio.wait_for(asyncio.gather(*asked), PATIENCE_SECONDS)
    queue.close()
    assert [len(found.probabilities["sentiment"]) for found in answers] == [4] * 6
    assert most <= 2
    assert sorted(sizes) == [4, 4, 8, 8], "two at once, and what waited was merged up to ten texts"


async def test_no_more_is_merged_than_a_slow_model_does_in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts on a small machine: what was merged took longer than the watchdog waits, again after each restart."""
    monkeypatch.setattr("streamer.worker.inference._CALL_SECONDS", 0.1)
    sizes = []

    def predict(texts: Sequence[str], routes: NDArray[np.int32]) -> Answer:
        sizes.append(len(texts))
        time.sleep(0.01 * len(texts))
        return answer(texts)

    queue = InferenceQueue(predict, max_texts=48)
    asked = [asyncio.ensure_future(queue.predict([f"text {at}"] * 4, np.zeros(4, np.int32))) for at in range(12)]
    await asyncio.wait_for(asyncio.gather(*asked), PATIENCE_SECONDS)
    queue.close()
    assert max(sizes) <= 10


async def test_no_more_is_merged_than_so_many_characters_whatever_the_number_of_texts() -> None:
    asked: list[list[int]] = []
    gate = threading.Event()

    def predict(texts: Sequence[str], routes: NDArray[np.int32]) -> Answer:
        asked.append([len(text) for text in texts])
        assert gate.wait(PATIENCE_SECONDS)
        return answer(texts)

    queue = InferenceQueue(predict, max_characters=100, calls=1)
    lengths = [1, 40, 60, 1, 300, 50, 50, 2]
    texts = ["x" * length for length in lengths]
    asking = [asyncio.ensure_future(queue.predict([text], np.zeros(1, np.int32))) for text in texts]
    await asyncio.sleep(0)
    gate.set()
    answers = await asyncio.wait_for(asyncio.gather(*asking), PATIENCE_SECONDS)
    queue.close()
    assert asked == [[1], [40, 60], [1], [300], [50, 50], [2]]
    for text, found in zip(texts, answers, strict=True):
        assert np.array_equal(found.probabilities["topic"], answer([text]).probabilities["topic"])


class PanicException(BaseException):
    """As `pyo3_runtime.PanicException`, by which a library in Rust says that it has panicked."""


async def test_a_panic_in_the_model_reaches_all_that_wait_for_it_and_the_next_call_goes_on() -> None:
    gate = threading.Event()

    def predict(texts: Sequence[str], routes: NDArray[np.int32]) -> Answer:
        assert gate.wait(PATIENCE_SECONDS)
        if "panics" in texts:
            raise PanicException("index out of bounds")
        return answer(texts)

    status = WorkerStatus("score")
    queue = InferenceQueue(predict, max_texts=2, calls=1, status=status)
    asked = [
        asyncio.ensure_future(queue.predict([text], np.zeros(1, np.int32))) for text in ("a", "panics", "b", "c", "d")
    ]
    await asyncio.sleep(0)
    gate.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        found = await asyncio.gather(*asked, return_exceptions=True)
    queue.close()
    assert [isinstance(each, PanicException) for each in found] == [False, True, True, False, False]
    assert not status.parts


async def test_a_panic_in_the_model_ends_the_pipeline_and_is_told() -> None:
    def predict(texts: Sequence[str], routes: NDArray[np.int32]) -> Answer:
        raise PanicException("index out of bounds")

    async def produce(batch: ScoredBatch) -> None:
        raise AssertionError("nothing was scored")

    async def commit(offset: int, clock: str) -> None:
        raise AssertionError("nothing was scored")

    failures: list[BaseException] = []
    queue = InferenceQueue(predict)
    pipeline = PartitionPipeline(scorer(), queue, produce, commit, failures.append, WorkerStatus("score"), 3)
    records: list[SourceRecord] = [record(0)]
    pipeline.take(records)
    await asyncio.wait_for(pipeline.drain(), PATIENCE_SECONDS)
    queue.close()
    assert [type(failure) for failure in failures] == [PanicException]


async def test_a_call_that_hangs_is_a_part_that_gets_nothing_done_though_the_other_goes_on() -> None:
    gate = threading.Event()

    def predict(texts: Sequence[str], routes: NDArray[np.int32]) -> Answer:
        assert "hangs" not in texts or gate.wait(PATIENCE_SECONDS)
        return answer(texts)

    status = WorkerStatus("score")
    queue = InferenceQueue(predict, status=status)
    try:
        hanging = asyncio.ensure_future(queue.predict(["hangs"], np.zeros(1, np.int32)))
        await asyncio.sleep(0.1)
        for _ in range(3):
            await queue.predict(["goes on"], np.zeros(1, np.int32))
        status.note_progress()
        assert (stall(status, 0.1) or "").startswith("model call 1: nothing was done")
        gate.set()
        await asyncio.wait_for(hanging, PATIENCE_SECONDS)
        assert not status.parts, "a model that does nothing is no part that could hang"
    finally:
        gate.set()
        queue.close()


def test_the_next_texts_become_tokens_while_the_model_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.predictor.SLAB_TEXTS", 4)
    predictor = Predictor(write_tiny_bundle(tmp_path / "tiny"), threads=1, cache_entries=0)
    encode, run = predictor._encoder.encode, predictor._session.run
    encoded = threading.Semaphore(0)

    def told(texts: Sequence[str]) -> Any:
        rows = encode(texts)
        encoded.release()
        return rows

    def waiting(*arguments: Any) -> Any:
        if not second.is_set():
            assert encoded.acquire(timeout=PATIENCE_SECONDS) and encoded.acquire(timeout=PATIENCE_SECONDS)
            second.set()
        return run(*arguments)

    second = threading.Event()
    monkeypatch.setattr(predictor._encoder, "encode", told)
    monkeypatch.setattr(predictor._session, "run", waiting)
    with ThreadPoolExecutor(1) as caller:
        found = caller.submit(predictor.predict, ["profit", "loss"] * 4).result(PATIENCE_SECONDS)
    assert second.is_set()
    assert len(found.probabilities["topic"]) == 8
