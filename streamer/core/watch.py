"""The watch of one book: digest blocks in, window records and alerts out. A pure function of the sequence of blocks.

    block ─► what was taken before is skipped ─► rows wait in open panes ─► the book's watermark moves
          ─► panes before it close, in order: canonical order, duplicates out, copies folded, sums, windows, alerts

What comes out of a pane depends on its documents alone, not on how they were cut into blocks or in which order the
partitions took turns. A snapshot between any two blocks continues to the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from alerts.desk import Desk
from alerts.notifications import Notification
from alerts.panes import ClosedPane, Evidence
from alerts.records import AlertRecord
from alerts.rules import RuleSet
from alerts.silences import Silence
from streamer.core.blocks import DigestBlock
from streamer.core.book_clock import BookClock, SourcePartition
from streamer.core.controls import Control
from streamer.core.evidence import EvidencePage, EvidenceStore
from streamer.core.late_counts import LateCounts
from streamer.core.links import StoryLinks
from streamer.core.novelty.index import NoveltyIndex
from streamer.core.pending import Batch, PendingRows
from streamer.core.records import Counts, KeyedRecord
from streamer.core.reduction import Reduced, reduce_batch
from streamer.core.runs import run_numbers, run_starts
from streamer.core.score_records import late_row_record
from streamer.core.series import SeriesIndex
from streamer.core.sightings import SourceSightings
from streamer.core.state_chunks import StateError, pack, unpack
from streamer.core.strongest import StrongestTexts
from streamer.core.watch_settings import CROWDED_RETENTION_MS, WatchSettings
from streamer.core.window_records import WindowRows
from streamer.core.windows import SlidingSums

_BATCH_ROWS = 500_000
_BATCH_PANES = 4096


@dataclass(slots=True)
class WatchCounts:
    """What became of the rows taken in: those of closed panes are `stories`, `copies` or `duplicates`.

    `too_late` rows found their pane closed; `skipped` records had been taken in before; `gaps` counts source offsets
    that no block covered; `panes` were closed with stories or copies; `unfollowed` counts how often a document found
    no series, because the book has as many as it may.
    """

    rows: int = 0
    stories: int = 0
    copies: int = 0
    duplicates: int = 0
    too_late: int = 0
    skipped: int = 0
    gaps: int = 0
    panes: int = 0
    unfollowed: int = 0


@dataclass(slots=True)
class WatchOutput:
    """What a block caused: closed panes, changes of alerts, what is told of them, silences taken in, rows too late.

    `anew` is the next offset that was expected where the block shows that its source topic was made anew.
    """

    rows: list[WindowRows] = field(default_factory=list)
    alerts: list[AlertRecord] = field(default_factory=list)
    notifications: list[Notification] = field(default_factory=list)
    silences: list[Silence] = field(default_factory=list)
    too_late: list[KeyedRecord] = field(default_factory=list)
    watermark_ms: int | None = None
    anew: int | None = None

    def windows(self) -> Iterator[KeyedRecord]:
        """The window records, in order of pane, then series key, made as they are asked for: there may be very many."""
        return (record for rows in self.rows for record in rows.records())


class Watch:
    """The state of one book. Partitions of topic `source` say how far time has come; None: those of all it meets."""

    def __init__(self, settings: WatchSettings, desk: Desk, *, source: str | None = None) -> None:
        self.settings = settings
        self.desk = desk
        self.clock = BookClock(source)
        self.counts = WatchCounts()
        self.source_counts = Counts()
        self.series = SeriesIndex(settings.max_series)
        lengths = tuple(window // settings.pane_ms for window in settings.windows_ms)
        self._longest = max(lengths)
        self._sums = SlidingSums(lengths, settings.pane_ms)
        self._strongest = StrongestTexts(lengths)
        self._pending = PendingRows(settings.pane_ms, settings.source_weights)
        self._novelty = NoveltyIndex(settings.similarity)
        self._links = StoryLinks(settings.horizon_ms)
        self._sources = SourceSightings()
        self._evidence = EvidenceStore(settings.slot_panes)
        self._late = LateCounts(lengths)
        self._slot: int | None = None
        self._model = ""

    @property
    def watermark_ms(self) -> int | None:
        """The book's watermark, milliseconds UTC."""
        return self.clock.watermark_ms

    @property
    def clock_ms(self) -> int | None:
        """Event time up to which panes are closed, milliseconds UTC."""
        closed = self._closed_pane
        return None if closed is None else closed * self.settings.pane_ms

    @property
    def taken(self) -> dict[tuple[str, int], int]:
        """The next offset to take in, by source topic and partition."""
        return {name: partition.taken for name, partition in self.clock.partitions.items()}

    @property
    def open_rows(self) -> int:
        """Rows whose pane has not closed yet."""
        counts = self.counts
        return counts.rows - counts.stories - counts.copies - counts.duplicates - counts.too_late

    def take_in(self, block: DigestBlock) -> WatchOutput:
        """Take in the next block of the digests log. Raises ValueError for a block of another book."""
        if block.book != self.settings.book:
            raise ValueError(f"a block of book {block.book!r} came to the watch of {self.settings.book!r}")
        output = WatchOutput()
        known = self.clock.partitions.get((block.source, block.partition))
        if known is not None:
            expected = known.taken
            if self.clock.begin_anew(block):
                output.anew = expected
            records = len(block.record_offsets)
            self.counts.gaps += max(0, block.from_offset - known.taken)
            block = block.since(known.taken)
            self.counts.skipped += records - len(block.record_offsets)
        self.source_counts = self.source_counts.plus(block.counts)
        self.counts.rows += len(block)
        closed = self._closed_pane
        if closed is not None:
            closed_ms = closed * self.settings.pane_ms
            missed = np.flatnonzero(block.time_ms < closed_ms).tolist()
            self.counts.too_late += len(missed)
            output.too_late = [late_row_record(block, row) for row in missed]
            block = block.closed_before(closed_ms)
        self._pending.add(block)
        self.clock.note(block)
        if self._closed_pane != closed and self._closed_pane is not None:
            self._close(self._closed_pane, output)
        output.watermark_ms = self.clock.watermark_ms
        return output

    def obey(self, control: Control) -> WatchOutput:
        """Take in what the book is told at this place of its log. Raises ValueError for another book, RulesError."""
        if control.book != self.settings.book:
            raise ValueError(f"a control block of book {control.book!r} came to the watch of {self.settings.book!r}")
        output = WatchOutput(watermark_ms=self.clock.watermark_ms)
        clock_ms = self.clock_ms
        if control.rules is not None:
            told = self.desk.take_rules(RuleSet.from_mapping(control.rules), clock_ms)
            output.alerts, output.notifications = told.alerts, told.notifications
        output.silences = self.desk.take_silences(control.silences, clock_ms)
        return output

    def snapshot(self) -> dict[str, bytes]:
        """The whole state in named chunks. Chunks of past panes, stories and blocks keep their names and bytes."""
        head = {
            "book": self.settings.book,
            "pane_ms": self.settings.pane_ms,
            "windows_ms": self.settings.windows_ms,
            "partitions": [(*name, partition.as_dict()) for name, partition in self.clock.partitions.items()],
            "sizes": self.clock.sizes,
            "watermark_ms": self.clock.watermark_ms,
            "counts": asdict(self.counts),
            "source_counts": self.source_counts,
            "slot": self._slot,
            "model": self._model,
            "next_block": self._pending.next_number,
        }
        chunks = {"head": pack("head", head, {}), "series": self.series.chunk(), "sightings": self._sources.chunk()}
        chunks |= {"late": self._late.chunk()} | self._pending.chunks()
        chunks |= self._novelty.chunks()
        chunks |= self._links.chunks()
        chunks |= self._sums.chunks(self.settings.slot_panes)
        chunks |= self._evidence.chunks()
        chunks |= {f"desk/{name}": data for name, data in self.desk.snapshot().items()}
        return chunks

    @classmethod
    def restore(
        cls, settings: WatchSettings, desk: Desk, chunks: dict[str, bytes], *, source: str | None = None
    ) -> Watch:
        """The watch whose `snapshot` was `chunks`; `desk` is a new one. Raises StateError.

        `chunks` is empty afterwards: each goes as soon as it is read, so that no state is in memory twice.
        """
        watch = cls(settings, desk, source=source)
        try:
            watch._take_over(chunks)
        except KeyError as error:
            raise StateError(f"the snapshot of book {settings.book!r} is incomplete: {error} is missing") from None
        except StateError:
            raise
        except (ValueError, TypeError) as error:
            raise StateError(f"the snapshot of book {settings.book!r} is malformed: {error}") from error
        return watch

    def _take_over(self, chunks: dict[str, bytes]) -> None:
        head = unpack("head", "head", chunks.pop("head")).values
        for name in ("book", "pane_ms", "windows_ms"):
            mine = getattr(self.settings, name)
            if head[name] != (list(mine) if isinstance(mine, tuple) else mine):
                raise StateError(
                    f"the snapshot was made with {name} = {head[name]!r}, the configuration now says {mine!r}: "
                    "put the setting back, or give the book a new name so that it starts afresh"
                )
        self.clock.partitions = {
            (topic, number): SourcePartition(**partition) for topic, number, partition in head["partitions"]
        }
        self.clock.sizes = head["sizes"]
        self.clock.watermark_ms = head["watermark_ms"]
        self.counts = WatchCounts(**head["counts"])
        self.source_counts = Counts(*head["source_counts"])
        self._slot = head["slot"]
        self._model = head["model"]
        self.series.restore(chunks.pop("series"))
        self._sources.restore(chunks.pop("sightings"))
        if "late" in chunks:  # not in states of format 2, which go on with no late documents
            self._late.restore(chunks.pop("late"))
        self._pending.restore(_taken(chunks, "block"), self._closed_pane)
        self._pending.next_number = head["next_block"]
        self._novelty.restore(_taken(chunks, "novelty", "copies"))
        self._links.restore(_taken(chunks, "links"))
        self._sums.restore(_taken(chunks, "windows", "panes"))
        self._evidence.restore(_taken(chunks, "evidence"))
        for pane, series, text, negative in self._evidence.panes():
            begins = run_starts(series)
            self._strongest.add(pane, series[begins], run_numbers(series), text, negative)
        self.desk.restore({name.removeprefix("desk/"): data for name, data in _taken(chunks, "desk").items()})

    @property
    def _closed_pane(self) -> int | None:
        """The first pane that is still open."""
        watermark = self.clock.watermark_ms
        return None if watermark is None else watermark // self.settings.pane_ms

    def _close(self, end: int, output: WatchOutput) -> None:
        """Close all panes before pane `end`."""
        for panes in self._batches(end):
            slot = panes[0] // self.settings.slot_panes
            if slot != self._slot:
                self._enter(slot, panes[0], output)
            batch = self._pending.take(panes)
            folded = self._novelty.fold(slot, batch.id_hash, batch.text_hash, batch.fingerprint)
            self._links.add(slot, folded.story[folded.copy], batch.time_ms[folded.copy], batch.source[folded.copy])
            copies, duplicates = int(folded.copy.sum()), int(folded.duplicate.sum())
            self.counts.copies += copies
            self.counts.duplicates += duplicates
            self.counts.stories += len(batch.pane) - copies - duplicates
            kept = np.flatnonzero(~folded.duplicate)
            if len(kept) or len(batch.late):
                reduced = reduce_batch(batch, kept, folded.copy, self.series, self.settings)
                self.counts.unfollowed += reduced.unfollowed
                self._close_batch(batch, folded.story, folded.copy, reduced, output)
        self._pass_quiet_panes(end, output)

    def _batches(self, end: int) -> Iterator[list[int]]:
        """The panes before `end` that have rows or late documents, in runs that share a slot and are not too large."""
        run: list[int] = []
        rows = 0
        for pane in self._pending.panes_before(end):
            waiting = self._pending.rows_in(pane)
            fits = run and rows + waiting <= _BATCH_ROWS and len(run) < _BATCH_PANES
            if run and not (fits and run[0] // self.settings.slot_panes == pane // self.settings.slot_panes):
                yield run
                run, rows = [], 0
            run.append(pane)
            rows += waiting
        if run:
            yield run

    def _enter(self, slot: int, pane: int, output: WatchOutput) -> None:
        """Begin a slot: forget what lies too far back."""
        self._pass_quiet_panes(pane, output)
        self._slot = slot
        first = slot * self.settings.slot_panes
        self._sources.forget_before(first - self._longest)
        self._evidence.forget_before(first - self._longest)
        retained = max(self.settings.series_retention_ms // self.settings.pane_ms, self._longest)
        week = CROWDED_RETENTION_MS // self.settings.pane_ms
        forgotten = self.series.forget_before(
            first - retained,
            crowded=first - max(min(week, retained), self._longest),
            rare=first - self._longest,
            held=self.desk.held_series(first * self.settings.pane_ms),
        )
        if forgotten:
            self._sums.advance(first)
            self.desk.drop_series(forgotten)

    def _pass_quiet_panes(self, end: int, output: WatchOutput) -> None:
        """Show the desk the panes before `end` that had no documents, as long as an alert is live."""
        nothing = np.empty(0, dtype=np.int64)
        while self.desk.is_live() and self._sums.end is not None and self._sums.end < end:
            pane = self._sums.end
            self._sums.pass_quiet(pane)
            self._observe(pane, nothing, np.empty((0, 10), dtype=np.int64), output)

    def _close_batch(
        self,
        batch: Batch,
        story: NDArray[np.int64],
        copy: NDArray[np.bool_],
        reduced: Reduced,
        output: WatchOutput,
    ) -> None:
        panes = reduced.pane[run_starts(reduced.pane)]
        edges = np.append(panes, panes[-1] + 1)
        group_edges = np.searchsorted(reduced.pane, edges)
        row_edges = np.searchsorted(batch.pane, edges).tolist()
        source_edges = np.searchsorted(reduced.source_group, group_edges).tolist()
        source_series = reduced.series[reduced.source_group]
        page = EvidencePage.of(batch, story, reduced.pane, reduced.series, reduced.strongest)
        text_group, _ = np.nonzero(reduced.strongest >= 0)
        text, negative = page.text + self._evidence.texts, page.negative[page.text]
        text_edges = np.searchsorted(text_group, group_edges).tolist()
        self._evidence.add(page)
        windows, times, strongest, sources, late, models = [], [], [], [], [], []
        for number, (pane, begin, end) in enumerate(
            zip(panes.tolist(), group_edges[:-1].tolist(), group_edges[1:].tolist(), strict=True)
        ):
            self._pass_quiet_panes(pane, output)
            rows = slice(row_edges[number], row_edges[number + 1])
            seen = slice(source_edges[number], source_edges[number + 1])
            series = reduced.series[begin:end]
            told = begin + np.flatnonzero(reduced.told[begin:end])
            told_series, counts = reduced.series[told], reduced.counts[told]
            self._novelty.add_copies(story[rows][copy[rows]])
            model = batch.models_of(pane, rows)
            self._model = model if len(told) else self._model
            self._sums.add(pane, told_series, counts, reduced.first_ms[told], reduced.last_ms[told])
            self._sources.see(pane, source_series[seen], reduced.source_hash[seen])
            self.series.touch(series, pane)
            windows.append(self._sums.sums(len(self.series.keys))[:, series])
            times.append(np.stack(self._sums.times.of(series)))
            texts = slice(text_edges[number], text_edges[number + 1])
            strongest.append(self._strongest.add(pane, series, text_group[texts] - begin, text[texts], negative[texts]))
            since = (pane, *(pane + 1 - length for length in self._sums.lengths))
            sources.append(self._sources.count(series, since))
            late.append(self._late.add(pane, series, reduced.late[begin:end]))
            models.append(model)
            if len(told) or self.desk.is_live():
                self._observe(pane, told_series, counts, output)
            self.counts.panes += bool(len(told))
        in_pane = np.full((1, *reduced.strongest.shape), -1, dtype=np.int64)
        in_pane[0][reduced.strongest >= 0] = text
        output.rows.append(
            WindowRows.of(
                self.settings,
                reduced,
                keys=[self.series.keys[number] for number in reduced.series.tolist()],
                windows=np.concatenate(windows, axis=1),
                times=np.concatenate(times, axis=2),
                strongest=np.concatenate((in_pane, np.concatenate(strongest, axis=1))),
                ids_of=self._evidence.ids,
                sources=np.concatenate(sources, axis=1),
                late=np.concatenate(late, axis=1),
                models=models,
            )
        )

    def _observe(self, pane: int, series: NDArray[np.int64], counts: NDArray[np.int64], output: WatchOutput) -> None:
        pane_ms, keys = self.settings.pane_ms, self.series.keys
        closed = ClosedPane(pane * pane_ms, (pane + 1) * pane_ms, series, counts, self._sums.sums(len(keys)), keys)
        told = self.desk.observe(closed, self._evidence_of, self._model)
        output.alerts += told.alerts
        output.notifications += told.notifications

    def _evidence_of(self, series: int, start_ms: int, end_ms: int) -> Evidence:
        # What is older than this may be there or not: pages are forgotten whole, and how they were cut is chance.
        oldest = (self._slot or 0) * self.settings.slot_panes - self._longest
        first, last = max(start_ms // self.settings.pane_ms, oldest), -(-end_ms // self.settings.pane_ms)
        return Evidence(
            sources=int(self._sources.count(np.array([series]), (first,))[0, 0]),
            copies=self._sums.copies(series, first, last),
            texts=self._evidence.strongest(
                series, first, last, self._novelty.copies_of, lambda story: self._links.linked(story, end_ms)
            ),
            stories=self._evidence.stories(series, first, last),
        )


def _taken(chunks: dict[str, bytes], *kinds: str) -> dict[str, bytes]:
    """What of `chunks` is of these kinds, by the first part of its name, and not there any more."""
    return {name: chunks.pop(name) for name in list(chunks) if name.partition("/")[0] in kinds}
