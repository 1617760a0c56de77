"""Rows that wait for their pane to close, and the batches in which closed panes are worked on.

Blocks are kept as they came; a pane is a list of places in them. So taking a block in costs one sort by pane, and a
snapshot of what is pending is the blocks' own bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.blocks import DigestBlock
from streamer.core.canonical import canonical_order
from streamer.core.ragged import Ragged
from streamer.core.records import hash64
from streamer.core.runs import run_starts
from streamer.core.series import series_hash

_NO_SOURCE: Final = hash64(b"")
_NONE: Final[NDArray[np.int64]] = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class LateDocuments:
    """l documents that came too late, `pane` int64[l] being the one that was open then. `topic` int64[l], `model`
    int64[l] and the rows of `symbols` are places in the tables of the batch that they lie in."""

    pane: NDArray[np.int64]
    topic: NDArray[np.int64]
    model: NDArray[np.int64]
    symbols: Ragged

    def __len__(self) -> int:
        return len(self.pane)


@dataclass(frozen=True, slots=True)
class Batch:
    """The n documents of some panes in canonical order: by time, then id, then content; and the `late` ones.

    `pane` int64[n]; `topic`, `model` int64[n] and the rows of `symbols` are places in the tables below (`topic` -1
    for none); `source` uint64[n] hashes the source's name; `weight` float64[n] includes the source's. `place` int64[n]
    and `row` int64[n] say in which of `blocks` a document stands, and where.
    """

    blocks: list[DigestBlock]
    place: NDArray[np.int64]
    row: NDArray[np.int64]
    pane: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    sentiment: NDArray[np.float32]
    weight: NDArray[np.float64]
    source: NDArray[np.uint64]
    topic: NDArray[np.int64]
    model: NDArray[np.int64]
    symbols: Ragged
    id_hash: NDArray[np.uint64]
    text_hash: NDArray[np.uint64]
    fingerprint: NDArray[np.uint16]
    topics: list[str]
    companies: list[str]
    models: list[str]
    late: LateDocuments

    def models_of(self, pane: int, rows: slice) -> str:
        """The models that scored these documents of `pane`, of its late ones where there are no others; sorted, joined
        by commas."""
        if len(self.models) == 1:
            return self.models[0]
        models = self.model[rows] if rows.start < rows.stop else self.late.model[self.late.pane == pane]
        return ",".join(sorted({self.models[model] for model in models.tolist()}))


@dataclass(slots=True)
class _Waiting:
    """A block of which `left` rows and late documents wait; the hash and weight of each of its sources, that of none
    at the end."""

    block: DigestBlock
    left: int
    source_hash: NDArray[np.uint64]
    source_weight: NDArray[np.float64]


_Places = dict[int, list[tuple[int, NDArray[np.int64]]]]
"""By pane: the number of a block, and which of its rows (or of its late documents) are of that pane."""


@dataclass(slots=True)
class PendingRows:
    """The rows of panes that are still open, by pane, and the late documents that came while it was the oldest open one
    of their partition. `source_weights` multiply the weight of a source's documents."""

    pane_ms: int
    source_weights: Mapping[str, float]
    next_number: int = 0
    _waiting: dict[int, _Waiting] = field(default_factory=dict)
    _panes: _Places = field(default_factory=dict)
    _late: _Places = field(default_factory=dict)

    def add(self, block: DigestBlock) -> None:
        """Let `block` wait, all of whose panes are open."""
        number = self.next_number
        self.next_number += 1
        self._add(number, block, None)

    def panes_before(self, pane: int) -> list[int]:
        """The panes before `pane` that have rows or late documents, ascending."""
        return sorted(waiting for waiting in self._panes.keys() | self._late.keys() if waiting < pane)

    def rows_in(self, pane: int) -> int:
        """How many rows wait in `pane`."""
        return sum(len(rows) for _, rows in self._panes.get(pane, ()))

    def take(self, panes: Iterable[int]) -> Batch:
        """Remove the rows and late documents of `panes` and give them as one batch."""
        panes = list(panes)
        rows_of, late_of = _removed(self._panes, panes), _removed(self._late, panes)
        held, picked, late = [], [], []
        for number in dict.fromkeys((*rows_of, *late_of)):
            waiting = self._waiting[number]
            held.append(waiting)
            picked.append(rows_of.get(number, _NONE))
            late.append(late_of.get(number, _NONE))
            waiting.left -= len(picked[-1]) + len(late[-1])
            if not waiting.left:
                del self._waiting[number]
        return self._batch(held, picked, late)

    def chunks(self) -> dict[str, bytes]:
        """The blocks of which something still waits, one chunk each, in the order in which they came."""
        return {f"block/{number:012d}": waiting.block.encode() for number, waiting in self._waiting.items()}

    def restore(self, chunks: Mapping[str, bytes], closed_pane: int | None) -> None:
        """Take the blocks of `chunks` in again, but for what lies before `closed_pane`. Raises DigestError."""
        for name in sorted(chunks):
            self._add(int(name.removeprefix("block/")), DigestBlock.decode(chunks[name]), closed_pane)

    def _add(self, number: int, block: DigestBlock, closed_pane: int | None) -> None:
        rows = _by_pane(block.time_ms // self.pane_ms, closed_pane)
        late = _by_pane(block.late_at_ms // self.pane_ms, closed_pane)
        left = sum(map(len, rows.values())) + sum(map(len, late.values()))
        if not left:
            return
        self._waiting[number] = _Waiting(
            block,
            left,
            np.array([*map(series_hash, block.sources), _NO_SOURCE], dtype=np.uint64),
            np.array([*(self.source_weights.get(name, 1.0) for name in block.sources), 1.0]),
        )
        for places, found in ((self._panes, rows), (self._late, late)):
            for pane, here in found.items():
                places.setdefault(pane, []).append((number, here))

    def _batch(self, held: list[_Waiting], picked: list[NDArray[np.int64]], late: list[NDArray[np.int64]]) -> Batch:
        blocks = [waiting.block for waiting in held]
        place = np.repeat(np.arange(len(blocks)), [len(rows) for rows in picked])
        row = np.concatenate(picked)

        def column(name: str) -> NDArray[np.generic]:
            columns = [getattr(waiting.block, name)[rows] for waiting, rows in zip(held, picked, strict=True)]
            return columns[0] if len(columns) == 1 else np.concatenate(columns)

        time_ms = column("time_ms").astype(np.int64)
        order = canonical_order(time_ms, blocks, place, row, column("content_hash").astype(np.uint64))
        parts = list(zip(held, picked, strict=True))
        tardy = [(each.block, rows) for each, rows in zip(held, late, strict=True) if len(rows)]
        topics, topic = _merged(
            [(each.block.topics, each.block.topic[rows]) for each, rows in parts]
            + [(block.topics, block.late_topic[rows]) for block, rows in tardy]
        )
        symbol_rows = [each.block.symbols.take(rows) for each, rows in parts]
        late_rows = [block.late_symbols.take(rows) for block, rows in tardy]
        companies, company = _merged(
            [(block.symbol_table, rows.values) for block, rows in zip(blocks, symbol_rows, strict=True)]
            + [(block.symbol_table, rows.values) for (block, _), rows in zip(tardy, late_rows, strict=True)]
        )
        models, model = _merged(
            [((block.model,), np.zeros(len(rows), dtype=np.int32)) for block, rows in zip(blocks, picked, strict=True)]
            + [((block.model,), np.zeros(len(rows), dtype=np.int32)) for block, rows in tardy]
        )
        symbols = Ragged(company, Ragged.concatenated([*symbol_rows, *late_rows]).offsets)
        n = len(row)
        source = np.concatenate([each.source_hash[each.block.source_index[rows]] for each, rows in parts])
        factor = np.concatenate([each.source_weight[each.block.source_index[rows]] for each, rows in parts])
        return Batch(
            blocks=blocks,
            place=place[order],
            row=row[order],
            pane=time_ms[order] // self.pane_ms,
            time_ms=time_ms[order],
            sentiment=column("sentiment").astype(np.float32)[order],
            weight=(column("weight").astype(np.float64) * factor)[order],
            source=source[order],
            topic=topic[order],
            model=model[order],
            symbols=symbols.take(order),
            id_hash=column("id_hash").astype(np.uint64)[order],
            text_hash=column("text_hash").astype(np.uint64)[order],
            fingerprint=column("fingerprint").astype(np.uint16)[order],
            topics=topics,
            companies=companies,
            models=models,
            late=LateDocuments(
                np.concatenate([block.late_at_ms[rows] // self.pane_ms for block, rows in tardy] or [_NONE]),
                topic[n:],
                model[n:],
                symbols.take(np.arange(n, len(symbols))),
            ),
        )


def _by_pane(pane: NDArray[np.int64], closed_pane: int | None) -> dict[int, NDArray[np.int64]]:
    """The places of each pane in `pane` int64[n], but for those before `closed_pane`."""
    order = np.argsort(pane, kind="stable")
    ranked = pane[order]
    if closed_pane is not None:
        first_open = int(np.searchsorted(ranked, closed_pane))
        order, ranked = order[first_open:], ranked[first_open:]
    begins = run_starts(ranked)
    edges = [*begins.tolist(), len(ranked)]
    return {name: order[begin:end] for name, (begin, end) in zip(ranked[begins].tolist(), pairwise(edges), strict=True)}


def _removed(places: _Places, panes: Iterable[int]) -> dict[int, NDArray[np.int64]]:
    """By block: its places in `panes`, which are taken out of `places`."""
    parts: dict[int, list[NDArray[np.int64]]] = {}
    for pane in panes:
        for number, rows in places.pop(pane, ()):
            parts.setdefault(number, []).append(rows)
    return {number: found[0] if len(found) == 1 else np.concatenate(found) for number, found in parts.items()}


def _merged(parts: Sequence[tuple[tuple[str, ...], NDArray[np.int32]]]) -> tuple[list[str], NDArray[np.int64]]:
    """One table of the names in use of several blocks, and their columns of places in it (-1 stays -1)."""
    table: dict[str, int] = {}
    columns = []
    for names, column in parts:
        used = np.zeros(len(names) + 1, dtype=np.bool_)
        used[column] = True
        places = np.full(len(names) + 1, -1, dtype=np.int64)
        for name in used[:-1].nonzero()[0].tolist():
            places[name] = table.setdefault(names[name], len(table))
        columns.append(places[column])
    return list(table), columns[0] if len(columns) == 1 else np.concatenate(columns)
