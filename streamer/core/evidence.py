"""The texts behind the numbers: the most negative stories of every series and pane, as long as a window holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alerts.panes import EvidenceText, Linked
from streamer.core.blocks import DigestBlock
from streamer.core.pending import Batch
from streamer.core.ragged import Ragged
from streamer.core.runs import run_starts
from streamer.core.state_chunks import pack, unpack

TEXTS = 5
"""Texts in one piece of evidence."""

STORIES = 128
"""Stories by which alerts are told to rest on the same ones."""

_LIKELY = 0.5
_COLUMNS = ("id", "excerpt", "url", "source", "words")


@dataclass(frozen=True, slots=True)
class EvidencePage:
    """Entries of some closed panes, and the t texts that they name.

    `pane`, `text` int64[e], `series` int64[e]; texts in canonical order: `negative` float32[t], `time_ms`, `story`
    int64[t], and the text columns `id`, `excerpt`, `url`, `source`, `words` ("" for none).
    """

    pane: NDArray[np.int64]
    series: NDArray[np.int64]
    text: NDArray[np.int64]
    negative: NDArray[np.float32]
    time_ms: NDArray[np.int64]
    story: NDArray[np.int64]
    columns: dict[str, Ragged]

    @classmethod
    def of(
        cls,
        batch: Batch,
        story: NDArray[np.int64],
        pane: NDArray[np.int64],
        series: NDArray[np.int64],
        strongest: NDArray[np.int64],
    ) -> EvidencePage:
        """The page of a reduced batch: `strongest` int64[g, k] are documents of `pane` and `series` int64[g]."""
        group, column = np.nonzero(strongest >= 0)
        documents = strongest[group, column]
        rows = np.unique(documents)
        return cls(
            pane[group],
            series[group],
            np.searchsorted(rows, documents),
            batch.sentiment[rows, 0],
            batch.time_ms[rows],
            story[rows],
            {name: text_column(batch, rows, name) for name in _COLUMNS},
        )

    def followed_by(self, later: EvidencePage) -> EvidencePage:
        """This page and a later one as one page."""
        return EvidencePage(
            np.concatenate((self.pane, later.pane)),
            np.concatenate((self.series, later.series)),
            np.concatenate((self.text, later.text + len(self.time_ms))),
            np.concatenate((self.negative, later.negative)),
            np.concatenate((self.time_ms, later.time_ms)),
            np.concatenate((self.story, later.story)),
            {name: Ragged.concatenated([self.columns[name], later.columns[name]]) for name in _COLUMNS},
        )

    def evidence_text(self, text: int, copies: int, linked: tuple[Linked, ...]) -> EvidenceText:
        """Text number `text` as alerts show it."""
        said = {name: self.columns[name].text(text) for name in _COLUMNS}
        return EvidenceText(
            id=said["id"],
            text=said["excerpt"],
            source=said["source"] or None,
            url=said["url"] or None,
            published_at_ms=int(self.time_ms[text]),
            negative=float(self.negative[text]),
            copies=copies,
            linked=linked,
            words=tuple(said["words"].split("\n")) if said["words"] else (),
        )

    def chunk(self) -> bytes:
        """The page as a chunk of a snapshot."""
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _ARRAYS}
        for name, column in self.columns.items():
            arrays |= {name: column.values, f"{name}_offsets": column.offsets}
        return pack("evidence", {}, arrays)

    @classmethod
    def restored(cls, name: str, chunk: bytes) -> EvidencePage:
        """The page of a `chunk`. Raises StateError."""
        arrays = unpack("evidence", name, chunk).arrays
        columns = {name: Ragged(arrays.pop(name), arrays.pop(f"{name}_offsets")) for name in _COLUMNS}
        return cls(**arrays, columns=columns)


_ARRAYS = ("pane", "series", "text", "negative", "time_ms", "story")


class EvidenceStore:
    """Pages of evidence, oldest first; those of one past slot of `slot_panes` panes are one page.

    `texts` is how many texts were ever added: their numbers, which start anew after a restart.
    """

    def __init__(self, slot_panes: int) -> None:
        self.slot_panes = slot_panes
        self.texts = 0
        self._pages: list[EvidencePage] = []

    def add(self, page: EvidencePage) -> None:
        """Add the page of the newest panes."""
        if not len(page.pane):
            return
        if self._pages and self._slot(self._pages[-1]) != self._slot(page):
            while len(self._pages) > 1 and self._slot(self._pages[-1]) == self._slot(self._pages[-2]):
                self._pages[-2:] = [self._pages[-2].followed_by(self._pages[-1])]
        self._pages.append(page)
        self.texts += len(page.time_ms)

    def ids(self, texts: NDArray[np.int64]) -> list[str]:
        """The ids of the texts with these numbers, int64[n] ascending, none of them forgotten."""
        ids: list[str] = []
        begin = self.texts - sum(len(page.time_ms) for page in self._pages)
        for page in self._pages:
            first, last = np.searchsorted(texts, (begin, begin + len(page.time_ms))).tolist()
            if first < last:
                ids += page.columns["id"].take(texts[first:last] - begin).texts()
            begin += len(page.time_ms)
        return ids

    def panes(self) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
        """Pane by pane, oldest first: its number, and of its entries series, text number and p(negative)."""
        begin = self.texts - sum(len(page.time_ms) for page in self._pages)
        for page in self._pages:
            begins = run_starts(page.pane).tolist()
            for first, last in pairwise([*begins, len(page.pane)]):
                text = page.text[first:last]
                yield int(page.pane[first]), page.series[first:last], text + begin, page.negative[text]
            begin += len(page.time_ms)

    def forget_before(self, pane: int) -> None:
        """Forget pages all of whose panes lie before `pane`."""
        self._pages = [page for page in self._pages if page.pane[-1] >= pane]

    def strongest(
        self,
        series: int,
        first: int,
        last: int,
        copies_of: Callable[[int], int],
        linked_of: Callable[[int], tuple[Linked, ...]],
    ) -> tuple[EvidenceText, ...]:
        """The most negative stories of a series in the panes from `first` up to, not including, `last`."""
        found: list[tuple[float, int, int]] = []
        for number, page in enumerate(self._pages):
            if page.pane[-1] < first or page.pane[0] >= last:
                continue
            entries = np.flatnonzero((page.series == series) & (page.pane >= first) & (page.pane < last))
            texts = page.text[entries]
            best = texts[np.lexsort((texts, -page.negative[texts]))[:TEXTS]]
            found += [(-float(page.negative[text]), number, text) for text in best.tolist()]
        strongest = []
        for _, number, text in sorted(found)[:TEXTS]:
            story = int(self._pages[number].story[text])
            strongest.append(self._pages[number].evidence_text(text, copies_of(story), linked_of(story)))
        return tuple(strongest)

    def stories(self, series: int, first: int, last: int) -> tuple[int, ...]:
        """Numbers, ascending, of the newest negative stories of a series in the panes from `first` up to `last`."""
        found: list[NDArray[np.int64]] = []
        for page in self._pages:
            if page.pane[-1] < first or page.pane[0] >= last:
                continue
            entries = (page.series == series) & (page.pane >= first) & (page.pane < last)
            texts = page.text[entries]
            found.append(page.story[texts[page.negative[texts] > _LIKELY]])
        numbers = np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
        return tuple(numbers[-STORIES:].tolist())

    def chunks(self) -> dict[str, bytes]:
        """The pages as chunks of a snapshot; a page keeps its name and bytes."""
        return {
            f"evidence/{page.pane[0]:020d}-{page.pane[-1]:020d}-{len(page.pane)}": page.chunk() for page in self._pages
        }

    def restore(self, chunks: dict[str, bytes]) -> None:
        """Take over the pages among `chunks`. Raises StateError."""
        pages = [EvidencePage.restored(name, data) for name, data in chunks.items() if name.startswith("evidence/")]
        self._pages = sorted(pages, key=lambda page: int(page.pane[0]))
        self.texts = sum(len(page.time_ms) for page in pages)

    def _slot(self, page: EvidencePage) -> int:
        return int(page.pane[-1]) // self.slot_panes


def text_column(batch: Batch, rows: NDArray[np.int64], name: str) -> Ragged:
    """A text column of the documents `rows` of a batch, gathered from their blocks."""
    place, row = batch.place[rows], batch.row[rows]
    if len(batch.blocks) == 1 or not len(rows):
        return _texts(batch.blocks[0], row, name)
    here = np.argsort(place, kind="stable")
    begins = run_starts(place[here])
    parts = [
        _texts(batch.blocks[number], row[part], name)
        for number, part in zip(place[here[begins]].tolist(), np.split(here, begins[1:]), strict=True)
    ]
    back = np.empty(len(rows), dtype=np.int64)
    back[here] = np.arange(len(rows))
    return Ragged.concatenated(parts).take(back)


def _texts(block: DigestBlock, rows: NDArray[np.int64], name: str) -> Ragged:
    if name != "source":
        column: Ragged = getattr(block, name)
        return column.take(rows)
    used, place = np.unique(block.source_index[rows], return_inverse=True)
    return Ragged.of_texts("" if source < 0 else block.sources[source] for source in used.tolist()).take(place)
