"""In which order a batch is handed to the broker; what a rebalance, a refusal or a log that was cut leaves behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError
from aiokafka.structs import OffsetAndMetadata
from numpy.typing import NDArray

from models.model_set import Answer
from streamer.config.settings import BookSettings, Config, WorkerSettings
from streamer.core.blocks import SELECTED, DigestBlock
from streamer.core.documents import DocumentLimits
from streamer.core.languages import LanguageRules
from streamer.core.records import Counts, SourceRecord
from streamer.core.scoring import PartitionScorer, ScoredBatch
from streamer.core.selection import BookSelection
from streamer.core.watermark import PartitionClock
from streamer.worker.clocks_made_anew import ClocksMadeAnew, document_times
from streamer.worker.inference import InferenceQueue
from streamer.worker.offsets import Position
from streamer.worker.publishing import Publisher, PublishError
from streamer.worker.scorer import Scorer
from streamer.worker.status import WorkerStatus
from tests.core.worlds import LABELS, START_MS, answer, record
from tests.worker.fake_kafka import OTHER, PARTITION, FakeConsumer, FakePublisher, records

PART = "bearwire.documents-0"
RECORDS_A_BATCH = 10
MOST_BATCHES = 3


class Refusing(Publisher):
    """A publisher whose broker refuses one value and takes all others."""

    def __init__(self, refused: bytes) -> None:
        super().__init__({})
        self.refused = refused
        self.handed: list[tuple[int | None, bytes | None]] = []

    async def send(self, topic: str, value: bytes | None, *, partition: int | None = None, **how: Any) -> Any:
        """Hand over one record; its future says at once what became of it."""
        self.handed.append((partition, value))
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if value == self.refused:
            sent.set_exception(PublishError("too large"))
        else:
            sent.set_result(None)
        return sent


@pytest.mark.parametrize(("refused", "handed"), [(b"a1", 2), (b"a2", 4), (b"none", 5)])
async def test_no_block_of_a_book_follows_one_that_was_refused(refused: bytes, handed: int) -> None:
    status = WorkerStatus("score")
    inference = InferenceQueue(lambda texts, routes: answer(texts))
    config = Config(books=(BookSettings(name="a"), BookSettings(name="b")))
    scoring = Scorer(config, inference, status, labels=LABELS, model="none", languages=LanguageRules())
    publisher = scoring._publisher = Refusing(refused)
    batch = ScoredBatch([], [], [], {"a": [b"a1", b"a2", b"a3"], "b": [b"b1", b"b2"]}, Counts(), 9, "")
    try:
        if refused == b"none":
            await scoring._produce(batch)
        else:
            with pytest.raises(PublishError):
                await scoring._produce(batch)
    finally:
        inference.close()
    assert publisher.handed == [(0, b"a1"), (1, b"b1"), (0, b"a2"), (1, b"b2"), (0, b"a3")][:handed]
    assert status.produce_failures == (refused != b"none")


class Failing(FakeConsumer):
    """A consumer on which nothing succeeds once it has subscribed."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.scorer = scorer

    def subscribe(self, topics: Any, listener: Any) -> None:
        """Let the scorer's run fail."""
        self.scorer._fail(PublishError("refused"))


