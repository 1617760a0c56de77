"""The worker's core over recorded documents, in one process and without Kafka: what it would have said.

Each source partition has its own scorer and clock, each book its own watch, and the digest blocks between them are
encoded and decoded as on their way through Kafka. At the end every partition is idle, as it would be live; what even
then is not old enough to close stays open.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from alerts.notifications import Notification
from alerts.records import AlertRecord
from alerts.silences import Silence, for_book
from models.model_set import Answer
from streamer.config.rules import book_desk, book_rules
from streamer.config.settings import BookSettings, Config
from streamer.core.blocks import DigestBlock
from streamer.core.privacy.redaction import Redactor
from streamer.core.records import Counts, DeadLetter, SourceRecord
from streamer.core.scoring import PartitionScorer, Prepared
from streamer.core.selection import BookSelection, Selector
from streamer.core.watch import Watch
from streamer.core.watch_settings import WatchSettings
from streamer.core.watermark import PartitionClock
from streamer.core.window_records import WindowRows
from streamer.model import TextScorer, language_rules

IN_FLIGHT: Final = 2


@dataclass(slots=True)
class BacktestOutput:
    """What some records caused, in order: of all books panes, changes of alerts and notifications; dead letters."""

    windows: list[WindowRows] = field(default_factory=list)
    alerts: list[AlertRecord] = field(default_factory=list)
    notifications: list[Notification] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)


def new_watch(config: Config, book: BookSettings, silences: Sequence[Silence] = ()) -> Watch:
    """The watch of a configured book, with nothing but silences taken in. Raises `alerts.rules.RulesError`."""
    desk = book_desk(config, book, book_rules(book), for_book(silences, book.name).values())
    return Watch(WatchSettings.of(config, book), desk)


class Backtest:
    """A run over the `partitions` partitions of a source. `take` records in order of their offsets, then `finish`.

    `silences` are records as they lie in the silences topic; where a book took one in, from when it did.
    """

    def __init__(
        self,
        config: Config,
        scorer: TextScorer,
        *,
        source: str,
        partitions: int = 1,
        silences: Sequence[Silence] = (),
    ) -> None:
        self.watches = [new_watch(config, book, silences) for book in config.books]
        self.counts = Counts()
        self.other_language = 0
        self.model_seconds = 0.0
        self._predict = scorer.predict
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="bearwire-model")
        self._waiting: deque[tuple[PartitionScorer, tuple[Prepared, Future[Answer]] | None]] = deque()
        books = [
            BookSelection(
                book.name,
                Selector.of(
                    topics=book.select.topics,
                    symbols=book.select.symbols,
                    sources=book.select.sources,
                    languages=book.select.languages,
                ),
            )
            for book in config.books
        ]
        languages = language_rules(config.model)
        self._scorers = [
            PartitionScorer(
                source,
                partition,
                partitions=partitions,
                books=books,
                clock=PartitionClock(config.time.allowed_lateness_ms),
                limits=config.document_limits,
                labels=scorer.labels,
                model=scorer.version_id,
                languages=languages,
                skip_unserved=config.model.other_languages == "skip",
                redactor=Redactor(config.privacy.redact),
            )
            for partition in range(partitions)
        ]

    def take(self, partition: int, records: Sequence[SourceRecord]) -> BacktestOutput:
        """Take the next records of a partition; what comes out may belong to records taken earlier."""
        if records:
            scorer = self._scorers[partition]
            prepared = scorer.prepare(records)
            self._waiting.append((scorer, (prepared, self._pool.submit(self._timed, prepared))))
        return self._drain(IN_FLIGHT)

    def end(self, partition: int) -> None:
        """A partition has no more records: the others need not wait for it from here on."""
        self._waiting.append((self._scorers[partition], None))

    def finish(self) -> BacktestOutput:
        """The end of the source: the rest of what its records cause."""
        for partition in range(len(self._scorers)):
            self.end(partition)
        output = self._drain(0)
        self.close()
        return output

    def close(self) -> None:
        """Give the model's thread back; nothing may be taken after it."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _timed(self, prepared: Prepared) -> Answer:
        started = perf_counter()
        answer = self._predict(prepared.texts, prepared.routes)
        self.model_seconds += perf_counter() - started
        return answer

    def _drain(self, leave: int) -> BacktestOutput:
        output = BacktestOutput()
        while len(self._waiting) > leave:
            scorer, asked = self._waiting.popleft()
            if asked is None:
                self._watch(scorer.idle(scorer.position or 0), output)
                continue
            prepared, future = asked
            batch = scorer.finish(prepared, future.result())
            self.counts = self.counts.plus(batch.counts)
            self.other_language += prepared.read_anyway
            output.dead += batch.dead
            for book, blocks in batch.blocks.items():
                for block in blocks:
                    self._watch({book: block}, output)
        return output

    def _watch(self, blocks: Mapping[str, bytes], output: BacktestOutput) -> None:
        for watch in self.watches:
            block = blocks.get(watch.settings.book)
            if block is not None:
                caused = watch.take_in(DigestBlock.decode(block))
                output.windows += caused.rows
                output.alerts += caused.alerts
                output.notifications += caused.notifications
