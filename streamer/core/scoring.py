"""Scoring one source partition: records in; scores, late documents, dead letters and digest blocks out. Pure.

    records ─► prepare ─► texts ─► (a model, elsewhere) ─► finish ─► what to produce, and what to commit after it

`prepare` moves the partition's clock, in log order; so the next batch may be prepared while the last one is still
with the model, as long as the batches are finished and produced in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.model_set import Answer
from models.word_scores import MAX_WORDS_BYTES, Words
from streamer.core.blocks import DEAD, LATE, MISSED, SCORED, SELECTED, DigestBlock
from streamer.core.documents import Document, DocumentLimits, Rejection, parse_document
from streamer.core.languages import NO_MODEL, LanguageRules, unserved
from streamer.core.novelty.fingerprints import FINGERPRINT_SIZE, Fingerprints, fingerprint
from streamer.core.privacy.redaction import NOTHING_REDACTED, Redactor
from streamer.core.ragged import Ragged
from streamer.core.records import Counts, DeadLetter, KeyedRecord, SourceRecord, content_hash, hash64
from streamer.core.score_records import Scored, not_scored, score_record
from streamer.core.selection import BookSelection
from streamer.core.watermark import UNSET, PartitionClock

EXCERPT_CHARACTERS = 280
MAX_BLOCK_BYTES = 700_000
"""Blocks are cut at this size (estimated), well below Kafka's default `max.message.bytes` of 1 MiB."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch on its way: m `records`, d of them documents. `clock` is the dump to commit once all is produced.

    `texts` [d] are what to predict, `routes` int32[d] by which model; `document_rows` int64[d] their record numbers;
    `late` bool[d]; `watermark_ms` int64[m] the partition's watermark after each record. `lost` offsets before
    `from_offset` were deleted unread; `rewound_from` is the position before, where the log no longer reaches it.
    `read_anyway` counts the documents that the default model reads though it is not made for their language.
    """

    from_offset: int
    to_offset: int
    records: Sequence[SourceRecord]
    record_offsets: NDArray[np.int64]
    documents: list[Document]
    document_rows: NDArray[np.int64]
    late: NDArray[np.bool_]
    watermark_ms: NDArray[np.int64]
    dead: list[DeadLetter]
    clock: str
    routes: NDArray[np.int32]
    lost: int = 0
    rewound_from: int | None = None
    read_anyway: int = 0

    @property
    def texts(self) -> list[str]:
        """What the model is to read, one text per document."""
        return [document.scored_text for document in self.documents]


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """What to produce for a batch, in this order, before `next_offset` is committed with metadata `clock`.

    `blocks`: book to its encoded digest blocks, in offset order (several where one would be too large).
    """

    scores: list[KeyedRecord]
    late: list[KeyedRecord]
    dead: list[DeadLetter]
    blocks: dict[str, list[bytes]]
    counts: Counts
    next_offset: int
    clock: str


class PartitionScorer:
    """The state of scoring one source partition: its clock and its position.

    `clock` is the one that was committed with `position`, the next offset to read (None: not known, the first
    record's). `labels` and `model` are those of the models; the task `topic` may be absent. `languages` says which
    of them reads a document; one that none reads is a dead letter, or only counted where `skip_unserved`. `partitions`
    is the number of partitions that the source topic has; set it anew when that grows. `redactor` sees what digests
    carry of a text; the model and the fingerprints read the text as it is.
    """

    def __init__(
        self,
        source: str,
        partition: int,
        *,
        partitions: int,
        books: Sequence[BookSelection],
        clock: PartitionClock,
        limits: DocumentLimits,
        labels: Mapping[str, tuple[str, ...]],
        model: str,
        languages: LanguageRules = LanguageRules(),  # noqa: B008 - never changed
        skip_unserved: bool = False,
        redactor: Redactor = NOTHING_REDACTED,
        position: int | None = None,
        max_block_bytes: int = MAX_BLOCK_BYTES,
    ) -> None:
        if tuple(labels["sentiment"]) != ("negative", "neutral", "positive"):
            raise ValueError(
                f"sentiment labels are negative, neutral, positive in this order, not {labels['sentiment']}"
            )
        self.source = source
        self.partition = partition
        self.partitions = partitions
        self.books = tuple(books)
        self.clock = clock
        self.limits = limits
        self.topics = tuple(labels.get("topic", ()))
        self.model = model
        self.languages = languages
        self.skip_unserved = skip_unserved
        self.redactor = redactor
        self.position = position
        self.max_block_bytes = max_block_bytes

    @property
    def part(self) -> str:
        """What the partition is called where the worker tells of itself."""
        return f"{self.source}-{self.partition}"

    def prepare(self, records: Sequence[SourceRecord], log_start: int | None = None) -> Prepared:
        """Parse, reject and judge `records` (at least one), which follow what was prepared before.

        Records from before the position are those of a log that was cut back or made anew: the clock begins anew with
        them. Where the log begins behind the position by now, `log_start` says where.
        """
        lost, rewound_from = 0, None
        if self.position is not None and records[0].offset < self.position:
            rewound_from, self.position = self.position, records[0].offset
            self.clock = PartitionClock(self.clock.allowed_lateness_ms)
        elif self.position is not None and log_start is not None:
            lost = max(0, min(log_start, records[0].offset) - self.position)
            self.position += lost
        documents: list[Document] = []
        rows: list[int] = []
        routes: list[int] = []
        dead: list[DeadLetter] = []
        read_anyway = 0
        for row, record in enumerate(records):
            parsed = parse_document(record.value, record_timestamp_ms=record.timestamp_ms, limits=self.limits)
            if isinstance(parsed, Rejection):
                dead.append(DeadLetter(self.source, self.partition, record, parsed.reason, parsed.detail))
                continue
            way = self.languages.way(parsed.lang, parsed.scored_text)
            if way.route != NO_MODEL:
                documents.append(parsed)
                rows.append(row)
                routes.append(way.route)
                read_anyway += way.read_anyway
            elif not self.skip_unserved:
                why = unserved(self.languages.language(parsed.lang, parsed.scored_text))
                dead.append(DeadLetter(self.source, self.partition, record, why.reason, why.detail))
        before = self.clock.watermark_ms
        times = np.fromiter((d.published_at_ms for d in documents), dtype=np.int64, count=len(documents))
        judged = self.clock.judge(times)
        document_rows = np.array(rows, dtype=np.int64)
        watermarks = np.full(len(records), UNSET if before is None else before, dtype=np.int64)
        watermarks[document_rows] = judged.watermark_ms
        np.maximum.accumulate(watermarks, out=watermarks)
        from_offset = records[0].offset if self.position is None else self.position
        self.position = records[-1].offset + 1
        return Prepared(
            from_offset,
            self.position,
            records,
            np.fromiter((record.offset for record in records), dtype=np.int64, count=len(records)),
            documents,
            document_rows,
            judged.late,
            watermarks,
            dead,
            self.clock.dump(),
            np.array(routes, dtype=np.int32),
            lost,
            rewound_from,
            read_anyway,
        )

    def finish(self, prepared: Prepared, answer: Answer) -> ScoredBatch:
        """Everything to produce for a prepared batch, given what the models say of its texts.

        A document whose probabilities are no numbers is a dead letter, late or not; it has moved the clock by then.
        """
        self.model = answer.version_id
        unscored = answer.unscored
        if unscored.any():
            prepared, answer = self._without(unscored, prepared, answer)
        scored = Scored.of(answer.probabilities, self.topics, len(prepared.documents))
        models = [answer.versions[route] for route in prepared.routes.tolist()]
        scores: list[KeyedRecord] = []
        late: list[KeyedRecord] = []
        offsets = prepared.record_offsets[prepared.document_rows].tolist()
        for row, (document, is_late) in enumerate(zip(prepared.documents, prepared.late.tolist(), strict=True)):
            value = score_record(document, scored, row, self.source, self.partition, offsets[row], models[row], is_late)
            (late if is_late else scores).append(KeyedRecord(document.id.encode("utf-8", "replace"), value))
        received, documents, dead = len(prepared.record_offsets), len(prepared.documents), len(prepared.dead)
        return ScoredBatch(
            scores,
            late,
            prepared.dead,
            self._blocks(prepared, scored, answer.words),
            Counts(received, documents - len(late), len(late), dead, received - documents - dead),
            prepared.to_offset,
            prepared.clock,
        )

    def _without(self, unscored: NDArray[np.bool_], prepared: Prepared, answer: Answer) -> tuple[Prepared, Answer]:
        """The batch and its answer without the documents that are `unscored` bool[d], which are dead letters."""
        dead = list(prepared.dead)
        for row in np.flatnonzero(unscored).tolist():
            record, why = prepared.records[int(prepared.document_rows[row])], not_scored(answer, prepared.routes[row])
            dead.append(DeadLetter(self.source, self.partition, record, why.reason, why.detail))
        dead.sort(key=lambda letter: letter.record.offset)
        rows = np.flatnonzero(~unscored)
        left = replace(
            prepared,
            documents=[prepared.documents[row] for row in rows.tolist()],
            document_rows=prepared.document_rows[rows],
            late=prepared.late[rows],
            routes=prepared.routes[rows],
            dead=dead,
        )
        return left, answer.only(rows)

    def idle(self, next_offset: int) -> dict[str, bytes]:
        """Per book a block that says: this partition is at its end (`next_offset`), do not wait for it."""
        nothing = np.empty(0, dtype=np.int64)
        prepared = Prepared(
            next_offset,
            next_offset,
            (),
            nothing,
            [],
            nothing,
            nothing != 0,
            nothing,
            [],
            self.clock.dump(),
            np.empty(0, dtype=np.int32),
        )
        scored = Scored.of({"sentiment": np.empty((0, 3), np.float32)}, (), 0)
        prints = fingerprint([])
        part = slice(0, 0)
        return {
            book.name: self._block(
                book, prepared, scored, (), prints, nothing, nothing, part, (next_offset, next_offset), True
            )
            for book in self.books
        }

    def _blocks(self, prepared: Prepared, scored: Scored, words: Sequence[Words]) -> dict[str, list[bytes]]:
        labels = scored.topic_labels()
        admitted = {
            book.name: np.fromiter(
                map(book.select.admits, prepared.documents, labels), dtype=np.bool_, count=len(labels)
            )
            for book in self.books
        }
        wanted = np.zeros(len(labels), dtype=np.bool_)
        for mask in admitted.values():
            wanted |= mask & ~prepared.late
        prints = Fingerprints(np.zeros((len(labels), FINGERPRINT_SIZE), np.uint16), np.zeros(len(labels), np.uint64))
        rows = np.flatnonzero(wanted)
        made = fingerprint([prepared.documents[row].scored_text for row in rows])
        prints.minima[rows], prints.text_hash[rows] = made
        blocks: dict[str, list[bytes]] = {}
        for book in self.books:
            selected = np.flatnonzero(admitted[book.name] & ~prepared.late)
            missed = np.flatnonzero(admitted[book.name] & prepared.late)
            parts = self._parts(prepared, selected, missed)
            edges = [prepared.from_offset, *(int(prepared.record_offsets[part.start]) for part in parts[1:])]
            edges.append(prepared.to_offset)
            blocks[book.name] = [
                self._block(
                    book, prepared, scored, words, prints, selected, missed, part, (edges[i], edges[i + 1]), False
                )
                for i, part in enumerate(parts)
            ]
        return blocks

    def _parts(self, prepared: Prepared, selected: NDArray[np.int64], missed: NDArray[np.int64]) -> list[slice]:
        """The records cut into runs whose blocks stay below `max_block_bytes`, one run at least.

        A log that was made anew is cut where the old one ended: a block across that could not be told from one that
        repeats in part, whose beginning is skipped.
        """
        sizes = np.full(len(prepared.record_offsets), 9, dtype=np.int64)
        for row in selected.tolist():
            document = prepared.documents[row]
            scored = min(len(document.title or "") + 2 + len(document.text), EXCERPT_CHARACTERS)
            strings = 4 * (scored + len(document.url or "") + len(document.id))
            names = (document.source or "", document.lang or "", *document.symbols)
            tables = 4 * (sum(map(len, names)) + 4 * len(names))
            sizes[prepared.document_rows[row]] += strings + tables + 2 * FINGERPRINT_SIZE + 80 + MAX_WORDS_BYTES
        for row in missed.tolist():
            symbols = prepared.documents[row].symbols
            sizes[prepared.document_rows[row]] += 4 * (sum(map(len, symbols)) + 4 * len(symbols)) + 16
        part = np.cumsum(sizes) // self.max_block_bytes
        if prepared.rewound_from is not None:
            part += prepared.record_offsets >= prepared.rewound_from
        starts = np.flatnonzero(np.diff(part, prepend=-1)).tolist()
        return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(sizes)], strict=True)]

    def _block(
        self,
        book: BookSelection,
        prepared: Prepared,
        scored: Scored,
        words: Sequence[Words],
        prints: Fingerprints,
        selected: NDArray[np.int64],
        missed: NDArray[np.int64],
        part: slice,
        covers: tuple[int, int],
        idle: bool,
    ) -> bytes:
        first, last = part.start, part.stop
        records = prepared.document_rows
        fates = np.full(len(prepared.record_offsets), DEAD, dtype=np.uint8)
        fates[records] = np.where(prepared.late, LATE, SCORED)
        fates[records[selected]], fates[records[missed]] = SELECTED, MISSED
        late = missed[(records[missed] >= first) & (records[missed] < last)]
        rows = selected[(records[selected] >= first) & (records[selected] < last)]
        documents = [prepared.documents[row] for row in rows.tolist()]
        watermark = prepared.watermark_ms[last - 1] if last else None
        if watermark is None or watermark == UNSET:
            watermark = self.clock.watermark_ms if idle else None
        symbols, symbol_table = _symbol_rows([*documents, *(prepared.documents[row] for row in late.tolist())])
        source_index, sources = _indexed([document.source for document in documents])
        lang_index, langs = _indexed([document.lang for document in documents])
        excerpts = [self.redactor.excerpt(document.scored_text, EXCERPT_CHARACTERS) for document in documents]
        return DigestBlock(
            book=book.name,
            source=self.source,
            partition=self.partition,
            partitions=self.partitions,
            from_offset=covers[0],
            to_offset=covers[1],
            watermark_ms=None if watermark is None else int(watermark),
            lateness_ms=self.clock.allowed_lateness_ms,
            idle=idle,
            model=self.model,
            topics=self.topics,
            symbol_table=symbol_table,
            sources=sources,
            langs=langs,
            record_offsets=prepared.record_offsets[part],
            fates=fates[part],
            late_at_ms=prepared.watermark_ms[records[late]],
            late_topic=scored.topic[late],
            late_symbols=symbols.take(np.arange(len(rows), len(rows) + len(late))),
            time_ms=np.fromiter((d.published_at_ms for d in documents), dtype=np.int64, count=len(documents)),
            sentiment=scored.sentiment[rows],
            topic=scored.topic[rows],
            topic_p=scored.topic_p[rows],
            source_index=source_index,
            lang_index=lang_index,
            weight=np.fromiter((d.weight for d in documents), dtype=np.float64, count=len(documents)),
            fingerprint=prints.minima[rows],
            id_hash=np.fromiter(
                (hash64(d.id.encode("utf-8", "replace")) for d in documents), dtype=np.uint64, count=len(documents)
            ),
            text_hash=prints.text_hash[rows],
            content_hash=np.fromiter(map(content_hash, documents), dtype=np.uint64, count=len(documents)),
            id=Ragged.of_texts(d.id for d in documents),
            excerpt=Ragged.of_texts(excerpts),
            url=Ragged.of_texts(self.redactor.link(d.url or "") for d in documents),
            words=Ragged.of_texts(
                "\n".join(word for word in words[row] if word in excerpt)
                for row, excerpt in zip(rows.tolist(), excerpts, strict=True)
            ),
            symbols=symbols.take(np.arange(len(rows))),
        ).encode()


def _indexed(values: Sequence[str | None]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Each value's place in the table of distinct values (int32[n], -1 for None), and that table."""
    table: dict[str, int] = {}
    places = (-1 if value is None else table.setdefault(value, len(table)) for value in values)
    return np.fromiter(places, dtype=np.int32, count=len(values)), tuple(table)


def _symbol_rows(documents: Sequence[Document]) -> tuple[Ragged, tuple[str, ...]]:
    """Each document's symbols as places in the table of distinct symbols, and that table."""
    offsets = np.zeros(len(documents) + 1, dtype=np.int64)
    np.cumsum([len(document.symbols) for document in documents], out=offsets[1:])
    places, table = _indexed([symbol for document in documents for symbol in document.symbols])
    return Ragged(places, offsets), table