class Shell:
    """A scorer of one partition on a broker that is only played."""

    def __init__(self) -> None:
        self.status = WorkerStatus("score")
        self.answering = threading.Event()
        self.answering.set()
        self.inference = InferenceQueue(self._answer)
        self.scorer = Scorer(
            Config(
                books=(BookSettings(name="main"),),
                worker=WorkerSettings(fetch_max_records=RECORDS_A_BATCH, max_in_flight=MOST_BATCHES),
            ),
            self.inference,
            self.status,
            labels=LABELS,
            model="none",
            languages=LanguageRules(),
        )
        self.publisher = self.scorer._publisher = FakePublisher()

    def _answer(self, texts: Sequence[str], routes: NDArray[np.int32]) -> Answer:
        assert self.answering.wait(30)
        return answer(texts)

    def on(self, consumer: FakeConsumer) -> FakeConsumer:
        """Read from this consumer from now on."""
        self.scorer._consumer = consumer
        return consumer

    async def take(self) -> None:
        """Take what the log has."""
        await self.scorer._take([PARTITION])

    async def score(self, consumer: FakeConsumer) -> list[DigestBlock]:
        """Score all that the consumer reads; the blocks that tell of it."""
        self.on(consumer)
        await self.scorer.assign([PARTITION])
        await self.take()
        await self.until(lambda: consumer.end in consumer.commits)
        return [DigestBlock.decode(value or b"") for topic, value in self.publisher.sent if topic.endswith("digests")]

    async def fails(self, consumer: type[Failing], monkeypatch: pytest.MonkeyPatch) -> None:
        """One run that fails on this kind of consumer."""
        monkeypatch.setattr("streamer.worker.scorer.Publisher", lambda _: self.publisher)
        monkeypatch.setattr("streamer.worker.scorer.DeadLetterWriter", lambda *_: self.publisher)
        monkeypatch.setattr(self.scorer, "_new_consumer", lambda: consumer(self.scorer))
        with pytest.raises(PublishError):
            await self.scorer.run()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait, for ten seconds at most, until it holds."""
        async with asyncio.timeout(10):
            while not holds():  # noqa: ASYNC110 - what is waited for is no event
                await asyncio.sleep(0.001)


@pytest.fixture
async def shell() -> AsyncIterator[Shell]:
    shell = Shell()
    yield shell
    shell.answering.set()
    await shell.scorer.revoke([PARTITION])
    shell.inference.close()


async def test_a_partition_that_is_given_away_while_it_commits_is_no_part_of_the_worker_any_more(shell: Shell) -> None:
    consumer = shell.on(FakeConsumer(records(0, 1)))
    await shell.scorer.assign([PARTITION])
    shell.publisher.durable.clear()
    await shell.take()
    await shell.until(lambda: bool(shell.publisher.sent))
    leaving = asyncio.create_task(shell.scorer.rebalance([PARTITION]))
    await asyncio.sleep(0)
    shell.publisher.durable.set()
    await leaving
    assert consumer.commits == [2], "what was on its way to the broker was committed"
    assert PART not in shell.status.parts


async def test_a_rebalance_in_the_middle_of_housekeeping_neither_ends_the_worker_nor_leaves_anything(
    shell: Shell,
) -> None:
    consumer = shell.on(FakeConsumer(records(0, 1)))
    await shell.scorer.assign([PARTITION, OTHER])

    async def rebalance() -> None:
        consumer.assigned = set()
        await shell.scorer.rebalance([PARTITION, OTHER])

    consumer.on_position = rebalance
    await shell.scorer._keep_house(0.0)
    assert set(shell.status.parts) == {"scorer"}
    assert not shell.status.partitions


async def test_an_assignment_that_comes_while_the_consumer_stops_leaves_nothing_to_the_next_run(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopping(Failing):
        async def stop(self) -> None:
            await shell.scorer.assign([PARTITION])

    await shell.fails(Stopping, monkeypatch)
    assert not shell.scorer._pipelines


async def test_an_assignment_that_fails_ends_the_run_so_that_the_scorer_starts_again(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka would only log the error and go on as if nothing had been."""

    class Subscribing(FakeConsumer):
        def subscribe(self, topics: Any, listener: Any) -> None:
            self.numbers = None  # so that no block can be made
            self.assigning = asyncio.create_task(listener.on_partitions_assigned([PARTITION]))

    monkeypatch.setattr("streamer.worker.scorer.Publisher", lambda _: shell.publisher)
    monkeypatch.setattr("streamer.worker.scorer.DeadLetterWriter", lambda *_: shell.publisher)
    monkeypatch.setattr(shell.scorer, "_new_consumer", lambda: Subscribing(records(0)))
    async with asyncio.timeout(10):
        with pytest.raises(UnknownTopicOrPartitionError):
            await shell.scorer.run()


