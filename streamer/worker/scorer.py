"""The scorer: a consumer group over the documents topic, one ordered pipeline per assigned partition."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
    UnknownTopicOrPartitionError,
)
from aiokafka.structs import OffsetAndMetadata

from streamer.config.settings import BookSettings, Config
from streamer.core.languages import LanguageRules
from streamer.core.privacy.redaction import Redactor
from streamer.core.records import SourceRecord
from streamer.core.scoring import PartitionScorer, ScoredBatch
from streamer.core.selection import BookSelection, Selector
from streamer.kafka.client import LONGEST_POLL_INTERVAL_MS, client_arguments
from streamer.worker.clocks_made_anew import ClocksMadeAnew, part_of
from streamer.worker.inference import InferenceQueue
from streamer.worker.letters import DeadLetterWriter
from streamer.worker.offsets import Position, committed_metadata, stored_position
from streamer.worker.pipeline import PartitionLost, PartitionPipeline
from streamer.worker.publishing import Publisher, PublishError, settle
from streamer.worker.status import WorkerStatus
from streamer.worker.topics import score_group

_POLL_MS: Final = 100
_HOUSEKEEPING_SECONDS: Final = 1.0
_METADATA_SECONDS: Final = 30
_FETCH_BYTES: Final = 2 * 1024 * 1024
_END_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


class Scorer:
    """Scores every partition that the group gives to this worker, until `stop`.

    `labels` and `model` are those of the models, `languages` says which of them reads a document. One `run` is one
    membership in the group: it ends with an error when producing or committing failed for good, and may then be
    called again; nothing that was not committed is lost.
    """

    def __init__(
        self,
        config: Config,
        inference: InferenceQueue,
        status: WorkerStatus,
        *,
        labels: Mapping[str, tuple[str, ...]],
        model: str,
        languages: LanguageRules,
    ) -> None:
        self._config = config
        self._inference = inference
        self._status = status
        self._labels = labels
        self._model = model
        self._languages = languages
        self._books = tuple(book_selection(book) for book in config.books)
        self._book_partition = {book.name: index for index, book in enumerate(config.books)}
        self._topic = config.topics.documents.name
        self._options = client_arguments(config.kafka, purpose="score")
        self._pipelines: dict[TopicPartition, PartitionPipeline] = {}
        self._remaking = ClocksMadeAnew(config, languages, self._options, status, self._begin, self._fail)
        self._parts: set[str] = set()
        self._known_partitions = 0
        self._failure: BaseException | None = None
        self._wake = asyncio.Event()
        self._stopping = False
        self._rebalancing = False
        self._publisher: Publisher
        self._letters: DeadLetterWriter
        self._consumer: AIOKafkaConsumer

    async def run(self) -> None:
        """Join the group and score until `stop` is called. Raises KafkaError or PublishError; may be called again."""
        self._failure = None
        self._rebalancing = True
        self._publisher = Publisher(self._options)
        self._letters = DeadLetterWriter(self._options, self._config.topics.dead_letters.name)
        started: list[Any] = []
        try:
            for client in (self._publisher, self._letters):
                started.append(client)
                await client.start()
            self._consumer = self._new_consumer()  # one that is made and never started complains when it is collected
            started.append(self._consumer)
            await self._consumer.start()
            self._status.hold("scorer", "joining the consumer group")
            self._keep_parts(self._parts | {"scorer"})
            self._consumer.subscribe([self._topic], listener=_Listener(self))
            await self._poll()
            await self._drain()
        finally:
            await self._revoke_all()
            for client in reversed(started):
                with contextlib.suppress(KafkaError):
                    await client.stop()
            await self._revoke_all()  # of an assignment that came while the consumer was stopping
            if self._stopping:
                self._keep_parts(set())  # after a failure they stay: what fails for ever must not look new each time

    def stop(self) -> None:
        """Take no more records; `run` then finishes, commits and leaves the group."""
        self._stopping = True
        self._wake.set()

    async def assign(self, partitions: Collection[TopicPartition]) -> None:
        """Start a pipeline for each partition where the group's last owner committed, once its clock is known."""
        self._status.rebalances += 1
        self._keep_parts({"scorer"} | _parts(partitions))
        committed = await committed_metadata(self._consumer, partitions)
        for partition in partitions:
            entry = committed.get(partition)
            position = stored_position(partition, entry, allowed_lateness_ms=self._config.time.allowed_lateness_ms)
            if position is not None:
                self._begin(partition, position)
            elif entry is not None:
                self._remaking.start(partition, entry.offset)
        self._rebalancing = False
        self._status.release("scorer")
        log.info("scoring partitions %s of %s", sorted(each.partition for each in partitions), self._topic)

    def _begin(self, partition: TopicPartition, position: Position) -> None:
        scorer = PartitionScorer(
            self._topic,
            partition.partition,
            partitions=self._partition_count(),
            books=self._books,
            clock=position.clock,
            limits=self._config.document_limits,
            labels=self._labels,
            model=self._model,
            languages=self._languages,
            skip_unserved=self._config.model.other_languages == "skip",
            redactor=Redactor(self._config.privacy.redact),
            position=position.next_offset,
        )
        # A clock that begins anew belongs to the beginning, wherever aiokafka would begin.
        self._consumer.seek(partition, position.next_offset or 0)
        self._pipelines[partition] = self._pipeline(partition, scorer, position.next_offset)
        self._wake.set()

    async def rebalance(self, revoked: Collection[TopicPartition]) -> None:
        """Give up what this worker has before the group divides the partitions anew; not ready until that is done."""
        if not self._rebalancing:  # the first one of a run has its time from the run
            self._status.note_part("scorer")
        self._rebalancing = True
        self._status.hold("scorer", "the consumer group is being rebalanced")
        try:
            await self.revoke(revoked)
        finally:
            self._keep_parts(self._parts - _parts(revoked))  # now that whatever was being committed has noted its part

    async def revoke(self, partitions: Iterable[TopicPartition]) -> None:
        """End the pipelines of these partitions; what was not committed is left to their next owner."""
        partitions = list(partitions)
        leaving = [self._pipelines.pop(each) for each in partitions if each in self._pipelines]
        ending = self._remaking.end(partitions)
        self._status.partitions.clear()
        grace = min(5.0, self._config.worker.rebalance_timeout_seconds / 2)
        await asyncio.gather(*(pipeline.abandon(grace) for pipeline in leaving))
        if ending:
            await asyncio.wait(ending, timeout=grace)

    async def _revoke_all(self) -> None:
        await self.revoke([*self._pipelines, *self._remaking.partitions])

    def _keep_parts(self, parts: set[str]) -> None:
        """Be answerable to the watchdog for these alone; what was so before keeps its time."""
        for part in self._parts - parts:
            self._status.drop_part(part)
        for part in parts:
            self._status.add_part(part)
        self._parts = parts

    def _pipeline(
        self, partition: TopicPartition, scorer: PartitionScorer, next_offset: int | None
    ) -> PartitionPipeline:
        async def commit(offset: int, clock: str) -> None:
            await self._commit(partition, offset, clock)

        return PartitionPipeline(
            scorer,
            self._inference,
            self._produce,
            commit,
            self._fail,
            self._status,
            self._config.worker.max_in_flight,
            next_offset,
        )

    def _new_consumer(self) -> AIOKafkaConsumer:
        worker = self._config.worker
        session_ms = int(worker.session_timeout_seconds * 1000)
        return AIOKafkaConsumer(
            **self._options,
            group_id=score_group(self._config),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=max(300, session_ms // 10),
            rebalance_timeout_ms=int(worker.rebalance_timeout_seconds * 1000),
            max_poll_interval_ms=LONGEST_POLL_INTERVAL_MS,
            max_partition_fetch_bytes=_FETCH_BYTES,
            metadata_max_age_ms=_METADATA_SECONDS * 1000,
        )

    async def _poll(self) -> None:
        kept_house_at = time.monotonic()
        while not self._stopping:
            if self._failure is not None:
                raise self._failure
            if not self._rebalancing:
                self._status.note_part("scorer")
            ready = [each for each, pipeline in self._pipelines.items() if pipeline.has_room]
            if ready:
                await self._take(ready)
            else:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), _POLL_MS / 1000)
            now = time.monotonic()
            if now - kept_house_at >= _HOUSEKEEPING_SECONDS:
                kept_house_at = now
                await self._keep_house(now)

    async def _take(self, ready: list[TopicPartition]) -> None:
        try:
            got = await self._consumer.getmany(
                *ready, timeout_ms=_POLL_MS, max_records=self._config.worker.fetch_max_records
            )
        except (IllegalStateError, ConsumerStoppedError):
            return
        behind_a_gap = []
        for partition, messages in got.items():
            pipeline, first = self._pipelines.get(partition), messages[0].offset
            if pipeline is None:
                # A new assignment whose pipelines are still being made: these must be read again.
                self._consumer.seek(partition, first)
            elif pipeline.expected is not None and first > pipeline.expected:
                behind_a_gap.append((partition, pipeline, messages))
            else:
                pipeline.take(_source_records(messages))
        if behind_a_gap:
            # Deleted records leave a gap, and so do marks of transactions and compaction.
            starts = await self._consumer.beginning_offsets([partition for partition, *_ in behind_a_gap])
            for partition, pipeline, messages in behind_a_gap:
                if self._has(partition, pipeline):
                    pipeline.take(_source_records(messages), starts[partition])

    async def _produce(self, batch: ScoredBatch) -> None:
        """Hand over everything of a batch and wait until it is durable.

        Blocks of one book go one after the other: if one is refused, none behind it may reach the log, because a
        watcher takes what lies before a block that it has for taken in.
        """
        topics, publisher = self._config.topics, self._publisher
        sent = []
        try:
            for topic, records in ((topics.scores.name, batch.scores), (topics.late.name, batch.late)):
                if topic != topics.scores.name or topics.scores.enabled:
                    sent += [await publisher.send(topic, record.value, key=record.key) for record in records]
            for place in range(max(map(len, batch.blocks.values()), default=0)):
                if place:
                    await settle(sent)
                    sent = []
                for book, blocks in batch.blocks.items():
                    if place < len(blocks):
                        partition = self._book_partition[book]
                        sent.append(await publisher.send(topics.digests.name, blocks[place], partition=partition))
            if batch.dead:
                await self._letters.send(batch.dead)
            await settle(sent)
        except PublishError:
            self._status.produce_failures += 1
            raise

    async def _commit(self, partition: TopicPartition, offset: int, clock: str) -> None:
        try:
            await self._consumer.commit({partition: OffsetAndMetadata(offset, clock)})
        except (CommitFailedError, IllegalStateError) as error:
            raise PartitionLost(str(error)) from error
        self._status.commits += 1
        self._wake.set()

    async def _keep_house(self, now: float) -> None:
        for partition, pipeline in list(self._pipelines.items()):
            pipeline.scorer.partitions = self._partition_count()
            # Where nothing is on its way, the consumer stands behind what no record shows: marks of transactions.
            reached = await self._position(partition) if pipeline.is_empty else pipeline.next_offset
            if not self._has(partition, pipeline):
                continue  # taken away by a rebalance in the meantime
            highwater = self._consumer.highwater(partition)
            if pipeline.next_offset is None and pipeline.is_empty:
                pipeline.next_offset = reached
            if highwater is None or reached is None or pipeline.next_offset is None:
                continue
            lag = self._status.partitions[partition.partition] = max(0, highwater - reached)
            if not lag or pipeline.is_predicting:
                self._status.note_part(pipeline.scorer.part)
            waited = now - pipeline.active_at
            if (
                pipeline.is_empty
                and reached >= highwater
                and not pipeline.idle_said
                and waited >= self._config.time.idle_timeout_seconds
            ):
                if not await self._is_at_end(partition, reached):
                    pipeline.active_at = now
                elif self._has(partition, pipeline):
                    await self._say_idle(pipeline, pipeline.next_offset)

    def _has(self, partition: TopicPartition, pipeline: PartitionPipeline) -> bool:
        """Whether the partition is this worker's still, and `pipeline` its pipeline."""
        return self._pipelines.get(partition) is pipeline and partition in self._consumer.assignment()

    async def _position(self, partition: TopicPartition) -> int | None:
        """The offset at which the consumer reads on, once that is known."""
        with contextlib.suppress(KafkaError, TimeoutError):
            return int(await asyncio.wait_for(self._consumer.position(partition), _POLL_MS / 1000))
        return None

    async def _is_at_end(self, partition: TopicPartition, at: int) -> bool:
        """Whether the broker says so now: one that was away leaves an old answer, and its return begins a new wait."""
        with contextlib.suppress(KafkaError, TimeoutError):
            ends = await asyncio.wait_for(self._consumer.end_offsets([partition]), _END_SECONDS)
            return bool(ends[partition] <= at)
        return False

    async def _say_idle(self, pipeline: PartitionPipeline, next_offset: int) -> None:
        pipeline.idle_said = True
        topic = self._config.topics.digests.name
        blocks = pipeline.scorer.idle(next_offset)
        await settle(
            [
                await self._publisher.send(topic, block, partition=self._book_partition[book])
                for book, block in blocks.items()
            ]
        )

    async def _drain(self) -> None:
        """Finish and commit what is on its way, within the time that a graceful stop may take."""
        draining = [asyncio.create_task(pipeline.drain()) for pipeline in self._pipelines.values()]
        if draining:
            await asyncio.wait(draining, timeout=self._config.worker.shutdown_timeout_seconds * 0.8)

    def _partition_count(self) -> int:
        """How many partitions the topic has; what was known before where the client's metadata lacks it for a moment.

        Raises UnknownTopicOrPartitionError where nothing was: no block may say fewer than there are.
        """
        self._known_partitions = len(self._consumer.partitions_for_topic(self._topic) or ()) or self._known_partitions
        if not self._known_partitions:
            raise UnknownTopicOrPartitionError(self._topic)
        return self._known_partitions

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._wake.set()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Hands the group's decisions to the scorer; an error in one would otherwise only be logged by aiokafka."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Before a rebalance: give up what this worker has."""
        await self._scorer.rebalance(revoked)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """After a rebalance: start on what this worker got."""
        try:
            await self._scorer.assign(assigned)
        except Exception as error:
            self._scorer._fail(error)


def _parts(partitions: Iterable[TopicPartition]) -> set[str]:
    """What the worker calls these partitions where it tells of itself."""
    return {part_of(each) for each in partitions}


def _source_records(messages: Iterable[Any]) -> list[SourceRecord]:
    return [SourceRecord(each.offset, each.timestamp, each.key, each.value, tuple(each.headers)) for each in messages]


def book_selection(book: BookSettings) -> BookSelection:
    """What the scorer needs to know of a configured book."""
    select = book.select
    return BookSelection(
        book.name,
        Selector.of(topics=select.topics, symbols=select.symbols, sources=select.sources, languages=select.languages),
    )