async def test_a_restart_makes_a_partition_that_gets_nothing_done_look_no_younger(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = shell.on(FakeConsumer(records(0)))
    await shell.scorer.assign([PARTITION, OTHER])
    shell.status.parts |= {PART: 1.0, "scorer": 1.0}
    await shell.fails(Failing, monkeypatch)
    shell.on(consumer)
    await shell.scorer.rebalance([])  # as aiokafka has it before the first assignment
    await shell.scorer.assign([PARTITION])
    assert shell.status.parts == {PART: 1.0, "scorer": 1.0}
    await shell.take()
    await shell.until(lambda: bool(consumer.commits))
    assert shell.status.parts[PART] > 1.0


async def test_a_partition_that_comes_back_after_a_rebalance_begins_anew(shell: Shell) -> None:
    shell.on(FakeConsumer(records(0)))
    await shell.scorer.assign([PARTITION])
    shell.status.parts[PART] = 1.0
    await shell.scorer.rebalance([PARTITION])
    await shell.scorer.assign([PARTITION])
    assert shell.status.parts[PART] > 1.0


class Counting(FakeConsumer):
    """A consumer that counts the polls, and the batches that were fetched; `most` of them waited for their commit."""

    polls = batches = most = 0

    async def getmany(self, *partitions: TopicPartition, **how: Any) -> dict[TopicPartition, list[Any]]:
        """As aiokafka's."""
        got = await super().getmany(*partitions, **how)
        self.polls += 1
        self.batches += len(got)
        self.most = max(self.most, self.batches - len(self.commits))
        return got


async def test_no_more_is_fetched_of_a_partition_than_may_be_in_flight_while_the_model_is_held(shell: Shell) -> None:
    shell.answering.clear()
    count = RECORDS_A_BATCH * MOST_BATCHES * 3
    consumer = Counting(records(*range(count)))
    shell.on(consumer)
    await shell.scorer.assign([PARTITION, OTHER])
    polling = asyncio.create_task(shell.scorer._poll())
    await shell.until(lambda: consumer.batches >= MOST_BATCHES)
    polls = consumer.polls
    await shell.until(lambda: consumer.polls >= polls + 50)  # of the other partition, which has room
    assert (consumer.batches, consumer.at, consumer.commits) == (MOST_BATCHES, RECORDS_A_BATCH * MOST_BATCHES, [])
    shell.answering.set()
    await shell.until(lambda: count in consumer.commits)
    assert consumer.most == MOST_BATCHES
    assert shell.status.scored == count
    shell.scorer.stop()
    await polling


async def test_nothing_is_fetched_while_no_partition_has_room(shell: Shell) -> None:
    shell.answering.clear()
    consumer = Counting(records(*range(RECORDS_A_BATCH * MOST_BATCHES + 1)))
    shell.on(consumer)
    await shell.scorer.assign([PARTITION])
    polling = asyncio.create_task(shell.scorer._poll())
    await shell.until(lambda: not shell.scorer._wake.is_set() and consumer.batches == MOST_BATCHES)
    for _ in range(3):
        shell.scorer._wake.set()  # the scorer looks again
        await shell.until(lambda: not shell.scorer._wake.is_set())
    assert consumer.polls == MOST_BATCHES
    shell.answering.set()
    await shell.until(lambda: consumer.end in consumer.commits)
    shell.scorer.stop()
    await polling


def committed(offset: int, *, at_ms: int = START_MS) -> OffsetAndMetadata:
    """What a scorer committed that had read as far as this, where the newest document was of that time."""
    return OffsetAndMetadata(offset, PartitionClock(0, at_ms).dump())


async def test_documents_that_were_deleted_before_they_were_scored_are_counted_and_named(
    shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    (block,) = await shell.score(FakeConsumer(records(20, 21), committed=committed(10)))
    assert (block.from_offset, block.to_offset) == (20, 22), "the block does not cover what nobody has seen"
    assert (shell.status.lost, shell.status.rewinds) == (10, 0)
    assert f"{PART}: 10 offsets before 20 were deleted before they were scored" in caplog.text


async def test_a_gap_in_a_log_that_reaches_back_far_enough_is_no_loss(
    shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    (block,) = await shell.score(FakeConsumer(records(3, 12, 13), committed=committed(10)))
    assert (block.from_offset, block.to_offset) == (10, 14)
    assert shell.status.lost == 0
    assert "deleted" not in caplog.text


async def test_documents_that_are_deleted_while_the_scorer_runs_are_counted_too(shell: Shell) -> None:
    consumer = FakeConsumer(records(0, 1))
    await shell.score(consumer)
    consumer.records, consumer.begin = {each.offset: each for each in records(7)}, 5
    await shell.take()
    await shell.until(lambda: 8 in consumer.commits)
    assert shell.status.lost == 3


async def test_a_log_that_ends_before_the_committed_offset_is_read_again_with_a_clock_of_its_own(
    shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    (block,) = await shell.score(FakeConsumer(records(0, 1), committed=committed(9, at_ms=START_MS + 86_400_000)))
    assert (block.from_offset, block.to_offset) == (0, 2)
    assert block.fates.tolist() == [SELECTED] * 2, "nobody is late by the clock of a log that is gone"
    assert (shell.status.lost, shell.status.rewinds) == (0, 1)
    assert f"{PART} no longer reaches offset 9" in caplog.text


async def test_records_that_come_before_the_assignment_is_known_are_read_again(shell: Shell) -> None:
    consumer = shell.on(FakeConsumer(records(0, 1, 2)))
    await shell.take()
    assert consumer.at == 0
    await shell.score(consumer)
    assert shell.status.scored == 3


async def test_blocks_say_how_many_partitions_there_are_also_while_the_metadata_lacks_the_topic(shell: Shell) -> None:
    consumer = shell.on(FakeConsumer(records(0)))
    await shell.scorer.assign([PARTITION, OTHER])
    consumer.numbers = None  # as aiokafka has it after an answer in which the topic has an error
    await shell.scorer._keep_house(0.0)
    (block,) = await shell.score(consumer)
    assert block.partitions == 2


async def test_a_scorer_that_never_knew_how_many_partitions_there_are_makes_no_blocks(shell: Shell) -> None:
    consumer = shell.on(FakeConsumer(records(0)))
    consumer.numbers = None
    with pytest.raises(UnknownTopicOrPartitionError):
        await shell.scorer.assign([PARTITION])
    await shell.scorer.assign([])  # who stands by need not know


async def test_a_partition_that_is_taken_away_while_its_clock_is_made_anew_is_not_begun(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = asyncio.Event()

    async def remade(*_: object, **__: object) -> Position:
        await made.wait()
        return Position(1, PartitionClock(0))

    monkeypatch.setattr(ClocksMadeAnew, "_position", remade)
    shell.on(FakeConsumer(records(0, 1), committed=OffsetAndMetadata(1, "")))
    await shell.scorer.assign([PARTITION])
    await asyncio.sleep(0)
    assert PART in shell.status.holds
    made.set()
    await shell.scorer.rebalance([PARTITION])
    assert not shell.scorer._pipelines
    assert PART not in shell.status.holds


def test_a_clock_that_is_made_anew_is_moved_by_the_same_documents_as_before() -> None:
    log = [
        record(0, lang="en"),
        record(1, lang="fr", published_at=START_MS + 3_600_000),
        SourceRecord(2, None, None, None),
    ]
    english = LanguageRules([("en",)], others_to_default=False)
    scorer = PartitionScorer(
        "documents",
        0,
        partitions=1,
        books=[BookSelection("main")],
        clock=PartitionClock(0),
        limits=DocumentLimits(),
        labels=LABELS,
        model="none",
        languages=english,
    )
    scorer.prepare(log)
    messages = [SimpleNamespace(value=each.value, timestamp=None) for each in log]
    assert max(document_times(messages, DocumentLimits(), english)) == scorer.clock.max_published_ms
